//! Finds the ports that the app listens on: those of the listening sockets of processes in this
//! mount namespace and of their descendants, except our own program's.
//!
//! A sidecar shares the network namespace with the app, but not the mount namespace, and usually
//! not even /proc. If a process cannot be read, or may be hidden, every listening socket that it
//! could have created counts: too many ports make a drain longer, too few cut it short.

#![forbid(unsafe_code)]

use std::fmt;

mod owners;

pub use owners::{Owners, socket_inode};

/// A listening socket of the network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    pub inode: u64,
    /// The user that created it.
    pub uid: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Sorted, without duplicates.
    pub ports: Vec<u16>,
    /// Not all of their owners could be read.
    pub guessed: bool,
}

/// Selects the app's ports from `listeners`.
pub fn of_app(listeners: &[Listener], owners: &Owners) -> Ports {
    let (mut certain, mut possible) = (Vec::new(), Vec::new());
    // If nothing at all was found, the app may be hidden altogether.
    let nothing_found = !listeners.iter().any(|listener| owners.apps.contains(&listener.inode));
    for listener in listeners {
        let owned = owners.apps.contains(&listener.inode);
        if owned {
            insert(&mut certain, listener.port);
        }
        let may_be = nothing_found || owners.unread.may_have_made(listener);
        if owned || may_be && !owners.others.contains(&listener.inode) {
            insert(&mut possible, listener.port);
        }
    }
    Ports { guessed: possible != certain, ports: possible }
}

/// Sorts and removes duplicates.
pub fn in_order(ports: &[u16]) -> Vec<u16> {
    let mut list = Vec::new();
    for port in ports {
        insert(&mut list, *port);
    }
    list
}

/// Inserts in order, unless present.
pub fn insert(ports: &mut Vec<u16>, port: u16) {
    if let Err(place) = ports.binary_search(&port) {
        ports.insert(place, port);
    }
}

/// `:8080, :9090`.
pub struct List<'a>(pub &'a [u16]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (index, port) in self.0.iter().enumerate() {
            write!(f, "{}:{port}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
