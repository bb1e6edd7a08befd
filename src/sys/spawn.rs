//! Starting a process: the app, or a companion, which is this same program with another verb.
//!
//! The child borrows this process's memory until it executes the program. That is what posix_spawn
//! does, and it copies no page tables. It is done here as posix_spawn has no attribute for the
//! terminal's foreground and for an ignored signal, needs a descriptor to tell of a failure, and in
//! musl restores a signal mask without 32 to 34 on its way back: a SIGRTMIN in that moment would
//! end us.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::MaybeUninit;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::environment::Environment;
use super::program::{is_elf, last_errno, programs, run_by_shell, shell};
use super::started_in::executed_as;
use super::{Arguments, Errno, Pid, change_mask, checked, inherited_mask};
use crate::signal::Signal;

/// Of the child, in units of 16 bytes: it makes a handful of system calls, which take 1 KB even in a
/// debug build.
const STACK_UNITS: usize = 256;

/// Where a companion finds its second descriptor, and its third.
pub const SECOND_INPUT: c_int = 3;
pub const THIRD_INPUT: c_int = 4;

/// The same file under a number above THIRD_INPUT: below it a companion's descriptors are put, and
/// the standard ones may have been closed, so that whatever is opened next gets their numbers.
pub fn above_inputs(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > THIRD_INPUT {
        return Ok(descriptor);
    }
    let (number, first) = (descriptor.as_raw_fd(), THIRD_INPUT + 1);
    // SAFETY: no memory is passed; the kernel has just opened the copy for us alone.
    unsafe {
        let copy = checked(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, first))?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// How the app is started: with the inherited signal mask, in a process group of its own.
pub struct AppStart<'a> {
    /// The program, looked up in PATH, and its arguments.
    pub arguments: Arguments,
    /// `NOTIFY_SOCKET=...`, in place of the one that drain-init was started with.
    pub notify_socket: Option<&'a CStr>,
    /// A descriptor of the controlling terminal, whose foreground the new group is to have.
    pub foreground: Option<c_int>,
    /// SIGCHLD was ignored when drain-init was started.
    pub ignore_children: bool,
    /// The signal that asks for a drain was, and is not any more.
    pub ignore_drain: bool,
}

/// How a companion is started: as the app, and it ends with us. Of our descriptors it has the
/// standard ones and these.
pub struct CompanionStart<'a> {
    pub program: Program,
    /// The words after this program's name; of another program its name is the first one.
    pub words: &'a [&'a CStr],
    /// Its standard input, if not ours.
    pub input: Option<BorrowedFd<'a>>,
    /// Its descriptor SECOND_INPUT.
    pub second_input: Option<BorrowedFd<'a>>,
    /// Its descriptor THIRD_INPUT.
    pub third_input: Option<BorrowedFd<'a>>,
    /// Its standard output and error, if not ours.
    pub output: Option<BorrowedFd<'a>>,
}

impl<'a> CompanionStart<'a> {
    /// This program with these words, and our standard descriptors.
    pub fn own(words: &'a [&'a CStr]) -> Self {
        Self {
            program: Program::Own,
            words,
            input: None,
            second_input: None,
            third_input: None,
            output: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// This one.
    Own,
    /// The one that is named, looked up in PATH.
    Named,
}

/// What the child works on, in the parent's memory.
struct Child<'a> {
    programs: &'a [CString],
    arguments: *const *const c_char,
    /// SHELL, room for the program, and the program's arguments; ended by a null pointer.
    shell: Vec<*const c_char>,
    environment: Environment,
    becomes: Becomes<'a>,
    /// Why it could not execute the program; 0 if it did.
    errno: c_int,
    /// Why SHELL could not run the program; 0 if that was not tried.
    shell_errno: c_int,
}

enum Becomes<'a> {
    App(&'a AppStart<'a>),
    Companion(&'a CompanionStart<'a>),
}

/// Starts the app and returns when it has executed its program, or could not.
pub fn start_app(app: &AppStart) -> io::Result<Pid> {
    let programs = programs(app.arguments.get(0).unwrap_or_default());
    let count = app.arguments.len();
    start(&programs, app.arguments.as_ptr().cast(), count, Becomes::App(app))
}

/// Starts a companion and returns when it has executed its program, or could not.
pub fn start_companion(companion: &CompanionStart) -> io::Result<Pid> {
    let mut arguments = Vec::with_capacity(companion.words.len() + 2);
    let programs = match companion.program {
        Program::Named => programs(companion.words.first().copied().unwrap_or_default()),
        Program::Own => {
            arguments.push(c"drain-init".as_ptr());
            // Where there is no /proc, by the path that it was executed by.
            vec![c"/proc/self/exe".into(), executed_as().unwrap_or_default().into()]
        }
    };
    for word in companion.words {
        arguments.push(word.as_ptr());
    }
    let count = arguments.len();
    arguments.push(ptr::null());
    start(&programs, arguments.as_ptr(), count, Becomes::Companion(companion))
}

/// `arguments` are so many, and a null pointer after them.
fn start(
    programs: &[CString],
    arguments: *const *const c_char,
    count: usize,
    becomes: Becomes,
) -> io::Result<Pid> {
    let is_own = matches!(becomes, Becomes::Companion(start) if start.program == Program::Own);
    let environment = match becomes {
        Becomes::App(app) => Environment::of_app(app.notify_socket)?,
        Becomes::Companion(_) => Environment::of_companion()?,
    };
    let mut child = Child {
        programs,
        arguments,
        shell: if is_own { Vec::new() } else { shell(arguments, count) },
        environment,
        becomes,
        errno: 0,
        shell_errno: 0,
    };
    let mut stack = [MaybeUninit::<u128>::uninit(); STACK_UNITS];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack grows down from its end, which is aligned to 16 bytes, and it and `child`
    // outlive the child's use of them: CLONE_VFORK keeps this process waiting until it has executed
    // a program or ended. Nobody else touches them meanwhile, as there is one thread.
    let pid = checked(unsafe {
        let top = stack.as_mut_ptr().add(STACK_UNITS).cast::<c_void>();
        libc::clone(execute, top, flags, (&raw mut child).cast::<c_void>())
    })?;
    // SAFETY: `child` is alive; it was written behind the compiler's back.
    let (errno, shell_errno) = unsafe {
        (
            ptr::read_volatile(&raw const child.errno),
            ptr::read_volatile(&raw const child.shell_errno),
        )
    };
    if errno == 0 {
        return Ok(pid);
    }
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    Err(match errno {
        libc::ENOEXEC => refused_by_shell(shell_errno),
        errno => io::Error::from_raw_os_error(errno),
    })
}

/// Why the kernel could not load a program, and the shell not either; 0 if it was not tried.
fn refused_by_shell(errno: c_int) -> io::Error {
    match errno {
        0 => io::Error::other("it is a program for another kind of machine"),
        libc::ENOENT => io::Error::other("it has no #! line, and there is no /bin/sh to run it"),
        _ => io::Error::other(format!("it has no #! line, and /bin/sh: {}", Errno(errno))),
    }
}

/// The child: it sees the parent's memory, allocates nothing, and returns only if it failed.
extern "C" fn execute(child: *mut c_void) -> c_int {
    // SAFETY: `start` passes a Child that nobody else uses meanwhile. All pointers are to live
    // values; signal dispositions, mask, process group and descriptors are the child's own.
    unsafe {
        let child = &mut *child.cast::<Child>();
        libc::setpgid(0, 0);
        match child.becomes {
            Becomes::App(app) => {
                if let Some(terminal) = app.foreground {
                    // SIGTTOU is blocked here still, so this works from the background.
                    libc::tcsetpgrp(terminal, libc::getpid());
                }
                if app.ignore_children {
                    libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                }
                if app.ignore_drain {
                    libc::signal(Signal::DRAIN.number(), libc::SIG_IGN);
                }
            }
            Becomes::Companion(companion) => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                hand_over(companion);
            }
        }
        change_mask(libc::SIG_SETMASK, inherited_mask());
        let environment = child.environment.complete();
        let mut failure = libc::ENOENT;
        for program in child.programs {
            libc::execve(program.as_ptr(), child.arguments, environment);
            match last_errno() {
                libc::ENOEXEC => {
                    failure = libc::ENOEXEC;
                    if !is_elf(program) {
                        let shell_errno = run_by_shell(program, &mut child.shell, environment);
                        ptr::write_volatile(&raw mut child.shell_errno, shell_errno);
                    }
                    break;
                }
                // It may be in a later folder; one that may not be executed is said rather than
                // one that is not there.
                libc::ENOENT | libc::ENOTDIR if child.programs.len() > 1 => {}
                libc::EACCES => failure = libc::EACCES,
                other => {
                    failure = other;
                    break;
                }
            }
        }
        ptr::write_volatile(&raw mut child.errno, failure);
    }
    127
}

/// Puts a companion's descriptors where it looks for them, in the child. Ours are all above
/// THIRD_INPUT (see `above_inputs`), so that none is in the way of another.
fn hand_over(companion: &CompanionStart) {
    let places = [
        (companion.input, libc::STDIN_FILENO),
        (companion.output, libc::STDOUT_FILENO),
        (companion.output, libc::STDERR_FILENO),
        (companion.second_input, SECOND_INPUT),
        (companion.third_input, THIRD_INPUT),
    ];
    // SAFETY: no memory is passed, and the table of descriptors is the child's own: clone was not
    // told to share it.
    unsafe {
        for (descriptor, place) in places {
            if let Some(descriptor) = descriptor {
                libc::dup2(descriptor.as_raw_fd(), place);
            }
        }
        // What drain-init was started with is the app's, what stands where one of these would, too. Before Linux 5.9 there is no such call:
        // then the companion has them open, and that is all.
        for (descriptor, place) in places.into_iter().skip(3) {
            if descriptor.is_none() {
                libc::close(place);
            }
        }
        libc::syscall(libc::SYS_close_range, THIRD_INPUT + 1, c_int::MAX, 0);
    }
}
