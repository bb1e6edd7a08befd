//! The descriptors that this process was given when it was started.

use core::ffi::c_int;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A copy of a descriptor that the parent left open. The number itself stays open.
pub fn descriptor(number: c_int) -> io::Result<OwnedFd> {
    // SAFETY: it is used for one system call, which says so if there is no such descriptor.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}

/// Closes such a descriptor, of which there is a copy.
pub fn close_given(number: c_int) {
    // SAFETY: nothing else in this process uses the number: what it stands for is the copy's.
    unsafe { libc::close(number) };
}
