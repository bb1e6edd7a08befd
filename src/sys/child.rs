//! A child that does what may hang, with memory of its own: its parent goes on by the clock and
//! ends it when the time is over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;

use nix::fcntl::OFlag;

use super::{Pid, SIGNAL_SET_BYTES, checked};

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
        // SAFETY: this process has one thread, so its copy can do whatever it could.
        let pid = checked(unsafe { libc::fork() });
        // musl's fork gives back a mask without 32 to 34, which would end us from then on.
        block_all_signals();
        match pid? {
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

fn block_all_signals() {
    let all: u64 = !0;
    // SAFETY: the pointer is to a live signal set of the size named; no old one is asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const all,
            ptr::null_mut::<u64>(),
            SIGNAL_SET_BYTES,
        );
    }
}
