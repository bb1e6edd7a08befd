//! What the machine wants done: actions, and the few of them that one step may have.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::Note;
use crate::signal::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The companion that waits for the app's start is started: it has so long.
    AwaitStart(Duration),
    StartApp,
    /// The companion that runs the handlers of the end is started: it has so long.
    TellExit(Duration),
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
    /// Who is waited for is said, for so long still.
    NameRest {
        kill_in: Duration,
    },
    /// To the terminal's job control: the app was stopped.
    Suspend {
        by: Signal,
    },
    Say(Note),
    Exit(u8),
}

/// As many as the longest step has.
const MOST: usize = 5;

/// What one event leads to, in order.
#[must_use = "actions are to be performed"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Actions([Option<Action>; MOST]);

impl Actions {
    pub(super) fn of(actions: &[Action]) -> Self {
        let mut list = Self::default();
        for (place, action) in list.0.iter_mut().zip(actions) {
            *place = Some(*action);
        }
        list
    }

    /// Those of these that there are.
    pub(super) fn some(actions: [Option<Action>; MOST]) -> Self {
        Self(actions)
    }

    pub(super) fn none() -> Self {
        Self::default()
    }
}

impl IntoIterator for Actions {
    type Item = Action;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Action>, MOST>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}
