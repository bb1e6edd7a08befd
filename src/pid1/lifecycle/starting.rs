//! The steps of `lifecycle`'s machine before the app is started, if it waits for targets.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::times::Start;
use super::{Action, Actions, Note, State, Waited};
use crate::clock::Time;
use crate::exit_code;
use crate::options::plan::Plan;
use crate::signal::Signal;

/// The pause before a failed companion is restarted.
const PAUSE: Duration = Duration::from_secs(1);

/// How long past its time a companion may run before the clock ends the wait.
const COMPANION_MARGIN: Duration = Duration::from_secs(1);

impl Plan {
    /// The first state of the machine.
    pub fn begin(&self, now: Time) -> (State, Actions) {
        match self.start_timeout {
            None => (State::Running(None), Actions::of(&[Action::StartApp])),
            Some(timeout) => {
                let start = Start { began: now, again_at: None };
                (State::Starting(start), Actions::of(&[Action::AwaitStart(timeout)]))
            }
        }
    }

    fn start_until(&self, start: Start) -> Time {
        start.began.saturating_add(self.start_timeout.unwrap_or_default())
    }

    pub(super) fn start_wakes_at(&self, start: Start) -> Time {
        let until = self.start_until(start);
        start
            .again_at
            .map_or(until.saturating_add(COMPANION_MARGIN), |again_at| again_at.min(until))
    }

    pub(super) fn waited(&self, start: Start, waited: Waited, now: Time) -> (State, Actions) {
        match waited {
            Waited::Ready => {
                let note = Note::AllReady { after: now.saturating_sub(start.began) };
                let actions = [Action::Say(note), Action::StartApp];
                (State::Running(None), Actions::of(&actions))
            }
            Waited::NotReady => Self::not_ready(start, now),
            Waited::Failed => {
                let again_at = Some(now.saturating_add(PAUSE));
                (State::Starting(Start { again_at, ..start }), Actions::none())
            }
        }
    }

    pub(super) fn wake_before_start(&self, start: Start, now: Time) -> (State, Actions) {
        let left = self.start_until(start).saturating_sub(now);
        if start.again_at.is_some() && !left.is_zero() {
            let start = Start { again_at: None, ..start };
            return (State::Starting(start), Actions::of(&[Action::AwaitStart(left)]));
        }
        Self::not_ready(start, now)
    }

    fn not_ready(start: Start, now: Time) -> (State, Actions) {
        let note = Note::NotReady { after: now.saturating_sub(start.began) };
        let exit = Action::Exit(exit_code::OWN_FAILURE);
        (State::Ended, Actions::of(&[Action::EndCompanions, Action::Say(note), exit]))
    }

    pub(super) fn stop_before_start(
        &self,
        start: Start,
        signal: Signal,
        now: Time,
    ) -> (State, Actions) {
        let note = Note::StoppedBeforeStart { by: signal, after: now.saturating_sub(start.began) };
        let code = self.exit_codes.pass_on(exit_code::of_signal(signal), true);
        let actions = [Action::EndCompanions, Action::Say(note), Action::Exit(code)];
        (State::Ended, Actions::of(&actions))
    }
}
