//! Where connections are read: netlink, or the text of /proc/net where that is denied, or nowhere.
//!
//! Turns a sample into calls of the judge; each step down is announced once. Decides nothing else.

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
        /// None where the kernel does not tell what has closed.
        closed: Option<Closed>,
        /// In place of it, and where some of it may get lost.
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
    /// The best one that works here.
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

    /// Gives the judge what has closed and what is there. Whether that was all. `may_end`: the
    /// drain may end with this sample, were there traffic or not.
    pub fn read(&mut self, watched: &Watched, judge: &mut Judge, may_end: bool) -> bool {
        match self {
            Self::Netlink { dumps, closed: Some(closed), accepted, may_get_lost, lost } => {
                let count = || may_get_lost.then(|| proc_net::accepted().ok()).flatten();
                let before = std::mem::replace(accepted, count());
                *lost |= read_closed(closed, watched, judge);
                // Where none was accepted, what got lost were connections that are known.
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
                // It is costly, and only the last word is of use.
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

    /// What a connection is like now, where that is told of a single one. Nothing of one that is gone.
    pub fn look_at(&mut self, connection: &Connection) -> Option<Look> {
        let Self::Netlink { dumps, .. } = self else {
            return None;
        };
        match dumps.look_at(connection).ok()? {
            Some(connection) => Some(Look::There(connection)),
            None => Some(Look::Gone),
        }
    }

    /// So many connections will be closed at once that there may be no room for all that is told of
    /// them.
    pub fn expect_losses(&mut self) {
        if let Self::Netlink { may_get_lost, .. } = self {
            *may_get_lost = true;
        }
    }

    /// Makes room for what is told of connections that close.
    pub fn read_closed(&mut self, watched: &Watched, judge: &mut Judge) {
        if let Self::Netlink { closed: Some(closed), lost, .. } = self {
            *lost |= read_closed(closed, watched, judge);
        }
    }

    /// Every listening socket of the network namespace. None if they cannot all be read.
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

    /// Gives the judge the kernel's opinion of connections that the sample did not settle.
    pub fn settle(&self, judge: &mut Judge, families: Families) {
        if matches!(self, Self::Netlink { .. }) {
            // Those that cannot be read stay in flight.
            let _ = proc_net::pingpong(families, &mut |inode, pingpong| {
                judge.settle(inode, pingpong);
            });
        }
    }
}

/// Whether some of it was lost.
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
