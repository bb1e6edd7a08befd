//! The system calls that neither std nor nix wraps as PID 1 needs them: a safe function each.
//!
//! All unsafe code of the project is in this folder. Nothing here decides anything, and nothing
//! here panics: an error comes back as a value.

#![allow(unsafe_code)]

mod child;
mod entry;
mod folder;
mod given;
mod memory;
mod netlink;
mod poll;
mod spawn;

use core::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

pub use child::Child;
pub use entry::inherited_mask;
pub use folder::{Folder, open, read};
pub use given::descriptor;
pub use netlink::receive_only;
pub use poll::{Polled, poll};
pub use spawn::{
    AppStart, CompanionStart, Program, SECOND_INPUT, executed_as, start_app, start_companion,
};

use crate::signal::Signal;

/// Bytes of the kernel's signal set, as the raw system calls want them named.
const SIGNAL_SET_BYTES: usize = mem::size_of::<u64>();

/// An identifier of a process or, where it says so, of a process group.
pub type Pid = libc::pid_t;

/// The one adapter from C's -1 to an error.
fn checked(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What the C library says of an error: std's words for it have the number as well.
pub struct Errno(pub c_int);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut text = [0; 64];
        // SAFETY: live memory of that size; what does not fit is cut, and a null byte ends it.
        let text = unsafe {
            libc::strerror_r(self.0, text.as_mut_ptr(), text.len());
            CStr::from_ptr(text.as_ptr())
        };
        f.write_str(text.to_str().unwrap_or_default())
    }
}

/// What an error says, without its number.
pub struct Described<'a>(pub &'a io::Error);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(number) => write!(f, "{}", Errno(number)),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Standard input; std's own handle of it allocates a buffer when it is first asked for.
// SAFETY: it is the process's own for as long as it lives, as nothing here closes it. Where it was
// closed from the start, a call on it is an error and no more.
pub const STANDARD_INPUT: BorrowedFd = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
// SAFETY: as above.
pub const STANDARD_OUTPUT: BorrowedFd = unsafe { BorrowedFd::borrow_raw(libc::STDOUT_FILENO) };
// SAFETY: as above.
pub const STANDARD_ERROR: BorrowedFd = unsafe { BorrowedFd::borrow_raw(libc::STDERR_FILENO) };

/// The arguments of the process, or their tail: the memory that the kernel filled, uncopied.
#[derive(Clone, Copy)]
pub struct Arguments {
    first: *const *const c_char,
    count: usize,
}

impl Arguments {
    /// # Safety
    /// `first` points to `count` pointers to C strings and a null pointer after them, all of which
    /// live and stay unchanged until the process ends.
    unsafe fn new(first: *const *const c_char, count: usize) -> Self {
        Self { first, count }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.count
    }

    /// The argument at `index`.
    pub fn get(self, index: usize) -> Option<&'static CStr> {
        if index >= self.count {
            return None;
        }
        // SAFETY: by the contract of `new`, and index is below count.
        Some(unsafe { CStr::from_ptr(*self.first.add(index)) })
    }

    /// The arguments before `index`.
    pub fn head(self, index: usize) -> Self {
        Self { count: index.min(self.count), ..self }
    }

    /// The arguments from `index` on.
    pub fn tail(self, index: usize) -> Self {
        let skipped = index.min(self.count);
        // SAFETY: skipped is at most count, and the null pointer stands at count.
        Self { first: unsafe { self.first.add(skipped) }, count: self.count - skipped }
    }

    /// Every argument in order.
    pub fn iter(self) -> impl Iterator<Item = &'static CStr> {
        (0..self.count).filter_map(move |index| self.get(index))
    }

    /// As `execve` and its like take them: ended by a null pointer, unless this is a head.
    fn as_ptr(self) -> *const *mut c_char {
        self.first.cast()
    }
}

/// Words as the arguments of the process, while `with` runs; nothing of them may be kept.
#[cfg(any(test, fuzzing))]
pub fn with_arguments(words: &[std::ffi::CString], with: impl FnOnce(Arguments)) {
    let ended = words.iter().map(|word| word.as_ptr()).chain([ptr::null()]);
    let pointers: Vec<*const c_char> = ended.collect();
    // SAFETY: as the contract wants it but for their end, and `with` returns nothing.
    with(unsafe { Arguments::new(pointers.as_ptr(), words.len()) });
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// The variables whose name begins with `prefix`, as what follows it and the value.
pub fn environment(prefix: &[u8]) -> impl Iterator<Item = (&'static [u8], &'static [u8])> {
    let mut index = 0;
    std::iter::from_fn(move || {
        // SAFETY: environ is null or an array of C strings ended by a null pointer; nothing in this
        // program changes it.
        let variable = unsafe {
            if environ.is_null() || (*environ.add(index)).is_null() {
                return None;
            }
            CStr::from_ptr(*environ.add(index))
        };
        index += 1;
        Some(variable.to_bytes())
    })
    .filter_map(move |variable| {
        let rest = variable.strip_prefix(prefix)?;
        let equals = rest.iter().position(|&byte| byte == b'=')?;
        Some((rest.get(..equals)?, rest.get(equals + 1..)?))
    })
}

/// A number that nobody else knows.
pub fn random() -> u16 {
    let mut bytes = [0; 2];
    // SAFETY: live memory of that size. It fails on no kernel that this runs on.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    u16::from_ne_bytes(bytes)
}

/// A signal as it was taken from the queue of blocked ones.
#[derive(Clone, Copy)]
pub struct Received {
    pub signal: Signal,
    /// Who sent it, as this PID namespace sees it: 0 for the kernel and for processes outside.
    pub sender: Pid,
}

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
    let sender = unsafe { info.assume_init().si_pid() };
    Some(Received { signal, sender })
}

/// Where signals cannot be read, under a filter that knows no such call: children that have ended
/// are looked for ten times a second.
#[cold]
fn look_around(timeout: Option<Duration>) -> Received {
    const PAUSE: Duration = Duration::from_millis(100);
    let pause = timeout.map_or(PAUSE, |timeout| timeout.min(PAUSE)).as_millis();
    // SAFETY: no descriptors are passed.
    unsafe { libc::poll(ptr::null_mut(), 0, c_int::try_from(pause).unwrap_or(0)) };
    Received { signal: Signal::CHLD, sender: 0 }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(u8),
    Killed(Signal),
}

/// What `reap` found.
pub enum Reaped {
    /// A child ended and is gone.
    Ended(Pid, Status),
    /// A child was stopped, and is there still.
    Stopped(Pid, Signal),
    /// There are children, and none has ended.
    NoneEnded,
    /// There is no child at all.
    NoChild,
}

/// Reaps one child that has ended, without waiting; with `stopped` also tells of stopped ones.
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
        // The C library's macro is right for real-time signals: only nix's enumeration lacks them.
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

extern "C" fn never_called(_: c_int) {}

/// The kernel's own form of a disposition, the same on x86-64 and arm64.
#[repr(C)]
struct KernelAction {
    handler: extern "C" fn(c_int),
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Shows in /proc that this process takes `signal`, which it has blocked: while it waits for
/// signals, /proc shows none of them as blocked (do_sigtimedwait), and to who looks there it might
/// be one that the signal would end. Called when the app has been started, which so finds all
/// dispositions as they were. Raw, as musl's sigaction unblocks 32 to 34 with the first handler.
pub fn show_that_it_takes(signal: Signal) {
    let action = KernelAction { handler: never_called, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: the pointer is to a live value of the kernel's type, no old one is asked for; the
    // handler does nothing, and is never called.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal.number(),
            &raw const action,
            ptr::null_mut::<KernelAction>(),
            SIGNAL_SET_BYTES,
        );
    }
}

/// A descriptor of a process, which stands for that one even when its pid is used again.
pub fn open_process(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = c_int::try_from(descriptor).unwrap_or(-1);
    // SAFETY: the kernel has just opened it for us alone.
    checked(descriptor).map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Sends `signal` to the process that `open_process` found.
pub fn send_to(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for that of kill(2).
    let result = unsafe {
        let number = signal.number();
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, no_info, 0)
    };
    checked(c_int::try_from(result).unwrap_or(-1)).map(drop)
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

/// Makes orphaned descendants this process's own children.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Asks the kernel for `signal` when the parent of this process ends.
pub fn set_parent_death_signal(signal: Signal) -> io::Result<()> {
    // nix's function takes its own enumeration, which has no real-time signals.
    // SAFETY: no memory is passed.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number()) }).map(drop)
}

/// For a verb that no app depends on: signals do what they did to whoever started it. Not SIGPIPE:
/// that nobody reads is an error, and has its exit code.
pub fn let_signals_end_it() {
    change_mask(libc::SIG_SETMASK, inherited_mask() | Signal::PIPE.bit());
}

/// Not by sigprocmask(3): musl's leaves 32 to 34 out. Allocates nothing, for a child that shares its
/// parent's memory.
fn change_mask(how: c_int, mask: u64) {
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

/// Writes one line to a descriptor, or drops it: never blocks, and a broken one is no error.
///
/// Standard error is shared with the app, so O_NONBLOCK is not ours to set. poll(2) tells a pipe or
/// a terminal that nobody reads; RWF_NOWAIT closes the gap between that and the write, in which
/// the app may have filled the pipe, on the kernels and files that know it.
pub fn write_line(descriptor: c_int, line: &[u8]) {
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLOUT, revents: 0 };
    let piece = libc::iovec { iov_base: line.as_ptr() as *mut c_void, iov_len: line.len() };
    let (at_the_end, at_the_end_high): (libc::c_long, libc::c_long) = (-1, -1);
    // SAFETY: one live pollfd, and one live iovec over the bytes of `line`, which is only read.
    unsafe {
        if libc::poll(&raw mut poll, 1, 0) != 1 {
            return;
        }
        let written = libc::syscall(
            libc::SYS_pwritev2,
            descriptor,
            &raw const piece,
            1,
            at_the_end,
            at_the_end_high,
            libc::RWF_NOWAIT,
        );
        if written != -1 {
            return;
        }
        match io::Error::last_os_error().raw_os_error() {
            _ if is_regular_file(descriptor) => {}
            Some(libc::EAGAIN | libc::EPIPE) => return,
            // A terminal, which takes a part of the line and waits with the rest; a pipe of a kernel
            // that does not know the flag for pipes.
            _ if write_to_own(descriptor, line).is_ok() => return,
            _ => {}
        }
        libc::write(descriptor, line.as_ptr().cast(), line.len());
    }
}

/// Writes to an open file of our own of what `descriptor` is open on: that may be non-blocking
/// without the app's being so.
fn write_to_own(descriptor: c_int, line: &[u8]) -> io::Result<()> {
    let path = format!("/proc/self/fd/{descriptor}");
    let mut own = open(&path, libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    // What it does not take is dropped.
    let _ = io::Write::write(&mut own, line);
    Ok(())
}

/// A write to a regular file waits for memory at most, whatever RWF_NOWAIT says of it.
fn is_regular_file(descriptor: c_int) -> bool {
    let mut stat = mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the pointer is to live memory of that type, for which zeros are valid.
    unsafe {
        libc::fstat(descriptor, stat.as_mut_ptr()) == 0
            && stat.assume_init().st_mode & libc::S_IFMT == libc::S_IFREG
    }
}
