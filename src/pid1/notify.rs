//! The socket of --ready-notify, for the app's sd_notify(3) messages. It is created before the app
//! starts, so that its name is in the app's environment, and kept for as long as the app lives, so
//! that no message is lost with a companion.
//!
//! Nothing is read here. The `notify` companion receives the messages and writes the result to the
//! slate, a memory file: for the readiness server, and for the next `notify` companion.

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
    /// The name is an abstract one, as there may be no writable folder. Any process in the network
    /// namespace can send to it, so messages are checked by their sender; the name is not a secret.
    fn open() -> io::Result<Self> {
        let name = format!("drain-init/{:016x}", sys::random());
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let socket = sys::above_inputs(socket)?;
        // Before the socket has a name: an earlier message would have no credentials.
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

/// Where vm.memfd_noexec requires this flag there is no other way; before Linux 6.3 it is unknown.
fn slate() -> nix::Result<OwnedFd> {
    const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);
    match memfd_create(c"drain-init", MFdFlags::MFD_CLOEXEC | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create(c"drain-init", MFdFlags::MFD_CLOEXEC),
        made => made,
    }
}

impl Config {
    /// Creates the socket, if the app has to have one.
    pub fn open_notify(&self) -> io::Result<Option<Notify>> {
        self.ready_notify.then(Notify::open).transpose()
    }
}
