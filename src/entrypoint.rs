//! The drain-init that is the entrypoint of this container, as a hook finds it and asks it.
//!
//! It is never found by being PID 1: in a pod that shares its process namespace, that is pause.

#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

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
        let parents = descendants::parents();
        let own_pid = nix::unistd::getpid().as_raw();
        let mut candidates = Vec::new();
        for (pid, _) in &parents {
            if *pid != own_pid && own.is_entrypoint(*pid) {
                candidates.push(*pid);
            }
        }
        let mut oldest = None;
        for pid in &candidates {
            if !descendants::is_within(*pid, &candidates, &parents) {
                // One that `docker exec` has started is younger.
                let age = (started(*pid).unwrap_or(u64::MAX), *pid);
                oldest = Some(oldest.map_or(age, |oldest| age.min(oldest)));
            }
        }
        let (_, pid) = oldest?;
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
        !drain_is_in(self.pid, [b"ShdPnd:", b"SigPnd:"])
    }

    /// Its drain companion.
    pub fn companion(&self) -> Option<OwnedFd> {
        let parents = descendants::parents();
        let (companion, _) = parents.iter().find(|(pid, parent)| {
            let words = descendants::about(*pid, "cmdline");
            let mut words = words.split(is_end).skip(1);
            *parent == self.pid
                && words.next() == Some(b"companion")
                && words.next() == Some(b"drain")
        })?;
        sys::open_process(*companion).ok()
    }
}

impl Own {
    fn new() -> Option<Self> {
        Some(Self {
            mounts: file("self", "ns/mnt")?,
            program: file("self", "exe")?,
            name: program_name("self")?,
        })
    }

    /// Whether it runs an app, and in this container. What may not be read is somebody else's.
    fn is_entrypoint(&self, pid: Pid) -> bool {
        let process = pid.to_string();
        // The same program, or one of that name that was replaced while it ran.
        let is_drain_init = file(&process, "exe") == Some(self.program)
            || program_name(&process).as_ref() == Some(&self.name);
        let words = || descendants::about(pid, "cmdline");
        is_drain_init
            && file(&process, "ns/mnt") == Some(self.mounts)
            && drain_is_in(pid, [b"SigBlk:", b"SigCgt:"])
            && !words().split(is_end).nth(1).is_some_and(|verb| OTHER_VERBS.contains(&verb))
    }
}

fn is_end(byte: &u8) -> bool {
    *byte == 0
}

/// What a link in /proc/PID leads to.
fn file(process: &str, link: &str) -> Option<File> {
    let about = fs::metadata(format!("/proc/{process}/{link}")).ok()?;
    Some((about.dev(), about.ino()))
}

/// The name of its program.
fn program_name(process: &str) -> Option<Vec<u8>> {
    let path = fs::read_link(format!("/proc/{process}/exe")).ok()?.into_os_string().into_vec();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(&path);
    path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec)
}

/// Whether the signal that asks for a drain is in one of these masks of /proc/PID/status.
fn drain_is_in(pid: Pid, masks: [&[u8]; 2]) -> bool {
    // The mask's first digit is the one of the highest signals, of which this is the highest.
    let has = |line: &[u8]| {
        let mask = masks.iter().find_map(|name| line.strip_prefix(*name));
        let digit = mask.and_then(|mask| mask.trim_ascii().first());
        digit.is_some_and(|digit| matches!(digit, b'8'..=b'9' | b'a'..=b'f'))
    };
    descendants::about(pid, "status").split(|byte| *byte == b'\n').any(has)
}

/// When it was started, in the clock ticks of /proc/PID/stat.
fn started(pid: Pid) -> Option<u64> {
    // The 22nd field, counted from the state, which is the third.
    descendants::fields(&descendants::about(pid, "stat"))?.nth(19)?.parse().ok()
}
