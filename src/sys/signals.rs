//! Signals: taking pending ones, sending them, masks and dispositions.

use core::ffi::{c_int, c_long};
use std::io;
use std::mem;
use std::ptr;
use std::time::Duration;

use super::{Pid, checked, inherited_mask};
use crate::signal::{Signal, SignalSet};

/// The size of the kernel's signal set, as the raw system calls require it.
const SIGNAL_SET_BYTES: usize = mem::size_of::<u64>();

/// A signal that was pending and has been taken.
#[derive(Clone, Copy)]
pub struct Received {
    pub signal: Signal,
    /// The sender's pid in this PID namespace: 0 for the kernel and for processes outside.
    pub sender: Pid,
    /// The kernel generated it, as for ctrl-C at a terminal; no process sent it.
    pub by_kernel: bool,
}

/// The si_code of signals that the kernel generates; libc lacks it for some targets.
const SI_KERNEL: c_int = 0x80;

/// Takes one pending signal, or waits for one: at most for `timeout`, without limit if that is
/// None. Returns `None` when the time has passed, or sooner (after a SIGSTOP), so the caller checks
/// the clock again.
///
/// sigtimedwait(2) and not a signalfd: it needs one system call per signal and no descriptor, so it
/// works when every descriptor is in use. It is called raw, since musl's wrapper restarts the full
/// timeout after an interruption.
pub fn wait_for_signal(timeout: Option<Duration>) -> Option<Received> {
    let all: u64 = !0;
    // The kernel's own timespec for this call number: two longs, whatever time_t is.
    let time = timeout.map(|timeout| -> [c_long; 2] {
        let seconds = timeout.as_secs().try_into().unwrap_or(c_long::MAX);
        [seconds, timeout.subsec_nanos().cast_signed().into()]
    });
    let time_pointer = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mut info = mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the three pointers are to live values of the types that the call takes, or null for
    // "no limit".
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
    // SAFETY: the kernel filled it in; it was zeroed before, which is valid. si_pid is at the same
    // offset for every signal with a sender.
    let (sender, code) = unsafe {
        let info = info.assume_init();
        (info.si_pid(), info.si_code)
    };
    Some(Received { signal, sender, by_kernel: code == SI_KERNEL })
}

/// The fallback if a filter refuses sigtimedwait: checks for ended children ten times a second.
#[cold]
fn look_around(timeout: Option<Duration>) -> Received {
    const PAUSE: Duration = Duration::from_millis(100);
    let pause = timeout.map_or(PAUSE, |timeout| timeout.min(PAUSE)).as_millis();
    // SAFETY: no descriptors are passed.
    unsafe { libc::poll(ptr::null_mut(), 0, c_int::try_from(pause).unwrap_or(0)) };
    Received { signal: Signal::CHLD, sender: 0, by_kernel: false }
}

/// The target of a signal.
#[derive(Clone, Copy)]
pub enum Recipient {
    Process(Pid),
    /// Every process of that group.
    Group(Pid),
    /// Every process of the caller's group.
    OwnGroup,
    /// As PID 1, every process of the namespace except itself; otherwise every process of the
    /// machine.
    Everyone,
}

/// Sends `signal`. An error means that the target does not exist, or may not be signalled.
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

/// Whether this process may signal `pid`; true if there is no such process.
pub fn may_signal(pid: Pid) -> bool {
    // SAFETY: no memory is passed.
    let asked = checked(unsafe { libc::kill(pid, 0) });
    !asked.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

extern "C" fn never_called(_: c_int) {}

/// The kernel's own struct sigaction.
#[derive(Default)]
#[repr(C)]
struct KernelAction {
    handler: libc::sighandler_t,
    flags: libc::c_ulong,
    #[cfg(not(target_arch = "riscv64"))]
    restorer: usize,
    mask: [libc::c_ulong; SIGNAL_SET_BYTES / mem::size_of::<libc::c_ulong>()],
    /// qemu's user mode writes a restorer there.
    #[cfg(target_arch = "riscv64")]
    unused: usize,
}

/// Makes /proc show that this process handles `signal`, which it has blocked. While it waits in
/// sigtimedwait, /proc shows no signal as blocked (do_sigtimedwait), so a hook would have to assume
/// that the signal ends it. Returns whether it was ignored before, since the app must inherit that.
/// Raw, as musl's sigaction unblocks 32 to 34 with the first handler.
pub fn show_that_it_takes(signal: Signal) -> bool {
    let handler = never_called as extern "C" fn(c_int) as libc::sighandler_t;
    let action = KernelAction { handler, ..KernelAction::default() };
    let mut before = KernelAction::default();
    // SAFETY: the pointers are to live values of the kernel's type; the handler does nothing, and
    // is never called.
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

/// Stops ignoring SIGCHLD, and returns whether this process was started with it ignored.
///
/// A parent that ignores SIGCHLD cannot reap its children: the kernel discards their statuses.
pub fn stop_ignoring_children() -> bool {
    let mut action = mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with a null new action the call only reads; the old one goes to live memory, for
    // which zeros are valid. SIG_DFL is a valid disposition.
    unsafe {
        libc::sigaction(libc::SIGCHLD, ptr::null(), action.as_mut_ptr());
        let ignored = action.assume_init().sa_sigaction == libc::SIG_IGN;
        if ignored {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
        ignored
    }
}

/// For a verb that no app depends on: restores the inherited signal mask. SIGPIPE stays blocked: a
/// closed output is an error with its own exit code.
pub fn let_signals_end_it() {
    let_signals_end_it_but(SignalSet::default());
}

/// The same, but `kept` stay blocked, to be taken.
pub fn let_signals_end_it_but(kept: SignalSet) {
    let kept = kept.iter().fold(Signal::PIPE.bit(), |mask, signal| mask | signal.bit());
    change_mask(libc::SIG_SETMASK, inherited_mask() | kept, None);
}

/// Not sigprocmask(3): musl's leaves out 32 to 34. Allocates nothing, for a child that shares its
/// parent's memory.
pub(super) fn change_mask(how: c_int, mask: u64, before: Option<&mut u64>) {
    let before = before.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: the pointers are to live signal sets of the stated size, or null for "not requested".
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const mask, before, SIGNAL_SET_BYTES);
    }
}

/// Stops the caller's process group as ctrl-Z at the terminal does, and returns when the caller
/// continues. By the kernel's rules for SIGTSTP nothing stops that could not be continued: in an
/// orphaned process group, or as PID 1.
pub fn suspend_own_group() {
    // A process may always signal itself.
    let _ = send(Recipient::OwnGroup, Signal::TSTP);
    for how in [libc::SIG_UNBLOCK, libc::SIG_BLOCK] {
        change_mask(how, Signal::TSTP.bit(), None);
    }
}
