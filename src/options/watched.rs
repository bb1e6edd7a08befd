//! What --until-quiet watches: which ports and peers, and what counts as traffic.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::network::Network;

/// What is watched, and for what.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub until_quiet: Duration,
    pub quiet_on: QuietOn,
    /// None: those that the app listens on.
    pub ports: Vec<u16>,
    /// Their connections are no traffic.
    pub ignored_peers: Vec<Network>,
    /// Port and inode of the listening sockets that the app was given at its start.
    pub given: Vec<(u16, u64)>,
    /// Kept connections on which nothing has moved for so long are closed for the app.
    pub close_idle: Option<Duration>,
    pub in_flight: InFlight,
}

/// Who waits for requests that are in flight when no traffic comes any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InFlight {
    /// The drain.
    #[default]
    DrainInit,
    /// The app, which is told to stop and finishes them.
    App,
}

/// What starts the window of quiet anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuietOn {
    /// A new connection, or data received on any.
    #[default]
    Requests,
    /// New connections alone.
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
