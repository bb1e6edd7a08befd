//! Which ports the app listens on: those of the sockets that processes of this mount namespace
//! have, our own program left out.
//!
//! A sidecar shares the network namespace with the app, but not the mount namespace, and mostly
//! not even /proc. Where an owner cannot be read, which is an app that runs as another user, every
//! listening socket but our own counts: too many ports hold a drain up, too few cut it short.

#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::ops::ControlFlow;
use std::fmt;
use std::io;

use super::proc_net::decimal;
use crate::sys::Folder;

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
        if owners.look_through(listeners).is_err() {
            owners.unreadable = true;
        }
        owners
    }

    fn look_through(&mut self, listeners: &[Listener]) -> io::Result<()> {
        let processes = Folder::open(c"/proc")?;
        let own = Program::of(&processes.folder(c"self")?)?;
        let mut sought: Vec<u64> = listeners.iter().map(|listener| listener.inode).collect();
        processes.each(&mut |name| {
            let is_process = name.to_bytes().iter().all(u8::is_ascii_digit);
            if is_process && let Err(error) = self.add(&processes, name, &own, &mut sought) {
                // Kernel threads and the dead have no sockets; what is denied may have any.
                self.unreadable |= error.kind() == io::ErrorKind::PermissionDenied;
            }
            until_none(&sought)
        });
        Ok(())
    }

    /// What is the app's is sought no longer; what is another's, or our own, may be the app's too.
    fn add(
        &mut self,
        processes: &Folder,
        name: &CStr,
        own: &Program,
        sought: &mut Vec<u64>,
    ) -> io::Result<()> {
        let process = processes.folder(name)?;
        let program = Program::of(&process)?;
        let is_app = program.mounts == own.mounts && program.file != own.file;
        let inodes = if is_app { &mut self.apps } else { &mut self.others };
        let descriptors = process.folder(c"fd")?;
        descriptors.each(&mut |descriptor| {
            let inode = socket_inode(&descriptors, descriptor);
            if let Some(inode) = inode.filter(|inode| sought.contains(inode)) {
                inodes.push(inode);
                if is_app {
                    sought.retain(|one| *one != inode);
                }
            }
            until_none(sought)
        });
        Ok(())
    }
}

fn until_none(sought: &[u64]) -> ControlFlow<()> {
    if sought.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// What a process runs, and in which mount namespace.
struct Program {
    file: (u64, u64),
    mounts: (u64, u64),
}

impl Program {
    fn of(process: &Folder) -> io::Result<Self> {
        Ok(Self { file: process.identity(c"exe")?, mounts: process.identity(c"ns/mnt")? })
    }
}

/// `socket:[12345]`.
fn socket_inode(descriptors: &Folder, descriptor: &CStr) -> Option<u64> {
    let mut place = [0; 64];
    let link = descriptors.link(descriptor, &mut place);
    decimal(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

#[cfg(test)]
mod tests;
