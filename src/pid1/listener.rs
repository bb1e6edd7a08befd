//! The port that readiness is answered on. It is bound here, so that an address in use is refused before the
//! app starts, and is never let go, so that nobody else takes it. What comes there is for companions.

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

/// A port that is ours for as long as we live.
///
/// Its SO_REUSEADDR follows from the kernel's rules (inet_csk_get_port, inet_bind_conflict):
/// - A socket that listens shares its port with nobody, whatever its options are, once the kernel
///   has seen one listen there (inet_csk_update_fastreuse).
/// - A connection inherits the option, and keeps it in TIME_WAIT. Without it, that connection holds
///   the port for a minute against every new listener, the next container's and our own.
/// - Two sockets that have the option and do not listen may share a port: whichever listens first
///   has it.
///
/// So it is on while the port is open, and off while it is closed.
pub struct Listener {
    pub listen: ListenOn,
    socket: OwnedFd,
    /// It could not be opened when that was last tried.
    has_failed: bool,
}

impl Listener {
    /// Takes the port. For HTTP it is open from now on.
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
            // Every address of a node without IPv6 is every one of IPv4.
            Err(Errno::EAFNOSUPPORT) if address.ip() == Ipv6Addr::UNSPECIFIED => {
                address = (Ipv4Addr::UNSPECIFIED, address.port()).into();
                make(address)?
            }
            made => made?,
        };
        let socket = sys::above_inputs(socket)?;
        if address.is_ipv6() {
            // [::] is every address of both families, whatever the system's default is.
            socket::setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        }
        socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        let listener = Self { listen, socket, has_failed: false };
        listener.open()?;
        if let ListenOn::Tcp(_) = listen {
            // Open for an instant, before the app starts: the kernel has seen it listen.
            listener.refuse();
        }
        Ok(listener)
    }

    /// For the companion that answers there.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Opens it, if that can be done now. A failure is logged once, and so is the end of it.
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

    /// Accepts connections. That it does already is as good.
    fn open(&self) -> io::Result<()> {
        // With the option on, another socket that has it could take the port for itself between
        // these two calls, if it were bound and listening within them.
        socket::setsockopt(&self.socket, sockopt::ReuseAddr, &true)?;
        // As many as the kernel takes: a probe that finds no room comes again after a second.
        Ok(socket::listen(&self.socket, Backlog::MAXALLOWABLE)?)
    }

    /// Refuses connections, and keeps the port.
    pub fn refuse(&self) {
        // First, as in `open`. Connections that nobody has accepted yet are reset, and leave nothing
        // behind; one that is closed already says so.
        let _ = socket::setsockopt(&self.socket, sockopt::ReuseAddr, &false);
        let _ = socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

impl Config {
    /// Takes the port that readiness is answered on.
    pub fn bind(&self) -> io::Result<Option<Listener>> {
        self.ready_listen.map(Listener::bind).transpose()
    }
}
