//! The drain-init that is the entrypoint of this container, as a hook finds it and asks it.
//!
//! It is never found by being PID 1: in a pod that shares its process namespace, that is pause.

#![forbid(unsafe_code)]

use std::fs::{self, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::descendants;
use crate::signal::Signal;
use crate::sys::{self, Pid};

/// Verbs that are no entrypoint.
const OTHER_VERBS: [&[u8]; 5] = [b"prestop", b"probe", b"install", b"explain", b"companion"];

/// A process that was found, and is the same one as long as this is there.
pub struct Entrypoint {
    pub pid: Pid,
    handle: OwnedFd,
}

/// What makes a process one of this container's drain-inits.
struct Own {
    mounts: std::path::PathBuf,
    program: Metadata,
    name: Vec<u8>,
}

impl Entrypoint {
    /// The outermost drain-init of this container: the first one, where there are several.
    pub fn find() -> Option<Self> {
        let own = Own::new()?;
        let parents = descendants::parents();
        let own_pid = nix::unistd::getpid().as_raw();
        let is_candidate = |pid: &Pid| *pid != own_pid && own.is_entrypoint(*pid);
        let candidates: Vec<Pid> =
            parents.iter().map(|(pid, _)| *pid).filter(is_candidate).collect();
        let within_another = |pid: Pid| {
            let above = descendants::ancestors(pid, &parents);
            above.iter().any(|ancestor| candidates.contains(ancestor))
        };
        let outermost = candidates.iter().copied().filter(|pid| !within_another(*pid));
        // One that `docker exec` has started is younger.
        let pid = outermost.min_by_key(|pid| (started(*pid).unwrap_or(u64::MAX), *pid))?;
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
        let pending = mask(self.pid, "ShdPnd").unwrap_or(0) | mask(self.pid, "SigPnd").unwrap_or(0);
        pending & Signal::DRAIN.bit() == 0
    }

    /// Its drain companion.
    pub fn companion(&self) -> Option<OwnedFd> {
        let is_companion = |pid: Pid| {
            let words = words(pid);
            let is = |index: usize, word: &[u8]| words.get(index).is_some_and(|w| w == word);
            is(1, b"companion") && is(2, b"drain")
        };
        let children = descendants::parents();
        let mut children = children.iter().filter(|(_, parent)| *parent == self.pid);
        let (companion, _) = children.find(|(pid, _)| is_companion(*pid))?;
        sys::open_process(*companion).ok()
    }
}

impl Own {
    fn new() -> Option<Self> {
        let program = fs::read_link("/proc/self/exe").ok()?;
        Some(Self {
            mounts: fs::read_link("/proc/self/ns/mnt").ok()?,
            program: fs::metadata("/proc/self/exe").ok()?,
            name: program_name(&program).to_owned(),
        })
    }

    /// Whether it runs an app, and in this container. What may not be read is somebody else's.
    fn is_entrypoint(&self, pid: Pid) -> bool {
        let same_mounts = || fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let keeps_drain = || {
            let masks = ["SigBlk", "SigCgt"].map(|name| mask(pid, name).unwrap_or(0));
            masks.iter().any(|mask| mask & Signal::DRAIN.bit() != 0)
        };
        self.is_drain_init(pid)
            && same_mounts().is_some_and(|mounts| mounts == self.mounts)
            && keeps_drain()
            && !words(pid).get(1).is_some_and(|verb| OTHER_VERBS.contains(&verb.as_slice()))
    }

    /// The same file, or one of that name that was replaced while it ran.
    fn is_drain_init(&self, pid: Pid) -> bool {
        let link = format!("/proc/{pid}/exe");
        let (Ok(program), Ok(path)) = (fs::metadata(&link), fs::read_link(&link)) else {
            return false;
        };
        (program.dev(), program.ino()) == (self.program.dev(), self.program.ino())
            || program_name(&path) == self.name
    }
}

fn program_name(path: &Path) -> &[u8] {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    name.strip_suffix(b" (deleted)").unwrap_or(name)
}

/// Its command line.
fn words(pid: Pid) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// A signal mask in /proc/PID/status.
fn mask(pid: Pid, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// When it was started, in the clock ticks of /proc/PID/stat.
fn started(pid: Pid) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The 22nd field, counted from the state, which is the third.
    descendants::fields(&stat)?.nth(19)?.parse().ok()
}
