//! What each step of `lifecycle`'s machine does: one function a change of state.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Action, Actions, Drain, Left, Note, State, Stop, Until};
use crate::clock::Time;
use crate::options::plan::{Escalation, HeldBy, Plan};
use crate::signal::Signal;
use crate::sys::Status;

/// How long the app's status is waited for after SIGKILL.
const STATUS_WAIT: Duration = Duration::from_millis(100);

/// What the exit code says of an app that was still there after its SIGKILL.
pub(super) const KILLED: u8 = 128 + 9;

impl Plan {
    pub(super) fn begin_stop(&self, signal: Signal, by_hand: bool, now: Time) -> (State, Actions) {
        let stop = Stop { signal: Some(signal), began: now };
        let until = match self.held_by {
            HeldBy::Nothing => Until::Delay,
            HeldBy::Handlers | HeldBy::Traffic => Until::Companion,
        };
        if by_hand || (self.delay.is_zero() && until == Until::Delay) {
            let (forward, kill_in) = (self.stop_signal.unwrap_or(signal), self.kill_after());
            let note = Note::Stopping { by: signal, forward, drained: false, kill_in };
            let actions =
                [Action::Unready, Action::BeginDrain, Action::Forward(forward), Action::Say(note)];
            return (State::Stopping(stop, 0), Actions::of(&actions));
        }
        self.begin_drain(stop, until)
    }

    /// A hook waits for the companion's end: there is one, whatever holds the drain.
    pub(super) fn begin_hooked_drain(&self, now: Time) -> (State, Actions) {
        self.begin_drain(Stop { signal: None, began: now }, Until::Companion)
    }

    fn begin_drain(&self, stop: Stop, until: Until) -> (State, Actions) {
        let ready = !self.unready_delay.is_zero();
        let note = Note::Draining {
            by: stop.signal,
            lasts: self.delay,
            at_most: self.longest_drain(),
            kill_in: self.kill_after(),
        };
        let unready = (!ready).then_some(Action::Unready);
        let companion = match until {
            Until::Delay | Until::Longest => None,
            Until::Companion => Some(Action::StartCompanion(Duration::ZERO)),
        };
        let actions = [unready, Some(Action::BeginDrain), companion, Some(Action::Say(note))];
        (State::Draining(Drain { stop, until, ready }), Actions::some(actions))
    }

    /// A hook in a drain that is going on: it wants a companion to wait for. The handlers ran, or
    /// run, in the one that there was.
    pub(super) fn join_drain(&self, drain: Drain, now: Time) -> (State, Actions) {
        match (drain.until, self.held_by) {
            (Until::Delay, HeldBy::Nothing) => {
                let after = now.saturating_sub(drain.stop.began);
                let drain = Drain { until: Until::Companion, ..drain };
                (State::Draining(drain), Actions::of(&[Action::StartCompanion(after)]))
            }
            (Until::Companion | Until::Longest, _)
            | (Until::Delay, HeldBy::Handlers | HeldBy::Traffic) => {
                (State::Draining(drain), Actions::none())
            }
        }
    }

    /// The first stop signal joins a hook's drain; after it, or by hand, one ends the drain.
    pub(super) fn stop_in_drain(
        &self,
        drain: Drain,
        signal: Signal,
        by_hand: bool,
        now: Time,
    ) -> (State, Actions) {
        if drain.stop.signal.is_some() {
            return self.end_drain(drain, Some(signal), now);
        }
        let stop = Stop { signal: Some(signal), ..drain.stop };
        let drain = Drain { stop, ..drain };
        if by_hand {
            return self.end_drain(drain, Some(signal), now);
        }
        let after = now.saturating_sub(stop.began);
        let kill_in = self.kill_at(stop).saturating_sub(now);
        let note = Note::StillDraining { by: signal, after, kill_in };
        (State::Draining(drain), Actions::of(&[Action::Say(note)]))
    }

    pub(super) fn end_drain(
        &self,
        drain: Drain,
        cut_by: Option<Signal>,
        now: Time,
    ) -> (State, Actions) {
        let Drain { stop, until, ready } = drain;
        let unready = ready.then_some(Action::Unready);
        let companion = (until == Until::Companion).then_some(Action::EndCompanion);
        let after = now.saturating_sub(stop.began);
        let kill_in = self.kill_at(stop).saturating_sub(now);
        let Some(signal) = stop.signal else {
            let note = Note::Drained { after, waits: kill_in };
            let actions = [companion, unready, Some(Action::Say(note)), None];
            return (State::Drained(stop), Actions::some(actions));
        };
        let forward = self.stop_signal.unwrap_or(signal);
        let note = Note::DrainOver { after, cut_by, forward, kill_in };
        let forward = Action::Forward(forward);
        let actions = [companion, unready, Some(forward), Some(Action::Say(note))];
        (State::Stopping(stop, 0), Actions::some(actions))
    }

    /// The next escalation, or SIGKILL after the last one: one a step, so that they keep their
    /// order where several are due at once.
    pub(super) fn escalate(&self, stop: Stop, escalation: usize, now: Time) -> (State, Actions) {
        let after = now.saturating_sub(stop.began);
        let Some(Escalation { signal, .. }) = self.escalate.get(escalation).copied() else {
            return Self::kill(Some(stop), None, Note::Deadline { after }, now);
        };
        let kill_in = self.kill_at(stop).saturating_sub(now);
        let note = Note::Escalating { after, signal, kill_in };
        let actions = [Action::Forward(signal), Action::Say(note)];
        (State::Stopping(stop, escalation.saturating_add(1)), Actions::of(&actions))
    }

    pub(super) fn kill(
        stop: Option<Stop>,
        status: Option<Status>,
        note: Note,
        now: Time,
    ) -> (State, Actions) {
        let until = now.saturating_add(STATUS_WAIT);
        let actions = [Action::KillRest, Action::Say(note)];
        (State::Killing { stop, status, until }, Actions::of(&actions))
    }

    pub(super) fn app_ended(
        &self,
        stop: Option<Stop>,
        status: Status,
        left: Left,
        now: Time,
    ) -> (State, Actions) {
        // With a stop readiness has gone already, which makes this one idle.
        let unready = Action::Unready;
        match left {
            Left::Nobody => self.exit_of_app(stop, status, Some(unready), now),
            Left::Companions => {
                let until = now.saturating_add(STATUS_WAIT).min(self.latest(stop));
                let state = State::Leaving { stop, status, until };
                (state, Actions::of(&[unready, Action::EndCompanions]))
            }
            Left::Orphans => {
                // One that is still to be started would hold the exit up.
                let actions = [Some(unready), Some(Action::EndCompanions)];
                self.orphaned(stop, status, actions, now)
            }
        }
    }

    pub(super) fn orphaned(
        &self,
        stop: Option<Stop>,
        status: Status,
        [before, then]: [Option<Action>; 2],
        now: Time,
    ) -> (State, Actions) {
        let until = now.saturating_add(self.orphan_grace).min(self.latest(stop));
        let note = Note::Orphaned { status, kill_in: until.saturating_sub(now) };
        let state = State::Orphaned { stop, status, until };
        let actions = [before, then, Some(Action::TerminateRest), Some(Action::Say(note))];
        (state, Actions::some(actions))
    }

    /// The app has ended and left nobody.
    pub(super) fn exit_of_app(
        &self,
        stop: Option<Stop>,
        status: Status,
        before: Option<Action>,
        now: Time,
    ) -> (State, Actions) {
        let after = stop.map(|stop| now.saturating_sub(stop.began));
        let note = Action::Say(Note::AppEnded { status, after });
        self.exit(stop, Some(status), [before, Some(note)])
    }

    pub(super) fn exit(
        &self,
        stop: Option<Stop>,
        status: Option<Status>,
        [before, note]: [Option<Action>; 2],
    ) -> (State, Actions) {
        let stop_signal = stop.and_then(|stop| stop.signal);
        let code = self.exit_codes.pass_on(status.map_or(KILLED, code), stop_signal.is_some());
        (State::Ended, Actions::some([before, note, Some(Action::Exit(code)), None]))
    }
}

/// The exit code that tells of a status, as shells have it.
pub(super) fn code(status: Status) -> u8 {
    match status {
        Status::Exited(code) => code,
        Status::Killed(signal) => u8::try_from(128 + signal.number()).unwrap_or(u8::MAX),
    }
}
