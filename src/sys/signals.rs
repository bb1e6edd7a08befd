//! Signals: taking them from the queue of blocked ones, sending them, masks and dispositions.

use core::ffi::c_int;
use std::io;
use std::mem;
use std::ptr;
use std::time::Duration;

use super::{Pid, checked, inherited_mask};
use crate::signal::{Signal, SignalSet};

/// Bytes of the kernel's signal set, as the raw system calls want them named.
const SIGNAL_SET_BYTES: usize = mem::size_of::<u64>();

/// A signal as it was taken from the queue of blocked ones.
#[derive(Clone, Copy)]
pub struct Received {
    pub signal: Signal,
    /// Who sent it, as this PID namespace sees it: 0 for the kernel and for processes outside.
    pub sender: Pid,
    /// The kernel made it of what happened, such as ctrl-C at a terminal; no process has sent it.
    pub by_kernel: bool,
}

/// si_code of what the kernel sends by itself; libc does not have it for every target.
const SI_KERNEL: c_int = 0x80;

/// Takes one pending signal, or waits for one: for `timeout` at the longest, for ever if that is
/// none. `None` when the time is over, or sooner (a SIGSTOP in between): look at the clock again.
///
/// sigtimedwait(2) and not a signalfd: it is one system call a signal and needs no descriptor, so
/// it works where every descriptor is in use. It is called raw, as musl's wrapper begins the
/// timeout anew after an interruption.
pub fn wait_for_signal(timeout: Option<Duration>) -> Option<Received> {
    let all: u64 = !0;
    let time = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let time_pointer = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mut info = mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the three pointers are to live values of the types that the call takes, or null where
    // that means "no limit".
    let number = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            info.as_mut_ptr(),
            time_pointer,
            SIGNAL_SET_BYTES,
        )
    };
    if number == -1
        && !matches!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN | libc::EINTR))
    {
        return Some(look_around(timeout));
    }
    let signal = Signal::new(c_int::try_from(number).ok()?)?;
    // SAFETY: the kernel filled it, and before that it was zero, which is valid for it. si_pid is
    // where every signal that has a sender keeps it.
    let (sender, code) = unsafe {
        let info = info.assume_init();
        (info.si_pid(), info.si_code)
    };
    Some(Received { signal, sender, by_kernel: code == SI_KERNEL })
}

/// Where signals cannot be read, under a filter that knows no such call: children that have ended
/// are looked for ten times a second.
#[cold]
fn look_around(timeout: Option<Duration>) -> Received {
    const PAUSE: Duration = Duration::from_millis(100);
    let pause = timeout.map_or(PAUSE, |timeout| timeout.min(PAUSE)).as_millis();
    // SAFETY: no descriptors are passed.
    unsafe { libc::poll(ptr::null_mut(), 0, c_int::try_from(pause).unwrap_or(0)) };
    Received { signal: Signal::CHLD, sender: 0, by_kernel: false }
}

/// Who a signal is sent to.
#[derive(Clone, Copy)]
pub enum Recipient {
    Process(Pid),
    /// Every process of the group.
    Group(Pid),
    /// Every process of the group that the caller is in.
    OwnGroup,
    /// As PID 1: every process of the namespace save itself. Else: every process at all.
    Everyone,
}

/// Sends `signal`. An error says that there is nobody, or nobody who may be signalled.
pub fn send(recipient: Recipient, signal: Signal) -> io::Result<()> {
    let target = match recipient {
        Recipient::Process(pid) => pid,
        Recipient::Group(group) => -group,
        Recipient::OwnGroup => 0,
        Recipient::Everyone => -1,
    };
    // SAFETY: no memory is passed.
    checked(unsafe { libc::kill(target, signal.number()) }).map(drop)
}

/// Whether this process may send signals to that one; also where there is none.
pub fn may_signal(pid: Pid) -> bool {
    // SAFETY: no memory is passed.
    let asked = checked(unsafe { libc::kill(pid, 0) });
    !asked.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

extern "C" fn never_called(_: c_int) {}

/// The kernel's own form of a disposition, the same on x86-64 and arm64.
#[repr(C)]
struct KernelAction {
    handler: libc::sighandler_t,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Shows in /proc that this process takes `signal`, which it has blocked: while it waits for
/// signals, /proc shows none of them as blocked (do_sigtimedwait), and to who looks there it might
/// be one that the signal would end. Whether it was ignored before: the app is to find it so. Raw, as
/// musl's sigaction unblocks 32 to 34 with the first handler.
pub fn show_that_it_takes(signal: Signal) -> bool {
    let handler = never_called as extern "C" fn(c_int) as libc::sighandler_t;
    let action = KernelAction { handler, flags: 0, restorer: 0, mask: 0 };
    let mut before = KernelAction { handler: libc::SIG_DFL, ..action };
    // SAFETY: the pointers are to live values of the kernel's type; the handler does nothing, and is
    // never called.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal.number(),
            &raw const action,
            &raw mut before,
            SIGNAL_SET_BYTES,
        );
    }
    before.handler == libc::SIG_IGN
}

/// Whether this process was started with SIGCHLD ignored; from then on it is not.
///
/// A parent that ignores SIGCHLD has no children to reap: the kernel throws their statuses away.
pub fn stop_ignoring_children() -> bool {
    let mut action = mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action asks only; the old one goes to live memory, for which zeros are
    // valid. SIG_DFL is a valid disposition.
    unsafe {
        libc::sigaction(libc::SIGCHLD, ptr::null(), action.as_mut_ptr());
        let ignored = action.assume_init().sa_sigaction == libc::SIG_IGN;
        if ignored {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
        ignored
    }
}

/// For a verb that no app depends on: signals do what they did to whoever started it. Not SIGPIPE:
/// that nobody reads is an error, and has its exit code.
pub fn let_signals_end_it() {
    let_signals_end_it_but(SignalSet::default());
}

/// Likewise, but these are still to be taken.
pub fn let_signals_end_it_but(kept: SignalSet) {
    let kept = kept.iter().fold(Signal::PIPE.bit(), |mask, signal| mask | signal.bit());
    change_mask(libc::SIG_SETMASK, inherited_mask() | kept);
}

/// Not by sigprocmask(3): musl's leaves 32 to 34 out. Allocates nothing, for a child that shares its
/// parent's memory.
pub(super) fn change_mask(how: c_int, mask: u64) {
    // SAFETY: the pointer is to a live signal set of the size named; no old one is asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const mask,
            ptr::null_mut::<u64>(),
            SIGNAL_SET_BYTES,
        );
    }
}

/// Stops the process group of the caller as the terminal's ctrl-Z does, and returns when the
/// caller goes on. By the kernel's rules for SIGTSTP nothing stops where nobody could make it
/// go on: in an orphaned process group, or as PID 1.
pub fn suspend_own_group() {
    // Nobody is there who could refuse a signal from itself.
    let _ = send(Recipient::OwnGroup, Signal::TSTP);
    for how in [libc::SIG_UNBLOCK, libc::SIG_BLOCK] {
        change_mask(how, Signal::TSTP.bit());
    }
}
