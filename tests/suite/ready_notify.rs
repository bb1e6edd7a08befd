//! --ready-notify: the app says by sd_notify(3) that it is ready. What counts, from whom, and that nothing else does; and servers that
//! speak it. The app that is played here is a Python program that does what it reads, so that a test says what is sent when.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::random::Random;
use crate::support::system::{self, KILL, now, pause};
use crate::support::{
    Folder, Init, LIMIT, Running, Server, at_both_levels, becomes_true, children_of, companion_of,
    free_port, init, ms, needs, needs_namespaces, needs_program, status_of,
};

const TERM: i32 = 15;
const STOP: i32 = 19;
const CONT: i32 = 18;

/// Says `ready`, then does each line, and says `done`.
const APP: &str = r#"
import array, os, signal, socket, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), os._exit(3)))
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
name = os.environ.get("NOTIFY_SOCKET", "")
address = "\0" + name[1:] if name[:1] == "@" else name
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
send = lambda message: s.sendto(message, address)
def send_with(message, *descriptors):
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    s.sendmsg([message], [rights], 0, address)
def in_a_child(act):
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    os.waitpid(child, 0)
def in_an_orphan(act):
    in_a_child(lambda: os.fork() or (time.sleep(0.1), act()))
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
signal.pause()
"#;

/// The init with that app, and the way to tell it what to do.
struct App {
    run: Running,
    tell: std::io::PipeWriter,
    port: u16,
}

impl App {
    fn start(init: Init) -> Self {
        let port = free_port();
        let (theirs, tell) = std::io::pipe().expect("a pipe");
        let init = init.args("--ready-notify --ready-listen").arg(format!("127.0.0.1:{port}"));
        let init = init.stdin(OwnedFd::from(theirs)).command(["/usr/bin/python3", "-c", APP]);
        let mut run = init.start();
        run.line("ready");
        Self { run, tell, port }
    }

    /// Has it done, and waits until it is.
    fn does(&mut self, what: &str) {
        self.begins(what);
        self.run.line("done");
    }

    fn begins(&mut self, what: &str) {
        writeln!(self.tell, "{what}").expect("the app reads");
    }

    /// Messages are taken in the order in which they were sent: when this one was, all before it were.
    fn settled(&mut self) {
        let mark = format!("mark {:?}", now()).replace(['{', '}', ':', ',', '"'], "");
        self.does(&format!("send(b'STATUS={mark}')"));
        assert!(becomes_true(LIMIT, || self.status_is(&mark)), "{mark}: {}", self.probe());
    }

    /// A status is shown as long as the app is not ready.
    fn status_is(&self, mark: &str) -> bool {
        let probe = self.probe();
        probe.contains(mark) || probe.starts_with("HTTP/1.1 200 ")
    }

    fn probe(&self) -> String {
        probe(self.port)
    }

    fn is_ready(&self) -> bool {
        self.probe().starts_with("HTTP/1.1 200 ")
    }

    #[track_caller]
    fn becomes_ready(&self) {
        assert!(becomes_true(LIMIT, || self.is_ready()), "{}", self.probe());
    }

    /// The name of its socket, as the app knows it.
    fn name(&self) -> String {
        let app = self.app();
        let variables = fs::read(format!("/proc/{app}/environ")).expect("its environment");
        let mut variables = variables.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let name =
            variables.find_map(|text| Some(text.strip_prefix("NOTIFY_SOCKET=@")?.to_owned()));
        name.expect("the app has a socket")
    }

    /// The app's pid, as the tests see it.
    fn app(&self) -> i32 {
        let is_app = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"/usr/bin/python3\0")
        };
        children_of(self.run.pid).into_iter().find(is_app).expect("the app")
    }

    fn companion(&self) -> i32 {
        // A companion that was killed may be gone at the next look.
        let mut companion = None;
        let found = becomes_true(LIMIT, || {
            companion = companion_of(self.run.pid, "notify");
            companion.is_some()
        });
        assert!(found, "no companion");
        companion.expect("the companion")
    }
}

fn probe(port: u16) -> String {
    let mut answer = vec![];
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let _ = stream.set_read_timeout(Some(ms(5000)));
        let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: pod\r\n\r\n");
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn needs_python() -> bool {
    needs("Python", PathBuf::from("/usr/bin/python3").exists())
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// PID 1's, and how often it has run.
fn cost(run: &Running) -> (u64, u64) {
    let switches = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
    (run.status("VmRSS"), switches.iter().map(|field| run.status(field)).sum())
}

#[test]
fn ready_when_the_app_says_so_until_it_says_that_it_stops_or_the_drain_begins() {
    if !needs_python() {
        return;
    }
    at_both_levels(|init| {
        let folder = Folder::new();
        let file = folder.path("ready");
        let init = init().args("--delay 1s --ready-file").arg(&file);
        let mut app = App::start(init);
        let starting = app.probe();
        assert!(starting.starts_with("HTTP/1.1 503 "), "{starting}");
        assert!(
            starting.ends_with("\r\n\r\nstarting: the app has not sent READY=1\n"),
            "{starting}"
        );
        app.does("send(b'STATUS=loading tables')");
        let status = "starting: the app has not sent READY=1; status: loading tables\n";
        assert!(becomes_true(LIMIT, || app.probe().ends_with(status)), "{}", app.probe());
        pause(ms(300));
        assert!(!file.exists());
        app.does("send(b'READY=1')");
        app.becomes_ready();
        assert!(becomes_true(LIMIT, || file.exists()));
        app.does(r"send(b'RELOADING=1\nSTATUS=reading again')");
        pause(ms(300));
        assert!(app.is_ready() && file.exists(), "a reload changes nothing");

        app.does(r"send(b'STOPPING=1\nSTATUS=bye')");
        let stopping = "not ready: the app has sent STOPPING=1; status: bye\n";
        assert!(becomes_true(LIMIT, || app.probe().ends_with(stopping)), "{}", app.probe());
        assert!(becomes_true(LIMIT, || !file.exists()));
        app.run.log("the app has sent STOPPING=1: not ready");
        app.does("send(b'READY=1')");
        app.becomes_ready();
        assert!(becomes_true(LIMIT, || file.exists()), "again");

        app.run.signal(TERM);
        let draining = || app.probe().contains("draining for ");
        assert!(becomes_true(LIMIT, draining) && !file.exists(), "{}", app.probe());
        app.does("send(b'STOPPING=1'); send(b'READY=1')");
        pause(ms(300));
        assert!(app.probe().contains("draining for ") && !file.exists(), "{}", app.probe());
        app.run.line("told");
        assert_eq!(app.run.ended().code, 3);
    });
}

#[test]
fn a_tcp_port_is_open_exactly_while_the_app_is_ready_by_its_own_words() {
    if !needs_python() {
        return;
    }
    let port = free_port();
    let (theirs, mut tell) = std::io::pipe().expect("a pipe");
    let init = init().args("--ready-notify --ready-listen").arg(format!("tcp://127.0.0.1:{port}"));
    let init = init.stdin(OwnedFd::from(theirs)).command(["/usr/bin/python3", "-c", APP]);
    let mut run = init.start();
    run.line("ready");
    let is_open = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    pause(ms(300));
    assert!(!is_open());
    for (message, opens) in [("READY=1", true), ("STOPPING=1", false), ("READY=1", true)] {
        writeln!(tell, "send(b'{message}')").expect("the app reads");
        assert!(becomes_true(LIMIT, || is_open() == opens), "{message}");
    }
}

#[test]
fn with_a_check_it_is_ready_when_both_say_so() {
    if !needs_python() {
        return;
    }
    let (folder, port) = (Folder::new(), free_port());
    let file = folder.path("ready");
    let init = init().arg("--ready-check").arg(format!("tcp://127.0.0.1:{port}"));
    let mut app = App::start(init.arg("--ready-file").arg(&file));
    app.does("send(b'READY=1')");
    let asks = || app.probe().contains(&format!("starting: tcp://127.0.0.1:{port} refused"));
    assert!(becomes_true(LIMIT, asks), "{}", app.probe());
    pause(ms(300));
    assert!(!file.exists());
    let _server = Server::on(port);
    app.becomes_ready();
    assert!(becomes_true(LIMIT, || file.exists()));
    app.does("send(b'STOPPING=1')");
    assert!(becomes_true(LIMIT, || !app.is_ready() && !file.exists()), "the check alone");
}

/// Each of these is sent, and is seen not to count: one that says what the app does comes after it.
#[test]
fn messages_that_say_something_else_or_are_too_long_count_for_nothing() {
    if !needs_python() {
        return;
    }
    let mut app = App::start(init());
    for message in [
        "b''",
        "b'READY=0'",
        "b'READY=1 '",
        "b'XREADY=1'",
        r"b'READY=1\0\0'",
        r"b'\0READY=1\n'",
        r"b'READY=1\nX=\0y'",
        r"b'READY=1\n' + b'x' * 4096",
        r"b'READY=1\n' + b'x' * 65536",
        r"b'x' * 65536 + b'\nREADY=1'",
        r"b'READY=1\n' + os.urandom(100000)",
    ] {
        app.does(&format!("send({message})"));
        app.settled();
        assert!(!app.is_ready(), "{message}");
    }
    let mut random = Random::new();
    for _ in 0..200 {
        let bytes: Vec<String> =
            random.bytes(60).iter().map(|byte| format!("\\x{byte:02x}")).collect();
        app.does(&format!("send(b'{}')", bytes.concat()));
    }
    app.settled();
    assert!(!app.is_ready());
    // Several in one, as long as a message may be.
    app.does(r"m = b'MAINPID=1\nREADY=1\nSTATUS=up\nX='; send(m + b'y' * (4096 - len(m)))");
    app.becomes_ready();
}

/// A process that shares the network, and so the name, with the app, and is none of drain-init's.
#[test]
fn a_message_of_a_stranger_is_dropped() {
    if !needs_python()
        || !needs_namespaces()
        || !needs_program("unshare")
        || !needs_program("nsenter")
    {
        return;
    }
    at_both_levels(|init| {
        let mut app = App::start(init().arg("-v"));
        let name = app.name();
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let stranger = UnixDatagram::unbound().expect("a socket");
        stranger.send_to_addr(b"READY=1\nSTATUS=me", &address).expect("sent");
        app.run.log("its sender does not descend from drain-init");
        app.settled();
        assert!(!app.is_ready() && !app.probe().contains("status: me"), "{}", app.probe());

        // The pod's other containers: another PID namespace.
        let send = format!(
            "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
             s.sendto(b'READY=1', '\\0{name}'); print('sent', flush=True); import time; time.sleep(3)"
        );
        let words = ["--pid", "--fork", "/usr/bin/python3", "-c", &send];
        let sent = Command::new("unshare").args(words).output().expect("unshare");
        assert_eq!(String::from_utf8_lossy(&sent.stdout), "sent\n", "{sent:?}");
        // The app's own container, by `docker exec`.
        let pid = app.app().to_string();
        let words = ["-t", &pid, "-p", "--", "/usr/bin/python3", "-c", &send];
        let sent = Command::new("nsenter").args(words).output().expect("nsenter");
        assert_eq!(String::from_utf8_lossy(&sent.stdout), "sent\n", "{sent:?}");
        app.settled();
        assert!(!app.is_ready());
        // A control: what the same message does where it counts.
        app.does("send(b'READY=1')");
        app.becomes_ready();
        stranger.send_to_addr(b"STOPPING=1", &address).expect("sent");
        pause(ms(300));
        assert!(app.is_ready());
    });
}

#[test]
fn children_and_orphans_of_the_app_count() {
    if !needs_python() {
        return;
    }
    at_both_levels(|init| {
        let mut app = App::start(init());
        app.does("in_a_child(lambda: (send(b'READY=1'), time.sleep(0.5)))");
        app.becomes_ready();
        app.does("in_an_orphan(lambda: (send(b'STOPPING=1'), time.sleep(0.5)))");
        assert!(becomes_true(LIMIT, || !app.is_ready()), "an orphan's");
    });
}

/// It can't be looked at any more: as PID 1 it was of the same container all the same.
#[test]
fn of_a_sender_that_has_ended_the_message_counts_as_pid_1_alone() {
    if !needs_python() {
        return;
    }
    for is_pid1 in [false, true] {
        if is_pid1 && !needs_namespaces() {
            return;
        }
        let init = if is_pid1 { init().pid1() } else { init() };
        let mut app = App::start(init);
        system::signal(app.companion(), STOP);
        app.does("in_a_child(lambda: send(b'READY=1'))");
        system::signal(app.companion(), CONT);
        app.settled();
        if is_pid1 {
            app.becomes_ready();
        } else {
            pause(ms(300));
            assert!(!app.is_ready());
        }
    }
}

/// systemd-notify waits until its message was taken, so it is there to be looked at: also where that can be done alone.
#[test]
fn systemd_notify_is_heard_by_its_barrier() {
    if !needs_python() || !needs_program("systemd-notify") {
        return;
    }
    at_both_levels(|init| {
        let mut app = App::start(init());
        app.does(
            "assert subprocess.call(['systemd-notify', '--ready', '--status=by a script']) == 0",
        );
        app.becomes_ready();
        app.does("assert subprocess.call(['systemd-notify', 'STOPPING=1']) == 0");
        assert!(becomes_true(LIMIT, || app.probe().contains("status: by a script")));
    });
}

#[test]
fn descriptors_that_come_with_a_message_are_closed_and_the_message_counts() {
    if !needs_python() {
        return;
    }
    let mut app = App::start(init());
    app.settled();
    let before = descriptors(app.companion());
    app.does("pipes = [os.pipe() for _ in range(200)]; ends = [w for r, w in pipes]");
    app.does("send_with(b'BARRIER=1', ends[0]); os.close(ends[0])");
    app.does("assert os.read(pipes[0][0], 1) == b''");
    app.does(
        "[send_with(b'FDSTORE=1', *ends[1:]) for _ in range(20)]; [os.close(w) for w in ends[1:]]",
    );
    app.does("assert [os.read(r, 1) for r, w in pipes[1:]] == [b''] * 199");
    app.settled();
    assert_eq!(descriptors(app.companion()), before);
    app.does("r, w = os.pipe(); send_with(b'READY=1', w)");
    app.becomes_ready();
}

/// At least so many, as fast as they are taken.
const MANY: usize = 10_000;

#[test]
fn ten_thousand_messages_a_second_cost_pid_1_nothing() {
    if !needs_python() {
        return;
    }
    let mut app = App::start(init());
    app.does("send(b'READY=1')");
    app.becomes_ready();
    let name = app.name();
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let stranger = UnixDatagram::unbound().expect("a socket");
    let mut send = |count: usize| {
        let began = now();
        for number in 0..count {
            let message = if number % 2 == 0 { &b"STOPPING=1"[..] } else { &[0xff; 3000] };
            stranger.send_to_addr(message, &address).expect("sent");
        }
        println!("{count} of a stranger in {:?}", began.elapsed());
        let began = now();
        let message = "b'STATUS=%d' % n if n % 2 else b'READY=1\\n' * 300";
        app.does(&format!("[send({message}) for n in range({count})]"));
        println!("{count} of the app in {:?}", began.elapsed());
        pause(ms(1200)); // PID 1 has started the next companion, and nothing is left to do
        (cost(&app.run), status_of(app.companion(), "RssAnon"))
    };
    let (before, after) = (send(100), send(MANY));
    println!("PID 1's kB and switches, the companion's kB: {before:?}, then {after:?}");
    assert_eq!(after.0.0, before.0.0, "PID 1's memory");
    assert!(after.0.1 <= before.0.1 + 2, "PID 1 has woken up");
    assert!(after.1 <= before.1 + 8, "the companion's memory");
    assert!(app.is_ready());
}

/// An app that changes its mind all the time has PID 1 start a companion a second at most.
#[test]
fn an_app_that_is_ready_and_not_in_turn_keeps_pid_1_from_nothing() {
    if !needs_python() {
        return;
    }
    let mut app = App::start(init().args("--delay 0"));
    app.begins("[send(b'READY=1' if n % 2 else b'STOPPING=1') for n in range(20000)]");
    pause(ms(2000));
    let (_, before) = cost(&app.run);
    pause(ms(3000));
    let (_, after) = cost(&app.run);
    println!("PID 1 has woken up {} times in 3 s", after - before);
    assert!(after - before < 100, "{} times", after - before);
    let asked = app.run.signal(TERM);
    // Python is in a system call that goes on after its handler, or not; the signal is what counts.
    let told = app.run.line("told") - asked;
    assert!(told < LIMIT, "{told:?}");
}

#[test]
fn nothing_wakes_up_once_the_app_is_ready() {
    if !needs_python() {
        return;
    }
    let mut app = App::start(init().arg("-v"));
    app.does(r"send(b'READY=1\nSTATUS=up')");
    app.becomes_ready();
    pause(ms(1500)); // a status that has to wait is logged a second later
    let companions =
        [app.run.pid, app.companion(), companion_of(app.run.pid, "ready-notified").expect("it")];
    let count = || {
        companions.map(|pid| {
            status_of(pid, "voluntary_ctxt_switches") + status_of(pid, "nonvoluntary_ctxt_switches")
        })
    };
    let before = count();
    pause(ms(3000));
    assert_eq!(count(), before);
    app.run.log("the app says: up");
}

#[test]
fn companions_that_are_killed_forget_nothing_and_lose_no_message() {
    if !needs_python() {
        return;
    }
    at_both_levels(|init| {
        let folder = Folder::new();
        let file = folder.path("ready");
        let mut app = App::start(init().arg("--ready-file").arg(&file));
        app.does("send(b'STATUS=first')");
        assert!(becomes_true(LIMIT, || app.probe().contains("status: first")));
        system::signal(app.companion(), STOP);
        app.does("send(b'READY=1')");
        system::signal(app.companion(), KILL);
        app.becomes_ready();
        let server = companion_of(app.run.pid, "ready-notified").expect("the server");
        system::signal(server, KILL);
        assert!(becomes_true(LIMIT, || app.is_ready()), "{}", app.probe());
        assert!(becomes_true(LIMIT, || file.exists()));
        let made = || fs::metadata(&file).and_then(|file| file.modified()).expect("it is there");
        let at_first = made();
        let before = app.companion();
        system::signal(before, KILL);
        assert!(becomes_true(LIMIT, || app.companion() != before));
        pause(ms(300));
        assert!(app.is_ready());
        assert_eq!(made(), at_first, "it was made anew");
        app.does("send(b'STOPPING=1')");
        assert!(becomes_true(LIMIT, || app.probe().contains("STOPPING=1; status: first")));
    });
}

#[test]
fn a_status_is_logged_with_v_and_not_more_often_than_each_second() {
    if !needs_python() {
        return;
    }
    let mut app = App::start(init().args("-v --log-format json"));
    let began = now();
    app.does("[send(b'STATUS=step %d' % n) for n in range(1000)]");
    app.run.log("\"event\":\"status\",\"msg\":\"the app says: step ");
    app.run.log("the app says: step 999");
    app.run.signal(TERM);
    let ended = app.run.ended();
    let lines = ended.err.iter().filter(|line| line.contains("\"event\":\"status\"")).count();
    assert!(lines as u64 <= 2 + began.elapsed().as_secs(), "{lines} lines");
}

/// As podman (sdnotify=container) and systemd set it.
#[test]
fn a_socket_of_the_callers_reaches_the_app_untouched() {
    at_both_levels(|init| {
        for name in ["/run/notify/notify.sock", "@abstract", ""] {
            let init = init().env("NOTIFY_SOCKET", name).env("LISTEN_PID", "1000000");
            let ended = init.command(["/usr/bin/env"]).ended();
            assert!(ended.out.contains(&format!("NOTIFY_SOCKET={name}")), "{ended:?}");
            assert!(ended.out.contains(&"LISTEN_PID=1000000".to_owned()), "{ended:?}");
        }
        let ended = init().command(["/usr/bin/env"]).ended();
        assert!(!ended.out.iter().any(|line| line.starts_with("NOTIFY_SOCKET=")), "{ended:?}");
    });
}

/// The app has its own one in place of the caller's, once; what drain-init runs besides has the caller's; and the caller, which may
/// wait for it, gets the app's messages.
#[test]
fn with_the_option_the_app_has_its_own_and_the_callers_gets_the_messages() {
    if !needs_python() {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("socket");
    let caller = UnixDatagram::bind(&path).expect("a socket");
    caller.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let handler = "exec:/bin/sh -c 'echo handler has $NOTIFY_SOCKET >&2'";
    let init = init().env("NOTIFY_SOCKET", &path).env("LISTEN_PID", "1000000");
    let mut app = App::start(init.args("--delay 0 --on-drain").arg(handler));
    let variables = fs::read(format!("/proc/{}/environ", app.app())).expect("its environment");
    let variables: Vec<_> =
        variables.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let sockets: Vec<_> =
        variables.iter().filter(|text| text.starts_with("NOTIFY_SOCKET=")).collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    assert!(sockets[0].starts_with("NOTIFY_SOCKET=@drain-init/"), "{sockets:?}");
    assert!(variables.iter().any(|text| text == "LISTEN_PID=1000000"), "{variables:?}");
    let address = SocketAddr::from_abstract_name(app.name()).expect("an address");
    UnixDatagram::unbound().expect("a socket").send_to_addr(b"READY=1", &address).expect("sent");
    app.does(r"send(b'STATUS=on its way'); send(b'READY=1\nWATCHDOG=1')");
    let mut place = [0; 100];
    for expected in [&b"STATUS=on its way"[..], b"READY=1\nWATCHDOG=1"] {
        let length = caller.recv(&mut place).expect("a message");
        assert_eq!(&place[..length], expected);
    }
    // A caller that takes no more holds nobody up.
    app.does("[send(b'WATCHDOG=1') for _ in range(2000)]");
    app.becomes_ready();
    app.run.signal(TERM);
    app.run.log(&format!("handler has {}", path.display()));
}

/// First what the start waits for is told, then what the app says.
#[test]
fn an_app_that_is_started_later_says_so_then() {
    let (folder, port) = (Folder::new(), free_port());
    let needed = folder.path("needed");
    let init = init().args("--ready-notify --ready-listen").arg(format!("127.0.0.1:{port}"));
    let init = init.arg("--start-after").arg(format!("file:{}", needed.display()));
    let app = ["notify:STATUS=here", "ready", "until:10", "notify:READY=1", "until:15", "exit:3"];
    let mut run = init.app(app).start();
    assert!(becomes_true(LIMIT, || probe(port).contains("starting: waiting for file:")));
    fs::write(&needed, "").expect("written");
    run.line("ready");
    let says = "starting: the app has not sent READY=1; status: here";
    assert!(becomes_true(LIMIT, || probe(port).contains(says)), "{}", probe(port));
    run.signal(10);
    assert!(becomes_true(LIMIT, || probe(port).starts_with("HTTP/1.1 200 ")), "{}", probe(port));
}

#[test]
fn it_is_said_where_the_option_has_no_effect_and_explained_where_it_has() {
    let ended = init().arg("--ready-notify").command(["/bin/true"]).ended();
    let line = "drain-init: --ready-notify: has no effect without --ready-file or --ready-listen";
    assert_eq!(ended.err, [line]);
    let ended = init().args("explain --ready-notify --ready-file /tmp/ready").ended();
    assert!(ended.out[0].contains("ready only when the app has sent READY=1"), "{ended:?}");
}

/// A server that speaks it, started late: not ready before, and accepting when it is.
#[track_caller]
fn serves_when_ready(command: &str, serves: impl Fn() -> bool, status: Option<&str>) {
    let port = free_port();
    let init = init().args("-v --delay 0 --ready-notify --ready-listen");
    let init = init.arg(format!("127.0.0.1:{port}"));
    let script = format!("echo begun; sleep 0.7; exec {command}");
    let mut run = init.command(["/bin/sh", "-c", &script]).stderr(Stdio::piped()).start();
    let begun = run.line("begun");
    assert!(becomes_true(LIMIT, || probe(port).contains("starting: the app has not sent READY=1")));
    assert!(becomes_true(LIMIT, || probe(port).starts_with("HTTP/1.1 200 ")), "{}", probe(port));
    println!("ready after {:?}", begun.elapsed());
    assert!(begun.elapsed() >= ms(700), "before it was started");
    assert!(serves(), "ready, and doesn't serve");
    if let Some(status) = status {
        run.log(&format!("the app says: {status}"));
    }
    run.signal(TERM);
    run.ended();
}

#[test]
fn haproxy_is_ready_when_it_says_so() {
    if !needs_program("haproxy") {
        return;
    }
    let (folder, port) = (Folder::new(), free_port());
    let configuration = folder.path("haproxy.cfg");
    let text = format!(
        "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n\
         frontend f\n bind 127.0.0.1:{port}\n http-request return status 200\n"
    );
    fs::write(&configuration, text).expect("written");
    let command = format!("haproxy -Ws -f {}", configuration.display());
    serves_when_ready(&command, || TcpStream::connect(("127.0.0.1", port)).is_ok(), None);
}

#[test]
fn php_fpm_is_ready_when_it_says_so() {
    let names = fs::read_dir("/usr/sbin").expect("a folder").flatten().map(|entry| entry.path());
    let program = names.into_iter().find(|path| path.to_string_lossy().contains("/php-fpm"));
    if !needs("PHP-FPM", program.is_some()) {
        return;
    }
    let (folder, port) = (Folder::new(), free_port());
    let configuration = folder.path("fpm.conf");
    let text = format!(
        "[global]\nerror_log=/dev/stderr\ndaemonize=no\n\
         [www]\nlisten=127.0.0.1:{port}\nuser=nobody\ngroup=nogroup\npm=static\npm.max_children=1\n"
    );
    fs::write(&configuration, text).expect("written");
    let program = program.expect("was looked for");
    let command = format!("{} -F -y {}", program.display(), configuration.display());
    let serves = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    serves_when_ready(&command, serves, Some("Ready to handle connections"));
}
