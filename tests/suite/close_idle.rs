//! --close-idle and --in-flight from the outside: the binary with a real server as its app, each in a network of its own, and clients
//! that keep their connections. src/drain/closing has the race between a request and a close, src/pid1/lender what a borrower may ask.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::confined::{Verdict, call, filter};
use crate::support::control::busy;
use crate::support::http::{Client, clients, get};
use crate::support::system::{now, pause, take_descriptor};
use crate::support::{
    Folder, Init, Kind, LIMIT, Line, Running, becomes_true, companion_of, in_networks, init, kept,
    ms, needs_program, needs_root, server, slack, static_init,
};
use nix::sys::socket::{getsockopt, sockopt::SockType};

const TERM: i32 = 15;
const V4: &str = "127.0.0.1:8080";

/// --until-quiet in most tests.
const QUIET: Duration = Duration::from_secs(1);
/// Until the last connection is gone, on a loaded machine.
const SOON: Duration = Duration::from_secs(3);

/// `SOON` on an idle machine, later by the control on a busy one.
fn soon() -> Duration {
    SOON + busy()
}

fn can_run() -> bool {
    needs_root() && needs_program("python3")
}

// ---- the app

struct App {
    run: Running,
    address: SocketAddr,
}

fn hyper(listen: &str) -> Vec<String> {
    let program = server().display().to_string();
    [&program, "--quiet", "--listen", listen].map(str::to_owned).into()
}

impl App {
    fn start(init: Init, options: &str, command: &[String], address: &str) -> Self {
        let init = init.args("--delay 0 --until-quiet 1s").args(options);
        let mut run = init.pid1().command(command).start();
        run.line_with("listening");
        Self { run, address: address.parse().expect("an address") }
    }

    fn stop(&self) -> Instant {
        self.run.signal(TERM)
    }

    /// Waits for the drain's end.
    fn over(&mut self) -> Line {
        let line = self.run.log("drain over after ");
        println!("{}", line.text);
        line
    }

    fn clients(&self, count: usize) -> Vec<Client> {
        clients(self.address, count)
    }
}

/// Whether the server has closed it, and when that was seen.
fn closed_by(client: &mut Client, limit: Instant) -> bool {
    while now() < limit {
        if client.is_at_its_end() {
            return true;
        }
        pause(ms(5));
    }
    false
}

// ---- what is closed

#[test]
fn kept_connections_are_closed_and_the_drain_is_over() {
    if !can_run() {
        return;
    }
    let cases = [
        ("hyper", hyper(V4), V4),
        ("one loop", kept("--listen 127.0.0.1:8080"), V4),
        ("workers", kept("--listen 127.0.0.1:8080 --workers 3"), V4),
        ("over IPv6", kept("--listen [::]:8080"), "[::1]:8080"),
        ("IPv4 on an IPv6 socket", kept("--listen [::]:8080"), V4),
    ];
    in_networks(&cases, |(what, command, address)| {
        let mut app = App::start(init(), "-v --close-idle 100ms --max-delay 20s", command, address);
        let mut clients = app.clients(20);
        pause(ms(300));
        let stopped = app.stop();
        let over = app.over();
        assert!(over.text.contains("closed 20 of 20 kept connections"), "{what}: {}", over.text);
        let lasted = over.at - stopped;
        assert!(lasted + ms(10) >= QUIET && lasted < QUIET + soon(), "{what}: {lasted:?}");
        for client in &mut clients {
            assert!(closed_by(client, now() + LIMIT), "{what}");
        }
        app.run.ended();
    });
}

/// Where a client still routes here, it comes back, and the drain goes on.
#[test]
fn a_client_that_comes_back_starts_the_window_anew() {
    if !can_run() {
        return;
    }
    in_networks(&[()], |()| {
        let mut app = App::start(init(), "--close-idle 100ms --max-delay 20s", &hyper(V4), V4);
        let (address, mut client) = (app.address, app.clients(1).remove(0));
        let stopped = app.stop();
        let mut last = stopped;
        let mut back = 0;
        while now() < stopped + ms(3500) {
            pause(ms(300));
            if client.is_at_its_end() {
                last = now();
                client = Client::connect(address).expect("connected");
                back += 1;
            }
            client.get("/").expect("answered");
        }
        assert!((1..=3).contains(&back), "closed {back} times, once a window");
        let over = app.over();
        assert!(over.at + ms(10) >= last + QUIET, "{:?} too soon", last + QUIET - over.at);
    });
}

/// A request in flight is never closed or cut off, however long it takes.
#[test]
fn nothing_is_closed_before_its_answer_is_out() {
    if !can_run() {
        return;
    }
    type Exchange = fn(&mut Client) -> std::io::Result<usize>;
    let cases: [(&str, Exchange); 4] = [
        ("a stream of a piece each 100 ms", |client| client.get("/stream/4")),
        ("a download that is read late", |client| {
            client.ask("/bytes/16")?;
            pause(ms(3000));
            client.answer()
        }),
        ("an upload", |client| client.upload(40, ms(100))),
        ("a long poll", |client| client.get("/slow/6")),
    ];
    in_networks(&cases, |(what, exchange)| {
        let mut app = App::start(init(), "--close-idle 200ms --max-delay 25s", &hyper(V4), V4);
        let mut client = app.clients(1).remove(0);
        let answered = thread::scope(|scope| {
            let answer = scope.spawn(move || {
                let length = exchange(&mut client).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(length > 3, "{what}: {length} bytes");
                let answered = now();
                assert!(closed_by(&mut client, answered + LIMIT), "{what}: closed afterwards");
                answered
            });
            pause(ms(100));
            let stopped = app.stop();
            let answered = answer.join().expect("answered");
            assert!(answered - stopped > QUIET * 2, "{what}: too soon to show anything");
            answered
        });
        let over = app.over();
        assert!(over.text.contains("closed 1 of 1 kept connection"), "{what}: {}", over.text);
        assert!(over.at + ms(10) > answered, "{what}");
    });
}

/// docs/choosing.md says so: a stream that is silent for longer than D is closed between two pieces.
#[test]
fn events_that_come_more_seldom_than_d_are_closed_between_two() {
    if !can_run() {
        return;
    }
    in_networks(&[("200ms", true), ("2s", false)], |(idle, closes)| {
        let options = format!("--close-idle {idle} --max-delay 5s");
        let command = kept("--listen 127.0.0.1:8080");
        let mut app = App::start(init(), &options, &command, V4);
        let mut client = Client::connect(app.address).expect("connected");
        client.ask("/events/1").expect("asked");
        pause(ms(1500));
        let stopped = app.stop();
        let lasted = app.over().at - stopped;
        // In the last tenth it has its chance.
        assert_eq!(lasted < ms(4400) + busy().min(ms(500)), *closes, "{idle}: {lasted:?}");
    });
}

#[test]
fn what_is_not_watched_or_not_to_be_counted_is_left_alone() {
    if !can_run() {
        return;
    }
    let two = kept("--listen 127.0.0.1:8080 --listen 127.0.0.1:9090");
    let cases = [
        ("--watch-port 9090", 0, V4),
        ("--watch-port 8080", 1, V4),
        ("--ignore-peer 127.0.0.0/8", 0, V4),
        ("", 1, V4),
    ];
    in_networks(&cases, |(options, closed, address)| {
        let options = format!("--close-idle 100ms --max-delay 20s {options}");
        let mut app = App::start(init(), &options, &two, address);
        let mut client = app.clients(1).remove(0);
        app.stop();
        let over = app.over();
        let expected = format!("closed {closed} of {closed} kept connection");
        assert!(over.text.contains(&expected), "{options}: {}", over.text);
        if *closed == 0 {
            // The app's own end is what closed it.
            app.run.ended();
        }
        assert!(closed_by(&mut client, now() + LIMIT));
    });
}

/// A server that takes no notice keeps its connections, and they hold nothing up by being there.
#[test]
fn what_the_app_does_not_close_holds_nothing_up() {
    if !can_run() {
        return;
    }
    in_networks(&[()], |()| {
        let command = kept("--listen 127.0.0.1:8080 --deaf");
        let mut app = App::start(init(), "--close-idle 100ms --max-delay 20s", &command, V4);
        let _clients = app.clients(3);
        let stopped = app.stop();
        let over = app.over();
        assert!(over.text.contains("closed 0 of 3 kept connections"), "{}", over.text);
        assert!(over.at - stopped < QUIET + soon(), "{:?}", over.at - stopped);
    });
}

/// In the last tenth of --max-delay each connection has less and less to be idle for.
#[test]
fn hot_connections_have_their_chance_before_the_cut() {
    if !can_run() {
        return;
    }
    static_init(); // is built before any time is measured
    in_networks(&[()], |()| {
        let options = "-v --close-idle 500ms --max-delay 4s";
        // The release build: a debug build takes ten times as long for a sample.
        let init = Init::new(Kind::DrainInit, static_init());
        let mut app = App::start(init, options, &hyper(V4), V4);
        let address = app.address;
        let stopped = thread::scope(|scope| {
            let clients: Vec<_> = app.clients(20).into_iter().collect();
            let hot = |(index, mut client): (u64, Client)| {
                scope.spawn(move || {
                    pause(ms(index * 7)); // out of step
                    let limit = now() + LIMIT;
                    while now() < limit {
                        let asked = now();
                        match client.get("/slow/0.1") {
                            // It was being closed.
                            Err(e) if now() - asked < ms(50) + busy() => return drop(e),
                            Err(e) => panic!("cut {:?} after it was sent: {e}", now() - asked),
                            Ok(_) if client.is_at_its_end() => return,
                            Ok(_) => pause(ms(10)),
                        }
                    }
                    panic!("it was never closed")
                })
            };
            let clients: Vec<_> = (0..).zip(clients).map(hot).collect();
            pause(ms(300));
            let stopped = app.stop();
            clients.into_iter().for_each(|client| client.join().expect("not cut"));
            stopped
        });
        let over = app.over();
        assert!(over.text.contains("closed 20 of 20 kept connections"), "{}", over.text);
        let lasted = over.at - stopped;
        assert!(lasted > ms(3500) && lasted < ms(5000) + busy(), "{lasted:?}");
        assert!(get(address, "/").is_err(), "the app has been told");
    });
}

// ---- where the app finishes

#[test]
fn what_is_in_flight_is_left_to_an_app_that_stops_gracefully() {
    if !can_run() {
        return;
    }
    in_networks(&["/slow/5", "/stream/5"], |path| {
        let mut command = hyper(V4);
        command.extend(["--on-term".to_owned(), "graceful".to_owned()]);
        let mut app = App::start(init(), "--in-flight app --max-delay 9s", &command, V4);
        let mut client = app.clients(1).remove(0);
        let answer = thread::scope(|scope| {
            let answer = scope.spawn(move || client.get(path));
            pause(ms(200));
            let stopped = app.stop();
            let over = app.over();
            assert!(over.at - stopped < QUIET + soon(), "{:?}", over.at - stopped);
            assert!(over.text.contains("1 in flight for the app to finish"), "{}", over.text);
            answer.join().expect("no panic")
        });
        assert!(answer.expect("answered") > 3);
        assert_eq!(app.run.ended().code, 0);
    });
}

// ---- where it may not

/// Everything is then as without: the window is that of --quiet-on, and it is said once.
fn refused(init: fn() -> Init, command: &[String], part: &str) {
    in_networks(&[("requests", false), ("connections", true)], |(quiet_on, ends)| {
        let options = format!("--close-idle 100ms --max-delay 4s --quiet-on {quiet_on}");
        let mut app = App::start(init(), &options, command, V4);
        let (address, mut client) = (app.address, app.clients(1).remove(0));
        let stopped = app.stop();
        let over = thread::scope(|scope| {
            scope.spawn(move || {
                while client.get("/").is_ok() {
                    pause(ms(200));
                }
            });
            app.over()
        });
        let lasted = over.at - stopped;
        assert_eq!(lasted < ms(3500), *ends, "{quiet_on}: {lasted:?}");
        assert!(!over.text.contains("closed"), "{}", over.text);
        let log = app.run.ended().log();
        assert_eq!(log.matches("idle connections cannot be closed").count(), 1, "{log}");
        assert!(log.contains(part), "{log}");
        assert!(get(address, "/").is_err());
    });
}

#[test]
fn a_filter_that_denies_it_is_said_once_and_everything_is_as_without() {
    if !can_run() {
        return;
    }
    let filtered = || {
        let denied = filter([call("pidfd_getfd")], Verdict::Fails(libc::EPERM), Verdict::Allowed);
        init().filtered(denied)
    };
    refused(filtered, &hyper(V4), "the seccomp profile denies pidfd_getfd");
}

#[test]
fn an_app_of_another_user_is_said_once_and_everything_is_as_without() {
    if !can_run() {
        return;
    }
    let without = || init().under(["setpriv", "--bounding-set", "-sys_ptrace"]);
    let command = kept("--listen 127.0.0.1:8080 --user 65534");
    refused(without, &command, "the app runs as another user");
}

// ---- a hook

#[test]
fn a_hook_by_itself_closes_them_where_it_may() {
    if !can_run() || !needs_program("tini") {
        return;
    }
    in_networks(&[()], |()| {
        let tini = Init::new(Kind::Tini, "/usr/bin/tini".into());
        let mut run = tini.pid1().command(hyper(V4)).start();
        run.line_with("listening");
        let app = App { run, address: V4.parse().expect("an address") };
        let mut clients = app.clients(5);
        pause(ms(300));
        let hook = "prestop --delay 0 --until-quiet 1s --close-idle 100ms --max-delay 20s";
        let began = now();
        let ended = init().beside(&app.run).args(hook).ended();
        let log = ended.log();
        assert!(ended.code == 0 && log.contains("closed 5 of 5 kept connections"), "{log}");
        assert!(now() - began < QUIET + soon(), "{:?}", now() - began);
        for client in &mut clients {
            assert!(closed_by(client, now() + LIMIT));
        }
        app.run.killed();
    });
}

// ---- who takes them

/// Yama lets only an ancestor take a descriptor of the app, and the companion is a sibling of the app.
#[test]
fn the_entrypoint_takes_each_connection_and_its_companion_none() {
    if !can_run() || !needs_program("strace") {
        return;
    }
    in_networks(&[()], |()| {
        let folder = Folder::new();
        let trace = folder.path("trace");
        let words =
            ["strace", "-f", "-D", "-qq", "-e", "signal=none", "-e", "trace=pidfd_getfd", "-o"];
        let words = words.into_iter().map(OsString::from).chain([trace.clone().into()]);
        let options = "--close-idle 100ms --max-delay 20s --orphan-grace 0";
        let command = kept("--listen 127.0.0.1:8080");
        let mut app = App::start(init().under(words), options, &command, V4);
        let _clients = app.clients(3);
        pause(ms(300));
        app.stop();
        assert!(app.over().text.contains("closed 3 of 3 kept connections"));
        app.run.ended();
        let trace = fs::read_to_string(trace).expect("the trace");
        // One fails on purpose: it asks whether the call is permitted.
        let taken = trace.lines().filter(|line| !line.contains(" = -1 "));
        let by: Vec<&str> = taken.filter_map(|line| line.split_whitespace().next()).collect();
        assert!(by.len() >= 3 && by.iter().all(|pid| *pid == "1"), "{trace}");
    });
}

// ---- a companion that is not what it should be

/// The end of the socketpair that its drain companion has.
fn borrowers_end(run: &Running) -> UnixDatagram {
    let mut found = None;
    assert!(becomes_true(LIMIT, || {
        found = companion_of(run.pid, "drain").and_then(|pid| {
            // Beside the netlink sockets it is the one socket of this kind.
            let numbers = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
            let numbers = numbers.filter_map(|it| it.file_name().to_str()?.parse().ok());
            let mut taken = numbers.filter_map(|number| take_descriptor(pid, number).ok());
            taken.find(|it| {
                let kind = getsockopt(it, SockType).ok();
                kind == Some(nix::sys::socket::SockType::SeqPacket)
            })
        });
        found.is_some()
    }));
    // It sends and receives in the same way.
    UnixDatagram::from(found.expect("found"))
}

#[test]
fn a_flood_of_requests_delays_no_signal() {
    if !needs_root() {
        return;
    }
    let start = || {
        let options =
            "--delay 4s --until-quiet 1s --close-idle 100ms --watch-port 1 --max-delay 5s";
        let init = Init::new(Kind::DrainInit, static_init());
        let mut run = init.args(options).app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        run
    };
    // Of these the last two have higher numbers than SIGCHLD, which tells of requests.
    let worst = |run: &mut Running| {
        let times = [10, 12, 28, 40].repeat(100).into_iter().map(|it| run.time_to_forward(it));
        times.max().unwrap_or_default()
    };
    let mut run = start();
    let control = worst(&mut run);
    let stopped = run.signal(TERM);
    let socket = borrowers_end(&run);
    socket.set_nonblocking(true).expect("set");
    let (flooding, sent) = (AtomicBool::new(true), AtomicU64::new(0));
    let meanwhile = thread::scope(|scope| {
        scope.spawn(|| {
            let mut record = [0; 16];
            let mut number = 0_u64;
            while flooding.load(Ordering::Relaxed) {
                number += 1;
                // Pids and descriptors that are there, and that are not.
                record[..8].copy_from_slice(&(number % 9).to_ne_bytes());
                record[8..12].copy_from_slice(&(number as u32 % 5).to_ne_bytes());
                record[12..].copy_from_slice(&(std::process::id()).to_ne_bytes());
                if socket.send(&record).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let meanwhile = worst(&mut run);
        flooding.store(false, Ordering::Relaxed);
        meanwhile
    });
    let sent = sent.into_inner();
    println!("worst of 400 signals: {control:?}, with {sent} requests meanwhile {meanwhile:?}");
    assert!(sent > 200, "{sent} requests");
    assert!(meanwhile < ms(50) + slack(), "{meanwhile:?}, {control:?} before");
    assert!(run.line("signal 15") - stopped >= ms(4000), "the drain goes on");
    assert_eq!(run.ended().code, 3);

    // Nonsense ends the lending, and no more than that.
    let mut run = start();
    let stopped = run.signal(TERM);
    let socket = borrowers_end(&run);
    socket.send(&[1, 2, 3]).expect("sent");
    assert!(becomes_true(LIMIT, || socket.send(&[0; 16]).is_err()), "it is closed");
    run.time_to_forward(10);
    let told = run.line("signal 15") - stopped;
    assert!(told >= ms(4000) && told < ms(8000) + busy(), "{told:?}");
    assert_eq!(run.ended().code, 3);
}

/// It holds the drain no longer than one that hangs anywhere else.
#[test]
fn a_borrower_that_is_killed_or_hangs_changes_nothing() {
    if !can_run() {
        return;
    }
    in_networks(&[(9, 4), (19, 5)], |&(signal, over)| {
        let options = "--close-idle 100ms --max-delay 4s";
        let mut app = App::start(init(), options, &kept("--listen 127.0.0.1:8080"), V4);
        let mut client = app.clients(1).remove(0);
        // A request in flight, so that the drain is not over before its companion is found.
        let mut waiting = Client::connect(app.address).expect("connected");
        waiting.ask("/after/3").expect("asked");
        let stopped = app.stop();
        let mut companion = 0;
        assert!(becomes_true(LIMIT, || {
            companion = companion_of(app.run.pid, "drain").unwrap_or(0);
            companion > 0
        }));
        pause(ms(100));
        support::system::signal(companion, signal);
        client.get("/").expect("answered");
        let told = app.over().at - stopped;
        assert!(told + ms(100) >= ms(4000) && told < ms(over * 1000 + 2000) + busy(), "{told:?}");
    });
}

// ---- faults

#[test]
fn a_call_that_fails_once_or_for_ever_makes_no_drain_longer_than_without() {
    if !can_run() || !needs_program("strace") {
        return;
    }
    let mut cases = vec![];
    for (call, error) in [
        ("pidfd_open", "EPERM"),
        ("pidfd_getfd", "EPERM"),
        ("pidfd_getfd", "EMFILE"),
        ("sendmsg", "EAGAIN"),
        ("recvmsg", "ENOMEM"),
        ("getsockopt", "EINVAL"),
        ("shutdown", "ENOTCONN"),
        ("socketpair", "EMFILE"),
    ] {
        cases.push(format!("{call}:error={error}:when=1+"));
        if ["EPERM", "EAGAIN", "ENOTCONN"].contains(&error) {
            cases.push(format!("{call}:error={error}:when=1"));
        }
    }
    for some in cases.chunks(6) {
        in_networks(some, |rule| {
            let words = ["strace", "-f", "-D", "-qq", "-o", "/dev/null", "-e"];
            let inject = format!("inject={rule}");
            let words = words.into_iter().chain([inject.as_str()]).map(OsString::from);
            let init = Init::new(Kind::DrainInit, static_init()).under(words);
            // The server makes none of these calls: what fails is drain-init's. The tracer is an orphan, which would get
            // the rest of the grace period.
            let options = "--close-idle 100ms --max-delay 20s --orphan-grace 0";
            let mut app = App::start(init, options, &kept("--listen 127.0.0.1:8080"), V4);
            let _clients = app.clients(3);
            pause(ms(300));
            let lasted = (app.stop(), app.over().at);
            let lasted = lasted.1 - lasted.0;
            assert!(lasted + ms(10) >= QUIET && lasted < QUIET + soon() * 4, "{rule}: {lasted:?}");
            assert_eq!(app.run.ended().code, 128 + TERM, "{rule}");
        });
    }
}
