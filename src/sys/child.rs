//! A child process for work that may hang, with a copy of the memory: its parent keeps running and
//! kills it when its time has passed.

use core::ffi::c_long;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;

use nix::fcntl::OFlag;

use super::{Pid, checked};

/// A child and the pipe that it writes to. Dropping it kills the child.
pub struct Child {
    pid: Pid,
    pub output: File,
}

impl Child {
    /// Starts a child that runs `work` and exits. `work` gets the write end of the pipe that
    /// `output` reads.
    ///
    /// Only for a process with one thread: the child has only that thread, and would wait for ever
    /// for a lock that another one held.
    pub fn start(work: impl FnOnce(File)) -> io::Result<Self> {
        let (output, input) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Not fork(3): musl's takes locks, which one thread does not need, and restores a signal
        // mask without 32 to 34, after which those signals would end us.
        let (flags, same): (c_long, c_long) = (libc::SIGCHLD.into(), 0);
        // There the stack comes before the flags.
        let (first, second) =
            if cfg!(target_arch = "s390x") { (same, flags) } else { (flags, same) };
        // SAFETY: no memory is passed or shared. This process has one thread, so the child may do
        // anything that the process could.
        let pid = unsafe { libc::syscall(libc::SYS_clone, first, second, same, same, same) };
        match checked(Pid::try_from(pid).unwrap_or(-1))? {
            0 => {
                drop(output);
                // SAFETY: no memory is passed.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                work(input.into());
                // SAFETY: ends the child at once, without the parent's exit handlers and unwritten
                // buffers.
                unsafe { libc::_exit(0) }
            }
            pid => Ok(Self { pid, output: output.into() }),
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the pid names an unreaped child, so it has not been reused; no status is
        // requested. After SIGKILL the wait is short.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, ptr::null_mut(), 0);
        }
    }
}
