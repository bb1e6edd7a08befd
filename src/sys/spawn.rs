//! Starts a process: the app, or a companion, which is this program with another verb.
//!
//! The child shares this process's memory until it executes the program, as in posix_spawn, so no
//! page tables are copied. It is written here because posix_spawn cannot set the terminal's
//! foreground or keep a signal ignored, needs a descriptor to report a failure, and in musl
//! restores a signal mask without 32 to 34: a SIGRTMIN in that moment would end us.

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

/// The child's stack, in units of 16 bytes: it makes a handful of system calls, which take 1 KB
/// even in a debug build.
const STACK_UNITS: usize = 256;

/// The numbers of a companion's second and third descriptor.
pub const SECOND_INPUT: c_int = 3;
pub const THIRD_INPUT: c_int = 4;

/// Duplicates a descriptor to a number above THIRD_INPUT. A companion's descriptors go to the
/// numbers below, and if the standard ones are closed, a new descriptor may have one of those
/// numbers.
pub fn above_inputs(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > THIRD_INPUT {
        return Ok(descriptor);
    }
    let (number, first) = (descriptor.as_raw_fd(), THIRD_INPUT + 1);
    // SAFETY: no memory is passed; the duplicate has no other owner.
    unsafe {
        let copy = checked(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, first));
        // EINVAL: RLIMIT_NOFILE allows no number that high.
        let copy = copy.map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => io::Error::from_raw_os_error(libc::EMFILE),
            _ => error,
        })?;
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// How to start the app: with the inherited signal mask, in a process group of its own.
pub struct AppStart<'a> {
    /// The program, looked up in PATH, and its arguments.
    pub arguments: Arguments,
    /// `NOTIFY_SOCKET=...`, which replaces the inherited one.
    pub notify_socket: Option<&'a CStr>,
    /// The controlling terminal, whose foreground goes to the new group.
    pub foreground: Option<c_int>,
    /// SIGCHLD was ignored when drain-init was started.
    pub ignore_children: bool,
    /// The signal that asks for a drain was ignored then, and no longer is.
    pub ignore_drain: bool,
}

/// How to start a companion: like the app, but it ends when we do. It inherits the standard
/// descriptors and these.
pub struct CompanionStart<'a> {
    pub program: Program,
    /// The words after this program's name; for another program, its name and arguments.
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
    /// This program with these words and our standard descriptors.
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
    /// This program.
    Own,
    /// The named program, looked up in PATH.
    Named,
}

/// The child's data, in the parent's memory.
struct Child<'a> {
    programs: &'a [CString],
    arguments: *const *const c_char,
    /// SHELL, a place for the program's path, and the program's arguments; ended by a null pointer.
    shell: Vec<*const c_char>,
    environment: Environment,
    becomes: Becomes<'a>,
    /// Why it could not execute the program; 0 if it did.
    errno: c_int,
    /// Why SHELL could not run the program; 0 if it was not tried.
    shell_errno: c_int,
}

enum Becomes<'a> {
    App(&'a AppStart<'a>),
    Companion(&'a CompanionStart<'a>),
}

/// Starts the app. Returns when it has executed its program, or failed to.
pub fn start_app(app: &AppStart) -> io::Result<Pid> {
    let programs = programs(app.arguments.get(0).unwrap_or_default());
    let count = app.arguments.len();
    start(&programs, app.arguments.as_ptr().cast(), count, Becomes::App(app))
}

/// Starts a companion. Returns when it has executed its program, or failed to.
pub fn start_companion(companion: &CompanionStart) -> io::Result<Pid> {
    let mut arguments = Vec::with_capacity(companion.words.len() + 2);
    let programs = match companion.program {
        Program::Named => programs(companion.words.first().copied().unwrap_or_default()),
        Program::Own => {
            arguments.push(c"drain-init".as_ptr());
            // Without /proc, by the path that this program was executed by.
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

/// `arguments` has `count` entries and a null pointer after them.
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
    // SAFETY: the stack grows down from its end, which is aligned to 16 bytes. It and `child`
    // outlive the child's use of them: CLONE_VFORK keeps this process waiting until the child has
    // executed a program or ended. Nothing else touches them meanwhile, as there is one thread.
    let pid = checked(unsafe {
        let top = stack.as_mut_ptr().add(STACK_UNITS).cast::<c_void>();
        libc::clone(execute, top, flags, (&raw mut child).cast::<c_void>())
    })?;
    // SAFETY: `child` is alive; the child process changed it without the compiler's knowledge.
    let (errno, shell_errno) = unsafe {
        (
            ptr::read_volatile(&raw const child.errno),
            ptr::read_volatile(&raw const child.shell_errno),
        )
    };
    if errno == 0 {
        return Ok(pid);
    }
    // SAFETY: no status is requested.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    Err(match errno {
        libc::ENOEXEC => refused_by_shell(shell_errno),
        errno => io::Error::from_raw_os_error(errno),
    })
}

/// Why neither the kernel nor the shell could run a program. 0 means that the shell was not tried.
fn refused_by_shell(errno: c_int) -> io::Error {
    match errno {
        0 => io::Error::other("it is a program for another kind of machine"),
        libc::ENOENT => io::Error::other("it has no #! line, and there is no /bin/sh to run it"),
        _ => io::Error::other(format!("it has no #! line, and /bin/sh: {}", Errno(errno))),
    }
}

/// Runs in the child: it shares the parent's memory, allocates nothing, and returns only on
/// failure.
extern "C" fn execute(child: *mut c_void) -> c_int {
    // SAFETY: `start` passes a Child that nothing else uses meanwhile. All pointers are to live
    // values; signal dispositions, mask, process group and descriptors are the child's own.
    unsafe {
        let child = &mut *child.cast::<Child>();
        libc::setpgid(0, 0);
        match child.becomes {
            Becomes::App(app) => {
                if let Some(terminal) = app.foreground {
                    // SIGTTOU is still blocked, so this works from the background.
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
        change_mask(libc::SIG_SETMASK, inherited_mask(), None);
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
                // A later folder may have it. A file that may not be executed is reported rather
                // than a missing one.
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

/// Moves a companion's descriptors to their numbers, in the child. Ours are all above THIRD_INPUT
/// (see `above_inputs`), so none overwrites another.
fn hand_over(companion: &CompanionStart) {
    let places = [
        (companion.input, libc::STDIN_FILENO),
        (companion.output, libc::STDOUT_FILENO),
        (companion.output, libc::STDERR_FILENO),
        (companion.second_input, SECOND_INPUT),
        (companion.third_input, THIRD_INPUT),
    ];
    // SAFETY: no memory is passed, and the descriptor table is the child's own: clone was not told
    // to share it.
    unsafe {
        for (descriptor, place) in places {
            if let Some(descriptor) = descriptor {
                libc::dup2(descriptor.as_raw_fd(), place);
            }
        }
        // Inherited descriptors are the app's, even at one of these numbers. Linux before 5.9 lacks
        // close_range: then the companion keeps them open, which is harmless.
        for (descriptor, place) in places.into_iter().skip(3) {
            if descriptor.is_none() {
                libc::close(place);
            }
        }
        libc::syscall(libc::SYS_close_range, THIRD_INPUT + 1, c_int::MAX, 0);
    }
}
