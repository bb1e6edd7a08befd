//! The drain-init that is the entrypoint of this container, as a hook finds it and asks it.
//!
//! It is never found by being PID 1: in a pod that shares its process namespace, that is pause.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use crate::processes;
use crate::signal::Signal;
use crate::sys::{self, Folder, Pid};

/// Verbs that are no entrypoint.
const OTHER_VERBS: [&[u8]; 6] =
    [b"prestop", b"probe", b"wait", b"install", b"explain", b"companion"];

/// The longest path that the kernel tells.
const PATH: usize = 4096;

/// A process that was found, and is the same one as long as this is there.
pub struct Entrypoint {
    pub pid: Pid,
    handle: OwnedFd,
}

/// What makes a process one of this container's drain-inits.
struct Own {
    mounts: File,
    program: File,
    name: Vec<u8>,
}

/// A file by its device and number on it.
type File = (u64, u64);

impl Entrypoint {
    /// The outermost drain-init of this container: the first one, where there are several.
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
        // It may have ended meanwhile, and its pid be somebody else's.
        own.is_entrypoint(pid).then_some(Self { pid, handle })
    }

    /// Asks it to begin the drain.
    pub fn ask(&self) -> std::io::Result<()> {
        sys::send_to(&self.handle, Signal::DRAIN)
    }

    /// Whether it has taken what it was asked.
    pub fn has_taken(&self) -> bool {
        let process = processes::folder(self.pid);
        !process.is_some_and(|process| drain_is_in(&process, [b"ShdPnd:", b"SigPnd:"]))
    }

    /// Its drain companion.
    pub fn companion(&self) -> Option<OwnedFd> {
        sys::open_process(self.find_companion(b"drain")?).ok()
    }

    /// Whether the app has yet to be started: it waits for that.
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

/// The first process of this container: its log is the container's. In a pod that shares its process
/// namespace it is not PID 1, so it is found by its mount namespace.
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

/// The outermost of these, and the oldest where several are: one that `docker exec` has started is
/// younger.
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

    /// Whether it runs an app, and in this container. What may not be read is somebody else's.
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

    /// Whether it is in this container. What may not be read is somebody else's.
    fn shares_mounts(&self, process: &Folder) -> bool {
        process.identity(c"ns/mnt").is_ok_and(|found| found == self.mounts)
    }
}

fn is_end(byte: &u8) -> bool {
    *byte == 0
}

/// The name of its program.
fn program_name(process: &Folder) -> Vec<u8> {
    let mut place = [0; PATH];
    let path = process.link(c"exe", &mut place);
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
}

/// Whether the signal that asks for a drain is in one of these masks of /proc/PID/status.
fn drain_is_in(process: &Folder, masks: [&[u8]; 2]) -> bool {
    // The mask's first digit is the one of the highest signals, of which this is the highest.
    let has = |line: &[u8]| {
        let mask = masks.iter().find_map(|name| line.strip_prefix(*name));
        let digit = mask.and_then(|mask| mask.trim_ascii().first());
        digit.is_some_and(|digit| matches!(digit, b'8'..=b'9' | b'a'..=b'f'))
    };
    process.read(c"status").split(|byte| *byte == b'\n').any(has)
}

/// When it was started, in the clock ticks of /proc/PID/stat.
fn started(pid: Pid) -> Option<u64> {
    // The 22nd field, counted from the state, which is the third.
    processes::fields(&processes::folder(pid)?.read(c"stat"))?.nth(19)?.parse().ok()
}
