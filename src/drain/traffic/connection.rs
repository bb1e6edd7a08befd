//! One TCP connection at one instant, as the kernel tells of it, in the words of this program.
//!
//! Values alone: `diag` and `proc_net` make them, `verdict` judges them.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

/// States of tcp_states.h, the ones that matter here.
pub mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;

    /// Every state of a connection that there is data on, or will be.
    pub const OF_CONNECTIONS: [u8; 7] =
        [ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    pub v4: bool,
    pub v6: bool,
}

impl Families {
    pub const ALL: Self = Self { v4: true, v6: true };

    pub fn add(&mut self, family: Family) {
        match family {
            Family::V4 => self.v4 = true,
            Family::V6 => self.v6 = true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// What no other connection of this boot has or had; 0 where it is not told.
    pub cookie: u64,
    /// 0 where no process has the socket: not accepted yet, or closed already.
    pub inode: u64,
    pub state: u8,
    /// Of the socket: one of IPv6 may have a peer of IPv4.
    pub family: Family,
    /// Our side's address and port.
    pub local: IpAddr,
    pub port: u16,
    /// 0 where nobody is at the other end: a listening socket.
    pub peer_port: u16,
    pub peer: IpAddr,
    /// The network interface that the socket is bound to; 0 if to none.
    pub interface: u32,
    /// Who made the socket; of an accepted one, who made the listening one.
    pub uid: u32,
    /// Bytes that the app has not read, and those that the peer has not acknowledged. The end of
    /// the stream, which the kernel counts as a byte, is none.
    pub unread: u32,
    pub undelivered: u32,
    /// `None` where the kernel tells no more.
    pub info: Option<Info>,
}

/// From tcp_info. The three ages are in steps of the kernel's tick, 1 to 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Since data was sent; since the connection was made if none was.
    pub sent: Duration,
    /// Since data was received; since the connection was made if none was.
    pub received: Duration,
    /// Since the peer acknowledged anything.
    pub acknowledged: Duration,
    /// Zero where there is no measurement.
    pub round_trip: Duration,
    /// Whether anything was ever received.
    pub any_received: bool,
    /// Whether all that was ever received is no more than a full segment of the peer's.
    pub one_segment: bool,
    /// Only kernels from 4.6 on tell.
    pub counts: Option<Counts>,
}

/// Segments since the connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With data, received.
    pub data_in: u32,
    /// With data, sent.
    pub data_out: u32,
    /// Without data, sent.
    pub bare_out: u32,
}

impl Connection {
    /// `queued` are the two queues of a socket as the kernel tells them, in which the end of the
    /// stream is a byte: one that the app has not read where the peer has closed (tcp_diag.c and
    /// tcp_inq() differ in that), one that is not acknowledged where the app has.
    pub fn set_queues(&mut self, unread: u32, undelivered: u32) {
        use state::{CLOSING, FIN_WAIT1, LAST_ACK};
        let app_closed = matches!(self.state, FIN_WAIT1 | LAST_ACK | CLOSING);
        self.unread = unread.saturating_sub(self.peer_has_closed().into());
        self.undelivered = undelivered.saturating_sub(app_closed.into());
    }

    /// Whether the peer has sent the end of its stream.
    pub fn peer_has_closed(&self) -> bool {
        matches!(self.state, state::CLOSE_WAIT | state::LAST_ACK | state::CLOSING)
    }

    /// Whether the app can send on it yet.
    pub fn can_be_answered(&self) -> bool {
        matches!(self.state, state::ESTABLISHED | state::CLOSE_WAIT)
    }
}
