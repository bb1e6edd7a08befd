//! One TCP connection at one instant, as the kernel reports it, in this program's terms.
//!
//! Plain values: `diag` and `proc_net` fill them in, `verdict` judges them.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

/// The states of tcp_states.h that matter here.
pub mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;

    /// Every state in which a connection has data, or will have.
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
    /// Unique among all connections of this boot; 0 if the kernel does not report it.
    pub cookie: u64,
    /// 0 if no process has the socket: not accepted yet, or already closed.
    pub inode: u64,
    pub state: u8,
    /// The socket's family: an IPv6 socket may have an IPv4 peer.
    pub family: Family,
    /// Local address and port.
    pub local: IpAddr,
    pub port: u16,
    /// 0 for a listening socket, which has no peer.
    pub peer_port: u16,
    pub peer: IpAddr,
    /// The network interface that the socket is bound to, or 0.
    pub interface: u32,
    /// The user that created the socket; for an accepted one, the user of the listening socket.
    pub uid: u32,
    /// Bytes that the app has not read, and bytes that the peer has not acknowledged. The kernel
    /// counts the end of stream as a byte; these do not.
    pub unread: u32,
    pub undelivered: u32,
    /// `None` if the kernel reports no more.
    pub info: Option<Info>,
}

/// From tcp_info. The three ages come in steps of the kernel's tick, 1 to 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Time since data was last sent, or since the connection was made.
    pub sent: Duration,
    /// Time since data was last received, or since the connection was made.
    pub received: Duration,
    /// Time since the peer's last ACK.
    pub acknowledged: Duration,
    /// Zero if there is no measurement.
    pub round_trip: Duration,
    /// Whether any data was ever received.
    pub any_received: bool,
    /// Whether all data ever received fits into one full segment of the peer's.
    pub one_segment: bool,
    /// Reported by Linux 4.6 and later.
    pub counts: Option<Counts>,
}

/// Segments since the connection was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Received with data.
    pub data_in: u32,
    /// Sent with data.
    pub data_out: u32,
    /// Sent without data.
    pub bare_out: u32,
}

impl Connection {
    /// Takes the two queue lengths as the kernel reports them. There the end of stream is a byte:
    /// unread if the peer has closed (tcp_diag.c and tcp_inq() differ in that), unacknowledged if
    /// the app has.
    pub fn set_queues(&mut self, unread: u32, undelivered: u32) {
        use state::{CLOSING, FIN_WAIT1, LAST_ACK};
        let app_closed = matches!(self.state, FIN_WAIT1 | LAST_ACK | CLOSING);
        self.unread = unread.saturating_sub(self.peer_has_closed().into());
        self.undelivered = undelivered.saturating_sub(app_closed.into());
    }

    /// Whether the peer has sent end of stream.
    pub fn peer_has_closed(&self) -> bool {
        matches!(self.state, state::CLOSE_WAIT | state::LAST_ACK | state::CLOSING)
    }

    /// Whether the app can still send on it.
    pub fn can_be_answered(&self) -> bool {
        matches!(self.state, state::ESTABLISHED | state::CLOSE_WAIT)
    }
}
