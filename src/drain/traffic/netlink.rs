//! Reads the kernel's socket table over netlink, sock_diag(7): dumps, and notifications of closed
//! connections.
//!
//! Works for every user. Never hangs: a dump that does not arrive is an error after one second.
//! `diag` parses the answers.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::connection::Connection;
use super::diag::{self, Datagram};
use crate::sys;

/// The most that the kernel writes into one datagram of a dump (netlink_dump()).
const BUFFER: usize = 32 * 1024;
/// The kernel produces a dump while it is read, so only a broken kernel makes us wait.
const LONGEST_WAIT_SECONDS: i64 = 1;
/// Up to the system's own limit: the default buffer holds some 200 closed connections.
const EVENT_BUFFER: usize = 1024 * 1024;
/// More events than this in one sample are traffic in any case; the rest waits for the next sample.
const MOST_EVENTS: usize = 10_000;

/// sknetlink_groups of sock_diag.h: closed connections over IPv4 and over IPv6.
const SKNLGRP_INET_TCP_DESTROY: u32 = 1;
const SKNLGRP_INET6_TCP_DESTROY: u32 = 3;

/// Why a dump failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kernel refuses it.
    Refused(Errno),
    /// Part of it was lost.
    Damaged,
}

impl From<Errno> for Failure {
    /// A denial is permanent; any other failure may be temporary.
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::EAGAIN
            | Errno::EINTR
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::EBUSY => Self::Damaged,
            errno => Self::Refused(errno),
        }
    }
}

/// Requests dumps. Opens its socket on demand, and a new one after a failure, so that an abandoned
/// answer never mixes with the next.
pub struct Dumps {
    socket: Option<OwnedFd>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Dumps {
    pub fn new() -> Self {
        Self { socket: None, sequence: 0, buffer: vec![0; BUFFER] }
    }

    /// Whether a dump arrives on this socket.
    #[cfg(any(test, fuzzing))]
    pub fn over(socket: OwnedFd) -> Self {
        Self { socket: Some(socket), ..Self::new() }
    }

    /// Passes on every IPv4 and IPv6 socket in one of the states.
    pub fn dump(
        &mut self,
        states: &[u8],
        ports: Option<(u16, u16)>,
        each: &mut dyn FnMut(Connection),
    ) -> Result<(), Failure> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u8::try_from(family).unwrap_or_default();
            self.dump_family(family, states, ports, each)?;
        }
        Ok(())
    }

    fn dump_family(
        &mut self,
        family: u8,
        states: &[u8],
        ports: Option<(u16, u16)>,
        each: &mut dyn FnMut(Connection),
    ) -> Result<(), Failure> {
        let socket = self.socket()?;
        let request = diag::request(family, states, ports, self.sequence);
        send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
        loop {
            let length = receive(&socket, &mut self.buffer)?;
            let Some(bytes) = self.buffer.get(..length) else {
                // It did not fit into the buffer.
                return Err(Failure::Damaged);
            };
            match diag::read(bytes, Some(self.sequence), each) {
                Datagram::Part if bytes.is_empty() => return Err(Failure::Damaged),
                Datagram::Part => {}
                Datagram::Last => break,
                Datagram::Refused(errno) => return Err(Errno::from_raw(errno).into()),
                Datagram::Damaged => return Err(Failure::Damaged),
            }
        }
        // Kept for the next dump; after a failure it is closed instead.
        self.socket = Some(socket);
        Ok(())
    }

    /// The present state of this connection, or None if it no longer exists. The cost does not
    /// depend on the number of sockets on the machine.
    pub fn look_at(&mut self, connection: &Connection) -> Result<Option<Connection>, Failure> {
        let socket = self.socket()?;
        let request = diag::request_one(connection, self.sequence);
        send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut found = None;
        let length = receive(&socket, &mut self.buffer)?;
        let bytes = self.buffer.get(..length).ok_or(Failure::Damaged)?;
        let read = diag::read(bytes, Some(self.sequence), &mut |one| found = Some(one));
        match read {
            Datagram::Part if found.is_some() => {}
            // It is gone, or another connection uses its addresses.
            Datagram::Refused(libc::ENOENT | libc::ESTALE) => found = None,
            Datagram::Refused(errno) => return Err(Errno::from_raw(errno).into()),
            Datagram::Part | Datagram::Last | Datagram::Damaged => return Err(Failure::Damaged),
        }
        self.socket = Some(socket);
        Ok(found.filter(|one| one.cookie == connection.cookie))
    }

    /// The open socket, or a new one, for the next request.
    fn socket(&mut self) -> Result<OwnedFd, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(socket) = self.socket.take() {
            return Ok(socket);
        }
        let socket = open(SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(LONGEST_WAIT_SECONDS))?;
        Ok(socket)
    }
}

/// Notifications of closed connections, each delivered once.
pub struct Closed {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// Whether the notifications are complete.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Everything,
    /// Some were lost.
    NotAll,
}

impl Closed {
    /// Subscribes to connections on these ports.
    pub fn subscribe(ports: &[u16]) -> io::Result<Self> {
        let socket = open(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        // A larger buffer makes losses rarer; a loss is detected either way.
        let _ = setsockopt(&socket, RcvBuf, &EVENT_BUFFER);
        let closed = Self { socket, buffer: vec![0; BUFFER] };
        closed.filter(ports);
        let groups = 1 << (SKNLGRP_INET_TCP_DESTROY - 1) | 1 << (SKNLGRP_INET6_TCP_DESTROY - 1);
        bind(closed.socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(closed)
    }

    /// Whether notifications arrive on this socket.
    #[cfg(any(test, fuzzing))]
    pub fn over(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; BUFFER] }
    }

    /// Keeps other connections out of the buffer. This only saves time: the reader checks the port.
    pub fn filter(&self, ports: &[u16]) {
        // A filter that lets nothing through would remain if the next one could not be set.
        if ports.is_empty() {
            return;
        }
        let offset = u32::try_from(diag::PORT_OFFSET).unwrap_or_default();
        let _ = sys::receive_only(self.socket.as_fd(), offset, ports);
    }

    /// Passes on the connections that have closed since the last call.
    pub fn read(&mut self, each: &mut dyn FnMut(Connection)) -> Told {
        for _ in 0..MOST_EVENTS {
            let length = match receive(&self.socket, &mut self.buffer) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => return Told::Everything,
                // ENOBUFS: reported once for all that did not fit.
                Err(_) => return Told::NotAll,
            };
            let Some(bytes) = self.buffer.get(..length) else {
                return Told::NotAll;
            };
            if diag::read(bytes, None, each) != Datagram::Part {
                return Told::NotAll;
            }
        }
        Told::NotAll
    }
}

fn open(flags: SockFlag) -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)
}

/// Returns the length of the datagram, which may exceed the buffer.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
