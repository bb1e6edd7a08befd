//! The port on which readiness is answered. It is bound here, so that an address in use is refused
//! before the app starts. It stays bound, so that no other process takes it. Companions accept its
//! connections.

#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, sockopt,
};

use crate::log::{Level, Log};
use crate::options::config::Config;
use crate::options::target::ListenOn;
use crate::sys::{self, Described};

/// A port that stays bound for as long as we live.
///
/// SO_REUSEADDR follows the kernel's rules (inet_csk_get_port, inet_bind_conflict):
/// - A listening socket shares its port with no other socket, whatever its options, once the kernel
///   has seen one listen there (inet_csk_update_fastreuse).
/// - A connection inherits the option, and keeps it in TIME_WAIT. Without it, that connection holds
///   the port for a minute against every new listener: the next container's and our own.
/// - Two sockets that have the option and do not listen may share a port: the first to listen gets
///   it.
///
/// So the option is on while the port is open, and off while it is closed.
pub struct Listener {
    pub listen: ListenOn,
    socket: OwnedFd,
    /// The last attempt to open it failed.
    has_failed: bool,
}

impl Listener {
    /// Binds the port. For HTTP it is open from now on.
    pub fn bind(listen: ListenOn) -> io::Result<Self> {
        let mut address = listen.address();
        let make = |address: SocketAddr| {
            let family = match address {
                SocketAddr::V4(_) => AddressFamily::Inet,
                SocketAddr::V6(_) => AddressFamily::Inet6,
            };
            socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        };
        let socket = match make(address) {
            // On a node without IPv6, [::] means 0.0.0.0.
            Err(Errno::EAFNOSUPPORT) if address.ip() == Ipv6Addr::UNSPECIFIED => {
                address = (Ipv4Addr::UNSPECIFIED, address.port()).into();
                make(address)?
            }
            made => made?,
        };
        let socket = sys::above_inputs(socket)?;
        if address.is_ipv6() {
            // [::] accepts both families, whatever the system's default.
            socket::setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        }
        socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        let listener = Self { listen, socket, has_failed: false };
        listener.open()?;
        if let ListenOn::Tcp(_) = listen {
            // Open for an instant before the app starts, so that the kernel has seen it listen.
            listener.refuse();
        }
        Ok(listener)
    }

    /// The socket for the companion that accepts its connections.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Opens the port if possible. Logs a failure once, and its end.
    pub fn is_open(&mut self, log: Log) -> bool {
        let opened = self.open();
        match &opened {
            Err(error) if !self.has_failed => {
                let why = Described(error);
                let line = format_args!("cannot open {}: {why}, trying again", self.listen);
                log.error("ready", line);
            }
            Ok(()) if self.has_failed => {
                log.line(Level::Info, "ready", format_args!("{} is open", self.listen));
            }
            _ => {}
        }
        self.has_failed = opened.is_err();
        opened.is_ok()
    }

    /// Accepts connections, if it does not already.
    fn open(&self) -> io::Result<()> {
        // With the option on, another socket that has it could take the port between these two
        // calls, if it were bound and listened within them.
        socket::setsockopt(&self.socket, sockopt::ReuseAddr, &true)?;
        // The longest backlog that the kernel allows: a probe that finds it full retries after a
        // second.
        Ok(socket::listen(&self.socket, Backlog::MAXALLOWABLE)?)
    }

    /// Refuses connections, and keeps the port bound.
    pub fn refuse(&self) {
        // First, as in `open`. Connections in the backlog are reset and leave nothing behind; a
        // socket that is closed already returns an error.
        let _ = socket::setsockopt(&self.socket, sockopt::ReuseAddr, &false);
        let _ = socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

impl Config {
    /// Binds the port on which readiness is answered.
    pub fn bind(&self) -> io::Result<Option<Listener>> {
        self.ready_listen.map(Listener::bind).transpose()
    }
}
