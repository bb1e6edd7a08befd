//! The exit codes that docker, env and timeout give a meaning to.

#![forbid(unsafe_code)]

/// drain-init's own failure.
pub const OWN_FAILURE: u8 = 125;
