//! Waits for descriptors or a deadline: the only wait of companions and verbs.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock::Time;
use crate::duration::millis;
use crate::sys::{self, Polled};

/// Returns when one of `places` is ready, and at `deadline` at the latest. It may return sooner, so
/// the caller checks the clock again.
pub fn wait(places: &mut [Polled], deadline: Option<Time>, now: Time) {
    // Rounded up, so that the last half millisecond before a deadline is not a busy loop.
    let timeout = deadline.map_or(-1, |deadline| {
        let left = deadline.saturating_sub(now).saturating_add(Duration::from_nanos(999_999));
        i32::try_from(millis(left)).unwrap_or(i32::MAX)
    });
    sys::poll(places, timeout);
}
