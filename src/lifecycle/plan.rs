//! The options as the machine sees them: times, signals, exit codes.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::signal::{Signal, SignalMap, SignalSet};

/// All that the machine has to know of the options.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long the app goes on serving after the stop signal, at least.
    pub delay: Duration,
    /// How long a companion may hold the drain.
    pub max_delay: Duration,
    /// What holds the drain besides the delay.
    pub held_by: HeldBy,
    /// How long into the drain readiness stays.
    pub unready_delay: Duration,
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

/// What holds a drain besides its delay: that is for a companion to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldBy {
    #[default]
    Nothing,
    /// Handlers that have yet to end.
    Handlers,
    /// Traffic, and handlers or not.
    Traffic,
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

impl Plan {
    /// How long after the stop signal the app is told at the latest; with traffic it may be a second
    /// later, where an instant with nothing in flight is looked for.
    pub fn longest_drain(&self) -> Duration {
        match self.held_by {
            HeldBy::Nothing => self.delay,
            HeldBy::Handlers | HeldBy::Traffic => self.max_delay,
        }
    }
}

impl ExitCodes {
    /// What a code is passed on as.
    pub fn pass_on(&self, code: u8, after_stop: bool) -> u8 {
        let after_stop: &[(u8, u8)] = if after_stop { &self.after_stop } else { &[] };
        let mut pairs = after_stop.iter().chain(&self.always);
        pairs.find(|(from, _)| *from == code).map_or(code, |(_, to)| *to)
    }
}
