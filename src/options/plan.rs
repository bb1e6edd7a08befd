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
    /// What processes that the app left behind have to end, if that was given.
    pub orphan_grace: Option<Duration>,
    pub stop_on: SignalSet,
    /// What the app is sent when the drain is over, if not the stop signal that came.
    pub stop_signal: Option<Signal>,
    /// In the order in which they are due.
    pub escalate: Vec<Escalation>,
    pub map_signal: SignalMap,
    pub exit_codes: ExitCodes,
    /// How long targets are waited for before the app is started, if there are any.
    pub start_timeout: Option<Duration>,
    /// Handlers are run when the app has ended.
    pub has_exit_handlers: bool,
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

/// So long after the first stop signal every other one is the same request: timeout(1) signals its
/// child and then the whole group, runtimes and people repeat themselves. A second is far more than
/// those take, and less than anyone takes to see that a stop lasts.
pub const SAME_REQUEST: Duration = Duration::from_secs(1);

/// What processes have to end that an app has left which nobody has asked to stop. After a requested
/// stop they have what is left of the grace period: a server whose shell or `npm` has ended still
/// has requests to answer.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// How long the handlers have that run when the app has ended.
pub const EXIT_HANDLERS: Duration = Duration::from_secs(5);

/// What of the margin is left for the exit itself, if that has so much.
const EXIT_MARGIN: Duration = Duration::from_millis(100);

/// How much longer than its longest time a companion has before the clock ends the drain.
const COMPANION_MARGIN: Duration = Duration::from_secs(1);

impl Plan {
    /// How long after the stop signal SIGKILL falls.
    pub fn kill_after(&self) -> Duration {
        self.grace.saturating_sub(self.kill_margin)
    }

    /// How long processes that the app left have to end, the deadline aside; `requested`: a stop
    /// signal has come.
    pub fn orphan_grace(&self, requested: bool) -> Duration {
        self.orphan_grace.unwrap_or(if requested { Duration::MAX } else { ORPHAN_GRACE })
    }

    /// How long the drain is meant to last at the most.
    pub fn longest_drain(&self) -> Duration {
        match self.held_by {
            HeldBy::Nothing => self.delay,
            HeldBy::Handlers | HeldBy::Traffic => self.max_delay,
        }
    }

    /// How much longer a companion may hold the drain, while it looks for an instant at which nothing
    /// is in flight, or hangs: a part of what the app has left to stop in.
    pub fn companion_margin(&self) -> Duration {
        COMPANION_MARGIN.min(self.kill_after().saturating_sub(self.max_delay) / 2)
    }

    /// How long after the stop signal the app is told at the latest.
    pub fn told_after(&self) -> Duration {
        let longer = match self.held_by {
            HeldBy::Nothing => Duration::ZERO,
            HeldBy::Handlers | HeldBy::Traffic => self.companion_margin(),
        };
        self.longest_drain().saturating_add(longer)
    }

    /// Until when exit handlers that begin now may run: not past the SIGKILL of a stop that began then,
    /// but for at least as long as the margin leaves those that begin with it.
    pub fn exit_handlers_end(&self, began: Option<Duration>, now: Duration) -> Duration {
        let longest = now.saturating_add(EXIT_HANDLERS);
        let Some(began) = began else {
            return longest;
        };
        let exit_margin = EXIT_MARGIN.min(self.kill_margin / 5);
        let least = now.saturating_add(self.kill_margin.saturating_sub(exit_margin));
        let latest = began.saturating_add(self.grace.saturating_sub(exit_margin));
        let kill_at = began.saturating_add(self.kill_after());
        longest.min(kill_at.max(least).min(latest))
    }

    /// How much longer a companion has to see that they end.
    pub fn handlers_margin(&self) -> Duration {
        (EXIT_MARGIN / 2).min(self.kill_margin / 10)
    }

    /// How long past the longest time such an instant is looked for: less than PID 1 waits.
    pub fn looked_for(&self) -> Duration {
        self.companion_margin() * 9 / 10
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
