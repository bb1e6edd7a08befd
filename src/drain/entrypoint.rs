//! Finds the drain-init that is the entrypoint of this container, and asks it for a drain: for a
//! hook.
//!
//! Being PID 1 proves nothing: in a pod that shares its process namespace, PID 1 is pause.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use crate::processes;
use crate::signal::Signal;
use crate::sys::{self, Folder, Pid};

/// Verbs that are not an entrypoint.
const OTHER_VERBS: [&[u8]; 6] =
    [b"prestop", b"probe", b"wait", b"install", b"explain", b"companion"];

/// PATH_MAX, the longest path that the kernel returns.
const PATH: usize = 4096;

/// The entrypoint's process. The pidfd keeps naming it even if its pid is reused.
pub struct Entrypoint {
    pub pid: Pid,
    handle: OwnedFd,
}

/// The properties that identify this container's drain-init.
struct Own {
    mounts: File,
    program: File,
    name: Vec<u8>,
}

/// A file, by device and inode.
type File = (u64, u64);

impl Entrypoint {
    /// The outermost drain-init of this container; the oldest if there are several.
    pub fn find() -> Option<Self> {
        let own = Own::new()?;
        let parents = processes::parents();
        let own_pid = nix::unistd::getpid().as_raw();
        let mut candidates = Vec::new();
        for (pid, _) in &parents {
            if *pid != own_pid && own.is_entrypoint(*pid) {
                candidates.push(*pid);
            }
        }
        let pid = first(&candidates, &parents)?;
        let handle = sys::open_process(pid).ok()?;
        // It may have ended meanwhile, and its pid may have been reused.
        own.is_entrypoint(pid).then_some(Self { pid, handle })
    }

    /// Asks it to begin the drain.
    pub fn ask(&self) -> std::io::Result<()> {
        sys::send_to(&self.handle, Signal::DRAIN)
    }

    /// Whether it has taken the signal.
    pub fn has_taken(&self) -> bool {
        let process = processes::folder(self.pid);
        !process.is_some_and(|process| drain_is_in(&process, [b"ShdPnd:", b"SigPnd:"]))
    }

    /// Its drain companion.
    pub fn companion(&self) -> Option<OwnedFd> {
        sys::open_process(self.find_companion(b"drain")?).ok()
    }

    /// Whether it has yet to start the app.
    pub fn waits_to_start(&self) -> bool {
        self.find_companion(b"start").is_some()
    }

    fn find_companion(&self, name: &[u8]) -> Option<Pid> {
        let parents = processes::parents();
        let (companion, _) = parents.iter().find(|(pid, parent)| {
            let process = processes::folder(*pid).filter(|_| *parent == self.pid);
            process.is_some_and(|process| {
                let words = process.read(c"cmdline");
                let mut words = words.split(is_end).skip(1);
                words.next() == Some(b"companion") && words.next() == Some(name)
            })
        })?;
        Some(*companion)
    }
}

/// The first process of this container, whose log is the container's. In a pod that shares its
/// process namespace it is not PID 1, so it is found by its mount namespace.
pub fn first_process() -> Option<Pid> {
    let own = Own::new()?;
    let parents = processes::parents();
    let own_pid = nix::unistd::getpid().as_raw();
    let is_here = |pid: &Pid| {
        *pid != own_pid && processes::folder(*pid).is_some_and(|it| own.shares_mounts(&it))
    };
    let here: Vec<Pid> = parents.iter().map(|(pid, _)| *pid).filter(is_here).collect();
    first(&here, &parents)
}

/// The outermost of these processes, and the oldest if there are several: a drain-init started by
/// `docker exec` is younger.
fn first(candidates: &[Pid], parents: &[(Pid, Pid)]) -> Option<Pid> {
    let outermost =
        candidates.iter().filter(|pid| !processes::is_within(**pid, candidates, parents));
    outermost.copied().min_by_key(|pid| (started(*pid).unwrap_or(u64::MAX), *pid))
}

impl Own {
    fn new() -> Option<Self> {
        let own = Folder::open(c"/proc/self").ok()?;
        Some(Self {
            mounts: own.identity(c"ns/mnt").ok()?,
            program: own.identity(c"exe").ok()?,
            name: program_name(&own),
        })
    }

    /// Whether the process runs an app, in this container. An unreadable process belongs to
    /// another.
    fn is_entrypoint(&self, pid: Pid) -> bool {
        let Some(process) = processes::folder(pid) else {
            return false;
        };
        let words = || process.read(c"cmdline");
        let is_program = || process.identity(c"exe").is_ok_and(|found| found == self.program);
        // The same program, or one of that name that was replaced while it ran.
        (is_program() || program_name(&process) == self.name)
            && self.shares_mounts(&process)
            && drain_is_in(&process, [b"SigBlk:", b"SigCgt:"])
            && !words().split(is_end).nth(1).is_some_and(|verb| OTHER_VERBS.contains(&verb))
    }

    /// Whether the process is in this container. An unreadable process belongs to another.
    fn shares_mounts(&self, process: &Folder) -> bool {
        process.identity(c"ns/mnt").is_ok_and(|found| found == self.mounts)
    }
}

fn is_end(byte: &u8) -> bool {
    *byte == 0
}

/// The name of the process's program.
fn program_name(process: &Folder) -> Vec<u8> {
    let mut place = [0; PATH];
    let path = process.link(c"exe", &mut place);
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
}

/// Whether the signal that asks for a drain is in one of these masks of /proc/PID/status.
fn drain_is_in(process: &Folder, masks: [&[u8]; 2]) -> bool {
    // The first digit of a mask holds the highest signals, and this is the highest of all.
    let has = |line: &[u8]| {
        let mask = masks.iter().find_map(|name| line.strip_prefix(*name));
        let digit = mask.and_then(|mask| mask.trim_ascii().first());
        digit.is_some_and(|digit| matches!(digit, b'8'..=b'9' | b'a'..=b'f'))
    };
    process.read(c"status").split(|byte| *byte == b'\n').any(has)
}

/// The start time in clock ticks, from /proc/PID/stat.
fn started(pid: Pid) -> Option<u64> {
    // Field 22; these fields are counted from the state, field 3.
    processes::fields(&processes::folder(pid)?.read(c"stat"))?.nth(19)?.parse().ok()
}
