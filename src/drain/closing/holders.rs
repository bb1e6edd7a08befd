//! Which process has which socket, and under which number: from /proc/PID/fd.
//!
//! That takes a system call a descriptor, so what was read is kept. It may not be true any more:
//! a borrowed socket is known by its cookie.

#![forbid(unsafe_code)]

use std::io;
use std::ops::ControlFlow;

use crate::clock::Time;
use crate::drain::traffic::ports::socket_inode;
use crate::sys::{Folder, Pid};

/// The processes are read again only after so many times as long as that took.
const SHARE: u32 = 100;

/// Where a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    inode: u64,
    pub pid: Pid,
    pub descriptor: i32,
}

/// What is known of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    At(Place),
    /// No process that can be read has it.
    Nowhere,
    /// It is to be looked for later.
    Later,
}

/// All sockets of the processes that can be read.
#[derive(Debug, Default)]
pub struct Holders {
    /// By inode.
    places: Vec<Place>,
    read_again: Time,
    /// There are processes that cannot be read.
    pub unreadable: bool,
}

impl Holders {
    /// Where the socket is. `here_alone`: if that is a process of this mount namespace.
    pub fn find(&mut self, inode: u64, here_alone: bool, clock: &dyn Fn() -> Time) -> Found {
        if let Some(place) = self.known(inode) {
            return Found::At(place);
        }
        let began = clock();
        if began < self.read_again {
            return Found::Later;
        }
        self.read(here_alone);
        let took = clock().saturating_sub(began);
        self.read_again = began.saturating_add(took.saturating_mul(SHARE));
        self.known(inode).map_or(Found::Nowhere, Found::At)
    }

    /// It was not there any more.
    pub fn forget(&mut self, place: Place) {
        self.places.retain(|known| *known != place);
    }

    fn known(&self, inode: u64) -> Option<Place> {
        let index = self.places.binary_search_by_key(&inode, |place| place.inode).ok()?;
        self.places.get(index).copied()
    }

    fn read(&mut self, here_alone: bool) {
        self.places.clear();
        self.unreadable = self.read_all(here_alone).is_err();
        self.places.sort_unstable_by_key(|place| place.inode);
        // Many may have one socket.
        self.places.dedup_by_key(|place| place.inode);
    }

    fn read_all(&mut self, here_alone: bool) -> io::Result<()> {
        let processes = Folder::open(c"/proc")?;
        let here = processes.folder(c"self")?.identity(c"ns/mnt")?;
        let mut denied = Ok(());
        processes.each(&mut |name| {
            if let Ok(pid) = name.to_str().unwrap_or_default().parse()
                && let Ok(process) = processes.folder(name)
                && let Err(error) = self.read_one(&process, pid, here_alone.then_some(here))
                && error.kind() == io::ErrorKind::PermissionDenied
            {
                denied = Err(error);
            }
            ControlFlow::Continue(())
        });
        denied
    }

    fn read_one(&mut self, process: &Folder, pid: Pid, only: Option<(u64, u64)>) -> io::Result<()> {
        // Denied where its descriptors would be, too, which only looks like having none.
        let mounts = process.identity(c"ns/mnt")?;
        if only.is_some_and(|only| only != mounts) {
            return Ok(());
        }
        let descriptors = process.folder(c"fd")?;
        descriptors.each(&mut |name| {
            if let Some(inode) = socket_inode(&descriptors, name)
                && let Ok(descriptor) = name.to_str().unwrap_or_default().parse()
            {
                self.places.push(Place { inode, pid, descriptor });
            }
            ControlFlow::Continue(())
        });
        Ok(())
    }
}
