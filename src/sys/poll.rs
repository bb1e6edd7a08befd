//! poll(2) with places that may be empty: the kernel skips negative descriptors. nix's version has
//! none.

use core::ffi::{c_int, c_short};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A descriptor and the events it is polled for.
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

    /// Errors and hang-ups count as ready, so that the next call reports them.
    pub fn is_ready(&self) -> bool {
        self.poll.revents != 0
    }
}

/// Waits for one of `places`, for `timeout` milliseconds, or without limit if it is -1.
pub fn poll(places: &mut [Polled], timeout: c_int) {
    // SAFETY: as many live pollfds as stated. Every signal is blocked, so only a lack of memory can
    // make it fail; that counts as nothing ready.
    unsafe {
        libc::poll(places.as_mut_ptr().cast(), places.len() as libc::nfds_t, timeout);
    }
}
