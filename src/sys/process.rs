//! Processes: reaping children, and requests to the kernel about this process and its orphans.

use core::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use super::{above_inputs, checked};
use crate::signal::Signal;

/// A process id or, where stated, a process group id.
pub type Pid = libc::pid_t;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(u8),
    Killed(Signal),
}

/// The result of `reap`.
pub enum Reaped {
    /// A child ended and was reaped.
    Ended(Pid, Status),
    /// A child was stopped, and still exists.
    Stopped(Pid, Signal),
    /// There are children, but none has ended.
    NoneEnded,
    /// There are no children.
    NoChild,
}

/// Reaps one child without waiting; with `stopped`, also reports stopped children.
pub fn reap(stopped: bool) -> Reaped {
    let flags = libc::WNOHANG | if stopped { libc::WUNTRACED } else { 0 };
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a live integer.
        let pid = match checked(unsafe { libc::waitpid(-1, &raw mut status, flags) }) {
            Ok(0) => return Reaped::NoneEnded,
            Ok(pid) => pid,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
            Err(_) => return Reaped::NoChild,
        };
        if libc::WIFEXITED(status) {
            // The kernel passes on the low eight bits of the code.
            let code = u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX);
            return Reaped::Ended(pid, Status::Exited(code));
        }
        // The C library's macro handles real-time signals; nix's enumeration lacks them.
        if let Some(signal) = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)) {
            let signal = Signal::new(signal).unwrap_or(Signal::KILL);
            return Reaped::Ended(pid, Status::Killed(signal));
        }
        if libc::WIFSTOPPED(status) {
            let signal = Signal::new(libc::WSTOPSIG(status)).unwrap_or(Signal::STOP);
            return Reaped::Stopped(pid, signal);
        }
    }
}

/// Opens a pidfd, which keeps naming this process even when its pid is reused.
pub fn open_process(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = c_int::try_from(descriptor).unwrap_or(-1);
    // SAFETY: the descriptor has just been opened and has no other owner.
    let process = checked(descriptor).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })?;
    above_inputs(process)
}

/// Sends `signal` to the process that `open_process` opened.
pub fn send_to(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: with a null siginfo the kernel fills it in as for kill(2).
    let result = unsafe {
        let number = signal.number();
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, no_info, 0)
    };
    checked(c_int::try_from(result).unwrap_or(-1)).map(drop)
}

/// Makes this process a subreaper, so that orphaned descendants become its children.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Makes the kernel send `signal` to this process when its parent ends.
pub fn set_parent_death_signal(signal: Signal) -> io::Result<()> {
    // nix's function takes its own enumeration, which has no real-time signals.
    // SAFETY: no memory is passed.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number()) }).map(drop)
}
