//! The monotonic clock, for the loops alone: functions they call take the time as a value.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// An instant: the time since the loop's clock was started.
pub type Time = Duration;

/// A clock that starts at zero.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the one place where time begins")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Time {
        self.0.elapsed()
    }
}
