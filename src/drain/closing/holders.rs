//! Finds the process and the descriptor number of each socket, from /proc/PID/fd.
//!
//! That costs a system call per descriptor, so the result is cached. It may be stale: the borrower
//! compares the socket's cookie.

#![forbid(unsafe_code)]

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::clock::Time;
use crate::drain::traffic::cpu_time;
use crate::drain::traffic::ports::socket_inode;
use crate::sys::{Folder, Pid};

/// The processes are read again only after this many times the processor time that reading took, and after this long at most: a
/// socket that is missing may hold the drain.
const SHARE: u32 = 100;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The place of a socket: a process and a descriptor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    inode: u64,
    pub pid: Pid,
    pub descriptor: i32,
}

#[cfg(test)]
impl Place {
    pub fn of(pid: Pid, descriptor: i32) -> Self {
        Self { inode: 0, pid, descriptor }
    }
}

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    At(Place),
    /// No readable process has it.
    Nowhere,
    /// Look for it later.
    Later,
}

/// The sockets of all readable processes.
#[derive(Debug, Default)]
pub struct Holders {
    /// Sorted by inode.
    places: Vec<Place>,
    read_again: Time,
    /// Some processes cannot be read.
    pub unreadable: bool,
}

impl Holders {
    /// Finds the socket; with `here_alone` only in processes of this mount namespace.
    pub fn find(&mut self, inode: u64, here_alone: bool, clock: &dyn Fn() -> Time) -> Found {
        if let Some(place) = self.known(inode) {
            return Found::At(place);
        }
        let began = clock();
        if began < self.read_again {
            return Found::Later;
        }
        let before = cpu_time();
        self.read(here_alone);
        let took = cpu_time().saturating_sub(before);
        self.read_again = began.saturating_add(pause_after(took));
        self.known(inode).map_or(Found::Nowhere, Found::At)
    }

    /// Forgets a place where the socket is no longer.
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
        // Several processes may have the same socket.
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
        // This fails wherever the descriptors are denied too; without it such a process would look
        // as if it had none.
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

fn pause_after(took: Duration) -> Duration {
    took.saturating_mul(SHARE).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_processes_are_read_again_soon_enough() {
        assert_eq!(pause_after(Duration::from_millis(3)), Duration::from_millis(300));
        assert_eq!(pause_after(Duration::from_millis(300)), LONGEST_PAUSE);
    }
}
