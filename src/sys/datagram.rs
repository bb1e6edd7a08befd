//! Datagrams with the credentials of their senders, which std does not have and nix gives up on as soon
//! as there are descriptors with them; and a number that nobody can guess, for the socket's name.

use core::ffi::c_void;
use core::mem::{MaybeUninit, size_of};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::Pid;

/// Room for the credentials of the sender and nothing else, in units of 8 bytes.
const CREDENTIALS: usize = control_size() / 8;

/// A datagram that was received.
pub struct Datagram {
    /// How many bytes of it there are.
    pub length: usize,
    /// It was longer than the place for it.
    pub is_cut: bool,
    /// Whose it is, if the socket has SO_PASSCRED; 0: nobody in this PID namespace.
    pub sender: Pid,
}

/// Takes the next datagram without waiting. Descriptors that came with it are closed: the kernel puts
/// the credentials first (scm_recv), and what it finds no room for it drops.
pub fn receive(socket: BorrowedFd, place: &mut [u8]) -> io::Result<Datagram> {
    let mut control = [0_u64; CREDENTIALS];
    let mut piece =
        libc::iovec { iov_base: place.as_mut_ptr().cast::<c_void>(), iov_len: place.len() };
    // SAFETY: a msghdr of zeros is valid: it names nothing.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<[u64; CREDENTIALS]>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message names live memory of the sizes that it says.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(Datagram {
        length,
        is_cut: message.msg_flags & libc::MSG_TRUNC != 0,
        sender: sender(&message),
    })
}

fn sender(message: &libc::msghdr) -> Pid {
    // SAFETY: the kernel has filled the control buffer in, and its length; CMSG_FIRSTHDR is null where
    // there is no whole header. Credentials are copied out, however they are aligned.
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
    // SAFETY: arithmetic.
    unsafe { libc::CMSG_SPACE(UCRED) as usize }
}

/// A number that the kernel has drawn for this process (AT_RANDOM of getauxval(3)); 0 if it has none.
/// The C library has uses for the first half, so this is the other one.
pub fn random() -> u64 {
    // SAFETY: the address is that of 16 bytes, which stay as they are until the process ends.
    unsafe {
        match libc::getauxval(libc::AT_RANDOM) as *const [u64; 2] {
            address if address.is_null() => 0,
            address => ptr::read_unaligned(address)[1],
        }
    }
}
