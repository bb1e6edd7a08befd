//! The descriptors that this process was started with.

use core::ffi::c_int;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Duplicates a descriptor that the parent left open. The number itself stays open.
pub fn descriptor(number: c_int) -> io::Result<OwnedFd> {
    // SAFETY: it is borrowed for one system call, which fails if there is no such descriptor.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}

/// Closes such a descriptor after it was duplicated.
pub fn close_given(number: c_int) {
    // SAFETY: nothing else in this process uses the number; the duplicate has its own.
    unsafe { libc::close(number) };
}
