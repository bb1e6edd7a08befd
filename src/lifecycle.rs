//! The life of a container, as a pure machine: what happened and when, in; what is to be done, out.
//!
//! Running -> Draining -> Stopping -> Killing -> Ended; Orphaned where the app has ended and left
//! processes behind. No system call, no clock, no text: time comes in as a value, and the next
//! deadline goes out as one. The supervisor makes the events and performs the actions.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock::Time;
use crate::signal::{Signal, SignalMap, SignalSet};
use crate::sys::Status;

/// How long the app's status is waited for after SIGKILL.
const STATUS_WAIT: Duration = Duration::from_millis(100);

/// What the exit code says of an app that was still there after its SIGKILL.
const KILLED: u8 = 128 + 9;

/// All that the machine has to know of the options.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long the app goes on serving after the stop signal.
    pub delay: Duration,
    /// The whole budget, from the first stop signal.
    pub grace: Duration,
    /// SIGKILL falls this long before the budget is used up.
    pub kill_margin: Duration,
    /// What processes that the app left behind have to end.
    pub orphan_grace: Duration,
    pub stop_on: SignalSet,
    /// What the app is sent when the drain is over, if not the stop signal that came.
    pub stop_signal: Option<Signal>,
    /// In the order in which they are due.
    pub escalate: Vec<Escalation>,
    pub map_signal: SignalMap,
    pub exit_codes: ExitCodes,
}

/// A signal for an app that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escalation {
    pub signal: Signal,
    pub before_kill: Duration,
}

/// Which exit codes are passed on as others.
#[derive(Clone, Debug, Default)]
pub struct ExitCodes {
    pub always: Vec<(u8, u8)>,
    /// These only after a requested stop, and before the others.
    pub after_stop: Vec<(u8, u8)>,
}

/// A stop that has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    signal: Signal,
    began: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    /// The app serves on and has not been told.
    Draining(Stop),
    /// The app has been told; the next escalation is this one.
    Stopping(Stop, usize),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signal came, as it was sent. `by_hand`: by a person at a terminal.
    Signal { signal: Signal, by_hand: bool },
    /// The deadline has come.
    Wake,
    /// The app was reaped; `left`: other children are there still.
    AppEnded { status: Status, left: bool },
    /// Others were reaped, but not the app.
    OrphansReaped { left: bool },
    /// The app was stopped by job control, and not ended.
    AppStopped { by: Signal },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Readiness goes.
    Unready,
    /// The drain begins, however short.
    BeginDrain,
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

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    Draining {
        by: Signal,
        lasts: Duration,
        kill_in: Duration,
    },
    DrainOver {
        after: Duration,
        cut_by: Option<Signal>,
        forward: Signal,
        kill_in: Duration,
    },
    Stopping {
        by: Signal,
        forward: Signal,
        kill_in: Duration,
    },
    Escalating {
        after: Duration,
        signal: Signal,
        kill_in: Duration,
    },
    Deadline {
        after: Duration,
    },
    Forwarded(Signal),
    AppEnded {
        status: Status,
        after: Option<Duration>,
    },
    Orphaned {
        status: Status,
        kill_in: Duration,
    },
    OrphansKilled,
    /// SIGKILL was sent, and 100 ms later somebody is there still.
    Unkillable,
}

/// What one event leads to, in order.
#[must_use = "actions are to be performed"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Actions([Option<Action>; 4]);

impl Actions {
    fn of(actions: impl IntoIterator<Item = Action>) -> Self {
        let mut list = Self::default();
        for (place, action) in list.0.iter_mut().zip(actions) {
            *place = Some(action);
        }
        list
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
    AppEnded { status: Status, left: bool },
    OrphansReaped { left: bool },
    AppStopped { by: Signal },
}

impl Plan {
    /// How long after the stop signal SIGKILL falls.
    pub fn kill_after(&self) -> Duration {
        self.grace.saturating_sub(self.kill_margin)
    }

    /// When something is due without anything having happened.
    pub fn deadline(&self, state: State) -> Option<Time> {
        match state {
            State::Running | State::Ended => None,
            State::Draining(stop) => Some(self.drain_end(stop)),
            State::Stopping(stop, escalation) => {
                let kill_at = self.kill_at(stop);
                let next = self.escalate.get(escalation);
                Some(next.map_or(kill_at, |next| kill_at.saturating_sub(next.before_kill)))
            }
            State::Orphaned { until, .. } | State::Killing { until, .. } => Some(until),
        }
    }

    /// What `event` makes of `state`, and what is to be done about it.
    pub fn step(&self, state: State, event: Event, now: Time) -> (State, Actions) {
        use Meaning::{AppEnded, AppStopped, Dropped, OrphansReaped, StopAsked, ToForward, Wake};
        use State::{Draining, Ended, Killing, Orphaned, Running, Stopping};

        match (state, self.meaning(event)) {
            (_, Dropped) | (Ended, _) => (state, Actions::none()),

            (Running, StopAsked { signal, by_hand }) => self.begin_stop(signal, by_hand, now),
            (Draining(stop), StopAsked { signal, .. }) => self.end_drain(stop, Some(signal), now),
            (Stopping(..), StopAsked { signal, .. })
            | (Running | Draining(_) | Stopping(..), ToForward(signal)) => {
                let note = Note::Forwarded(signal);
                (state, Actions::of([Action::Forward(signal), Action::Say(note)]))
            }
            // They have been told, or killed, already. What is left gets no more time than a stop
            // that begins now would give it.
            (Orphaned { stop, status, until }, StopAsked { .. }) => {
                let until = until.min(now.saturating_add(self.kill_after()));
                (Orphaned { stop, status, until }, Actions::none())
            }
            (Killing { .. }, StopAsked { .. })
            | (Orphaned { .. } | Killing { .. }, ToForward(_)) => (state, Actions::none()),

            (Running, Wake) => (state, Actions::none()),
            (Draining(stop), Wake) => self.end_drain(stop, None, now),
            (Stopping(stop, escalation), Wake) => self.escalate(stop, escalation, now),
            (Orphaned { stop, status, .. }, Wake) => {
                Self::kill(stop, Some(status), Note::OrphansKilled, now)
            }
            (Killing { stop, status, .. }, Wake) => {
                self.exit(stop, status, [Action::Say(Note::Unkillable)])
            }

            (Running, AppEnded { status, left }) => self.app_ended(None, status, left, now),
            (Draining(stop) | Stopping(stop, _), AppEnded { status, left }) => {
                self.app_ended(Some(stop), status, left, now)
            }
            (Killing { stop, until, .. }, AppEnded { status, left: true }) => {
                // Children of the killed may have become ours.
                let state = Killing { stop, status: Some(status), until };
                (state, Actions::of([Action::KillRest]))
            }
            (Killing { stop, .. }, AppEnded { status, left: false }) => {
                self.exit(stop, Some(status), [])
            }
            // It ends once.
            (Orphaned { .. }, AppEnded { .. }) => (state, Actions::none()),

            (Orphaned { stop, status, .. }, OrphansReaped { left: false }) => {
                self.exit(stop, Some(status), [])
            }
            (Killing { stop, status, .. }, OrphansReaped { left: false }) => {
                self.exit(stop, status, [])
            }
            (Killing { .. }, OrphansReaped { left: true }) => {
                (state, Actions::of([Action::KillRest]))
            }
            (Running | Draining(_) | Stopping(..) | Orphaned { .. }, OrphansReaped { .. }) => {
                (state, Actions::none())
            }

            (Running, AppStopped { by }) => (state, Actions::of([Action::Suspend { by }])),
            // A stop has been asked for: nobody stops the clock now.
            (Draining(_) | Stopping(..) | Orphaned { .. } | Killing { .. }, AppStopped { .. }) => {
                (state, Actions::none())
            }
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
            Event::AppEnded { status, left } => Meaning::AppEnded { status, left },
            Event::OrphansReaped { left } => Meaning::OrphansReaped { left },
            Event::AppStopped { by } => Meaning::AppStopped { by },
        }
    }

    fn kill_at(&self, stop: Stop) -> Time {
        stop.began.saturating_add(self.kill_after())
    }

    fn drain_end(&self, stop: Stop) -> Time {
        stop.began.saturating_add(self.delay).min(self.kill_at(stop))
    }

    fn begin_stop(&self, signal: Signal, by_hand: bool, now: Time) -> (State, Actions) {
        let stop = Stop { signal, began: now };
        let kill_in = self.kill_after();
        if self.delay.is_zero() || by_hand {
            let forward = self.stop_signal.unwrap_or(signal);
            let note = Note::Stopping { by: signal, forward, kill_in };
            let actions =
                [Action::Unready, Action::BeginDrain, Action::Forward(forward), Action::Say(note)];
            return (State::Stopping(stop, 0), Actions::of(actions));
        }
        let note = Note::Draining { by: signal, lasts: self.delay, kill_in };
        let actions = [Action::Unready, Action::BeginDrain, Action::Say(note)];
        (State::Draining(stop), Actions::of(actions))
    }

    fn end_drain(&self, stop: Stop, cut_by: Option<Signal>, now: Time) -> (State, Actions) {
        let forward = self.stop_signal.unwrap_or(stop.signal);
        let kill_in = self.kill_at(stop).saturating_sub(now);
        let after = now.saturating_sub(stop.began);
        let note = Note::DrainOver { after, cut_by, forward, kill_in };
        let actions = [Action::Forward(forward), Action::Say(note)];
        (State::Stopping(stop, 0), Actions::of(actions))
    }

    /// The next escalation, or SIGKILL after the last one: one a step, so that they keep their
    /// order where several are due at once.
    fn escalate(&self, stop: Stop, escalation: usize, now: Time) -> (State, Actions) {
        let after = now.saturating_sub(stop.began);
        let Some(Escalation { signal, .. }) = self.escalate.get(escalation).copied() else {
            return Self::kill(Some(stop), None, Note::Deadline { after }, now);
        };
        let kill_in = self.kill_at(stop).saturating_sub(now);
        let note = Note::Escalating { after, signal, kill_in };
        let actions = [Action::Forward(signal), Action::Say(note)];
        (State::Stopping(stop, escalation.saturating_add(1)), Actions::of(actions))
    }

    fn kill(stop: Option<Stop>, status: Option<Status>, note: Note, now: Time) -> (State, Actions) {
        let until = now.saturating_add(STATUS_WAIT);
        let actions = [Action::KillRest, Action::Say(note)];
        (State::Killing { stop, status, until }, Actions::of(actions))
    }

    fn app_ended(
        &self,
        stop: Option<Stop>,
        status: Status,
        left: bool,
        now: Time,
    ) -> (State, Actions) {
        // With a stop it has gone already, which makes this one idle.
        if !left {
            let after = stop.map(|stop| now.saturating_sub(stop.began));
            let note = Note::AppEnded { status, after };
            return self.exit(stop, Some(status), [Action::Unready, Action::Say(note)]);
        }
        let latest = stop.map_or(Time::MAX, |stop| self.kill_at(stop));
        let until = now.saturating_add(self.orphan_grace).min(latest);
        let note = Note::Orphaned { status, kill_in: until.saturating_sub(now) };
        let actions = [Action::Unready, Action::TerminateRest, Action::Say(note)];
        (State::Orphaned { stop, status, until }, Actions::of(actions))
    }

    fn exit<const N: usize>(
        &self,
        stop: Option<Stop>,
        status: Option<Status>,
        before: [Action; N],
    ) -> (State, Actions) {
        let code = self.exit_codes.pass_on(status.map_or(KILLED, code), stop.is_some());
        (State::Ended, Actions::of(before.into_iter().chain([Action::Exit(code)])))
    }
}

/// The exit code that tells of a status, as shells have it.
fn code(status: Status) -> u8 {
    match status {
        Status::Exited(code) => code,
        Status::Killed(signal) => u8::try_from(128 + signal.number()).unwrap_or(u8::MAX),
    }
}

impl ExitCodes {
    fn pass_on(&self, code: u8, after_stop: bool) -> u8 {
        let after_stop: &[(u8, u8)] = if after_stop { &self.after_stop } else { &[] };
        let mut pairs = after_stop.iter().chain(&self.always);
        pairs.find(|(from, _)| *from == code).map_or(code, |(_, to)| *to)
    }
}

#[cfg(test)]
mod tests;
