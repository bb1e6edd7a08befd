//! The exit codes that docker, env and timeout give a meaning to.

#![forbid(unsafe_code)]

use crate::signal::Signal;

/// drain-init's own failure.
pub const OWN_FAILURE: u8 = 125;

/// A target is not ready, or was not in time.
pub const NOT_READY: u8 = 1;

/// What shells say of a process that a signal has ended, in place of its exit code.
pub fn of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal.number()).unwrap_or(u8::MAX)
}
