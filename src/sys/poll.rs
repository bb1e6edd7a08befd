//! poll(2) with a place that may be empty, which nix's has not: it takes any negative descriptor for
//! one that is not there.

use core::ffi::{c_int, c_short};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What is waited for.
#[repr(transparent)]
pub struct Polled<'a> {
    poll: libc::pollfd,
    descriptor: PhantomData<BorrowedFd<'a>>,
}

impl<'a> Polled<'a> {
    /// A place that is never ready.
    pub const NOTHING: Self = Self::of(-1, 0);

    pub fn readable(descriptor: &'a impl AsFd) -> Self {
        Self::of(descriptor.as_fd().as_raw_fd(), libc::POLLIN)
    }

    pub fn writable(descriptor: &'a impl AsFd) -> Self {
        Self::of(descriptor.as_fd().as_raw_fd(), libc::POLLOUT)
    }

    const fn of(fd: c_int, events: c_short) -> Self {
        Self { poll: libc::pollfd { fd, events, revents: 0 }, descriptor: PhantomData }
    }

    /// An error too is something to be read.
    pub fn is_ready(&self) -> bool {
        self.poll.revents != 0
    }
}

/// Waits for one of them, for so many milliseconds or, with -1, for ever.
pub fn poll(places: &mut [Polled], timeout: c_int) {
    // SAFETY: as many live pollfds as are named. Every signal is blocked, so what can fail is memory
    // alone; then it is as if nothing had come.
    unsafe {
        libc::poll(places.as_mut_ptr().cast(), places.len() as libc::nfds_t, timeout);
    }
}
