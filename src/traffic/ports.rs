//! Which ports the app listens on: those of the sockets that processes of this mount namespace
//! have, our own program left out.
//!
//! A sidecar shares the network namespace with the app, but not the mount namespace, and mostly
//! not even /proc. Where an owner cannot be read, which is an app that runs as another user, every
//! listening socket but our own counts: too many ports hold a drain up, too few cut it short.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A listening socket of the network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    pub inode: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// In order, each once.
    pub ports: Vec<u16>,
    /// Whose they are could not be read for all of them.
    pub guessed: bool,
}

/// Whose listening sockets are whose, as far as /proc can be read.
#[derive(Debug, Default)]
pub struct Owners {
    /// Of processes that share our mount namespace and are another program.
    apps: Vec<u64>,
    /// Of our own program, and of processes in other mount namespaces.
    others: Vec<u64>,
    /// There is a process that may have any of the rest.
    unreadable: bool,
}

/// What the app listens on, out of `listeners`.
pub fn of_app(listeners: &[Listener], owners: &Owners) -> Ports {
    let (mut certain, mut possible) = (Vec::new(), Vec::new());
    for listener in listeners {
        let owned = owners.apps.contains(&listener.inode);
        if owned {
            insert(&mut certain, listener.port);
        }
        if owned || !owners.others.contains(&listener.inode) {
            insert(&mut possible, listener.port);
        }
    }
    // Where nothing at all was found, /proc may hide the app altogether (hidepid).
    let guess = owners.unreadable || certain.is_empty();
    let guessed = guess && possible != certain;
    Ports { ports: if guess { possible } else { certain }, guessed }
}

/// Each once.
pub fn in_order(ports: &[u16]) -> Vec<u16> {
    let mut list = Vec::new();
    for port in ports {
        insert(&mut list, *port);
    }
    list
}

/// Into its place in the order, unless it is there.
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

impl Owners {
    /// Looks through the processes that there are, as far as it takes: an app may have ten thousand
    /// descriptors, and its listening sockets are among the first.
    pub fn read(listeners: &[Listener]) -> Self {
        let mut owners = Self::default();
        let Ok(processes) = fs::read_dir("/proc") else {
            return Self { unreadable: true, ..owners };
        };
        let own = Path::new("/proc/self");
        let (Ok(own_mounts), Ok(own_program)) =
            (identity(&own.join("ns/mnt")), identity(&own.join("exe")))
        else {
            return Self { unreadable: true, ..owners };
        };
        let mut sought: Vec<u64> = listeners.iter().map(|listener| listener.inode).collect();
        for process in processes.flatten() {
            if sought.is_empty() {
                break;
            }
            let name = process.file_name();
            if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            if let Err(error) = owners.add(&process.path(), own_mounts, own_program, &mut sought) {
                // Kernel threads and the dead have no sockets; what is denied may have any.
                owners.unreadable |= error.kind() == io::ErrorKind::PermissionDenied;
            }
        }
        owners
    }

    /// What is the app's is sought no longer; what is another's, or our own, may be the app's too.
    fn add(
        &mut self,
        process: &Path,
        own_mounts: Identity,
        own_program: Identity,
        sought: &mut Vec<u64>,
    ) -> io::Result<()> {
        let is_own = identity(&process.join("exe"))? == own_program;
        let is_app = identity(&process.join("ns/mnt"))? == own_mounts && !is_own;
        let inodes = if is_app { &mut self.apps } else { &mut self.others };
        for descriptor in fs::read_dir(process.join("fd"))?.flatten() {
            let inode = socket_inode(&descriptor.path());
            let Some(inode) = inode.filter(|inode| sought.contains(inode)) else {
                continue;
            };
            inodes.push(inode);
            if is_app {
                sought.retain(|one| *one != inode);
            }
            if sought.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// Device and inode.
type Identity = (u64, u64);

/// Of what a link of /proc leads to, be there a path to it or not.
fn identity(link: &Path) -> io::Result<Identity> {
    fs::metadata(link).map(|data| (data.dev(), data.ino()))
}

/// `socket:[12345]`.
fn socket_inode(link: &Path) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests;
