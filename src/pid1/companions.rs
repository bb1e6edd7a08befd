//! Companions: this same program with another verb, started and watched by PID 1. They read what
//! comes from outside, so that PID 1 does not have to.
//!
//! It must not know what they do; who asked for one, and what its end means, is `readiness` and
//! `supervisor`.

#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use crate::clock::Time;
use crate::signal::Signal;
use crate::sys::{self, CompanionStart, Pid, Recipient};

/// After so long a life a companion that ends has not failed at its start.
const HEALTHY: Duration = Duration::from_secs(10);

/// The longest pause before a companion that keeps ending is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// All of them, from their start until they were reaped.
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

    /// One that is started when no other is any more.
    pub fn start_last(&mut self, companion: &CompanionStart) -> io::Result<Pid> {
        let pid = sys::start_companion(companion)?;
        self.living.push(pid);
        Ok(pid)
    }

    pub fn kill(&self, pid: Pid) {
        // Until it is reaped its pid is nobody else's.
        if self.living.contains(&pid) {
            let _ = sys::send(Recipient::Process(pid), Signal::KILL);
        }
    }

    /// None is started any more.
    pub fn kill_all(&mut self) {
        self.closed = true;
        self.living.iter().for_each(|pid| self.kill(*pid));
    }

    /// A child was reaped: whether it was one of these.
    pub fn ended(&mut self, pid: Pid) -> bool {
        let before = self.living.len();
        self.living.retain(|living| *living != pid);
        self.living.len() < before
    }

    pub fn any(&self) -> bool {
        !self.living.is_empty()
    }
}

/// A companion that is wanted or not, and is started again when it ends: at once, then after
/// pauses that double.
#[derive(Default)]
pub struct Wanted {
    pid: Option<Pid>,
    started: Time,
    start_at: Option<Time>,
    failures: u32,
}

impl Wanted {
    /// It is to be started as soon as `deadline` is looked at.
    pub fn want(&mut self, now: Time) {
        self.start_at = Some(now);
    }

    /// It is not wanted any more.
    pub fn drop(&mut self, companions: &Companions) {
        self.start_at = None;
        if let Some(pid) = self.pid.take() {
            companions.kill(pid);
        }
    }

    /// When it is to be started.
    pub fn deadline(&self) -> Option<Time> {
        self.start_at
    }

    /// It has ended, or could not be started, before.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// It was started, or could not be: then it is tried again.
    pub fn started(&mut self, pid: Option<Pid>, now: Time) {
        self.pid = pid;
        self.started = now;
        self.start_at = None;
        if pid.is_none() {
            self.failed(now);
        }
    }

    /// Whether it was this one that ended. It is to be started again, unless `drop` follows.
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

/// Before the start that follows so many failures.
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
