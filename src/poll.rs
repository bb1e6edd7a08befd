//! Waiting for descriptors, or for a deadline: the one way in which companions and verbs wait.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock::Time;
use crate::duration::millis;
use crate::sys::{self, Polled};

/// Returns when one of `places` has what it is polled for, and at `deadline` at the
/// latest; or sooner: look at the clock again.
pub fn wait(places: &mut [Polled], deadline: Option<Time>, now: Time) {
    // Rounded up: what is due in half a millisecond is not to be asked for in a loop until then.
    let timeout = deadline.map_or(-1, |deadline| {
        let left = deadline.saturating_sub(now).saturating_add(Duration::from_nanos(999_999));
        i32::try_from(millis(left)).unwrap_or(i32::MAX)
    });
    sys::poll(places, timeout);
}
