//! A child that does what may hang, with memory of its own: its parent goes on by the clock and
//! ends it when the time is over.

use core::ffi::c_long;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;

use nix::fcntl::OFlag;

use super::{Pid, checked};

/// A child, and what it writes. Dropping this ends it.
pub struct Child {
    pid: Pid,
    pub output: File,
}

impl Child {
    /// Starts a child that does `work`, which is given what `output` reads, and ends.
    ///
    /// Only for a process with one thread: the child has that one alone, and would wait for ever for
    /// what another one held.
    pub fn start(work: impl FnOnce(File)) -> io::Result<Self> {
        let (output, input) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Not by fork(3): musl's has locks for threads, of which there are none, and gives back a mask
        // without 32 to 34, which would end us from then on.
        let (flags, same): (c_long, c_long) = (libc::SIGCHLD.into(), 0);
        // SAFETY: no memory is passed, and none is shared. This process has one thread, so its copy
        // can do whatever it could.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, same, same, same, same) };
        match checked(Pid::try_from(pid).unwrap_or(-1))? {
            0 => {
                drop(output);
                // SAFETY: no memory is passed.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                work(input.into());
                // SAFETY: ends the child at once. What the parent has registered for its own end,
                // or not written out yet, is not the child's to do.
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
        // SAFETY: the pid is that of a child that nobody has waited for, so it is nobody else's; no
        // status is asked for. SIGKILL ends it, so the wait is short.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, ptr::null_mut(), 0);
        }
    }
}
