//! The settings of --until-quiet: ports and peers to watch, and what counts as traffic.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::network::Network;

/// The connections to watch, and what counts as traffic on them.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub until_quiet: Duration,
    pub quiet_on: QuietOn,
    /// Empty: the ports that the app listens on.
    pub ports: Vec<u16>,
    /// Connections of these peers are not traffic.
    pub ignored_peers: Vec<Network>,
    /// Port and inode of the listening sockets that the app inherits.
    pub given: Vec<(u16, u64)>,
    /// Closes keep-alive connections for the app when nothing has moved on them for this long.
    pub close_idle: Option<Duration>,
    pub in_flight: InFlight,
}

/// Who waits for requests in flight when no more traffic comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InFlight {
    /// The drain.
    #[default]
    DrainInit,
    /// The app: it is told to stop, and finishes them.
    App,
}

/// The events that restart the quiet window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuietOn {
    /// A new connection, or data received on any connection.
    #[default]
    Requests,
    /// Only a new connection.
    Connections,
}

impl fmt::Display for QuietOn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
            Self::Connections => "new connections",
        })
    }
}
