//! The tests' harness: starts an init with the witness (witness.rs) as its app, and waits for what they say and do.
//!
//!     let mut run = init().arg("--delay").arg("2s").app(["ready", "until:15", "exit:3"]).start();
//!     run.line("ready");
//!     run.signal(15);
//!     assert_eq!(run.ended().code, 3);
//!
//! The init is drain-init as built by cargo, or what INIT_UNDER_TEST names: another build of it, tini, dumb-init or catatonit.
//! Every wait has a limit, and whatever a test started is killed when it ends, however it ends.
//!
//! A test whose surroundings are missing (root, PID namespaces, strace) says so past libtest's capture; with
//! REQUIRE_ALL_TESTS=1 it fails.
#![allow(dead_code)] // each file of tests is a crate of its own, and uses a part of this

pub mod confined;
pub mod control;
pub mod dns;
pub mod http;
pub mod life;
pub mod options;
pub mod proc;
pub mod random;
pub mod schedule;
pub mod system;
pub mod terminal;

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

pub use control::slack;
#[allow(unused_imports)] // as above
pub use proc::{children_of, companion_of, stat_of, status_of};
use system::{Beginning, now, pause};

/// The limit for events that should come at once. It is long, as the machine may be loaded, and no
/// test passes by waiting it out.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Marks the processes of one start in their environment, so that leftovers can be found and
/// killed.
const MARK: &str = "STARTED_BY_TEST";

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

// ---- which init

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    DrainInit,
    Tini,
    DumbInit,
    Catatonit,
    /// The witness as an init: the negative control.
    NeverReaps,
}

pub fn init_under_test() -> (Kind, PathBuf) {
    let Some(path) = env::var_os("INIT_UNDER_TEST") else {
        return (Kind::DrainInit, PathBuf::from(env!("CARGO_BIN_EXE_drain-init")));
    };
    let path = fs::canonicalize(&path)
        .unwrap_or_else(|e| panic!("INIT_UNDER_TEST={}: {e}", path.display()));
    (kind_of(&path), path)
}

fn kind_of(path: &Path) -> Kind {
    match path.file_name().and_then(OsStr::to_str).unwrap_or_default() {
        name if name.starts_with("tini") => Kind::Tini,
        name if name.starts_with("dumb-init") => Kind::DumbInit,
        name if name.starts_with("catatonit") => Kind::Catatonit,
        name if name.starts_with("drain-init") => Kind::DrainInit,
        name => panic!(
            "INIT_UNDER_TEST: how is {name} called? Known are drain-init, tini, dumb-init, catatonit"
        ),
    }
}

/// drain-init. With a peer under test, tests of drain-init alone fail and say so; use
/// tests/suite/common.rs then.
pub fn init() -> Init {
    let init = any_init();
    assert_eq!(
        init.kind,
        Kind::DrainInit,
        "INIT_UNDER_TEST: only `--test suite common::` is for peers"
    );
    init
}

/// The init under test, including a peer.
pub fn any_init() -> Init {
    let (kind, path) = init_under_test();
    Init::new(kind, path)
}

/// The release build that ships: static, for an empty root. cargo's own build of drain-init is not.
pub fn static_init() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let (kind, path) = init_under_test();
            if kind == Kind::DrainInit && is_static(&path) {
                return path;
            }
            build(&["--release", "--bin", "drain-init"], Some(MUSL)).join("release/drain-init")
        })
        .clone()
}

/// Copies with another process. If this one had the copy open for writing, a child that another
/// test has just forked would have it open too, and it could not be executed (ETXTBSY).
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--remove-destination").args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp {} {}", from.display(), to.display());
}

/// A build for another machine, which an emulator runs here.
pub struct Platform {
    pub target: &'static str,
    pub emulator: &'static str,
    /// The folder of its C library; None if it is static.
    pub libc: Option<&'static str>,
}

impl Platform {
    /// None, with a message, if it cannot be built or run here. What is released is the release
    /// build.
    pub fn init(&self) -> Option<Init> {
        let linker =
            LINKERS.iter().find(|(target, _)| *target == self.target).expect("its linker").1;
        let links = self.libc.is_none() || needs_program(linker);
        if !needs_program(self.emulator) || !links || !needs_target(self.target) {
            return None;
        }
        static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
        let mut built = BUILT.lock().expect("no build has failed");
        let program = built.entry(self.target).or_insert_with(|| match self.libc {
            None => build(&["--release", "--bin", "drain-init"], Some(self.target))
                .join("release/drain-init"),
            Some(_) => build(&["--bin", "drain-init"], Some(self.target)).join("debug/drain-init"),
        });
        let sysroot = self.libc.map(|folder| ["-L", folder]).into_iter().flatten();
        let words = [self.emulator].into_iter().chain(sysroot);
        Some(Init::new(Kind::DrainInit, program.clone()).under(words))
    }
}

/// For `static_init`, `static_witness` and images made of them.
pub fn needs_static() -> bool {
    needs_target(MUSL)
}

fn needs_target(target: &str) -> bool {
    needs(&format!("rustup target {target}"), has_target(target))
}

fn has_target(target: &str) -> bool {
    if are_built() {
        return target_dir().join(target).is_dir();
    }
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// glibc's posix_spawn leaves the two signals that it keeps for itself, 32 and 33, ignored and never blocked in the app; what
/// ships is built with musl. This is `masks`' line without what a dynamic build is excused for.
pub fn without_glibcs_own(program: &Path, line: &str) -> String {
    if is_static(program) {
        return line.to_owned();
    }
    let word = |word: &str| match u64::from_str_radix(word, 16) {
        Ok(mask) if word.len() == 16 => format!("{:016x}", mask & !(0b11 << 31)),
        _ => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn is_static(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    !bytes.windows(8).any(|part| part == b"/ld-linu" || part == b"/ld-musl")
}

/// cargo builds no examples for `cargo test --test NAME`.
pub fn witness() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build(&["--example", "witness"], None).join("debug/examples/witness"))
        .clone()
}

/// The HTTP server of examples/server.rs.
pub fn server() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build(&["--example", "server"], None).join("debug/examples/server"))
        .clone()
}

/// tests/support/kept.py with these options: a server that keeps its connections.
pub fn kept(options: &str) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/kept.py");
    let options = options.split_whitespace().map(str::to_owned);
    ["python3".to_owned(), script.to_owned()].into_iter().chain(options).collect()
}

/// Also builds the server that it runs, so that it need not build anything itself.
pub fn rolling_update() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            build(&["--release", "--example", "server"], None);
            build(&["--example", "rolling-update"], None).join("debug/examples/rolling-update")
        })
        .clone()
}

/// For roots without a libc.
pub fn static_witness() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build(&["--example", "witness"], Some(MUSL)).join("debug/examples/witness"))
        .clone()
}

const MUSL: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-musl"
} else {
    "x86_64-unknown-linux-musl"
};

/// The clients of examples/load.rs.
pub fn load() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&["--example", "load"], None).join("debug/examples/load")).clone()
}

/// rust-lld comes with rustup, for any target; a dynamic build needs the files of its own libc.
const LINKERS: [(&str, &str); 6] = [
    ("aarch64-unknown-linux-musl", "rust-lld"),
    ("i686-unknown-linux-musl", "rust-lld"),
    ("armv7-unknown-linux-gnueabihf", "arm-linux-gnueabihf-gcc"),
    ("powerpc64le-unknown-linux-gnu", "powerpc64le-linux-gnu-gcc"),
    ("riscv64gc-unknown-linux-gnu", "riscv64-linux-gnu-gcc"),
    ("s390x-unknown-linux-gnu", "s390x-linux-gnu-gcc"),
];

/// The target directory of these tests.
fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp has a parent")
}

/// Whatever can be built is there, and cargo is not: in the virtual machine of tests/vm.
fn are_built() -> bool {
    env::var_os("TESTS_ARE_BUILT").is_some_and(|value| value == "1")
}

/// Builds into the target directory of these tests, and returns the directory of the result.
fn build(arguments: &[&str], target: Option<&str>) -> PathBuf {
    let target_dir = target_dir();
    if are_built() {
        return target_dir.join(target.unwrap_or_default());
    }
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .arg("--target-dir")
        .arg(target_dir)
        .args(arguments)
        .args(target.map(|target| format!("--target={target}")))
        .envs(LINKERS.map(|(target, linker)| {
            (format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_")), linker)
        }))
        .output()
        .expect("cargo");
    assert!(
        output.status.success(),
        "cargo build {arguments:?}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target_dir.join(target.unwrap_or_default())
}

// ---- what a test needs of its surroundings

/// False, with a message, if the test cannot run here; panics if all tests have to run.
pub fn needs(what: &str, is_there: bool) -> bool {
    if !is_there {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(
            env::var_os("REQUIRE_ALL_TESTS").is_none_or(|v| v != "1"),
            "{test} can't run here: needs {what}"
        );
        say(&format!("NOT RUN: {test}: needs {what}"));
    }
    is_there
}

/// Not eprintln!, which libtest captures: a test that has not run must not look like one that
/// passed.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub fn needs_root() -> bool {
    needs("root", system::is_root())
}

pub fn needs_namespaces() -> bool {
    needs("PID and mount namespaces (CAP_SYS_ADMIN)", can_make_namespaces())
}

fn can_make_namespaces() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let beginning = Beginning { pid_namespace: true, ..Beginning::default() };
        system::spawn(Command::new("true"), beginning)
            .is_ok_and(|(mut child, _)| child.wait().is_ok_and(|s| s.success()))
    })
}

pub fn needs_program(program: &str) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    needs(program, env::split_paths(&paths).any(|folder| folder.join(program).exists()))
}

/// Runs the test with drain-init as a subreaper and as PID 1.
pub fn at_both_levels(test: impl Fn(&dyn Fn() -> Init)) {
    at_both_levels_of(init, test);
}

pub fn at_both_levels_of(init: fn() -> Init, test: impl Fn(&dyn Fn() -> Init)) {
    test(&init);
    if needs(
        "PID and mount namespaces (CAP_SYS_ADMIN) to run it as PID 1 too",
        can_make_namespaces(),
    ) {
        test(&|| init().pid1());
    }
}

// ---- a file system corner of one's own

pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "drain-init-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).expect("a folder for the test");
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// ---- starting

pub struct Init {
    kind: Kind,
    program: PathBuf,
    before: Vec<OsString>,
    bare: bool,
    options: Vec<OsString>,
    app: Option<Vec<OsString>>,
    variables: Vec<(OsString, OsString)>,
    streams: [Option<Stdio>; 3],
    beginning: Beginning,
}

impl Init {
    pub fn new(kind: Kind, program: PathBuf) -> Self {
        Init {
            kind,
            program,
            before: vec![],
            bare: false,
            options: vec![],
            app: None,
            variables: vec![],
            streams: [None, None, None],
            beginning: Beginning::default(),
        }
    }

    /// An option of the init, or its value.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.options.push(arg.as_ref().to_owned());
        self
    }

    /// Options and values as typed: split at spaces.
    pub fn args(mut self, args: &str) -> Self {
        self.options.extend(args.split_whitespace().map(OsString::from));
        self
    }

    /// The witness with these steps.
    pub fn app<const N: usize>(self, steps: [&str; N]) -> Self {
        let program =
            if self.beginning.root.is_some() { PathBuf::from("/witness") } else { witness() };
        self.command([program.as_os_str()].into_iter().chain(steps.iter().map(OsStr::new)))
    }

    /// Like `app`, with the static witness, which makes fewer system calls.
    pub fn static_app<const N: usize>(self, steps: [&str; N]) -> Self {
        if self.beginning.root.is_some() {
            return self.app(steps);
        }
        let program = static_witness();
        self.command([program.as_os_str()].into_iter().chain(steps.iter().map(OsStr::new)))
    }

    pub fn command(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.app = Some(words.into_iter().map(|word| word.as_ref().to_owned()).collect());
        self
    }

    /// Another program that starts the init; its words come first.
    pub fn under(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.before = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// No init: the app alone, for comparison.
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub fn pid1(mut self) -> Self {
        self.beginning.pid_namespace = true;
        self
    }

    /// In the container of a running init: its PID and mount namespaces.
    pub fn beside(self, other: &Running) -> Self {
        self.inside(other.pid)
    }

    /// In the PID and mount namespaces of this process.
    pub fn inside(mut self, pid: i32) -> Self {
        self.beginning.beside = Some(pid);
        self
    }

    pub fn blocked(mut self, signals: impl IntoIterator<Item = i32>) -> Self {
        self.beginning.blocked = signals.into_iter().collect();
        self
    }

    pub fn ignored(mut self, signals: impl IntoIterator<Item = i32>) -> Self {
        self.beginning.ignored = signals.into_iter().collect();
        self
    }

    pub fn closed(mut self, descriptors: impl IntoIterator<Item = i32>) -> Self {
        self.beginning.closed = descriptors.into_iter().collect();
        self
    }

    /// One more descriptor that is open at the start, under its own number.
    pub fn keeping(mut self, descriptor: Arc<OwnedFd>) -> Self {
        self.beginning.kept.push(descriptor);
        self
    }

    /// Every descriptor number is in use: it can open nothing.
    pub fn no_descriptor_left(mut self) -> Self {
        self.beginning.no_descriptor_left = true;
        self
    }

    /// A root that contains only the static drain-init and the static witness. Comes before `app`.
    pub fn in_empty_root(mut self, root: &Folder) -> Self {
        for (from, name) in [(static_init(), "drain-init"), (static_witness(), "witness")] {
            copy_program(&from, &root.path(name));
        }
        self.program = PathBuf::from("/drain-init");
        self.beginning.root = CString::new(root.0.as_os_str().as_bytes()).ok();
        self
    }

    pub fn without_proc(mut self) -> Self {
        self.beginning.without_proc = true;
        self
    }

    pub fn without_dev(mut self) -> Self {
        self.beginning.without_dev = true;
        self
    }

    /// Mounts an empty read-only file system there.
    pub fn read_only(mut self, folder: &Path) -> Self {
        self.beginning.read_only = CString::new(folder.as_os_str().as_bytes()).ok();
        self
    }

    pub fn user(mut self, user: u32) -> Self {
        self.beginning.user = Some(user);
        self
    }

    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[0] = Some(stream.into());
        self
    }

    /// Sends standard output there instead of to the test.
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[1] = Some(stream.into());
        self
    }

    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
        self.streams[2] = Some(stream.into());
        self
    }

    /// Makes standard input the controlling terminal of a new session.
    pub fn own_terminal(mut self, stdin: OwnedFd) -> Self {
        self.beginning.own_terminal = true;
        self.stdin(stdin)
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The words of the command line.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = self.before.clone();
        if self.bare {
            words.extend(self.app.iter().flatten().cloned());
            return words;
        }
        words.push(self.program.clone().into());
        if self.kind == Kind::Tini && !self.beginning.pid_namespace {
            words.push("-s".into()); // else it reaps no orphan
        }
        words.extend(self.options.iter().cloned());
        if let Some(app) = &self.app {
            if self.kind != Kind::DumbInit {
                words.push("--".into());
            }
            words.extend(app.iter().cloned());
        }
        words
    }

    pub fn start(self) -> Running {
        self.try_start().unwrap_or_else(|e| panic!("the init can't be started: {e}"))
    }

    fn try_start(self) -> std::io::Result<Running> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        control::begin();
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env(MARK, &mark);
        for (name, _) in
            env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"DRAIN_INIT_"))
        {
            command.env_remove(name);
        }
        command.envs(self.variables);
        let [stdin, stdout, stderr] = self.streams;
        command.stdin(stdin.unwrap_or_else(Stdio::null));
        command
            .stdout(stdout.unwrap_or_else(Stdio::piped))
            .stderr(stderr.unwrap_or_else(Stdio::piped));
        let (mut child, pid) = system::spawn(command, self.beginning)?;
        let out = Lines::new(child.stdout.take());
        let err = Lines::new(child.stderr.take());
        Ok(Running { child, pid, mark, out, err, waited: false })
    }

    /// Starts it and waits for its end.
    pub fn ended(self) -> Ended {
        self.start().ended()
    }
}

// ---- while it runs

pub struct Running {
    child: Child,
    /// The init's pid in the tests' own namespace.
    pub pid: i32,
    mark: String,
    out: Lines,
    err: Lines,
    waited: bool,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; 1000 + n when the init itself died of signal n.
    pub code: i32,
    pub at: Instant,
    pub out: Vec<String>,
    pub err: Vec<String>,
    /// `out`, with times.
    pub heard: Vec<Line>,
    /// The command lines of processes that it has left behind.
    pub left: Vec<String>,
}

impl Running {
    pub fn signal(&self, number: i32) -> Instant {
        let at = now(); // before it can have had any effect
        system::signal(self.pid, number);
        at
    }

    /// Waits for this line of the app's, skipping others, and returns when it came.
    pub fn line(&mut self, line: &str) -> Instant {
        match self.out.wait(LIMIT, |l| l == line) {
            Some(line) => line.at,
            None => self.give_up(&format!("no line `{line}` on stdout")),
        }
    }

    pub fn line_with(&mut self, part: &str) -> Line {
        match self.out.wait(LIMIT, |line| line.contains(part)) {
            Some(line) => line,
            None => self.give_up(&format!("no line with `{part}` on stdout")),
        }
    }

    /// Like `line`, but also accepts a line that was skipped earlier.
    pub fn says(&mut self, line: &str) {
        if !self.out.come.iter().any(|l| l.text == line) {
            self.line(line);
        }
    }

    /// When a skipped line of the app's came.
    pub fn when(&self, line: &str) -> Instant {
        self.out.come.iter().find(|l| l.text == line).expect("it has come").at
    }

    /// Sends the signal, and waits for the app to see it.
    pub fn time_to_forward(&mut self, number: i32) -> Duration {
        let sent = self.signal(number);
        self.line(&format!("signal {number}")) - sent
    }

    /// Waits for a line of the init's log that contains `part`.
    pub fn log(&mut self, part: &str) -> Line {
        match self.err.wait(LIMIT, |line| line.contains(part)) {
            Some(line) => line,
            None => self.give_up(&format!("no line with `{part}` on stderr")),
        }
    }

    /// Checks that stdout stays silent for this long.
    pub fn silent_for(&mut self, time: Duration) {
        if let Some(line) = self.out.wait(time, |_| true) {
            self.give_up(&format!("`{}` on stdout, where nothing should come", line.text));
        }
        if self.out.ended {
            self.give_up("stdout has ended, where nothing should happen");
        }
    }

    pub fn ends_within(&self, limit: Duration) -> bool {
        system::ends_within(&self.child, limit)
    }

    /// Waits for its end, and for the end of its output.
    pub fn ended(self) -> Ended {
        self.ended_within(LIMIT)
    }

    pub fn ended_within(mut self, limit: Duration) -> Ended {
        if !system::ends_within(&self.child, limit) {
            self.give_up(&format!("still there after {limit:?}"));
        }
        let at = now();
        let status = self.child.wait().expect("wait");
        self.waited = true;
        // A process that it has just killed may take an instant to be gone; a process that stays is
        // a fault.
        let closed = self.out.ends_within(ms(500)) && self.err.ends_within(ms(500));
        let left = if closed && (self.out.is_piped || self.err.is_piped) {
            vec![]
        } else {
            kill_all(&self.mark)
        };
        self.out.ends_within(LIMIT);
        self.err.ends_within(LIMIT);
        Ended {
            code: status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0)),
            at,
            out: self.out.texts(),
            err: self.err.texts(),
            heard: std::mem::take(&mut self.out.come),
            left,
        }
    }

    /// Kills it, and returns all output of the app.
    pub fn killed(mut self) -> Vec<String> {
        self.end();
        self.out.ends_within(LIMIT);
        self.out.texts()
    }

    fn end(&mut self) {
        system::try_signal(self.pid, system::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.waited = true;
        kill_all(&self.mark);
    }

    /// A number in /proc/PID/status of the init.
    pub fn status(&self, field: &str) -> u64 {
        status_of(self.pid, field)
    }

    /// Its children, as seen by the tests.
    pub fn children(&self) -> Vec<i32> {
        children_of(self.pid)
    }

    fn give_up(&mut self, why: &str) -> ! {
        system::try_signal(self.pid, system::KILL);
        self.out.ends_within(ms(100));
        self.err.ends_within(ms(100));
        let mut all = format!("{why}\nstdout:\n");
        self.out.texts().iter().for_each(|line| all += &format!("    {line}\n"));
        all += "stderr:\n";
        self.err.texts().iter().for_each(|line| all += &format!("    {line}\n"));
        panic!("{all}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited {
            self.end();
        }
    }
}

impl Ended {
    /// The log as one text.
    pub fn log(&self) -> String {
        self.err.join("\n")
    }
}

/// Kills every process with the mark, until none is left. Returns their command lines.
fn kill_all(mark: &str) -> Vec<String> {
    let mut killed = vec![];
    let wanted = format!("{MARK}={mark}");
    for _ in 0..100 {
        let is_marked = |pid: &i32| proc::variables_of(*pid).contains(&wanted);
        let left: Vec<i32> = proc::processes().filter(is_marked).collect();
        if left.is_empty() {
            break;
        }
        for pid in left {
            let words = proc::words_of(pid).join(" ");
            if !killed.contains(&words) {
                killed.push(words);
            }
            system::try_signal(pid, system::KILL);
        }
        pause(ms(10));
    }
    killed
}

/// The command lines of processes that these tests have left behind.
pub fn left_by_these_tests() -> Vec<String> {
    let mark = format!("{MARK}={}-", std::process::id());
    let is_ours = |pid: &i32| proc::variables_of(*pid).iter().any(|it| it.starts_with(&mark));
    proc::processes().filter(is_ours).map(|pid| proc::words_of(pid).join(" ")).collect()
}

/// Checks a time against its expected value: never sooner, and no later than the control allows.
/// Prints both, for --show-output.
#[track_caller]
pub fn assert_after(what: &str, measured: Duration, expected: Duration) {
    let (late, slack) = (measured.saturating_sub(expected), slack());
    println!("{what}: due after {expected:?}, came {late:?} later; {slack:?} are allowed");
    assert!(measured >= expected, "{what}: due after {expected:?}, came after {measured:?}");
    assert!(late < slack, "{what}: due after {expected:?}, came {late:?} later, not {slack:?}");
}

/// Waits until `is_so`, which is due this long after that instant.
#[track_caller]
pub fn becomes_true_after(
    what: &str,
    since: Instant,
    expected: Duration,
    is_so: impl FnMut() -> bool,
) {
    assert!(becomes_true(expected + LIMIT, is_so), "{what}: never");
    assert_after(what, now() - since, expected);
}

/// Polls until `is_so` returns true; false after the limit. For changes without an event.
pub fn becomes_true(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if now() > end {
            return false;
        }
        pause(ms(2));
    }
}

/// The value once it has been stable for a while, so that no start or end is still going on.
#[track_caller]
pub fn settled<T: PartialEq>(look: impl Fn() -> T) -> T {
    let mut last = look();
    let settles = becomes_true(LIMIT, || {
        pause(ms(300));
        let earlier = std::mem::replace(&mut last, look());
        earlier == last
    });
    assert!(settles, "it goes on and on");
    last
}

// ---- the network

/// Runs all cases at once, each in a network of its own.
pub fn in_networks<T: Sync, R: Send>(cases: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    server(); // is built before any time is measured
    let run = &run;
    std::thread::scope(|scope| {
        let start = |case| {
            scope.spawn(move || {
                system::enter_own_network();
                run(case)
            })
        };
        let threads: Vec<_> = cases.iter().map(start).collect();
        let ends = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// A port without a listener, outside the kernel's range for outgoing connections, and never
/// returned twice.
pub fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = std::process::id().wrapping_mul(40) + COUNT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (count % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// An HTTP server that keeps the first line of each request, and answers with 200 or not at all.
pub struct Server {
    pub port: u16,
    calls: Arc<Mutex<Vec<String>>>,
    answers: Arc<AtomicBool>,
}

impl Server {
    pub fn on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (calls, answers) = (Arc::default(), Arc::new(AtomicBool::new(true)));
        let server = Server { port, calls: Arc::clone(&calls), answers: Arc::clone(&answers) };
        std::thread::spawn(move || {
            let mut held = vec![];
            for mut stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(LIMIT));
                let mut line = String::new();
                let _ = BufReader::new(&mut stream).read_line(&mut line);
                if let Ok(mut calls) = calls.lock() {
                    calls.push(line.trim_end().to_owned());
                }
                if answers.load(Ordering::Relaxed) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                } else {
                    held.push(stream);
                }
            }
        });
        server
    }

    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("the calls").clone()
    }

    pub fn answers(&self, whether: bool) {
        self.answers.store(whether, Ordering::Relaxed);
    }
}

// ---- lines

#[derive(Clone, Debug)]
pub struct Line {
    pub text: String,
    pub at: Instant,
}

/// The lines of a stream, as they arrive.
struct Lines {
    is_piped: bool,
    coming: Receiver<Line>,
    come: Vec<Line>,
    ended: bool,
}

impl Lines {
    fn new(stream: Option<impl Read + Send + 'static>) -> Self {
        let (to, coming) = mpsc::channel();
        let is_piped = stream.is_some();
        if let Some(stream) = stream {
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                let mut bytes = vec![];
                while stream.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
                    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes))
                        .into_owned();
                    if to.send(Line { text, at: now() }).is_err() {
                        break;
                    }
                    bytes.clear();
                }
            });
        }
        Lines { is_piped, coming, come: vec![], ended: false }
    }

    fn wait(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<Line> {
        let end = now() + limit;
        loop {
            match self.coming.recv_timeout(end.saturating_duration_since(now())) {
                Ok(line) => {
                    self.come.push(line.clone());
                    if wanted(&line.text) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }

    fn ends_within(&mut self, limit: Duration) -> bool {
        self.wait(limit, |_| false);
        self.ended
    }

    fn texts(&self) -> Vec<String> {
        self.come.iter().map(|line| line.text.clone()).collect()
    }
}
