//! What --ready-notify gives the app: a socket for sd_notify(3), made before the app starts so that its
//! name is in the app's environment, and kept for as long as the app lives so that no message is lost
//! with a companion.
//!
//! Nothing is ever read here. The `notify` companion takes the messages, and writes what they come to on
//! the slate, a file in memory: for the readiness server, and for the next `notify` companion.

#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};

use crate::options::config::Config;
use crate::sys;

pub struct Notify {
    socket: OwnedFd,
    slate: OwnedFd,
    variable: CString,
}

impl Notify {
    /// The name is an abstract one: there may be no folder that can be written to. Whoever shares the
    /// network can send there, so who a message is from is looked at, not whether it knows the name.
    fn open() -> io::Result<Self> {
        let name = format!("drain-init/{:016x}", sys::random());
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let socket = sys::above_inputs(socket)?;
        // Before there is a name to send to: a message that is sent earlier has no credentials.
        socket::setsockopt(&socket, sockopt::PassCred, &true)?;
        socket::bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
        let slate = sys::above_inputs(slate()?)?;
        let variable = CString::new(format!("NOTIFY_SOCKET=@{name}"))?;
        Ok(Self { socket, slate, variable })
    }

    /// The app's variable.
    pub fn variable(&self) -> &CStr {
        &self.variable
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn slate(&self) -> BorrowedFd<'_> {
        self.slate.as_fd()
    }
}

/// Where vm.memfd_noexec asks for that flag there is no other way; before Linux 6.3 it is unknown.
fn slate() -> nix::Result<OwnedFd> {
    const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);
    match memfd_create(c"drain-init", MFdFlags::MFD_CLOEXEC | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create(c"drain-init", MFdFlags::MFD_CLOEXEC),
        made => made,
    }
}

impl Config {
    /// Makes the socket, if the app is to have one.
    pub fn open_notify(&self) -> io::Result<Option<Notify>> {
        self.ready_notify.then(Notify::open).transpose()
    }
}
