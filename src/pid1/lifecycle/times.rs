//! A stop and a drain, and when what is due in each state: the deadlines.

#![forbid(unsafe_code)]

use super::State;
use crate::clock::Time;
use crate::options::plan::{Plan, SAME_REQUEST};
use crate::signal::Signal;

/// A start that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub(super) began: Time,
    /// When a companion is started again, if there is none.
    pub(super) again_at: Option<Time>,
}

/// A signal, and when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub(super) signal: Signal,
    pub(super) at: Time,
}

/// A stop that has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The first stop signal. None: a hook has asked for the drain, and it has yet to come.
    pub(super) first: Option<Taken>,
    pub(super) began: Time,
}

/// A drain that is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    pub(super) stop: Stop,
    pub(super) until: Until,
    /// Readiness has yet to go.
    pub(super) ready: bool,
}

/// What a drain waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The delay.
    Delay,
    /// The companion's end, and the delay.
    Companion,
    /// The longest time: nobody can tell any more when it could be shorter.
    Longest,
}

impl Stop {
    /// The first stop signal, if one that is taken now asks for the same.
    pub(super) fn repeated(self, now: Time) -> Option<Taken> {
        self.first.filter(|first| now.saturating_sub(first.at) < SAME_REQUEST)
    }
}

impl Plan {
    /// When something is due without anything having happened.
    pub fn deadline(&self, state: State) -> Option<Time> {
        match state {
            State::Running(_) | State::Ended => None,
            State::Starting(start) => Some(self.start_wakes_at(start)),
            State::Draining(drain) if drain.ready => {
                Some(self.drain_end(drain).min(self.unready_at(drain)))
            }
            State::Draining(drain) => Some(self.drain_end(drain)),
            State::Drained(stop) => Some(self.kill_at(stop)),
            State::Stopping(stop, escalation) => {
                let kill_at = self.kill_at(stop);
                let next = self.escalate.get(escalation);
                Some(next.map_or(kill_at, |next| kill_at.saturating_sub(next.before_kill)))
            }
            State::Orphaned { until, names_at: Some(names_at), .. } => Some(until.min(names_at)),
            State::Leaving { until, .. }
            | State::Orphaned { until, .. }
            | State::Killing { until, .. }
            | State::Telling { until, .. } => Some(until),
        }
    }

    pub(super) fn kill_at(&self, stop: Stop) -> Time {
        stop.began.saturating_add(self.kill_after())
    }

    /// When all has to be over.
    pub(super) fn latest(&self, stop: Option<Stop>) -> Time {
        stop.map_or(Time::MAX, |stop| self.kill_at(stop))
    }

    pub(super) fn drain_end(&self, drain: Drain) -> Time {
        let longest = match drain.until {
            Until::Delay => self.delay,
            Until::Companion => self.max_delay.saturating_add(self.companion_margin()),
            Until::Longest => self.max_delay,
        };
        let Stop { began, .. } = drain.stop;
        began.saturating_add(longest).min(self.kill_at(drain.stop))
    }

    pub(super) fn unready_at(&self, drain: Drain) -> Time {
        drain.stop.began.saturating_add(self.unready_delay)
    }
}
