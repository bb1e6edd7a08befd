//! Duplicates other processes' descriptors, passes them on, and queries sockets.

use core::ffi::{c_int, c_long, c_uint};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::checked;
use crate::signal::Signal;

/// fcntl(2); the libc crate defines it for few targets.
const F_SETSIG: c_int = 10;

/// Duplicates a descriptor of the process that `open_process` opened: pidfd_getfd(2).
pub fn take_descriptor(process: BorrowedFd, number: c_int) -> io::Result<OwnedFd> {
    let no_flags: c_uint = 0;
    let process: c_long = process.as_raw_fd().into();
    // SAFETY: no memory is passed.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, no_flags) };
    let taken = checked(c_int::try_from(taken).unwrap_or(-1))?;
    // SAFETY: the descriptor has just been opened and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(taken) })
}

/// Whether pidfd_getfd(2) exists here; an older kernel or a filter is an error. It must be tried:
/// EPERM alone may also mean that access to one process is denied.
pub fn may_take_descriptors() -> io::Result<()> {
    let nobody: c_long = -1;
    let no_flags: c_uint = 0;
    // SAFETY: no memory is passed.
    unsafe { libc::syscall(libc::SYS_pidfd_getfd, nobody, -1, no_flags) };
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EBADF) => Ok(()),
        error => Err(error),
    }
}

/// Reads a socket option into `value`, and returns its length. getsockopt(2).
pub fn socket_option(
    socket: BorrowedFd,
    level: c_int,
    name: c_int,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: live memory of that size; the kernel fills the length that it returns.
    checked(unsafe {
        let start = value.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), level, name, start, &raw mut length)
    })?;
    Ok(usize::try_from(length).unwrap_or(0).min(value.len()))
}

/// The socket's cookie: unique among all sockets of this boot.
pub fn cookie(socket: BorrowedFd) -> io::Result<u64> {
    let mut bytes = [0; 8];
    socket_option(socket, libc::SOL_SOCKET, libc::SO_COOKIE, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Reads an integer option.
pub fn socket_number(socket: BorrowedFd, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut bytes = [0; 4];
    socket_option(socket, level, name, &mut bytes)?;
    Ok(c_int::from_ne_bytes(bytes))
}

/// Bytes that the owner of a TCP socket has not read, and bytes that its peer has not acknowledged:
/// SIOCINQ and SIOCOUTQ of tcp(7).
pub fn queues(socket: BorrowedFd) -> io::Result<(u32, u32)> {
    let queue = |request| {
        let mut count: c_int = 0;
        // SAFETY: both requests fill an integer.
        checked(unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut count) })?;
        Ok::<u32, io::Error>(count.cast_unsigned())
    };
    Ok((queue(libc::FIONREAD)?, queue(libc::TIOCOUTQ)?))
}

/// Sets whether the kernel sends this process SIGCHLD when a message arrives on a non-blocking
/// socket (O_ASYNC of fcntl(2)). Not SIGIO: others may send it, and then it is the app's. Not a
/// real-time signal: the kernel would queue one per message.
pub fn signal_what_comes(socket: BorrowedFd, wanted: bool) -> io::Result<()> {
    let number = socket.as_raw_fd();
    let flags = libc::O_NONBLOCK | if wanted { libc::O_ASYNC } else { 0 };
    // SAFETY: no memory is passed.
    unsafe {
        if wanted {
            checked(libc::fcntl(number, libc::F_SETOWN, libc::getpid()))?;
            checked(libc::fcntl(number, F_SETSIG, Signal::CHLD.number()))?;
        }
        checked(libc::fcntl(number, libc::F_SETFL, flags)).map(drop)
    }
}

/// Room for one descriptor beside a message, aligned as cmsg(3) requires.
#[repr(C, align(8))]
struct Beside([u8; 24]);

/// Sends a record, with or without a descriptor. Never waits, and never raises SIGPIPE.
pub fn send_record(
    socket: BorrowedFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd>,
) -> io::Result<()> {
    let mut beside = Beside([0; 24]);
    let mut piece = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    // SAFETY: a zeroed msghdr is valid; its padding differs between targets. Everything it points
    // to is alive; the control message has CMSG_SPACE bytes, at most 24.
    let sent = unsafe {
        let mut message = mem::zeroed::<libc::msghdr>();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        if let Some(descriptor) = descriptor {
            let size = size_of::<c_int>() as c_uint;
            message.msg_control = (&raw mut beside).cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(descriptor.as_raw_fd());
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        libc::sendmsg(socket.as_raw_fd(), &raw const message, flags)
    };
    checked(c_int::try_from(sent).unwrap_or(-1)).map(drop)
}

/// Receives a record and its descriptor without waiting. Returns the record's length, or 0 at end
/// of file.
pub fn receive_record(
    socket: BorrowedFd,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut beside = Beside([0; 24]);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: as above, with room for one descriptor: the kernel drops any others. This one has no
    // other owner.
    unsafe {
        let mut message = mem::zeroed::<libc::msghdr>();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut beside).cast();
        message.msg_controllen = libc::CMSG_LEN(size_of::<c_int>() as c_uint) as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
        let length = libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags);
        checked(c_int::try_from(length).unwrap_or(-1))?;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let has_one = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(size_of::<c_int>() as c_uint) as usize;
        let descriptor = has_one.then(|| {
            OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<c_int>().read_unaligned())
        });
        Ok((usize::try_from(length).unwrap_or(0), descriptor))
    }
}
