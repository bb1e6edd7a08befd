//! Finds the owners of listening sockets, as far as /proc can be read, and the possible owners of
//! the rest.

#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::ops::ControlFlow;
use std::ffi::CString;
use std::io;

use super::super::proc_net::decimal;
use super::Listener;
use crate::processes;
use crate::sys::{self, Folder, Pid};

#[derive(Debug, Default)]
pub struct Owners {
    /// Sockets of processes in our mount namespace and of their descendants, except our own
    /// program's.
    pub apps: Vec<u64>,
    /// Sockets of our own program and of all other processes.
    pub others: Vec<u64>,
    /// The possible owners of the remaining sockets.
    pub unread: Unread,
}

/// Processes that could not be read.
#[derive(Debug, Default)]
pub struct Unread {
    /// Some processes may be hidden entirely.
    pub hidden: bool,
    /// The users that the other processes run as, or may have run as.
    pub users: Vec<u32>,
}

impl Unread {
    /// Checks the user: the kernel records who created a socket.
    pub fn may_have_made(&self, listener: &Listener) -> bool {
        self.hidden || self.users.contains(&listener.uid)
    }
}

impl Owners {
    /// Searches the processes, and stops early: an app may have ten thousand descriptors, and its
    /// listening sockets are among the first.
    pub fn read(listeners: &[Listener]) -> Self {
        let mut found = Self::default();
        match Search::begin(listeners) {
            Ok(mut search) => search.through_all(&mut found),
            Err(_) => found.unread.hidden = true,
        }
        found
    }
}

/// The state of one walk through /proc.
struct Search<'a> {
    processes: Folder,
    own: Program,
    listeners: &'a [Listener],
    /// Listening sockets not yet found in a process of the app.
    sought: Vec<u64>,
    /// Processes in our mount namespace.
    here: Vec<Pid>,
    /// Processes in another one, with their listening sockets.
    elsewhere: Vec<(Pid, Vec<u64>)>,
    denied: Vec<Pid>,
    /// Processes of the app that listen.
    listening: Vec<Pid>,
}

impl<'a> Search<'a> {
    fn begin(listeners: &'a [Listener]) -> io::Result<Self> {
        let processes = Folder::open(c"/proc")?;
        Ok(Self {
            own: Program::of(&processes.folder(c"self")?)?,
            processes,
            listeners,
            sought: listeners.iter().map(|listener| listener.inode).collect(),
            here: Vec::new(),
            elsewhere: Vec::new(),
            denied: Vec::new(),
            listening: Vec::new(),
        })
    }

    fn through_all(&mut self, found: &mut Owners) {
        let mut names: Vec<(Pid, CString)> = Vec::new();
        self.processes.each(&mut |name| {
            names.extend(number(name).map(|pid| (pid, name.into())));
            ControlFlow::Continue(())
        });
        for (pid, name) in names {
            if self.sought.is_empty() {
                return;
            }
            let process = match self.processes.folder(&name) {
                Ok(process) => process,
                // It has ended, or /proc hides it (hidepid=1).
                Err(error) => {
                    found.unread.hidden |= is_denied(&error);
                    continue;
                }
            };
            // Kernel threads and zombies have no sockets; a process that denies access may have
            // any.
            if self.add(pid, process, found).is_err_and(|error| is_denied(&error)) {
                self.denied.push(pid);
            }
        }
        found.unread.hidden |= may_hide(&sys::read("/proc/self/mountinfo").unwrap_or_default());
        if !self.elsewhere.is_empty() || !self.denied.is_empty() {
            self.by_descent(&processes::parents(), found);
        }
    }

    /// Stops looking for a socket once the app is known to have it. One of another process, or our
    /// own, may be the app's too.
    fn add(&mut self, pid: Pid, process: Folder, found: &mut Owners) -> io::Result<()> {
        let (program, process) = living_thread(process)?;
        let here = program.mounts == self.own.mounts;
        if here {
            self.here.push(pid);
        }
        let is_app = here && program.file != self.own.file;
        let mut inodes = Vec::new();
        let descriptors = process.folder(c"fd")?;
        descriptors.each(&mut |descriptor| {
            let inode = socket_inode(&descriptors, descriptor);
            let is_listener = |inode: &u64| self.listeners.iter().any(|one| one.inode == *inode);
            if let Some(inode) = inode.filter(is_listener) {
                inodes.push(inode);
                if is_app {
                    self.sought.retain(|one| *one != inode);
                }
            }
            if self.sought.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if is_app && !inodes.is_empty() {
            self.listening.push(pid);
        }
        match (is_app, here) {
            (true, _) => found.apps.extend(inodes),
            (false, true) => found.others.extend(inodes),
            (false, false) => self.elsewhere.push((pid, inodes)),
        }
        Ok(())
    }

    /// A descendant of a process in our mount namespace, of the app or of drain-init, is the app's,
    /// whatever its namespace.
    fn by_descent(&mut self, parents: &[(Pid, Pid)], found: &mut Owners) {
        // The namespace of an unreadable process is unknown.
        let ancestors = [self.here.as_slice(), self.denied.as_slice()].concat();
        for (pid, inodes) in std::mem::take(&mut self.elsewhere) {
            if processes::is_within(pid, &ancestors, parents) {
                self.listening.extend((!inodes.is_empty()).then_some(pid));
                found.apps.extend(inodes);
            } else {
                found.others.extend(inodes);
            }
        }
        for pid in &self.denied {
            let users = self.users_of(*pid, parents);
            found.unread.hidden |= users.is_empty();
            found.unread.users.extend(users);
        }
    }

    /// The users whose sockets the process may have: the users it runs as, and ours, since it may
    /// have listened before it changed user. A worker forked by a listening process has the sockets
    /// of that process, which are known.
    fn users_of(&self, pid: Pid, parents: &[(Pid, Pid)]) -> Vec<u32> {
        let Some(process) = processes::folder(pid) else {
            return vec![];
        };
        let mut users = users_in(&process.read(c"status"));
        let parent = parents.iter().find(|(child, _)| *child == pid).map(|(_, parent)| *parent);
        let of_listening = parent.is_some_and(|parent| self.listening.contains(&parent));
        let is_worker = of_listening && is_forked(&process.read(c"stat"));
        if !users.is_empty() && !is_worker {
            users.extend(
                sys::read("/proc/self/status").map(|status| users_in(&status)).unwrap_or_default(),
            );
        }
        users
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn number(name: &CStr) -> Option<Pid> {
    name.to_str().ok()?.parse().ok()
}

/// The program that a process runs, and its mount namespace.
struct Program {
    file: (u64, u64),
    mounts: (u64, u64),
}

impl Program {
    fn of(process: &Folder) -> io::Result<Self> {
        Ok(Self { file: process.identity(c"exe")?, mounts: process.identity(c"ns/mnt")? })
    }
}

/// The process itself, or, if its main thread has ended, a living thread: the main thread's folder
/// is then that of a zombie.
fn living_thread(process: Folder) -> io::Result<(Program, Folder)> {
    let ended = match Program::of(&process) {
        Ok(program) => return Ok((program, process)),
        Err(error) if is_denied(&error) => return Err(error),
        Err(error) => error,
    };
    let threads = process.folder(c"task")?;
    let mut result = Err(ended);
    threads.each(&mut |name| {
        if let Ok(thread) = threads.folder(name) {
            match Program::of(&thread) {
                Ok(program) => result = Ok((program, thread)),
                Err(error) if is_denied(&error) => result = Err(error),
                Err(_) => return ControlFlow::Continue(()),
            }
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    result
}

/// Parses `socket:[12345]`.
pub fn socket_inode(descriptors: &Folder, descriptor: &CStr) -> Option<u64> {
    let mut place = [0; 64];
    let link = descriptors.link(descriptor, &mut place);
    decimal(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

/// Parses `Uid:` with the real, effective, saved and file-system user from /proc/PID/status.
pub fn users_in(status: &[u8]) -> Vec<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"Uid:")).unwrap_or_default();
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.filter_map(|word| decimal(word)?.try_into().ok()).collect()
}

/// Whether the process has not called execve since it was forked: PF_FORKNOEXEC among the flags in
/// /proc/PID/stat.
pub fn is_forked(stat: &[u8]) -> bool {
    const FORKED: u64 = 0x40;
    let flags = processes::fields(stat).and_then(|mut fields| fields.nth(6));
    flags.and_then(|flags| decimal(flags.as_bytes())).is_some_and(|flags| flags & FORKED != 0)
}

/// Whether /proc may hide other users' processes (proc(5)), according to /proc/self/mountinfo. True
/// if unknown.
pub fn may_hide(mountinfo: &[u8]) -> bool {
    // The last mount hides the earlier ones.
    let mounted = |line: &&[u8]| line.split(|byte| *byte == b' ').nth(4) == Some(b"/proc");
    let Some(line) = mountinfo.rsplit(|byte| *byte == b'\n').find(mounted) else {
        return true;
    };
    let mut options = line.split(|byte| matches!(byte, b' ' | b','));
    let value = options.find_map(|option| option.strip_prefix(b"hidepid="));
    value.is_some_and(|value| !matches!(value, b"0" | b"off"))
}
