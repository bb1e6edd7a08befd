//! The only file that reads the clock and sleeps.

#![allow(clippy::disallowed_methods)]

use std::thread;
use std::time::{Duration, Instant};

pub fn now() -> Instant {
    Instant::now()
}

pub fn sleep_until(then: Instant) {
    thread::sleep(then.saturating_duration_since(now()));
}

pub fn sleep(duration: Duration) {
    thread::sleep(duration);
}

/// Polls every 10 ms. Returns whether it became true in time.
pub fn becomes_true(deadline: Instant, mut is_true: impl FnMut() -> bool) -> bool {
    loop {
        if is_true() {
            return true;
        }
        if now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(10));
    }
}
