//! The tests' access to the kernel: how a process starts (mask, ignored signals, namespaces,
//! terminal), signals by number, waiting for a process with a limit, and the clock. All unsafe code
//! of the tests is here, in confined.rs and in the witness.
//!
//! It must not know what is tested.

use std::ffi::{CStr, CString, c_int, c_long, c_ulong};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty;
use nix::sched::{self, CloneFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use nix::sys::termios;
use nix::unistd::{self, Pid};

use super::confined::{self, Confined};

pub const KILL: i32 = libc::SIGKILL;

/// How the process starts. Anything not set is the plain default, however the tests themselves were
/// started.
#[derive(Default)]
pub struct Beginning {
    pub pid_namespace: bool,
    /// In the PID and mount namespaces of this process, as `docker exec` does.
    pub beside: Option<i32>,
    pub blocked: Vec<i32>,
    pub ignored: Vec<i32>,
    pub closed: Vec<i32>,
    pub kept: Vec<Arc<OwnedFd>>,
    /// The descriptors that are open are all it may have, until it raises the limit.
    pub no_descriptor_left: bool,
    pub root: Option<CString>,
    pub without_proc: bool,
    pub without_dev: bool,
    /// A read-only, empty file system is mounted here.
    pub read_only: Option<CString>,
    pub user: Option<u32>,
    /// Standard input becomes the controlling terminal of a new session.
    pub own_terminal: bool,
    /// The root is mounted read-only.
    pub read_only_root: bool,
    pub confined: Confined,
}

/// Starts it. Also returns the pid of the requested process, which in a PID namespace is not our
/// child but our grandchild.
pub fn spawn(mut command: Command, beginning: Beginning) -> io::Result<(Child, i32)> {
    let (pid_from, pid_to) = pipe()?;
    let namespace = beginning.pid_namespace || beginning.beside.is_some();
    let stops = beginning.confined.stops;
    // SAFETY: between fork and exec it only makes system calls, and allocates nothing.
    unsafe { command.pre_exec(move || begin(&beginning, pid_to.as_raw_fd())) };
    let child = command.spawn()?;
    drop(command); // with the closure goes our copy of the pipe's end
    let mut pid = child.id().cast_signed();
    if namespace {
        let mut bytes = [0; 4];
        File::from(pid_from).read_exact(&mut bytes)?;
        pid = i32::from_ne_bytes(bytes);
    }
    if stops {
        confined::hide_vdso(pid)?;
    }
    Ok((child, pid))
}

fn begin(beginning: &Beginning, pid_to: c_int) -> io::Result<()> {
    // SAFETY: system calls with constant or owned arguments, in a process with one thread.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, KILL as c_ulong))?; // nothing outlives the tests
        if beginning.own_terminal {
            check(libc::setsid())?;
            check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
        }
        if beginning.pid_namespace {
            enter_pid_namespace(pid_to)?;
        }
        if let Some(other) = beginning.beside {
            join_namespaces(other, pid_to)?;
        }
        beginning.confined.join()?;
        let mounts = [beginning.without_proc, beginning.without_dev, beginning.read_only_root];
        if mounts.contains(&true) || beginning.read_only.is_some() {
            check(libc::unshare(libc::CLONE_NEWNS))?;
            mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE)?;
        }
        if beginning.without_proc {
            mount(c"none", c"/proc", c"tmpfs", 0)?;
        }
        if beginning.without_dev {
            mount(c"none", c"/dev", c"tmpfs", 0)?;
        }
        if let Some(folder) = &beginning.read_only {
            mount(c"none", folder, c"tmpfs", libc::MS_RDONLY)?;
        }
        if let Some(root) = &beginning.root {
            if beginning.read_only_root {
                mount(root, root, c"", libc::MS_BIND)?;
                mount(root, root, c"", libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY)?;
            }
            check(libc::chroot(root.as_ptr()))?;
            check(libc::chdir(c"/".as_ptr()))?;
        }
        if let Some(user) = beginning.user {
            check(libc::setgid(user))?;
            check(libc::setuid(user))?;
        }
        for &fd in &beginning.closed {
            libc::close(fd);
        }
        // Descriptors that the tests inherited.
        let cloexec = c_long::from(libc::CLOSE_RANGE_CLOEXEC);
        libc::syscall(libc::SYS_close_range, 3 as c_long, c_long::from(c_int::MAX), cloexec);
        for fd in &beginning.kept {
            check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0))?;
        }
        if beginning.no_descriptor_left {
            // The descriptors that exec closes count as free.
            let stays = |fd: c_int| libc::fcntl(fd, libc::F_GETFD) == 0;
            let mut limit: libc::rlimit = std::mem::zeroed();
            check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
            limit.rlim_cur = (0..).take_while(|fd| stays(*fd)).count() as libc::rlim_t;
            check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
        }
        for number in 1..=64 {
            set_disposition(
                number,
                if beginning.ignored.contains(&number) { libc::SIG_IGN } else { libc::SIG_DFL },
            );
        }
        let blocked = beginning.blocked.iter().fold(0_u64, |mask, n| mask | 1 << (n - 1));
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const blocked,
            0 as c_long,
            8,
        );
        beginning.confined.apply()
    }
}

/// The caller returns as PID 1 of a new namespace with its own /proc. The process that it was stays behind, says the new one's pid
/// as seen from here, and ends as that one ends. (unshare(1) does the same, but nobody is told the pid.)
///
/// # Safety
/// One thread; between fork and exec.
unsafe fn enter_pid_namespace(pid_to: c_int) -> io::Result<()> {
    // SAFETY: as fork, with two namespaces more; no new stack is asked for.
    unsafe {
        let flags = (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::SIGCHLD) as c_long;
        let pid = libc::syscall(
            libc::SYS_clone,
            flags,
            0 as c_long,
            0 as c_long,
            0 as c_long,
            0 as c_long,
        ) as c_int;
        check(pid)?;
        if pid == 0 {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, KILL as c_ulong))?; // and with it goes the whole namespace
            mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE)?;
            return mount(c"proc", c"/proc", c"proc", 0);
        }
        stay_behind(pid, pid_to)
    }
}

/// As above, in the namespaces of an existing process.
///
/// # Safety
/// One thread; between fork and exec.
unsafe fn join_namespaces(other: i32, pid_to: c_int) -> io::Result<()> {
    // SAFETY: plain system calls.
    unsafe {
        let handle = libc::syscall(libc::SYS_pidfd_open, c_long::from(other), 0 as c_long) as c_int;
        check(handle)?;
        check(libc::setns(handle, libc::CLONE_NEWPID | libc::CLONE_NEWNS))?;
        libc::close(handle);
        let pid = libc::fork();
        check(pid)?;
        if pid == 0 {
            return check(libc::prctl(libc::PR_SET_PDEATHSIG, KILL as c_ulong));
        }
        stay_behind(pid, pid_to)
    }
}

/// Exits with the status of that child.
///
/// # Safety
/// One thread; between fork and exec.
unsafe fn stay_behind(pid: c_int, pid_to: c_int) -> ! {
    // SAFETY: plain system calls.
    unsafe {
        libc::write(pid_to, (&raw const pid).cast(), 4);
        // The end of our streams, or of std's exec pipe, has to come from the new process, not from
        // this one.
        libc::syscall(libc::SYS_close_range, 0 as c_long, c_long::from(c_int::MAX), 0 as c_long);
        let mut status = 0;
        while libc::waitpid(pid, &raw mut status, 0) != pid {}
        if libc::WIFSIGNALED(status) {
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            set_disposition(libc::WTERMSIG(status), libc::SIG_DFL);
            libc::kill(libc::getpid(), libc::WTERMSIG(status));
        }
        libc::_exit(libc::WEXITSTATUS(status))
    }
}

fn mount(what: &CStr, target: &CStr, kind: &CStr, flags: c_ulong) -> io::Result<()> {
    // SAFETY: C strings; no data.
    check(unsafe {
        libc::mount(what.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null())
    })
}

/// The raw call: a libc's own refuses 32 and 33.
fn set_disposition(number: i32, handler: usize) {
    let action = [handler, 0, 0, 0]; // the kernel's struct sigaction: no flags, an empty mask
    // SAFETY: SIG_DFL or SIG_IGN; fails for SIGKILL and SIGSTOP, which are the default anyway.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            c_long::from(number),
            &raw const action,
            0 as c_long,
            8,
        )
    };
}

pub fn check(result: c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Exec closes both ends.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(unistd::pipe2(OFlag::O_CLOEXEC)?)
}

fn set_flags(file: &OwnedFd, flags: OFlag) {
    fcntl(file, FcntlArg::F_SETFL(flags)).expect("F_SETFL");
}

/// A pipe that is full for as long as the first end is kept: a write to the second blocks for ever.
pub fn stuck_pipe() -> (OwnedFd, OwnedFd) {
    let (from, to) = pipe().expect("a pipe");
    fcntl(&to, FcntlArg::F_SETPIPE_SZ(4096)).expect("F_SETPIPE_SZ");
    set_flags(&to, OFlag::O_NONBLOCK);
    while unistd::write(&to, &[b'.'; 64]).is_ok() {}
    set_flags(&to, OFlag::empty()); // a reader that is merely slow is what is tested
    (from, to)
}

fn polls(file: &OwnedFd, events: PollFlags, limit: Duration) -> bool {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(file.as_fd(), events)], timeout) == Ok(1)
}

/// An unread terminal with room for part of a line: poll(2) reports it as writable.
pub fn stuck_terminal() -> (OwnedFd, OwnedFd) {
    const LEFT: usize = 20;
    let (from, to) = terminal();
    let writable = |limit| polls(&to, PollFlags::POLLOUT, Duration::from_millis(limit));
    let write = |most: usize| (0..most).take_while(|_| unistd::write(&to, b".").is_ok()).count();
    let read_until_writable = || {
        while !writable(50) {
            let read = unistd::read(&from, &mut [0; 64]);
            assert!(read.is_ok_and(|count| count > 0), "it is full of something");
        }
    };
    set_flags(&to, OFlag::O_RDWR | OFlag::O_NONBLOCK);
    // The kernel passes the output on a little later, which makes room.
    while write(1 << 20) > 0 || writable(50) {}
    let mut room = 0;
    for _ in 0..2 {
        read_until_writable();
        room = write(1 << 20);
    }
    // As much comes free each time.
    read_until_writable();
    assert_eq!(write(room - LEFT), room - LEFT);
    assert!(writable(0), "there is room");
    set_flags(&to, OFlag::O_RDWR);
    (from, to)
}

/// The two sides of a new terminal. It echoes nothing, so that only the programs' output is read.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC; // from the start: other threads start programs meanwhile
    let ours = pty::posix_openpt(flags).expect("a terminal");
    pty::unlockpt(&ours).expect("unlockpt");
    // SAFETY: a terminal of ours; what it gives is ours alone.
    let theirs = unsafe {
        let theirs = libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags.bits());
        check(theirs).expect("the other side");
        OwnedFd::from_raw_fd(theirs)
    };
    let mut settings = termios::tcgetattr(&theirs).expect("tcgetattr");
    settings.local_flags.remove(termios::LocalFlags::ECHO);
    termios::tcsetattr(&theirs, termios::SetArg::TCSANOW, &settings).expect("tcsetattr");
    (ours.into(), theirs)
}

/// The process group in the terminal's foreground.
pub fn foreground(terminal: &OwnedFd) -> i32 {
    unistd::tcgetpgrp(terminal).map_or(-1, Pid::as_raw)
}

pub fn signal(pid: i32, number: i32) {
    // SAFETY: a signal to a process that the tests started.
    check(unsafe { libc::kill(pid, number) })
        .unwrap_or_else(|e| panic!("signal {number} to {pid}: {e}"));
}

/// As `signal`, if the process may be gone.
pub fn try_signal(pid: i32, number: i32) {
    // SAFETY: a signal to a process that the tests started.
    unsafe { libc::kill(pid, number) };
}

/// True if the child ends within the limit; it is not reaped.
pub fn ends_within(child: &Child, limit: Duration) -> bool {
    let child = process(child.id().cast_signed()).expect("pidfd_open");
    polls(&child, PollFlags::POLLIN, limit)
}

/// A handle of a process that has not been waited for.
fn process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: numbers alone; the descriptor is ours.
    unsafe {
        let handle = libc::syscall(libc::SYS_pidfd_open, pid, 0) as c_int;
        check(handle)?;
        Ok(OwnedFd::from_raw_fd(handle))
    }
}

/// Moves this thread, and the threads and processes that it starts from now on, to a network of
/// their own, with only a loopback.
pub fn enter_own_network() {
    sched::unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // SAFETY: all zeros is a valid ifreq, and the kernel reads it alone.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request))
            .expect("lo is up");
    }
}

/// Another network, linked to this thread's.
pub struct NetworkBeside {
    /// This end of the link.
    pub ours: IpAddr,
    there: File,
}

impl NetworkBeside {
    pub fn new() -> Self {
        let ours = File::open(OWN_NETWORK).expect("the network of this thread");
        let made = std::thread::spawn(move || {
            enter_own_network();
            let link = "link add name there type veth peer name here netns";
            ip(&format!("{link} /proc/{}/fd/{}", std::process::id(), ours.as_raw_fd()));
            ip("addr add 10.0.0.2/24 dev there");
            ip("link set there up");
            File::open(OWN_NETWORK).expect("the network of this thread")
        });
        let there = made.join().expect("a network");
        ip("addr add 10.0.0.1/24 dev here");
        ip("link set here up");
        Self { ours: [10, 0, 0, 1].into(), there }
    }

    /// Calls `run` there, on a new thread.
    pub fn run<R: Send>(&self, run: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                sched::setns(&self.there, CloneFlags::CLONE_NEWNET).expect("setns");
                run()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

const OWN_NETWORK: &str = "/proc/thread-self/ns/net";

fn ip(arguments: &str) {
    let ran = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(ran.success(), "ip {arguments}");
}

/// Duplicates a descriptor of another process.
pub fn take_descriptor(pid: i32, number: i32) -> io::Result<OwnedFd> {
    let process = process(pid)?;
    // SAFETY: numbers alone; the descriptor is ours.
    unsafe {
        let taken = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) as c_int;
        check(taken)?;
        Ok(OwnedFd::from_raw_fd(taken))
    }
}

/// Raises the descriptor limit of this process, and of those it starts from now on, to the maximum.
/// Returns it.
pub fn raise_descriptor_limit() -> u64 {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("setrlimit");
    most
}

pub fn is_root() -> bool {
    unistd::geteuid().is_root()
}

#[allow(clippy::disallowed_methods)] // the tests' one reader of the clock
pub fn now() -> Instant {
    Instant::now()
}

/// Lets time pass: when nothing should happen, and between two looks at a change that sends no
/// event.
#[allow(clippy::disallowed_methods)] // the tests' one sleep
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Whether another socket could bind this port now, with or without these options.
pub fn can_bind(address: SocketAddr, reuse_address: bool, reuse_port: bool) -> bool {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.expect("a socket");
    socket::setsockopt(&socket, sockopt::ReuseAddr, &reuse_address).expect("SO_REUSEADDR");
    socket::setsockopt(&socket, sockopt::ReusePort, &reuse_port).expect("SO_REUSEPORT");
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).is_ok()
}
