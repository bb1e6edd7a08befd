//! The options that the state machine needs: times, signals, exit codes.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::signal::{Signal, SignalMap, SignalSet};

/// Everything that the state machine knows of the options.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long the app keeps serving after the stop signal, at least.
    pub delay: Duration,
    /// How long a companion may hold the drain.
    pub max_delay: Duration,
    /// What holds the drain besides the delay.
    pub held_by: HeldBy,
    /// How long into the drain the app stays ready.
    pub unready_delay: Duration,
    /// The whole time, from the first stop signal.
    pub grace: Duration,
    /// How long before the end of the grace period SIGKILL is sent.
    pub kill_margin: Duration,
    /// How long processes that the app left behind have to end, if given.
    pub orphan_grace: Option<Duration>,
    pub stop_on: SignalSet,
    /// The signal sent to the app when the drain is over, if not the stop signal that came.
    pub stop_signal: Option<Signal>,
    /// In order of time.
    pub escalate: Vec<Escalation>,
    pub map_signal: SignalMap,
    pub exit_codes: ExitCodes,
    /// How long to wait for targets before the app is started, if there are any.
    pub start_timeout: Option<Duration>,
    /// Handlers run when the app has ended.
    pub has_exit_handlers: bool,
}

/// What holds a drain besides its delay; a companion watches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldBy {
    #[default]
    Nothing,
    /// Handlers that have not ended.
    Handlers,
    /// Traffic, with or without handlers.
    Traffic,
}

/// A further signal for an app that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escalation {
    pub signal: Signal,
    pub before_kill: Duration,
}

/// The rewriting of exit codes.
#[derive(Clone, Debug, Default)]
pub struct ExitCodes {
    pub always: Vec<(u8, u8)>,
    /// Only after a requested stop, and before `always`.
    pub after_stop: Vec<(u8, u8)>,
}

/// Stop signals within this time after the first one are the same request. timeout(1) signals its
/// child and then the whole group; runtimes and people repeat themselves. A second is far more than
/// those need, and less than a person takes to see that a stop is slow.
pub const SAME_REQUEST: Duration = Duration::from_secs(1);

/// How long processes left by the app have to end, if no stop was requested. After a requested stop
/// they have the rest of the grace period: a server whose shell or `npm` has ended still has
/// requests to answer.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// How long the handlers for the app's end may run.
pub const EXIT_HANDLERS: Duration = Duration::from_secs(5);

/// The part of the margin that is kept for the exit itself, if there is as much.
const EXIT_MARGIN: Duration = Duration::from_millis(100);

/// How long past its longest time a companion may run before the clock ends the drain.
const COMPANION_MARGIN: Duration = Duration::from_secs(1);

impl Plan {
    /// How long after the stop signal SIGKILL is sent.
    pub fn kill_after(&self) -> Duration {
        self.grace.saturating_sub(self.kill_margin)
    }

    /// How long processes left by the app have to end, regardless of the deadline. `requested`: a
    /// stop signal has come.
    pub fn orphan_grace(&self, requested: bool) -> Duration {
        self.orphan_grace.unwrap_or(if requested { Duration::MAX } else { ORPHAN_GRACE })
    }

    /// How long the drain is meant to last at most.
    pub fn longest_drain(&self) -> Duration {
        match self.held_by {
            HeldBy::Nothing => self.delay,
            HeldBy::Handlers | HeldBy::Traffic => self.max_delay,
        }
    }

    /// How long past its longest time a companion may hold the drain, while it looks for an instant
    /// with nothing in flight, or hangs: a part of the app's time to stop.
    pub fn companion_margin(&self) -> Duration {
        COMPANION_MARGIN.min(self.kill_after().saturating_sub(self.max_delay) / 2)
    }

    /// How long after the stop signal the app is signalled, at the latest.
    pub fn told_after(&self) -> Duration {
        let longer = match self.held_by {
            HeldBy::Nothing => Duration::ZERO,
            HeldBy::Handlers | HeldBy::Traffic => self.companion_margin(),
        };
        self.longest_drain().saturating_add(longer)
    }

    /// Until when exit handlers that begin now may run: not past the SIGKILL of a stop that began
    /// at `began`, but at least as long as the margin allows handlers that begin at the SIGKILL.
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

    /// How long a companion has to notice that its handlers were killed.
    pub fn handlers_margin(&self) -> Duration {
        (EXIT_MARGIN / 2).min(self.kill_margin / 10)
    }

    /// How long past its longest time the drain looks for such an instant: less than PID 1 waits.
    pub fn looked_for(&self) -> Duration {
        self.companion_margin() * 9 / 10
    }
}

impl ExitCodes {
    /// The exit code that `code` becomes.
    pub fn pass_on(&self, code: u8, after_stop: bool) -> u8 {
        let after_stop: &[(u8, u8)] = if after_stop { &self.after_stop } else { &[] };
        let mut pairs = after_stop.iter().chain(&self.always);
        pairs.find(|(from, _)| *from == code).map_or(code, |(_, to)| *to)
    }
}
