//! Starting the app: posix_spawn where that can say all that is wanted, else fork and exec.

use core::ffi::{c_char, c_int};
use std::io;
use std::mem;
use std::ptr;

use super::{
    Arguments, Pid, SIGNAL_SET_BYTES, block_every_signal, checked, environ, inherited_mask,
};

/// How a process is started: always with the inherited signal mask, in a process group of its own.
pub struct Spawn {
    /// The program, looked up in PATH, and its arguments.
    pub arguments: Arguments,
    /// A descriptor of the controlling terminal, whose foreground the new group is to have.
    pub foreground: Option<c_int>,
    /// SIGCHLD was ignored when drain-init was started.
    pub ignore_children: bool,
}

/// Starts a process and returns when it has executed its program, or could not.
pub fn spawn(spawn: &Spawn) -> io::Result<Pid> {
    if spawn.foreground.is_some() || spawn.ignore_children {
        fork_and_exec(spawn)
    } else {
        posix_spawn(spawn)
    }
}

/// The usual way. It copies no page tables, as the child borrows the parent's memory until it
/// executes the program.
fn posix_spawn(spawn: &Spawn) -> io::Result<Pid> {
    let mut attributes = mem::MaybeUninit::<libc::posix_spawnattr_t>::zeroed();
    let mut mask = mem::MaybeUninit::<libc::sigset_t>::zeroed();
    let mut pid: Pid = 0;
    let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETPGROUP;
    // SAFETY: the attributes are initialised before they are used, and both C libraries keep the
    // kernel's 64 signals in the first eight bytes of a sigset_t, the rest of which is zero. The
    // arguments and the environment are arrays of C strings, ended by null pointers.
    let error = unsafe {
        libc::posix_spawnattr_init(attributes.as_mut_ptr());
        mask.as_mut_ptr().cast::<u64>().write(inherited_mask());
        libc::posix_spawnattr_setsigmask(attributes.as_mut_ptr(), mask.as_ptr());
        libc::posix_spawnattr_setpgroup(attributes.as_mut_ptr(), 0);
        // Both constants fit: they are single low bits.
        libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), flags as _);
        libc::posix_spawnp(
            &raw mut pid,
            *spawn.arguments.as_ptr(),
            ptr::null(),
            attributes.as_ptr(),
            spawn.arguments.as_ptr(),
            environ.cast(),
        )
    };
    // musl restores the mask without the three signals that it calls its own, 32 to 34; the last is
    // SIGRTMIN to everybody else. Left so, it would end drain-init.
    block_every_signal();
    if error == 0 { Ok(pid) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// The way for what posix_spawn has no attribute for: the terminal's foreground, which the app must
/// have before it reads from the terminal, and ignoring a signal.
fn fork_and_exec(spawn: &Spawn) -> io::Result<Pid> {
    let mut pipe = [-1; 2];
    // SAFETY: the array has room for the two descriptors. There is one thread, so the child may do
    // what the parent may; it ends in exec or in _exit.
    unsafe {
        checked(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC))?;
        let [failed, failure] = pipe;
        let pid = match checked(libc::fork()) {
            Ok(0) => become_app(spawn, failure),
            Ok(pid) => pid,
            Err(error) => {
                libc::close(failed);
                libc::close(failure);
                return Err(error);
            }
        };
        libc::close(failure);
        let mut errno: c_int = 0;
        let size = mem::size_of::<c_int>();
        // Ends with nothing to read when exec has closed the other end.
        let read = libc::read(failed, (&raw mut errno).cast(), size);
        libc::close(failed);
        if usize::try_from(read) == Ok(size) {
            libc::waitpid(pid, ptr::null_mut(), 0);
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(pid)
    }
}

/// The child's half of `fork_and_exec`.
///
/// # Safety
/// Only to be called in a forked child; `failure` is the writing end of a pipe.
unsafe fn become_app(spawn: &Spawn, failure: c_int) -> ! {
    // SAFETY: as in `posix_spawn`; the pointers are to live values.
    unsafe {
        libc::setpgid(0, 0);
        if let Some(terminal) = spawn.foreground {
            // SIGTTOU is blocked here still, so this works from the background.
            libc::tcsetpgrp(terminal, libc::getpid());
        }
        if spawn.ignore_children {
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
        let arguments: *const *const c_char = spawn.arguments.as_ptr().cast();
        libc::execvp(*arguments, arguments);
        let errno: c_int = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        libc::write(failure, (&raw const errno).cast(), mem::size_of::<c_int>());
        libc::_exit(127)
    }
}
