//! Waiting for descriptors, or for a deadline: the one way in which companions and verbs wait.

#![forbid(unsafe_code)]

use std::time::Duration;

use nix::poll::{PollFd, PollTimeout};

use crate::clock::Time;

/// Returns when one of `descriptors` has what it is to be polled for, and at `deadline` at the
/// latest; or sooner: look at the clock again.
pub fn wait(descriptors: &mut [PollFd], deadline: Option<Time>, now: Time) {
    let timeout = match deadline {
        None => PollTimeout::NONE,
        // Rounded up: what is due in half a millisecond is not to be asked for in a loop until then.
        Some(deadline) => {
            let left = deadline.saturating_sub(now).saturating_add(Duration::from_nanos(999_999));
            i32::try_from(left.as_millis())
                .ok()
                .and_then(|left| PollTimeout::try_from(left).ok())
                .unwrap_or(PollTimeout::MAX)
        }
    };
    // Every signal is blocked, so what can fail is memory alone; then it is as if nothing had come.
    let _ = nix::poll::poll(descriptors, timeout);
}
