//! Whose listening sockets are whose, as far as /proc can be read, and who may have the rest.

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
    /// Of processes that share our mount namespace, and of their descendants, if they are another
    /// program.
    pub apps: Vec<u64>,
    /// Of our own program, and of all other processes.
    pub others: Vec<u64>,
    /// Who may have any of the rest.
    pub unread: Unread,
}

/// Processes that could not be read.
#[derive(Debug, Default)]
pub struct Unread {
    /// There may be some of which nothing is known.
    pub hidden: bool,
    /// The users that the others are, or may have been.
    pub users: Vec<u32>,
}

impl Unread {
    /// The kernel notes who made a socket.
    pub fn may_have_made(&self, listener: &Listener) -> bool {
        self.hidden || self.users.contains(&listener.uid)
    }
}

impl Owners {
    /// Looks through the processes that there are, as far as it takes: an app may have ten thousand
    /// descriptors, and its listening sockets are among the first.
    pub fn read(listeners: &[Listener]) -> Self {
        let mut found = Self::default();
        match Search::begin(listeners) {
            Ok(mut search) => search.through_all(&mut found),
            Err(_) => found.unread.hidden = true,
        }
        found
    }
}

/// What is learnt of processes on the way through /proc.
struct Search<'a> {
    processes: Folder,
    own: Program,
    listeners: &'a [Listener],
    /// Listening sockets that no process of the app is known to have.
    sought: Vec<u64>,
    /// In our mount namespace.
    here: Vec<Pid>,
    /// In another one, with the listening sockets that they have.
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
                // It has ended; or it is there and nothing is told of it (hidepid=1).
                Err(error) => {
                    found.unread.hidden |= is_denied(&error);
                    continue;
                }
            };
            // Kernel threads and the dead have no sockets; what is denied may have any.
            if self.add(pid, process, found).is_err_and(|error| is_denied(&error)) {
                self.denied.push(pid);
            }
        }
        found.unread.hidden |= may_hide(&sys::read("/proc/self/mountinfo").unwrap_or_default());
        if !self.elsewhere.is_empty() || !self.denied.is_empty() {
            self.by_descent(&processes::parents(), found);
        }
    }

    /// What is the app's is sought no longer; what is another's, or our own, may be the app's too.
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

    /// A descendant of a process in our mount namespace is the app's, wherever it has gone: of the
    /// app, and of drain-init itself.
    fn by_descent(&mut self, parents: &[(Pid, Pid)], found: &mut Owners) {
        // Of one that cannot be read it is not known where it is.
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

    /// Whose sockets the process may have: those of the users that it is, and ours, as it may have
    /// listened before it became another user. A worker that was forked by a process which listens
    /// has that one's sockets, which are known.
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

/// The process, or where its main thread has ended one that goes on: the main thread's folder is
/// that of a dead process then.
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

/// `socket:[12345]`.
pub fn socket_inode(descriptors: &Folder, descriptor: &CStr) -> Option<u64> {
    let mut place = [0; 64];
    let link = descriptors.link(descriptor, &mut place);
    decimal(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

/// `Uid:` and the real, effective, saved and file-system user, in /proc/PID/status.
pub fn users_in(status: &[u8]) -> Vec<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"Uid:")).unwrap_or_default();
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.filter_map(|word| decimal(word)?.try_into().ok()).collect()
}

/// Whether the process has executed no program of its own: PF_FORKNOEXEC among the flags in
/// /proc/PID/stat.
pub fn is_forked(stat: &[u8]) -> bool {
    const FORKED: u64 = 0x40;
    let flags = processes::fields(stat).and_then(|mut fields| fields.nth(6));
    flags.and_then(|flags| decimal(flags.as_bytes())).is_some_and(|flags| flags & FORKED != 0)
}

/// Whether /proc, as /proc/self/mountinfo tells, may leave out other users' processes, proc(5). It
/// may where that is not told.
pub fn may_hide(mountinfo: &[u8]) -> bool {
    // The last one that was mounted there is the one that is seen.
    let mounted = |line: &&[u8]| line.split(|byte| *byte == b' ').nth(4) == Some(b"/proc");
    let Some(line) = mountinfo.rsplit(|byte| *byte == b'\n').find(mounted) else {
        return true;
    };
    let mut options = line.split(|byte| matches!(byte, b' ' | b','));
    let value = options.find_map(|option| option.strip_prefix(b"hidepid="));
    value.is_some_and(|value| !matches!(value, b"0" | b"off"))
}
