//! The life of a container, as a pure machine: what happened and when, in; what is to be done, out.
//!
//! Running -> Draining -> Stopping -> Killing -> Ended; Drained where a hook's drain is over and the
//! stop signal has yet to come; Leaving and Orphaned where the app has ended and others may not
//! have. No system call, no clock, no text: time comes in as a value, and the next deadline goes
//! out as one. The supervisor makes the events and performs the actions.

#![forbid(unsafe_code)]

mod note;
mod steps;

use std::time::Duration;

pub use note::Note;

use crate::clock::Time;
use crate::options::plan::{HeldBy, Plan};
use crate::signal::Signal;
use crate::sys::Status;

/// A stop that has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// None: a hook has asked for the drain, and the stop signal has yet to come.
    signal: Option<Signal>,
    began: Time,
}

/// A drain that is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    stop: Stop,
    until: Until,
    /// Readiness has yet to go.
    ready: bool,
}

/// What a drain waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// The delay.
    Delay,
    /// The companion's end, and the delay.
    Companion,
    /// The longest time: nobody can tell any more when it could be shorter.
    Longest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    /// The app serves on and has not been told.
    Draining(Drain),
    /// A hook's drain is over: the app serves on until the stop signal comes.
    Drained(Stop),
    /// The app has been told; the next escalation is this one.
    Stopping(Stop, usize),
    /// The app has ended, and the companions have been sent SIGKILL: whether anybody else is left
    /// is seen when they are gone.
    Leaving {
        stop: Option<Stop>,
        status: Status,
        until: Time,
    },
    /// The app has ended, and processes that it left have been told.
    Orphaned {
        stop: Option<Stop>,
        status: Status,
        until: Time,
    },
    /// All that is left has been sent SIGKILL.
    Killing {
        stop: Option<Stop>,
        status: Option<Status>,
        until: Time,
    },
    Ended,
}

/// Which children are there still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nobody,
    Orphans,
    /// Companions; orphans or not.
    Companions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signal came, as it was sent. `by_hand`: by a person at a terminal.
    Signal { signal: Signal, by_hand: bool },
    /// The deadline has come.
    Wake,
    /// A hook asks for the drain.
    DrainAsked,
    /// The drain companion was reaped, or could not be started; `well`: it has seen the end.
    CompanionEnded { well: bool },
    /// The app was reaped.
    AppEnded { status: Status, left: Left },
    /// Others were reaped, but not the app.
    OthersReaped { left: Left },
    /// The app was stopped by job control, and not ended.
    AppStopped { by: Signal },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Readiness goes.
    Unready,
    /// Running again, and ready.
    Ready,
    /// The drain begins, however short.
    BeginDrain,
    /// The drain companion is started: the drain has been going on for so long.
    StartCompanion(Duration),
    /// The drain companion has nothing more to wait for.
    EndCompanion,
    /// All companions are sent SIGKILL, and none is started any more.
    EndCompanions,
    Forward(Signal),
    /// SIGTERM to all that the app left.
    TerminateRest,
    /// SIGKILL to all that is left.
    KillRest,
    /// To the terminal's job control: the app was stopped.
    Suspend {
        by: Signal,
    },
    Say(Note),
    Exit(u8),
}

/// What one event leads to, in order.
#[must_use = "actions are to be performed"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Actions([Option<Action>; 4]);

impl Actions {
    fn of(actions: &[Action]) -> Self {
        let mut list = Self::default();
        for (place, action) in list.0.iter_mut().zip(actions) {
            *place = Some(*action);
        }
        list
    }

    /// Those of these that there are.
    fn some(actions: [Option<Action>; 4]) -> Self {
        Self(actions)
    }

    fn none() -> Self {
        Self::default()
    }
}

impl IntoIterator for Actions {
    type Item = Action;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Action>, 4>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

/// An event after signals have been rewritten: what it means to the machine.
enum Meaning {
    StopAsked { signal: Signal, by_hand: bool },
    ToForward(Signal),
    Dropped,
    Wake,
    DrainAsked,
    CompanionEnded { well: bool },
    AppEnded { status: Status, left: Left },
    OthersReaped { left: Left },
    AppStopped { by: Signal },
}

impl Plan {
    /// When something is due without anything having happened.
    pub fn deadline(&self, state: State) -> Option<Time> {
        match state {
            State::Running | State::Ended => None,
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
            State::Leaving { until, .. }
            | State::Orphaned { until, .. }
            | State::Killing { until, .. } => Some(until),
        }
    }

    /// What `event` makes of `state`, and what is to be done about it.
    pub fn step(&self, state: State, event: Event, now: Time) -> (State, Actions) {
        use Meaning::{
            AppEnded, AppStopped, CompanionEnded, DrainAsked, Dropped, OthersReaped, StopAsked,
            ToForward, Wake,
        };
        use State::{Drained, Draining, Ended, Killing, Leaving, Orphaned, Running, Stopping};

        match (state, self.meaning(event)) {
            (_, Dropped) | (Ended, _) => (state, Actions::none()),

            (Running, StopAsked { signal, by_hand }) => self.begin_stop(signal, by_hand, now),
            (Draining(drain), StopAsked { signal, by_hand }) => {
                self.stop_in_drain(drain, signal, by_hand, now)
            }
            (Drained(stop), StopAsked { signal, .. }) => {
                let stop = Stop { signal: Some(signal), ..stop };
                let forward = self.stop_signal.unwrap_or(signal);
                let kill_in = self.kill_at(stop).saturating_sub(now);
                let note = Note::Stopping { by: signal, forward, drained: true, kill_in };
                (Stopping(stop, 0), Actions::of(&[Action::Forward(forward), Action::Say(note)]))
            }
            (Stopping(..), StopAsked { signal, .. })
            | (Running | Draining(_) | Drained(_) | Stopping(..), ToForward(signal)) => {
                let note = Note::Forwarded(signal);
                (state, Actions::of(&[Action::Forward(signal), Action::Say(note)]))
            }
            // They have been told, or killed, already. What is left gets no more time than a stop
            // that begins now would give it.
            (Orphaned { stop, status, until }, StopAsked { .. }) => {
                let until = until.min(now.saturating_add(self.kill_after()));
                (Orphaned { stop, status, until }, Actions::none())
            }
            (Leaving { .. } | Killing { .. }, StopAsked { .. })
            | (Leaving { .. } | Orphaned { .. } | Killing { .. }, ToForward(_)) => {
                (state, Actions::none())
            }

            (Running, DrainAsked) => self.begin_hooked_drain(now),
            (Draining(drain), DrainAsked) => self.join_drain(drain, now),
            (
                Drained(_) | Stopping(..) | Leaving { .. } | Orphaned { .. } | Killing { .. },
                DrainAsked,
            ) => (state, Actions::none()),

            // The delay is kept by the clock, however the companion ended.
            (Draining(drain), CompanionEnded { well }) => {
                let until = match self.held_by {
                    HeldBy::Traffic if !well => Until::Longest,
                    HeldBy::Nothing | HeldBy::Handlers | HeldBy::Traffic => Until::Delay,
                };
                (Draining(Drain { until, ..drain }), Actions::none())
            }
            (
                Running
                | Drained(_)
                | Stopping(..)
                | Leaving { .. }
                | Orphaned { .. }
                | Killing { .. },
                CompanionEnded { .. },
            ) => (state, Actions::none()),

            (Running, Wake) => (state, Actions::none()),
            (Draining(drain), Wake) if drain.ready && now >= self.unready_at(drain) => {
                (Draining(Drain { ready: false, ..drain }), Actions::of(&[Action::Unready]))
            }
            (Draining(drain), Wake) => self.end_drain(drain, None, now),
            (Drained(stop), Wake) => {
                let note = Note::NoStopCame { after: now.saturating_sub(stop.began) };
                (Running, Actions::of(&[Action::Ready, Action::Say(note)]))
            }
            (Stopping(stop, escalation), Wake) => self.escalate(stop, escalation, now),
            // A companion that does not end on SIGKILL: somebody else may be there as well.
            (Leaving { stop, status, .. }, Wake) => self.orphaned(stop, status, [None, None], now),
            (Orphaned { stop, status, .. }, Wake) => {
                Self::kill(stop, Some(status), Note::OrphansKilled, now)
            }
            (Killing { stop, status, .. }, Wake) => {
                self.exit(stop, status, [None, Some(Action::Say(Note::Unkillable))])
            }

            (Running, AppEnded { status, left }) => self.app_ended(None, status, left, now),
            (
                Draining(Drain { stop, .. }) | Drained(stop) | Stopping(stop, _),
                AppEnded { status, left },
            ) => self.app_ended(Some(stop), status, left, now),
            (Killing { stop, .. }, AppEnded { status, left: Left::Nobody }) => {
                self.exit(stop, Some(status), [None, None])
            }
            (Killing { stop, until, .. }, AppEnded { status, .. }) => {
                // Children of the killed may have become ours.
                let state = Killing { stop, status: Some(status), until };
                (state, Actions::of(&[Action::KillRest]))
            }
            // It ends once.
            (Leaving { .. } | Orphaned { .. }, AppEnded { .. }) => (state, Actions::none()),

            (Leaving { stop, status, .. }, OthersReaped { left: Left::Nobody }) => {
                self.exit_of_app(stop, status, None, now)
            }
            (Orphaned { stop, status, .. }, OthersReaped { left: Left::Nobody }) => {
                self.exit(stop, Some(status), [None, None])
            }
            (Leaving { stop, status, .. }, OthersReaped { left: Left::Orphans }) => {
                self.orphaned(stop, status, [None, None], now)
            }
            (Killing { stop, status, .. }, OthersReaped { left: Left::Nobody }) => {
                self.exit(stop, status, [None, None])
            }
            (Killing { .. }, OthersReaped { .. }) => (state, Actions::of(&[Action::KillRest])),
            (Leaving { .. }, OthersReaped { left: Left::Companions })
            | (Orphaned { .. }, OthersReaped { left: Left::Orphans | Left::Companions })
            | (Running | Draining(_) | Drained(_) | Stopping(..), OthersReaped { .. }) => {
                (state, Actions::none())
            }

            (Running, AppStopped { by }) => (state, Actions::of(&[Action::Suspend { by }])),
            // A stop has been asked for: nobody stops the clock now.
            (
                Draining(_)
                | Drained(_)
                | Stopping(..)
                | Leaving { .. }
                | Orphaned { .. }
                | Killing { .. },
                AppStopped { .. },
            ) => (state, Actions::none()),
        }
    }

    fn meaning(&self, event: Event) -> Meaning {
        match event {
            Event::Signal { signal, by_hand } => match self.map_signal.get(signal) {
                None => Meaning::Dropped,
                Some(signal) if self.stop_on.contains(signal) => {
                    Meaning::StopAsked { signal, by_hand }
                }
                Some(signal) => Meaning::ToForward(signal),
            },
            Event::Wake => Meaning::Wake,
            Event::DrainAsked => Meaning::DrainAsked,
            Event::CompanionEnded { well } => Meaning::CompanionEnded { well },
            Event::AppEnded { status, left } => Meaning::AppEnded { status, left },
            Event::OthersReaped { left } => Meaning::OthersReaped { left },
            Event::AppStopped { by } => Meaning::AppStopped { by },
        }
    }

    fn kill_at(&self, stop: Stop) -> Time {
        stop.began.saturating_add(self.kill_after())
    }

    /// When all has to be over.
    fn latest(&self, stop: Option<Stop>) -> Time {
        stop.map_or(Time::MAX, |stop| self.kill_at(stop))
    }

    fn drain_end(&self, drain: Drain) -> Time {
        let longest = match drain.until {
            Until::Delay => self.delay,
            Until::Companion => self.max_delay.saturating_add(self.companion_margin()),
            Until::Longest => self.max_delay,
        };
        let Stop { began, .. } = drain.stop;
        began.saturating_add(longest).min(self.kill_at(drain.stop))
    }

    fn unready_at(&self, drain: Drain) -> Time {
        drain.stop.began.saturating_add(self.unready_delay)
    }
}

#[cfg(test)]
mod tests;
