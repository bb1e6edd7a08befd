//! Exit codes with a meaning by the convention of docker, env and timeout.

#![forbid(unsafe_code)]

use crate::signal::Signal;

/// drain-init itself failed.
pub const OWN_FAILURE: u8 = 125;

/// A target is not ready, or was not ready in time.
pub const NOT_READY: u8 = 1;

/// 128 + N for a process that signal N ended, as shells report it.
pub fn of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal.number()).unwrap_or(u8::MAX)
}
