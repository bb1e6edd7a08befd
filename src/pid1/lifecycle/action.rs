//! The machine's output: actions, and the short list of them that one step returns.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::Note;
use crate::signal::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the companion that waits for the app's targets, with this much time.
    AwaitStart(Duration),
    StartApp,
    /// Start the companion that runs the exit handlers, with this much time.
    TellExit(Duration),
    /// Withdraw readiness.
    Unready,
    /// Running again: become ready.
    Ready,
    /// The drain begins, however short.
    BeginDrain,
    /// Start the drain companion; the drain began this long ago.
    StartCompanion(Duration),
    /// The drain companion has nothing left to wait for.
    EndCompanion,
    /// Send SIGKILL to all companions, and start no more.
    EndCompanions,
    Forward(Signal),
    /// Send SIGTERM to all processes that the app left.
    TerminateRest,
    /// Send SIGKILL to all remaining processes.
    KillRest,
    /// Log the remaining processes, and how much longer they have.
    NameRest {
        kill_in: Duration,
    },
    /// Job control at the terminal: the app was stopped.
    Suspend {
        by: Signal,
    },
    Say(Note),
    Exit(u8),
}

/// The number of actions of the longest step.
const MOST: usize = 5;

/// The actions that follow from one event, in order.
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

    /// Collects the actions that are present.
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
