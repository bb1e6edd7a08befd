//! The standard descriptors, and writing a line to one that is shared with the app.

use core::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::os::fd::BorrowedFd;

use super::open;

/// Standard input. std's own handle allocates a buffer on first use.
// SAFETY: nothing in this process closes it. If it was closed from the start, a call on it is an
// error and no more.
pub const STANDARD_INPUT: BorrowedFd = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
// SAFETY: as above.
pub const STANDARD_OUTPUT: BorrowedFd = unsafe { BorrowedFd::borrow_raw(libc::STDOUT_FILENO) };
// SAFETY: as above.
pub const STANDARD_ERROR: BorrowedFd = unsafe { BorrowedFd::borrow_raw(libc::STDERR_FILENO) };

/// Occupies closed standard descriptors, so that no new descriptor gets their numbers. Reading and
/// writing them still fails (O_PATH), and exec closes them again, so children find them as they
/// were.
pub fn take_closed() {
    let place = |fd| libc::pollfd { fd, events: 0, revents: 0 };
    let mut places = [place(0), place(1), place(2)];
    // SAFETY: as many live pollfds as stated, and a C string. The kernel returns the lowest free
    // number, which stays open until the process ends.
    unsafe {
        libc::poll(places.as_mut_ptr(), 3, 0);
        for place in places {
            // Also set for a descriptor that this function occupied earlier.
            if place.revents & libc::POLLNVAL != 0 {
                let taken =
                    libc::openat(libc::AT_FDCWD, c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                if taken > libc::STDERR_FILENO {
                    libc::close(taken);
                }
            }
        }
    }
}

/// Writes one line to a descriptor, or drops it: never blocks, and ignores errors.
///
/// The app shares standard error, so O_NONBLOCK must not be set on it. poll(2) detects a pipe or a
/// terminal that is full. RWF_NOWAIT, where the kernel and the file support it, closes the gap
/// between poll and write, in which the app may fill the pipe.
pub fn write_line(descriptor: c_int, line: &[u8]) {
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLOUT, revents: 0 };
    let piece = libc::iovec { iov_base: line.as_ptr() as *mut c_void, iov_len: line.len() };
    let (at_the_end, at_the_end_high): (libc::c_long, libc::c_long) = (-1, -1);
    // SAFETY: one live pollfd, and one live iovec over the bytes of `line`, which is only read.
    unsafe {
        if libc::poll(&raw mut poll, 1, 0) != 1 {
            return;
        }
        let written = libc::syscall(
            libc::SYS_pwritev2,
            descriptor,
            &raw const piece,
            1,
            at_the_end,
            at_the_end_high,
            libc::RWF_NOWAIT,
        );
        if written != -1 {
            return;
        }
        match io::Error::last_os_error().raw_os_error() {
            _ if is_regular_file(descriptor) => {}
            Some(libc::EAGAIN | libc::EPIPE) => return,
            // A terminal, which accepts part of the line and blocks on the rest, or a pipe on a
            // kernel without RWF_NOWAIT for pipes.
            _ if write_to_own(descriptor, line).is_ok() => return,
            _ => {}
        }
        libc::write(descriptor, line.as_ptr().cast(), line.len());
    }
}

/// Opens the file behind `descriptor` anew and writes to it: this open file may be non-blocking
/// without changing the app's.
fn write_to_own(descriptor: c_int, line: &[u8]) -> io::Result<()> {
    // It must not get the number of a standard descriptor, even briefly.
    take_closed();
    let path = format!("/proc/self/fd/{descriptor}");
    let mut own = open(&path, libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    // The part that does not fit is dropped.
    let _ = io::Write::write(&mut own, line);
    Ok(())
}

/// A write to a regular file waits for memory at most, even without RWF_NOWAIT.
fn is_regular_file(descriptor: c_int) -> bool {
    let mut stat = mem::MaybeUninit::<libc::stat64>::zeroed();
    // SAFETY: the pointer is to live memory of that type, for which zeros are valid.
    unsafe {
        libc::fstat64(descriptor, stat.as_mut_ptr()) == 0
            && stat.assume_init().st_mode & libc::S_IFMT == libc::S_IFREG
    }
}
