//! Datagrams with their sender's credentials, which std lacks, and which nix fails to receive if
//! descriptors come with them. Also an unguessable number for the socket's name.

use core::ffi::c_void;
use core::mem::{MaybeUninit, size_of};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::Pid;

/// Room for the sender's credentials and nothing else, in units of 8 bytes.
const CREDENTIALS: usize = control_size() / 8;

/// A received datagram.
pub struct Datagram {
    /// The number of bytes received.
    pub length: usize,
    /// It was longer than the buffer.
    pub is_cut: bool,
    /// The sender's pid if the socket has SO_PASSCRED; 0 for a process outside this PID namespace.
    pub sender: Pid,
}

/// Receives the next datagram without waiting. Descriptors that come with it are closed: the kernel
/// puts the credentials first (scm_recv) and drops what does not fit.
pub fn receive(socket: BorrowedFd, place: &mut [u8]) -> io::Result<Datagram> {
    let mut control = [0_u64; CREDENTIALS];
    let mut piece =
        libc::iovec { iov_base: place.as_mut_ptr().cast::<c_void>(), iov_len: place.len() };
    // SAFETY: a zeroed msghdr is valid: it points to nothing.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<[u64; CREDENTIALS]>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message points to live memory of the sizes it states.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(Datagram {
        length,
        is_cut: message.msg_flags & libc::MSG_TRUNC != 0,
        sender: sender(&message),
    })
}

fn sender(message: &libc::msghdr) -> Pid {
    // SAFETY: the kernel has filled in the control buffer and its length; CMSG_FIRSTHDR is null
    // unless a whole header fits. Credentials are copied out, whatever their alignment.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(ptr::from_ref(message));
        let is_credentials = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_CREDENTIALS
            && (*header).cmsg_len as usize >= libc::CMSG_LEN(UCRED) as usize;
        if !is_credentials {
            return 0;
        }
        ptr::read_unaligned(libc::CMSG_DATA(header).cast::<libc::ucred>()).pid
    }
}

const UCRED: u32 = size_of::<libc::ucred>() as u32;

const fn control_size() -> usize {
    // SAFETY: pure arithmetic.
    unsafe { libc::CMSG_SPACE(UCRED) as usize }
}

/// A random number that the kernel drew for this process (AT_RANDOM of getauxval(3)), or 0 if there
/// is none. The C library uses the first half, so this is the second.
pub fn random() -> u64 {
    // SAFETY: the address is that of 16 bytes that do not change until the process ends.
    unsafe {
        match libc::getauxval(libc::AT_RANDOM) as *const [u64; 2] {
            address if address.is_null() => 0,
            address => ptr::read_unaligned(address)[1],
        }
    }
}
