//! The steps of `lifecycle`'s machine: one function for each change of state.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::note::{Cut, WhyCut};
use super::times::{Taken, Until};
use super::{Action, Actions, Came, Drain, Left, Note, State, Stop};
use crate::clock::Time;
use crate::exit_code;
use crate::options::plan::{Escalation, HeldBy, Plan};
use crate::signal::Signal;
use crate::sys::Status;

/// How long to wait for the app's status after SIGKILL.
const STATUS_WAIT: Duration = Duration::from_millis(100);

/// When to log the names of processes that the app left.
const NAMED_AFTER: Duration = Duration::from_secs(1);

/// The exit code for an app that was still there after its SIGKILL.
pub(super) const KILLED: u8 = 128 + 9;

impl Plan {
    pub(super) fn begin_stop(&self, signal: Signal, came: Came, now: Time) -> (State, Actions) {
        let stop = Stop { first: Some(Taken { signal, at: now }), began: now };
        let until = match self.held_by {
            HeldBy::Nothing => Until::Delay,
            HeldBy::Handlers | HeldBy::Traffic => Until::Companion,
        };
        if came == Came::ByHand || (self.delay.is_zero() && until == Until::Delay) {
            let (forward, kill_in) = (self.stop_signal.unwrap_or(signal), self.kill_after());
            let note = Note::Stopping { by: signal, forward, drained: false, kill_in };
            let actions =
                [Action::Unready, Action::BeginDrain, Action::Forward(forward), Action::Say(note)];
            return (State::Stopping(stop, 0), Actions::of(&actions));
        }
        self.begin_drain(stop, until)
    }

    /// Begins a drain with a companion, even if nothing holds it: the hook waits for the
    /// companion's end.
    pub(super) fn begin_hooked_drain(&self, now: Time) -> (State, Actions) {
        self.begin_drain(Stop { first: None, began: now }, Until::Companion)
    }

    fn begin_drain(&self, stop: Stop, until: Until) -> (State, Actions) {
        let ready = !self.unready_delay.is_zero();
        let note = Note::Draining {
            by: stop.first.map(|first| first.signal),
            lasts: self.delay,
            at_most: self.longest_drain(),
            kill_in: self.kill_after(),
        };
        let unready = (!ready).then_some(Action::Unready);
        let companion = match until {
            Until::Delay | Until::Longest => None,
            Until::Companion => Some(Action::StartCompanion(Duration::ZERO)),
        };
        let say = Some(Action::Say(note));
        let actions = [unready, Some(Action::BeginDrain), companion, say, None];
        (State::Draining(Drain { stop, until, ready }), Actions::some(actions))
    }

    /// A hook joins a drain: it needs a companion to wait for. The handlers are not run again.
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

    /// The first stop signal joins a hook's drain, unless that hook still waits: then its time is
    /// over, and SIGKILL follows soon. After the first one, or by hand, a stop signal ends the
    /// drain.
    pub(super) fn stop_in_drain(
        &self,
        drain: Drain,
        signal: Signal,
        came: Came,
        now: Time,
    ) -> (State, Actions) {
        if let Some(first) = drain.stop.repeated(now)
            && came != Came::ByHand
        {
            return (
                State::Draining(drain),
                Actions::of(&[Self::same_request(signal, first, now)]),
            );
        }
        let why = match (drain.stop.first, came) {
            (Some(first), _) if first.signal == signal => WhyCut::Again,
            (Some(_), _) | (None, Came::ByHand) => WhyCut::Asked,
            (None, Came::WhileHookWaits) => WhyCut::HookWaits,
            (None, Came::Sent) => return self.stop_joins_drain(drain, signal, now),
        };
        let first = drain.stop.first.unwrap_or(Taken { signal, at: now });
        let stop = Stop { first: Some(first), ..drain.stop };
        self.end_drain(Drain { stop, ..drain }, Some(Cut { by: signal, why }), now)
    }

    fn stop_joins_drain(&self, drain: Drain, signal: Signal, now: Time) -> (State, Actions) {
        let stop = Stop { first: Some(Taken { signal, at: now }), ..drain.stop };
        let after = now.saturating_sub(stop.began);
        let kill_in = self.kill_at(stop).saturating_sub(now);
        let note = Note::StillDraining { by: signal, after, kill_in };
        (State::Draining(Drain { stop, ..drain }), Actions::of(&[Action::Say(note)]))
    }

    pub(super) fn same_request(signal: Signal, first: Taken, now: Time) -> Action {
        let after = now.saturating_sub(first.at);
        Action::Say(Note::SameRequest { signal, first: first.signal, after })
    }

    pub(super) fn forward(signal: Signal) -> Actions {
        Actions::of(&[Action::Forward(signal), Action::Say(Note::Forwarded(signal))])
    }

    pub(super) fn end_drain(&self, drain: Drain, cut: Option<Cut>, now: Time) -> (State, Actions) {
        let Drain { stop, until, ready } = drain;
        let unready = ready.then_some(Action::Unready);
        let companion = (until == Until::Companion).then_some(Action::EndCompanion);
        let after = now.saturating_sub(stop.began);
        let kill_in = self.kill_at(stop).saturating_sub(now);
        let Some(Taken { signal, .. }) = stop.first else {
            let note = Note::Drained { after, waits: kill_in };
            let actions = [companion, unready, Some(Action::Say(note)), None, None];
            return (State::Drained(stop), Actions::some(actions));
        };
        let forward = self.stop_signal.unwrap_or(signal);
        let note = Note::DrainOver { after, cut, forward, kill_in };
        let forward = Action::Forward(forward);
        let actions = [companion, unready, Some(forward), Some(Action::Say(note)), None];
        (State::Stopping(stop, 0), Actions::some(actions))
    }

    /// Sends the next escalation, or SIGKILL after the last one: one per step, so that they keep
    /// their order when several are due at once.
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

    /// A hint for an app that has ended after a forwarded signal which may have been meant to stop
    /// it: it ended within the grace period, after which the container would be killed.
    pub(super) fn stop_signal_hint(
        &self,
        forwarded: Taken,
        status: Status,
        now: Time,
    ) -> Option<Action> {
        let Taken { signal, at } = forwarded;
        let after = now.saturating_sub(at);
        let by_it = match status {
            Status::Exited(_) => true,
            Status::Killed(by) => by == signal,
        };
        let is_hint = by_it && after < self.grace && !signal.controls_jobs();
        is_hint.then_some(Action::Say(Note::MayBeStopSignal { signal, after }))
    }

    pub(super) fn app_ended(
        &self,
        stop: Option<Stop>,
        status: Status,
        left: Left,
        hint: Option<Action>,
        now: Time,
    ) -> (State, Actions) {
        // After a stop, readiness is withdrawn already, and this does nothing.
        let unready = Some(Action::Unready);
        match left {
            Left::Nobody => self.exit_of_app(stop, status, [unready, hint], now),
            Left::Companions => {
                let until = now.saturating_add(STATUS_WAIT).min(self.latest(stop));
                let state = State::Leaving { stop, status, until };
                let actions = [unready, Some(Action::EndCompanions), hint, None, None];
                (state, Actions::some(actions))
            }
            Left::Orphans => {
                // A companion that is still to be started would delay the exit.
                let before = [unready, Some(Action::EndCompanions), hint];
                self.orphaned(stop, status, before, now)
            }
        }
    }

    pub(super) fn orphaned(
        &self,
        stop: Option<Stop>,
        status: Status,
        [before, then, hint]: [Option<Action>; 3],
        now: Time,
    ) -> (State, Actions) {
        let requested = stop.is_some_and(|stop| stop.first.is_some());
        let latest = self.latest(stop);
        let until = now.saturating_add(self.orphan_grace(requested)).min(latest);
        let note = Note::Orphaned { status, kill_in: until.saturating_sub(now) };
        let names_at = Some(now.saturating_add(NAMED_AFTER));
        let state = State::Orphaned { stop, status, until, names_at };
        let (tell, say) = (Some(Action::TerminateRest), Some(Action::Say(note)));
        (state, Actions::some([before, then, tell, hint, say]))
    }

    /// The app has ended and left no other process.
    pub(super) fn exit_of_app(
        &self,
        stop: Option<Stop>,
        status: Status,
        [before, hint]: [Option<Action>; 2],
        now: Time,
    ) -> (State, Actions) {
        let after = stop.map(|stop| now.saturating_sub(stop.began));
        let note = Action::Say(Note::AppEnded { status, after });
        self.exit(stop, Some(status), [before, hint, Some(note)], now)
    }

    pub(super) fn exit(
        &self,
        stop: Option<Stop>,
        status: Option<Status>,
        before: [Option<Action>; 3],
        now: Time,
    ) -> (State, Actions) {
        let requested = stop.is_some_and(|stop| stop.first.is_some());
        let code = self.exit_codes.pass_on(status.map_or(KILLED, code), requested);
        self.tell(stop, code, before, now)
    }

    /// All processes have ended: runs the exit handlers, if there are any and there is time.
    pub(super) fn tell(
        &self,
        stop: Option<Stop>,
        code: u8,
        [before, then, last]: [Option<Action>; 3],
        now: Time,
    ) -> (State, Actions) {
        let until = self.exit_handlers_end(stop.map(|stop| stop.began), now);
        let left = until.saturating_sub(now);
        let exit = Some(Action::Exit(code));
        if !self.has_exit_handlers {
            return (State::Ended, Actions::some([before, then, last, exit, None]));
        }
        if left.is_zero() {
            let note = Some(Action::Say(Note::HandlersNotRun));
            return (State::Ended, Actions::some([before, then, last, note, exit]));
        }
        let until = until.saturating_add(self.handlers_margin());
        let tell = Some(Action::TellExit(left));
        (State::Telling { stop, code, until }, Actions::some([before, then, last, tell, None]))
    }
}

/// The exit code for a status, as in shells.
pub(super) fn code(status: Status) -> u8 {
    match status {
        Status::Exited(code) => code,
        Status::Killed(signal) => exit_code::of_signal(signal),
    }
}
