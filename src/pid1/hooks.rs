//! The hooks that have asked for the drain, and may still wait for its end.
//!
//! A kubelet sends the stop signal when its hook has ended, or when the grace period has: so one
//! that comes while the hook waits says that the time is over. A hook is known by a pidfd, so that
//! nobody who gets its pid later is taken for it. It must not know what is made of that.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use crate::sys::{self, Pid, Polled};

/// So many at once are known: a kubelet that is restarted runs a hook again, and anybody may ask.
const MOST: usize = 8;

#[derive(Default)]
pub struct Hooks {
    asked: Vec<OwnedFd>,
}

impl Hooks {
    /// A process has asked. Where nobody can say later whether it is there (no descriptor is left, or
    /// it is outside of this PID namespace), it is as if it had ended: a drain may be too long.
    pub fn asked(&mut self, pid: Pid) {
        self.asked.retain(is_there);
        if self.asked.len() < MOST
            && let Ok(hook) = sys::open_process(pid)
        {
            self.asked.push(hook);
        }
    }

    /// Whether one of those that have asked has not ended.
    pub fn any_waits(&self) -> bool {
        self.asked.iter().any(is_there)
    }

    /// Nothing comes of what they have asked any more.
    pub fn forget(&mut self) {
        self.asked.clear();
    }
}

/// A pidfd can be read when its process has ended, reaped or not.
fn is_there(process: &OwnedFd) -> bool {
    let mut places = [Polled::readable(process)];
    sys::poll(&mut places, 0);
    !places.iter().any(Polled::is_ready)
}
