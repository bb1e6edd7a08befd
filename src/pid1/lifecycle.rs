//! The life of a container, as a pure state machine: events in, actions out.
//!
//! Running -> Draining -> Stopping -> Killing -> Ended. Starting comes before them if the app's
//! start waits for targets, and Telling after them if handlers run when the app has ended. In
//! Drained a hook's drain is over and the stop signal has not come. In Leaving and Orphaned the app
//! has ended, and other processes may not have.
//!
//! It makes no system call and reads no clock: the time is an input, and the next deadline an
//! output. The supervisor makes the events and performs the actions.
//!
//! Longer than 300 lines because the table of states and events is one match.

#![forbid(unsafe_code)]

mod action;
mod note;
mod starting;
mod steps;
mod times;

pub use action::{Action, Actions};
pub use note::{Note, Told};
pub use times::{Drain, Start, Stop, Taken};

use crate::clock::Time;
use crate::options::plan::{HeldBy, Plan};
use crate::signal::Signal;
use crate::sys::Status;
use times::Until;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The app has not been started: a companion waits for its targets.
    Starting(Start),
    /// With the last signal that was forwarded.
    Running(Option<Taken>),
    /// The app keeps serving and has not been signalled.
    Draining(Drain),
    /// A hook's drain is over: the app keeps serving until the stop signal comes.
    Drained(Stop),
    /// The app has been signalled; the index is that of the next escalation.
    Stopping(Stop, usize),
    /// The app has ended, and the companions have been killed. When they are gone, it shows whether
    /// other processes are left.
    Leaving {
        stop: Option<Stop>,
        status: Status,
        until: Time,
    },
    /// The app has ended, and the processes that it left have been signalled.
    Orphaned {
        stop: Option<Stop>,
        status: Status,
        until: Time,
        /// When to log their names, if that has not happened.
        names_at: Option<Time>,
    },
    /// All remaining processes have been sent SIGKILL.
    Killing {
        stop: Option<Stop>,
        status: Option<Status>,
        until: Time,
    },
    /// The app and the processes that it left have ended, and exit handlers run.
    Telling {
        stop: Option<Stop>,
        code: u8,
        until: Time,
    },
    Ended,
}

/// Which children are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nobody,
    Orphans,
    /// Companions, with or without orphans.
    Companions,
}

/// The origin of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// A process sent it.
    Sent,
    /// The kernel generated it: a person is at the terminal.
    ByHand,
    /// A process sent it, while a hook that asked for the drain waits for its end.
    WhileHookWaits,
}

/// The result of the companion that waits for the app's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    Ready,
    /// Not all targets were ready in time.
    NotReady,
    /// None: it has failed, or could not be started.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The companion that waits for the app's start has ended.
    Waited(Waited),
    /// The app could not be started.
    NotStarted { code: u8 },
    /// The companion that runs handlers has ended, or could not be started.
    HandlersDone,
    /// A signal came; not rewritten yet.
    Signal { signal: Signal, came: Came },
    /// The deadline has come.
    Wake,
    /// A hook asks for the drain.
    DrainAsked,
    /// The drain companion was reaped, or could not be started. `well`: it has seen the end of the
    /// drain.
    CompanionEnded { well: bool },
    /// The app was reaped.
    AppEnded { status: Status, left: Left },
    /// Other children were reaped, but not the app.
    OthersReaped { left: Left },
    /// The app was stopped by job control.
    AppStopped { by: Signal },
}

/// The meaning of an event to the machine, after signals were rewritten.
enum Meaning {
    Waited(Waited),
    NotStarted { code: u8 },
    HandlersDone,
    StopAsked { signal: Signal, came: Came },
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
    /// Returns the next state, and the actions to perform.
    pub fn step(&self, state: State, event: Event, now: Time) -> (State, Actions) {
        use Meaning::{
            AppEnded, AppStopped, CompanionEnded, DrainAsked, Dropped, HandlersDone, NotStarted,
            OthersReaped, StopAsked, ToForward, Wake,
        };
        use State::{
            Drained, Draining, Ended, Killing, Leaving, Orphaned, Running, Starting, Stopping,
            Telling,
        };

        match (state, self.meaning(event)) {
            (_, Dropped) | (Ended, _) => (state, Actions::none()),

            (Starting(start), Meaning::Waited(waited)) => self.waited(start, waited, now),
            (Starting(start), Wake) => self.wake_before_start(start, now),
            (Starting(start), StopAsked { signal, .. }) => {
                self.stop_before_start(start, signal, now)
            }
            (Starting(_), ToForward(signal)) => {
                (state, Actions::of(&[Action::Say(Note::NoAppYet(signal))]))
            }
            // There is nothing to drain, and no companion to wait for: the hook notices that
            // itself.
            (
                Starting(_),
                DrainAsked
                | CompanionEnded { .. }
                | AppEnded { .. }
                | AppStopped { .. }
                | OthersReaped { .. }
                | NotStarted { .. }
                | HandlersDone,
            ) => (state, Actions::none()),
            (Running(_), NotStarted { code }) => {
                let ended = [Some(Action::Unready), Some(Action::EndCompanions), None];
                self.tell(None, code, ended, now)
            }
            (
                Running(_)
                | Draining(_)
                | Drained(_)
                | Stopping(..)
                | Leaving { .. }
                | Orphaned { .. }
                | Killing { .. }
                | Telling { .. },
                Meaning::Waited(_),
            )
            | (
                Draining(_)
                | Drained(_)
                | Stopping(..)
                | Leaving { .. }
                | Orphaned { .. }
                | Killing { .. }
                | Telling { .. },
                NotStarted { .. },
            ) => (state, Actions::none()),

            (Telling { code, .. }, HandlersDone) => (Ended, Actions::of(&[Action::Exit(code)])),
            (Telling { code, .. }, Wake) => {
                let note = Action::Say(Note::HandlersKilled);
                (Ended, Actions::of(&[Action::KillRest, note, Action::Exit(code)]))
            }
            // The app had ended by itself: now there is a grace period.
            (Telling { stop: None, code, until }, StopAsked { signal, .. }) => {
                let stop = Some(Stop { first: Some(Taken { signal, at: now }), began: now });
                let until = until.min(now.saturating_add(self.kill_after()));
                (Telling { stop, code, until }, Actions::none())
            }
            (Telling { stop: Some(_), .. }, StopAsked { .. })
            | (
                Telling { .. },
                ToForward(_)
                | DrainAsked
                | CompanionEnded { .. }
                | AppEnded { .. }
                | AppStopped { .. }
                | OthersReaped { .. },
            )
            | (
                Running(_)
                | Draining(_)
                | Drained(_)
                | Stopping(..)
                | Leaving { .. }
                | Orphaned { .. }
                | Killing { .. },
                HandlersDone,
            ) => (state, Actions::none()),

            (Running(_), StopAsked { signal, came }) => self.begin_stop(signal, came, now),
            (Draining(drain), StopAsked { signal, came }) => {
                self.stop_in_drain(drain, signal, came, now)
            }
            (Drained(stop), StopAsked { signal, .. }) => {
                let stop = Stop { first: Some(Taken { signal, at: now }), ..stop };
                let forward = self.stop_signal.unwrap_or(signal);
                let kill_in = self.kill_at(stop).saturating_sub(now);
                let note = Note::Stopping { by: signal, forward, drained: true, kill_in };
                (Stopping(stop, 0), Actions::of(&[Action::Forward(forward), Action::Say(note)]))
            }
            (Stopping(stop, _), StopAsked { signal, came }) => {
                match stop.repeated(now).filter(|_| came != Came::ByHand) {
                    Some(first) => (state, Actions::of(&[Self::same_request(signal, first, now)])),
                    None => (state, Self::forward(signal)),
                }
            }
            (Running(_), ToForward(signal)) => {
                (Running(Some(Taken { signal, at: now })), Self::forward(signal))
            }
            (Draining(_) | Drained(_) | Stopping(..), ToForward(signal)) => {
                (state, Self::forward(signal))
            }
            // They have been signalled, or killed, already. They get no more time than a stop that
            // begins now would give them.
            (Orphaned { stop, status, until, names_at }, StopAsked { .. }) => {
                let until = until.min(now.saturating_add(self.kill_after()));
                (Orphaned { stop, status, until, names_at }, Actions::none())
            }
            (Leaving { .. } | Killing { .. }, StopAsked { .. })
            | (Leaving { .. } | Orphaned { .. } | Killing { .. }, ToForward(_)) => {
                (state, Actions::none())
            }

            (Running(_), DrainAsked) => self.begin_hooked_drain(now),
            (Draining(drain), DrainAsked) => self.join_drain(drain, now),
            (
                Drained(_) | Stopping(..) | Leaving { .. } | Orphaned { .. } | Killing { .. },
                DrainAsked,
            ) => (state, Actions::none()),

            // The clock keeps the delay, however the companion ended.
            (Draining(drain), CompanionEnded { well }) => {
                let until = match self.held_by {
                    HeldBy::Traffic if !well => Until::Longest,
                    HeldBy::Nothing | HeldBy::Handlers | HeldBy::Traffic => Until::Delay,
                };
                (Draining(Drain { until, ..drain }), Actions::none())
            }
            (
                Running(_)
                | Drained(_)
                | Stopping(..)
                | Leaving { .. }
                | Orphaned { .. }
                | Killing { .. },
                CompanionEnded { .. },
            ) => (state, Actions::none()),

            (Running(_), Wake) => (state, Actions::none()),
            (Draining(drain), Wake) if drain.ready && now >= self.unready_at(drain) => {
                (Draining(Drain { ready: false, ..drain }), Actions::of(&[Action::Unready]))
            }
            (Draining(drain), Wake) => self.end_drain(drain, None, now),
            (Drained(stop), Wake) => {
                let note = Note::NoStopCame { after: now.saturating_sub(stop.began) };
                (Running(None), Actions::of(&[Action::Ready, Action::Say(note)]))
            }
            (Stopping(stop, escalation), Wake) => self.escalate(stop, escalation, now),
            // A companion has not ended on SIGKILL: there may be other processes as well.
            (Leaving { stop, status, .. }, Wake) => self.orphaned(stop, status, [None; 3], now),
            (Orphaned { stop, status, until, names_at: Some(_) }, Wake) if now < until => {
                let kill_in = until.saturating_sub(now);
                let state = Orphaned { stop, status, until, names_at: None };
                (state, Actions::of(&[Action::NameRest { kill_in }]))
            }
            (Orphaned { stop, status, .. }, Wake) => {
                Self::kill(stop, Some(status), Note::OrphansKilled, now)
            }
            (Killing { stop, status, .. }, Wake) => {
                self.exit(stop, status, [None, None, Some(Action::Say(Note::Unkillable))], now)
            }

            (Running(forwarded), AppEnded { status, left }) => {
                let hint = forwarded.and_then(|it| self.stop_signal_hint(it, status, now));
                self.app_ended(None, status, left, hint, now)
            }
            (
                Draining(Drain { stop, .. }) | Drained(stop) | Stopping(stop, _),
                AppEnded { status, left },
            ) => self.app_ended(Some(stop), status, left, None, now),
            (Killing { stop, .. }, AppEnded { status, left: Left::Nobody }) => {
                self.exit(stop, Some(status), [None; 3], now)
            }
            (Killing { stop, until, .. }, AppEnded { status, .. }) => {
                // Children of the killed processes may have become ours.
                let state = Killing { stop, status: Some(status), until };
                (state, Actions::of(&[Action::KillRest]))
            }
            // The app ends once.
            (Leaving { .. } | Orphaned { .. }, AppEnded { .. }) => (state, Actions::none()),

            (Leaving { stop, status, .. }, OthersReaped { left: Left::Nobody }) => {
                self.exit_of_app(stop, status, [None, None], now)
            }
            (Orphaned { stop, status, .. }, OthersReaped { left: Left::Nobody }) => {
                self.exit(stop, Some(status), [None; 3], now)
            }
            (Leaving { stop, status, .. }, OthersReaped { left: Left::Orphans }) => {
                self.orphaned(stop, status, [None; 3], now)
            }
            (Killing { stop, status, .. }, OthersReaped { left: Left::Nobody }) => {
                self.exit(stop, status, [None; 3], now)
            }
            (Killing { .. }, OthersReaped { .. }) => (state, Actions::of(&[Action::KillRest])),
            (Leaving { .. }, OthersReaped { left: Left::Companions })
            | (Orphaned { .. }, OthersReaped { left: Left::Orphans | Left::Companions })
            | (Running(_) | Draining(_) | Drained(_) | Stopping(..), OthersReaped { .. }) => {
                (state, Actions::none())
            }

            (Running(_), AppStopped { by }) => (state, Actions::of(&[Action::Suspend { by }])),
            // A stop was requested: job control no longer stops the clock.
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
            Event::Signal { signal, came } => match self.map_signal.get(signal) {
                None => Meaning::Dropped,
                Some(signal) if self.stop_on.contains(signal) => {
                    Meaning::StopAsked { signal, came }
                }
                Some(signal) => Meaning::ToForward(signal),
            },
            Event::Waited(waited) => Meaning::Waited(waited),
            Event::NotStarted { code } => Meaning::NotStarted { code },
            Event::HandlersDone => Meaning::HandlersDone,
            Event::Wake => Meaning::Wake,
            Event::DrainAsked => Meaning::DrainAsked,
            Event::CompanionEnded { well } => Meaning::CompanionEnded { well },
            Event::AppEnded { status, left } => Meaning::AppEnded { status, left },
            Event::OthersReaped { left } => Meaning::OthersReaped { left },
            Event::AppStopped { by } => Meaning::AppStopped { by },
        }
    }
}

#[cfg(test)]
mod tests;
