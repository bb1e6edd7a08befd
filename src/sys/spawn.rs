//! Starting the app: a child that borrows this process's memory until it executes the program.
//!
//! That is what posix_spawn does, and it copies no page tables. It is done here as posix_spawn has
//! no attribute for the terminal's foreground and for an ignored signal, needs a descriptor to tell
//! of a failure, and in musl restores a signal mask without 32 to 34 on its way back: a SIGRTMIN in
//! that moment would end us.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::ffi::CString;
use std::io;
use std::ptr;

use super::{Arguments, Pid, SIGNAL_SET_BYTES, checked, environ, environment, inherited_mask};

/// What execvp takes where there is no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/bin:/usr/bin";

/// Of the child, in units of 16 bytes: it makes a handful of system calls.
const STACK_UNITS: usize = 2048;

/// How a process is started: always with the inherited signal mask, in a process group of its own.
pub struct Spawn {
    /// The program, looked up in PATH, and its arguments.
    pub arguments: Arguments,
    /// A descriptor of the controlling terminal, whose foreground the new group is to have.
    pub foreground: Option<c_int>,
    /// SIGCHLD was ignored when drain-init was started.
    pub ignore_children: bool,
}

/// What the child works on, in the parent's memory.
struct Child<'a> {
    spawn: &'a Spawn,
    programs: &'a [CString],
    /// Why it could not become the app; 0 if it did.
    errno: c_int,
}

/// Starts a process and returns when it has executed its program, or could not.
pub fn spawn(spawn: &Spawn) -> io::Result<Pid> {
    let programs = programs(spawn.arguments.get(0).unwrap_or_default());
    let mut child = Child { spawn, programs: &programs, errno: 0 };
    let mut stack = Vec::<u128>::with_capacity(STACK_UNITS);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack grows down from its end, which is aligned to 16 bytes, and it and `child`
    // outlive the child's use of them: CLONE_VFORK keeps this process waiting until it has executed
    // a program or ended. Nobody else touches them meanwhile, as there is one thread.
    let pid = checked(unsafe {
        let top = stack.as_mut_ptr().add(STACK_UNITS).cast::<c_void>();
        libc::clone(become_app, top, flags, (&raw mut child).cast::<c_void>())
    })?;
    // SAFETY: `child` is alive; it was written behind the compiler's back.
    match unsafe { ptr::read_volatile(&raw const child.errno) } {
        0 => Ok(pid),
        errno => {
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// The files that `name` may mean, as execvp looks them up.
fn programs(name: &CStr) -> Vec<CString> {
    let name = name.to_bytes();
    if name.is_empty() || name.contains(&b'/') {
        return CString::new(name).into_iter().collect();
    }
    let path = environment(b"PATH").find(|(rest, _)| rest.is_empty());
    let path = path.map_or(DEFAULT_PATH, |(_, path)| path);
    let folders = path.split(|&byte| byte == b':');
    let joined = folders.map(|folder| match folder {
        // The current folder.
        [] => name.to_vec(),
        _ => [folder, b"/", name].concat(),
    });
    joined.filter_map(|program| CString::new(program).ok()).collect()
}

/// The child: it sees the parent's memory, allocates nothing, and returns only if it failed.
extern "C" fn become_app(child: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a Child that nobody else uses meanwhile. All pointers are to live
    // values; signal dispositions, mask and process group are the child's own.
    unsafe {
        let child = &mut *child.cast::<Child>();
        libc::setpgid(0, 0);
        if let Some(terminal) = child.spawn.foreground {
            // SIGTTOU is blocked here still, so this works from the background.
            libc::tcsetpgrp(terminal, libc::getpid());
        }
        if child.spawn.ignore_children {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        }
        let mask = inherited_mask();
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            ptr::null_mut::<u64>(),
            SIGNAL_SET_BYTES,
        );
        let arguments: *const *const c_char = child.spawn.arguments.as_ptr().cast();
        let mut failure = libc::ENOENT;
        for program in child.programs {
            libc::execve(program.as_ptr(), arguments, environ);
            match io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL) {
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
