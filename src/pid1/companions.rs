//! Companions: this program with another verb, started and watched by PID 1. They read outside
//! input, so that PID 1 does not have to.
//!
//! It must not know what they do. `readiness` and `supervisor` decide when to start one, and what
//! its end means.

#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use crate::clock::Time;
use crate::signal::Signal;
use crate::sys::{self, CompanionStart, Pid, Recipient};

/// A companion that ends after this long has not failed at its start.
const HEALTHY: Duration = Duration::from_secs(10);

/// The longest pause before a companion that keeps ending is restarted.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// All companions, from their start until they are reaped.
#[derive(Default)]
pub struct Companions {
    living: Vec<Pid>,
    closed: bool,
}

impl Companions {
    pub fn start(&mut self, companion: &CompanionStart) -> io::Result<Pid> {
        if self.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.start_last(companion)
    }

    /// Starts a companion even after `kill_all`.
    pub fn start_last(&mut self, companion: &CompanionStart) -> io::Result<Pid> {
        let pid = sys::start_companion(companion)?;
        self.living.push(pid);
        Ok(pid)
    }

    pub fn kill(&self, pid: Pid) {
        // Its pid cannot be reused before it is reaped.
        if self.living.contains(&pid) {
            let _ = sys::send(Recipient::Process(pid), Signal::KILL);
        }
    }

    /// Kills all companions. No more are started.
    pub fn kill_all(&mut self) {
        self.closed = true;
        self.living.iter().for_each(|pid| self.kill(*pid));
    }

    /// Records that a child was reaped. Returns whether it was a companion.
    pub fn ended(&mut self, pid: Pid) -> bool {
        let before = self.living.len();
        self.living.retain(|living| *living != pid);
        self.living.len() < before
    }

    pub fn any(&self) -> bool {
        !self.living.is_empty()
    }
}

/// A companion that is restarted when it ends, for as long as it is wanted: at once, then after
/// pauses that double.
#[derive(Default)]
pub struct Wanted {
    pid: Option<Pid>,
    started: Time,
    start_at: Option<Time>,
    failures: u32,
}

impl Wanted {
    /// Starts it as soon as `deadline` is checked.
    pub fn want(&mut self, now: Time) {
        self.start_at = Some(now);
    }

    /// It is no longer wanted: kills it.
    pub fn drop(&mut self, companions: &Companions) {
        self.start_at = None;
        if let Some(pid) = self.pid.take() {
            companions.kill(pid);
        }
    }

    /// When to start it.
    pub fn deadline(&self) -> Option<Time> {
        self.start_at
    }

    /// Whether it has ended, or failed to start, before.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Records its start, or that it failed and has to be tried again.
    pub fn started(&mut self, pid: Option<Pid>, now: Time) {
        self.pid = pid;
        self.started = now;
        self.start_at = None;
        if pid.is_none() {
            self.failed(now);
        }
    }

    /// Returns whether it was this companion that ended. It is restarted, unless `drop` follows.
    pub fn ended(&mut self, pid: Pid, now: Time) -> bool {
        if self.pid != Some(pid) {
            return false;
        }
        self.pid = None;
        self.failed(now);
        true
    }

    fn failed(&mut self, now: Time) {
        if now.saturating_sub(self.started) >= HEALTHY {
            self.failures = 0;
        }
        self.start_at = Some(now.saturating_add(pause(self.failures)));
        self.failures = self.failures.saturating_add(1);
    }
}

/// The pause before the start that follows this many failures.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        // 10 ms, 20 ms, 40 ms...
        _ => Duration::from_millis(5).saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Time = Duration::from_millis;

    #[test]
    fn the_first_end_is_mended_at_once_and_later_ones_with_pauses_that_double() {
        let mut wanted = Wanted::default();
        wanted.want(MS(0));
        let mut pauses = Vec::new();
        let mut now = MS(0);
        for pid in 1..=10 {
            now = now.max(wanted.deadline().expect("it is wanted"));
            wanted.started(Some(pid), now);
            assert_eq!(wanted.deadline(), None, "nothing is due while it runs");
            assert!(!wanted.ended(99, now), "somebody else");
            assert!(wanted.ended(pid, now));
            pauses.push((wanted.deadline().expect("again") - now).as_millis());
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        wanted.started(Some(11), now);
        now += HEALTHY;
        assert!(wanted.ended(11, now));
        assert_eq!(wanted.deadline(), Some(now), "it had lived long enough");
    }

    #[test]
    fn one_that_cannot_be_started_is_tried_again_and_one_dropped_is_not() {
        let mut wanted = Wanted::default();
        wanted.want(MS(5));
        wanted.started(None, MS(5));
        assert_eq!(wanted.deadline(), Some(MS(5)));
        wanted.started(None, MS(5));
        assert_eq!(wanted.deadline(), Some(MS(15)));
        wanted.drop(&Companions::default());
        assert_eq!(wanted.deadline(), None);
    }
}
