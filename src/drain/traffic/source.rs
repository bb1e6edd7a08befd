//! Chooses where connections are read: netlink, the text of /proc/net where netlink is denied, or
//! nowhere.
//!
//! Turns a sample into calls of the judge, and logs each step down once. Decides nothing else.

#![forbid(unsafe_code)]

use super::connection::{Connection, Families, state};
use super::netlink::{Closed, Dumps, Failure, Told};
use super::ports::Listener;
use super::proc_net;
use super::verdict::Judge;
use crate::log::{Level, Log};
use crate::options::watched::Watched;
use crate::sys::{self, Described};

/// Where connections are read.
pub enum Source {
    Netlink {
        dumps: Dumps,
        /// None if the kernel does not report closed connections.
        closed: Option<Closed>,
        /// The count of accepted connections: used without `closed`, and where notifications may
        /// get lost.
        accepted: Option<u64>,
        may_get_lost: bool,
        lost: bool,
    },
    ProcNet {
        accepted: u64,
    },
    /// Nothing can be read.
    Nothing,
}

/// A look at a single connection.
pub enum Look {
    There(Connection),
    Gone,
}

impl Source {
    /// The best source that works here.
    pub fn find(log: Log) -> Self {
        let mut dumps = Dumps::new();
        let refused = match dumps.dump(&[state::LISTEN], Some((1, 1)), &mut |_| {}) {
            Ok(()) | Err(Failure::Damaged) => {
                return Self::Netlink {
                    dumps,
                    closed: None,
                    accepted: None,
                    may_get_lost: false,
                    lost: false,
                };
            }
            Err(Failure::Refused(errno)) => sys::Errno(errno as i32),
        };
        let seen = proc_net::accepted().and_then(|accepted| {
            proc_net::sockets(Families::ALL, &mut |_| {})?;
            Ok(accepted)
        });
        match seen {
            Ok(accepted) => {
                let message = format_args!(
                    "netlink sock_diag: {refused}: reading /proc/net/tcp instead, where every \
                     established connection counts as a request in flight, and every one that is \
                     accepted on any port as traffic"
                );
                log.line(Level::Info, "traffic", message);
                Self::ProcNet { accepted }
            }
            Err(error) => {
                let message = format_args!(
                    "netlink sock_diag: {refused}, /proc/net/tcp: {}: the connections cannot be \
                     seen, so the drain goes on to its longest",
                    Described(&error)
                );
                log.line(Level::Info, "traffic", message);
                Self::Nothing
            }
        }
    }

    pub fn subscribe(&mut self, ports: &[u16], log: Log) {
        let Self::Netlink { closed, accepted, .. } = self else {
            return;
        };
        match Closed::subscribe(ports) {
            Ok(subscribed) => *closed = Some(subscribed),
            Err(error) => {
                *accepted = proc_net::accepted().ok();
                let message = format_args!(
                    "netlink sock_diag tells nothing of closed connections: {}: every \
                     connection that is accepted on any port counts as traffic",
                    Described(&error)
                );
                log.line(Level::Info, "traffic", message);
            }
        }
    }

    pub fn filter(&self, ports: &[u16]) {
        if let Self::Netlink { closed: Some(closed), .. } = self {
            closed.filter(ports);
        }
    }

    /// Passes closed and present connections to the judge. Returns whether the sample is complete.
    /// `may_end`: the drain may end with this sample, with or without traffic.
    pub fn read(&mut self, watched: &Watched, judge: &mut Judge, may_end: bool) -> bool {
        match self {
            Self::Netlink { dumps, closed: Some(closed), accepted, may_get_lost, lost } => {
                let count = || may_get_lost.then(|| proc_net::accepted().ok()).flatten();
                let before = std::mem::replace(accepted, count());
                *lost |= read_closed(closed, watched, judge);
                // If no connection was accepted, the lost notifications were about known
                // connections.
                if std::mem::take(lost) && (before.is_none() || before != count()) {
                    judge.unseen_traffic();
                }
                read_dump(dumps, watched, judge)
            }
            Self::Netlink { dumps, closed: None, accepted, .. } => {
                let before = std::mem::replace(accepted, proc_net::accepted().ok());
                if before.is_none() || before != *accepted {
                    judge.unseen_traffic();
                }
                read_dump(dumps, watched, judge)
            }
            Self::ProcNet { accepted } => {
                match proc_net::accepted() {
                    Ok(now) if now == *accepted => {}
                    Ok(now) => {
                        *accepted = now;
                        judge.unseen_traffic();
                    }
                    Err(_) => judge.unseen_traffic(),
                }
                // Reading is expensive, and only the last sample before the end matters.
                if !may_end && !judge.window_is_over() {
                    return false;
                }
                let read = proc_net::sockets(Families::ALL, &mut |connection| {
                    let there = state::OF_CONNECTIONS.contains(&connection.state);
                    if there && watched.counts(&connection) {
                        judge.present(&connection);
                    }
                });
                read.is_ok()
            }
            Self::Nothing => {
                judge.unseen_traffic();
                false
            }
        }
    }

    /// The present state of a connection, if the source can look at a single one.
    pub fn look_at(&mut self, connection: &Connection) -> Option<Look> {
        let Self::Netlink { dumps, .. } = self else {
            return None;
        };
        match dumps.look_at(connection).ok()? {
            Some(connection) => Some(Look::There(connection)),
            None => Some(Look::Gone),
        }
    }

    /// So many connections are about to be closed that notifications may get lost.
    pub fn expect_losses(&mut self) {
        if let Self::Netlink { may_get_lost, .. } = self {
            *may_get_lost = true;
        }
    }

    /// Reads the notifications of closed connections, to make room for more.
    pub fn read_closed(&mut self, watched: &Watched, judge: &mut Judge) {
        if let Self::Netlink { closed: Some(closed), lost, .. } = self {
            *lost |= read_closed(closed, watched, judge);
        }
    }

    /// Every listening socket of the network namespace, or None if they cannot all be read.
    pub fn listeners(&mut self) -> Option<Vec<Listener>> {
        let mut listeners = Vec::new();
        let mut add = |connection: Connection| {
            if connection.state == state::LISTEN {
                listeners.push(Listener {
                    port: connection.port,
                    inode: connection.inode,
                    uid: connection.uid,
                });
            }
        };
        match self {
            Self::Netlink { dumps, .. } => dumps.dump(&[state::LISTEN], None, &mut add).ok()?,
            Self::ProcNet { .. } => {
                proc_net::sockets(Families::ALL, &mut add).ok()?;
            }
            Self::Nothing => return None,
        }
        Some(listeners)
    }

    /// Passes the kernel's opinion of unsettled connections to the judge.
    pub fn settle(&self, judge: &mut Judge, families: Families) {
        if matches!(self, Self::Netlink { .. }) {
            // Connections that cannot be read stay in flight.
            let _ = proc_net::pingpong(families, &mut |inode, pingpong| {
                judge.settle(inode, pingpong);
            });
        }
    }
}

/// Returns whether any were lost.
fn read_closed(closed: &mut Closed, watched: &Watched, judge: &mut Judge) -> bool {
    let told = closed.read(&mut |connection| {
        if watched.counts(&connection) {
            judge.closed(&connection);
        }
    });
    told == Told::NotAll
}

fn read_dump(dumps: &mut Dumps, watched: &Watched, judge: &mut Judge) -> bool {
    let Some(range) = watched.port_range() else {
        return true;
    };
    let dumped = dumps.dump(&state::OF_CONNECTIONS, Some(range), &mut |connection| {
        if watched.counts(&connection) {
            judge.open(&connection);
        }
    });
    dumped.is_ok()
}
