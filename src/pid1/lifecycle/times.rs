//! A stop and a drain, and the deadline of each state.

#![forbid(unsafe_code)]

use super::State;
use crate::clock::Time;
use crate::options::plan::{Plan, SAME_REQUEST};
use crate::signal::Signal;

/// A start that waits for targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub(super) began: Time,
    /// When to restart a companion, if none is running.
    pub(super) again_at: Option<Time>,
}

/// A signal, and when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub(super) signal: Signal,
    pub(super) at: Time,
}

/// A stop that was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The first stop signal. None if a hook asked for the drain, and it has not come yet.
    pub(super) first: Option<Taken>,
    pub(super) began: Time,
}

/// A drain in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    pub(super) stop: Stop,
    pub(super) until: Until,
    /// The app is still ready.
    pub(super) ready: bool,
}

/// What a drain waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The delay.
    Delay,
    /// The companion's end, and the delay.
    Companion,
    /// The longest time: there is no companion to end it sooner.
    Longest,
}

impl Stop {
    /// The first stop signal, if one taken now is the same request.
    pub(super) fn repeated(self, now: Time) -> Option<Taken> {
        self.first.filter(|first| now.saturating_sub(first.at) < SAME_REQUEST)
    }
}

impl Plan {
    /// When the machine has to act without an event.
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

    /// When all processes have to be gone.
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
