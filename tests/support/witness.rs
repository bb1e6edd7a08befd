//! The app that the tests run under an init. Its arguments are steps, done in order, so that a test
//! reads as a script: `witness ready until:15 wait:1000 print:cleaned exit:0`. It reports what it
//! saw on stdout, one line each, in one write.
//!
//! It must not know what is tested, and must not change what it reports. So there is no Rust
//! start-up before `main` (std's ignores SIGPIPE and opens missing standard descriptors), and
//! signals are handled by raw system calls on a 64-bit mask (a libc keeps 32 and 33 for itself, and
//! libcs disagree on SIGRTMIN).
//!
//! `witness -- COMMAND...` is the negative control: an init that waits for its command alone and
//! reaps no other process.
#![no_main]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_long};
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A test has some thousands itself, and gives the witness one with a number of its own.
const MOST_DESCRIPTORS: c_int = 20_000;

const HELP: &str = "witness STEP...
  ready, print:TEXT        prints it                    name:NAME      puts `NAME: ` before each line from here on
  to:PATH                  prints there, not on stdout  touch:PATH     creates the file
  masks, fds, ids          prints what it was started with
  argv WORD...             prints the words as hex, and ends
  exit:N, die:SIGNUM       ends so                      wait:MS, pause lets time pass; signals act as they are set
  until:SIGNUM, trap       prints each signal as it comes, up to that one, or for ever; all are blocked from the start
  ignore:SIGNUM            ignores it
  descriptors              may have as many of them as the hard limit says
  child:STEP,STEP...       does them in a child         orphan:STEP,STEP...   in an orphan
  setsid, group            own session, own process group
  leave                    joins the process group of a child, which does nothing
  orphans:N, release       makes N orphans, lets all of them die at once, every fifth of a real-time signal
  reaped[:MS]              waits until none of the orphans is left, not even as a zombie, and prints how long that took
  serve                    prints `port N`; from here on until and trap answer connections there
  keep:PORT                the same at that port; the last connection is kept until its client has closed it
  lines                    prints each line that comes on stdin, to its end
  notify:TEXT              sends it to the socket that NOTIFY_SOCKET names, an abstract one";

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let found = Found::now();
    // Not std::env::args: with musl it is empty unless std's own start-up has run.
    let words: Vec<&[u8]> = (1..usize::try_from(argc).unwrap_or(0))
        // SAFETY: argv holds argc C strings, which live as long as the process.
        .map(|i| unsafe { CStr::from_ptr(*argv.add(i)) }.to_bytes())
        .collect();
    if words.first() == Some(&&b"--"[..]) {
        return never_reap(&words[1..]);
    }
    if words.iter().any(|word| waits_for_signals(word)) {
        set_mask(!0); // from the start: a signal that comes before the step is not lost
    }
    let mut witness = Witness {
        found,
        out: 1,
        name: String::new(),
        listener: None,
        keeps: false,
        kept: None,
        orphans: &mut [],
        release: None,
        signals: None,
    };
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        if word == b"argv" {
            let hex = rest.map(hex).collect::<Vec<_>>();
            witness.say(&format!("argv {}", hex.join(" ")));
            return 0;
        }
        witness.step(word);
    }
    0
}

fn waits_for_signals(word: &[u8]) -> bool {
    word == b"trap" || word.starts_with(b"until:")
}

/// The signals that were blocked and ignored at the start, bit n-1 for signal n, as in
/// /proc/self/status.
struct Found {
    blocked: u64,
    ignored: u64,
}

struct Witness {
    found: Found,
    out: c_int,
    name: String,
    listener: Option<TcpListener>,
    keeps: bool,
    kept: Option<TcpStream>,
    orphans: &'static mut [c_int],
    release: Option<c_int>,
    signals: Option<c_int>,
}

impl Witness {
    fn step(&mut self, word: &[u8]) {
        let text = String::from_utf8_lossy(word).into_owned();
        let (verb, value) = text.split_once(':').unwrap_or((&text, ""));
        let number =
            || value.parse::<u32>().unwrap_or_else(|_| fail(&format!("{text}: not a number")));
        match verb {
            "ready" => self.say("ready"),
            "print" => self.say(value),
            "name" => self.name = format!("{value}: "),
            "to" => self.out = keep_high(create(value)),
            "touch" => drop_fd(create(value)),
            "masks" => self.say(&format!(
                "blocked {:016x} ignored {:016x}",
                self.found.blocked, self.found.ignored
            )),
            "fds" => self.say_descriptors(),
            "ids" => self.say_ids(),
            "exit" => exit(number() as c_int),
            "die" => die_of(number()),
            "wait" => wait(number()),
            "pause" => loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            },
            "until" => self.trap(Some(number())),
            "trap" => self.trap(None),
            "ignore" => set_disposition(number(), libc::SIG_IGN),
            "descriptors" => raise_descriptor_limit(),
            "child" => {
                if fork() == 0 {
                    self.steps_of_a_child(value);
                }
            }
            "orphan" => {
                let between = fork();
                if between == 0 {
                    // SAFETY: no arguments.
                    let parent = unsafe { libc::getpid() };
                    if fork() == 0 {
                        // It is an orphan from its first step on.
                        // SAFETY: no arguments.
                        while unsafe { libc::getppid() } == parent {
                            wait(1);
                        }
                        self.steps_of_a_child(value);
                    }
                    exit(0);
                }
                wait_for(between);
            }
            // SAFETY: plain system calls on this process.
            "setsid" => drop(unsafe { libc::setsid() }),
            "group" => drop(unsafe { libc::setpgid(0, 0) }),
            "leave" => {
                let child = fork();
                if child == 0 {
                    set_mask(0);
                    wait(60_000);
                    exit(0);
                }
                // SAFETY: plain system calls on processes of its own.
                unsafe {
                    libc::setpgid(child, child);
                    libc::setpgid(0, child);
                }
            }
            "orphans" => self.make_orphans(number()),
            "release" => self.release.take().into_iter().for_each(drop_fd),
            "reaped" => self.wait_until_reaped(if value.is_empty() { 20_000 } else { number() }),
            "serve" => {
                let listener = TcpListener::bind("127.0.0.1:0")
                    .unwrap_or_else(|e| fail(&format!("bind: {e}")));
                self.say(&format!("port {}", listener.local_addr().map_or(0, |a| a.port())));
                self.listener = Some(listener);
            }
            "keep" => {
                self.keeps = true;
                let listener = TcpListener::bind(("127.0.0.1", number() as u16));
                self.listener = Some(listener.unwrap_or_else(|e| fail(&format!("{e}"))));
            }
            "lines" => self.say_lines(),
            "notify" => notify(value).unwrap_or_else(|e| fail(&format!("{text}: {e}"))),
            _ => fail(&format!("unknown step {text}\n{HELP}")),
        }
    }

    fn steps_of_a_child(&mut self, steps: &str) -> ! {
        // As at the program's start: the parent may have blocked all signals, or none.
        self.signals = None;
        set_mask(if steps.split(',').any(|word| waits_for_signals(word.as_bytes())) {
            !0
        } else {
            self.found.blocked
        });
        steps.split(',').for_each(|step| self.step(step.as_bytes()));
        exit(0)
    }

    fn say(&self, line: &str) {
        let line = format!("{}{line}\n", self.name);
        // SAFETY: the buffer is valid for its length. One write: lines of several processes never mix.
        unsafe { libc::write(self.out, line.as_ptr().cast(), line.len()) };
    }

    /// Reports which descriptors are open, on which device and inode, and with which flags. Asks
    /// the kernel, as /proc may be missing.
    fn say_descriptors(&self) {
        for fd in 0..MOST_DESCRIPTORS {
            // SAFETY: all zeros is a valid stat; fstat and fcntl only report on the descriptor.
            let (stat, flags) = unsafe {
                // Not open, or one of the witness's own: exec has closed every other with this flag.
                if libc::fcntl(fd, libc::F_GETFD) != 0 {
                    continue;
                }
                let mut stat: libc::stat = std::mem::zeroed();
                libc::fstat(fd, &raw mut stat);
                (stat, libc::fcntl(fd, libc::F_GETFL))
            };
            self.say(&format!("fd {fd} on {}:{} flags {flags:o}", stat.st_dev, stat.st_ino));
        }
        self.say("fds end");
    }

    fn say_ids(&self) {
        // SAFETY: plain questions about this process. The foreground is asked of the terminal on stdin, -1 where there is none.
        let (pid, parent, group, session, foreground) = unsafe {
            (libc::getpid(), libc::getppid(), libc::getpgid(0), libc::getsid(0), libc::tcgetpgrp(0))
        };
        self.say(&format!(
            "pid {pid} parent {parent} group {group} session {session} foreground {foreground}"
        ));
    }

    fn say_lines(&self) {
        for line in std::io::stdin().lock().lines() {
            match line {
                Ok(line) => self.say(&format!("read {line}")),
                Err(error) => {
                    return self.say(&format!("read error {}", error.raw_os_error().unwrap_or(0)));
                }
            }
        }
        self.say("read end");
    }

    /// Prints signals as they come, and answers connections meanwhile, until `last` has come.
    fn trap(&mut self, last: Option<u32>) {
        let signals = *self.signals.get_or_insert_with(|| {
            let all = !0_u64;
            // SAFETY: the mask is 8 bytes, as the kernel's sigset_t is.
            keep_high(
                unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const all, 8, 0) } as c_int
            )
        });
        loop {
            let listener = self.listener.as_ref().map_or(-1, |l| l.as_raw_fd());
            let kept = self.kept.as_ref().map_or(-1, |kept| kept.as_raw_fd());
            let mut polled = [signals, listener, kept].map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            });
            // SAFETY: an array of three pollfd.
            unsafe { libc::poll(polled.as_mut_ptr(), 3, -1) };
            if polled[2].revents != 0
                && let Some(kept) = &mut self.kept
                && kept.read(&mut [0; 64]).is_ok_and(|length| length == 0)
            {
                self.kept = None;
            }
            if polled[1].revents != 0
                && let Some((mut connection, _)) =
                    self.listener.as_ref().and_then(|l| l.accept().ok())
            {
                let _ = connection.write_all(b"served\n");
                if self.keeps {
                    self.kept = Some(connection);
                }
            }
            if polled[0].revents != 0 {
                // SAFETY: all zeros is a valid signalfd_siginfo; the kernel writes at most its size.
                let number = unsafe {
                    let mut info: libc::signalfd_siginfo = std::mem::zeroed();
                    libc::read(signals, (&raw mut info).cast(), size_of_val(&info));
                    info.ssi_signo
                };
                self.say(&format!("signal {number}"));
                if Some(number) == last {
                    return;
                }
            }
        }
    }

    fn make_orphans(&mut self, count: u32) {
        let mut ends = [0; 2];
        // SAFETY: an array of two descriptors.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
            fail("pipe");
        }
        self.orphans = shared_numbers(count as usize);
        let between = fork();
        if between == 0 {
            drop_fd(ends[1]); // else the orphans would keep each other waiting
            for i in 0..count {
                let orphan = fork();
                if orphan != 0 {
                    self.orphans[i as usize] = orphan;
                    continue;
                }
                let mut byte = 0_u8;
                // SAFETY: one byte; returns at the end of file, when `release` closes the other end.
                unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) };
                if i % 5 == 0 { die_of(34 + i / 5 % 31) } else { exit((i % 256) as c_int) }
            }
            exit(0);
        }
        wait_for(between);
        drop_fd(ends[0]);
        self.release = Some(ends[1]);
        self.say(&format!("orphans {count}"));
    }

    /// A zombie still accepts signal 0; a reaped process does not exist.
    fn wait_until_reaped(&self, limit: u32) {
        let start = monotonic_micros();
        for (i, &orphan) in self.orphans.iter().enumerate() {
            // SAFETY: signal 0 is a question. No pid is used twice so soon.
            while unsafe { libc::kill(orphan, 0) } == 0 {
                if monotonic_micros() - start > i64::from(limit) * 1000 {
                    return self.say(&format!("not reaped: {}", self.orphans.len() - i));
                }
                nap(50_000);
            }
        }
        self.say(&format!("reaped in {} us", monotonic_micros() - start));
    }
}

fn notify(message: &str) -> std::io::Result<()> {
    let name = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap_or_default())?;
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

impl Found {
    fn now() -> Self {
        let mut blocked = 0_u64;
        // SAFETY: no new mask; the old one is 8 bytes, as the kernel's sigset_t is.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, 0, 0 as c_long, &raw mut blocked, 8) };
        let ignored = (1..=64)
            .filter(|&n| disposition(n) == libc::SIG_IGN)
            .fold(0, |set, n| set | 1 << (n - 1));
        Found { blocked, ignored }
    }
}

/// The kernel's struct sigaction begins with the handler and is 4 words at most; all else stays zero.
type KernelAction = [usize; 4];

fn disposition(number: u32) -> usize {
    let mut old: KernelAction = [0; 4];
    // SAFETY: no new action; the old one fits.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, number, 0 as c_long, &raw mut old, 8) };
    old[0]
}

fn set_disposition(number: u32, handler: usize) {
    let new: KernelAction = [handler, 0, 0, 0];
    // SAFETY: SIG_DFL or SIG_IGN with no flags; the old action isn't asked for.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &raw const new, 0 as c_long, 8) };
}

fn set_mask(mask: u64) {
    // SAFETY: the new mask is 8 bytes; the old one isn't asked for.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0 as c_long, 8)
    };
}

fn die_of(number: u32) -> ! {
    set_disposition(number, libc::SIG_DFL);
    set_mask(0);
    // SAFETY: no core file, then a signal to this very process.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
        libc::kill(libc::getpid(), number as c_int);
    }
    exit(99) // the signal isn't a deadly one
}

fn never_reap(words: &[&[u8]]) -> c_int {
    let child = fork();
    if child == 0 {
        let words: Vec<CString> =
            words.iter().filter_map(|word| CString::new(*word).ok()).collect();
        let mut pointers: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        // SAFETY: C strings and a null at the end.
        unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
        exit(127);
    }
    wait_for(child)
}

/// Waits for that child alone. Returns its exit code, or 128 + its signal. With SIGCHLD ignored it
/// only waits.
fn wait_for(child: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: one int to write to. All signals are blocked or deadly: nothing interrupts it.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

fn fork() -> c_int {
    // SAFETY: there is one thread.
    let pid = unsafe { libc::fork() };
    if pid < 0 { fail("fork") } else { pid }
}

/// Zeros in memory that is shared with child processes.
fn shared_numbers(count: usize) -> &'static mut [c_int] {
    // SAFETY: a new anonymous mapping, zeroed, that nobody else refers to and that is never unmapped.
    unsafe {
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let start = libc::mmap(
            std::ptr::null_mut(),
            count.max(1) * 4,
            libc::PROT_READ | libc::PROT_WRITE,
            kind,
            -1,
            0,
        );
        if start == libc::MAP_FAILED {
            fail("mmap")
        } else {
            std::slice::from_raw_parts_mut(start.cast(), count)
        }
    }
}

fn create(path: &str) -> c_int {
    let path = CString::new(OsStr::new(path).as_bytes()).unwrap_or_default();
    // SAFETY: a C string.
    let fd = unsafe {
        libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND, 0o600)
    };
    if fd < 0 { fail("cannot create a file") } else { fd }
}

fn raise_descriptor_limit() {
    // SAFETY: all zeros is a valid rlimit, which the first call fills.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// Moves one of our descriptors away from the standard streams, which may be closed.
fn keep_high(fd: c_int) -> c_int {
    // SAFETY: duplicates a descriptor of ours and closes the first one.
    unsafe {
        let high = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 100);
        libc::close(fd);
        high
    }
}

fn drop_fd(fd: c_int) {
    // SAFETY: a descriptor of ours, not used afterwards.
    unsafe { libc::close(fd) };
}

fn exit(code: c_int) -> ! {
    // SAFETY: ends the process; nothing is buffered.
    unsafe { libc::_exit(code) }
}

fn wait(milliseconds: u32) {
    nap(u64::from(milliseconds) * 1_000_000);
}

fn nap(nanoseconds: u64) {
    let time = libc::timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as _,
        tv_nsec: (nanoseconds % 1_000_000_000) as _,
    };
    // SAFETY: one timespec, the rest isn't asked for.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

fn monotonic_micros() -> i64 {
    // SAFETY: all zeros is a valid timespec.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        time.tv_sec as i64 * 1_000_000 + time.tv_nsec as i64 / 1000
    }
}

fn hex(word: &[u8]) -> String {
    word.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fail(why: &str) -> ! {
    let line = format!("witness: {why}\n");
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
    exit(98)
}
