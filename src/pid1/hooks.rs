//! The hooks that have asked for a drain, and may still wait for its end.
//!
//! A kubelet sends the stop signal when its hook has ended or when the grace period has. So a
//! signal that comes while a hook still waits means that the time is over. A hook is held by a
//! pidfd, so a process that reuses its pid is not taken for it. It must not know what follows from
//! that.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use crate::sys::{self, Pid, Polled};

/// The most hooks that are tracked: a restarted kubelet runs a hook again, and any process may ask.
const MOST: usize = 8;

#[derive(Default)]
pub struct Hooks {
    asked: Vec<OwnedFd>,
}

impl Hooks {
    /// Records the process that asked. If its end could not be noticed (no descriptor is free, or
    /// it is outside this PID namespace), it counts as ended: a drain may be too long.
    pub fn asked(&mut self, pid: Pid) {
        self.asked.retain(is_there);
        if self.asked.len() < MOST
            && let Ok(hook) = sys::open_process(pid)
        {
            self.asked.push(hook);
        }
    }

    /// Whether any of these hooks still runs.
    pub fn any_waits(&self) -> bool {
        self.asked.iter().any(is_there)
    }

    /// Forgets all hooks: nothing depends on them any more.
    pub fn forget(&mut self) {
        self.asked.clear();
    }
}

/// A pidfd is readable once its process has ended, reaped or not.
fn is_there(process: &OwnedFd) -> bool {
    let mut places = [Polled::readable(process)];
    sys::poll(&mut places, 0);
    !places.iter().any(Polled::is_ready)
}
