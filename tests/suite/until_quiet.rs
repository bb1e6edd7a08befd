//! --until-quiet from the outside: the binary with a real HTTP server as its app, each in a network namespace of its own, and
//! clients of many kinds. The server ends by SIGTERM's default action, with whatever is in flight: what the drain doesn't
//! wait for is lost. src/drain/traffic has the finer tests of what is seen.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::control::busy;
use crate::support::http::{Client, answered, get, steady};
use crate::support::system::{NetworkBeside, now, pause};
use crate::support::{
    Folder, Init, Kind, LIMIT, Line, Running, becomes_true, children_of, in_networks, init, ms,
    needs_program, needs_root, needs_static, server, slack, static_init,
};

const TERM: i32 = 15;
const V4: &str = "127.0.0.1:8080";
const V6: &str = "[::1]:8080";

/// --until-quiet in most tests.
const QUIET: Duration = Duration::from_secs(1);

/// How much later than at the end of the quiet time the drain may end.
fn late() -> Duration {
    ms(1700) + slack()
}

/// The kernel's ages are in its ticks.
const TICK: Duration = Duration::from_millis(10);

fn can_run() -> bool {
    needs_root()
}

// ---- the app

struct App {
    run: Running,
    address: SocketAddr,
    /// The line that must be in the log once, before the drain is over.
    announced: Option<&'static str>,
}

impl App {
    /// Under drain-init with these options, and listening there.
    fn start(init: Init, options: &str, listen: &str) -> Self {
        Self::started(init.args("--delay 0 --until-quiet 1s").args(options), listen, "default")
    }

    fn started(init: Init, listen: &str, on_term: &str) -> Self {
        let words = ["--quiet", "--on-term", on_term, "--listen", listen].map(Into::into);
        let words = [server().into_os_string()].into_iter().chain(words);
        let mut run = init.pid1().command(words).start();
        run.line_with("listening on ");
        Self { run, address: listen.parse().expect("an address"), announced: None }
    }

    fn stop(&self) -> Instant {
        self.run.signal(TERM)
    }

    /// Waits for the drain's end.
    fn over(&mut self) -> Line {
        if let Some(announced) = self.announced {
            self.run.log(announced);
        }
        let line = self.run.log("drain over after ");
        println!("{}", line.text);
        line
    }

    /// The drain ends when this time has come, and not much later; how much.
    #[track_caller]
    fn over_at(&mut self, due: Instant) -> Duration {
        let over = self.over();
        let excess = over.at.saturating_duration_since(due);
        println!("    {excess:?} after it was due");
        assert!(over.at + TICK >= due, "{:?} too soon: {}", due - over.at, over.text);
        assert!(excess < late(), "{excess:?} too late: {}", over.text);
        excess
    }
}

/// The server alone, as a sidecar: in the network of the app, and in no other namespace of it.
fn sidecar(listen: &str) -> App {
    App::started(init().bare(), listen, "default")
}

/// Why the drain ended at its longest, which was so late. The companion has a second more for an instant with nothing in flight,
/// and takes nearly all of it: one that is later still, on a busy machine, is not waited for, and nobody says why.
#[track_caller]
fn says_why(log: &str, why: &str, late: Duration) {
    assert!(log.contains(why) || late >= ms(1000), "no `{why}`: {log}");
}

// ---- the tests

/// Prints how much longer the drain takes than the last connection and the quiet time.
fn ends_with_the_traffic(start: impl Fn(Init, &str) -> App + Sync) {
    static_init(); // is built before any time is measured
    let mut cases = vec![];
    for quiet_on in ["requests", "connections"] {
        for per_second in [200, 2] {
            cases.extend([500, 2000, 4000].map(|lag| (quiet_on, per_second, lag)));
        }
    }
    let mut excesses = in_networks(&cases, |&(quiet_on, per_second, lag)| {
        let options = format!("--max-delay 9s --quiet-on {quiet_on}");
        // The release build: a debug build takes ten times as long for a sample.
        let mut app = start(Init::new(Kind::DrainInit, static_init()), &options);
        answered(app.address);
        let until = app.stop() + ms(lag);
        let last = steady(ms(1000 / per_second), until, || answered(app.address));
        app.over_at(last + QUIET)
    });
    excesses.sort_unstable();
    let (median, worst) = (excesses[excesses.len() / 2], excesses[excesses.len() - 1]);
    println!("{} runs: excess over L + quiet: median {median:?}, worst {worst:?}", excesses.len());
    // A look that takes long is not taken often: what it costs grows with the connections of the whole machine.
    let (allowed, read) = (ms(200) + slack() + 50 * time_to_read_the_table(), excesses.len());
    assert!(median < allowed, "{median:?} in the middle of {read}, not {allowed:?}");
}

/// The worst of a few, in a network of its own as the drains had.
fn time_to_read_the_table() -> Duration {
    let read = |()| {
        let began = now();
        let tables =
            ["tcp", "tcp6"].map(|table| fs::read(format!("/proc/thread-self/net/{table}")));
        assert!(tables.iter().all(Result::is_ok), "{tables:?}");
        began.elapsed()
    };
    let times = in_networks(&[()], |()| (0..10).map(|_| read(())).max());
    let worst = times[0].expect("some");
    println!("reading the table of connections takes {worst:?} at most");
    worst
}

#[test]
fn the_drain_ends_with_the_traffic() {
    if !needs_static() || !can_run() {
        return;
    }
    ends_with_the_traffic(|init, options| App::start(init, options, V4));
}

fn short_connections_keep_it_going(start: impl Fn(&str) -> App + Sync) {
    in_networks(&[V4, V6], |&listen| {
        let mut app = start(listen);
        let until = app.stop() + ms(3000);
        let last = steady(ms(200), until, || answered(app.address));
        app.over_at(last + QUIET);
    });
}

#[test]
fn connections_of_a_millisecond_keep_the_drain_going() {
    if !can_run() {
        return;
    }
    short_connections_keep_it_going(|listen| {
        App::start(init(), "--max-delay 9s --quiet-on connections", listen)
    });
}

/// Checks requests that are sent just before the stop. Where netlink is denied, a keep-alive connection counts until it closes.
fn nothing_is_cut(start: impl Fn() -> App + Sync) {
    type Exchange = fn(&mut Client) -> io::Result<usize>;
    let cases: [(&str, bool, Exchange); 5] = [
        ("a slow answer", false, |client| client.get("/slow/6")),
        ("a slow answer on a used connection", true, |client| client.get("/slow/6")),
        ("a download", false, |client| client.get("/stream/3")),
        ("a download that is read late", false, |client| {
            client.ask("/bytes/16")?;
            pause(ms(2500));
            client.answer().inspect(|length| assert_eq!(*length, 16 << 20))
        }),
        ("an upload", false, |client| client.upload(30, ms(100))),
    ];
    in_networks(&cases, |&(what, used, exchange)| {
        let mut app = start();
        let mut client = Client::connect(app.address).expect("connected");
        if used {
            for _ in 0..3 {
                client.get("/").expect("answered");
            }
        }
        let (stopped, answered) = thread::scope(|scope| {
            let answer = scope.spawn(move || {
                let got = exchange(&mut client).unwrap_or_else(|e| panic!("{what}: {e}"));
                (got, now())
            });
            pause(ms(100));
            let stopped = app.stop();
            let (got, answered) = answer.join().expect("answered");
            assert!(got > 3, "{what}: {got} bytes");
            (stopped, answered)
        });
        assert!(answered - stopped > 2 * QUIET, "{what}: too soon to show anything");
        let over = app.over();
        let after = over.at.saturating_duration_since(answered);
        assert!(over.text.contains("quiet for 1s"), "{what}: {}", over.text);
        assert!(over.at + TICK > answered && after < QUIET + late(), "{what}: {after:?} after it");
    });
}

#[test]
fn what_is_in_flight_is_not_cut() {
    if !can_run() {
        return;
    }
    nothing_is_cut(|| App::start(init(), "--max-delay 9s", V4));
}

#[test]
fn idle_connections_hold_nothing_up() {
    if !can_run() {
        return;
    }
    in_networks(&["requests", "connections"], |on| {
        let mut app = App::start(init(), &format!("--max-delay 9s --quiet-on {on}"), V4);
        let connect = |_| Client::connect(app.address).expect("connected");
        let mut clients: Vec<_> = (0..50).map(connect).collect();
        for client in &mut clients {
            client.get("/").expect("answered");
        }
        let stopped = app.stop();
        app.over_at(stopped + QUIET);
        assert_eq!(
            app.run.ended().log().matches("(50 idle keep-alive connections left)").count(),
            1
        );
    });
}

/// A response takes 150 ms of each 250 ms, so ending at most instants would cut requests; so would ending exactly when the quiet
/// time or the longest drain is over. Clients send a request again if its connection was just being closed. (A response of more
/// than 200 ms looks like a stream for as long as the quiet time, and leaves no instant for such clients.)
#[test]
fn busy_connections_hold_it_by_their_requests_alone_and_none_is_cut() {
    if !can_run() {
        return;
    }
    let cases = [
        ("requests", ms(2125), "at its longest, 2.125s"),
        ("connections", ms(1125), "quiet for 1.125s"),
    ];
    in_networks(&cases, |&(on, due, why)| {
        let options = format!("--delay 0 --until-quiet 1125ms --max-delay 2125ms --quiet-on {on}");
        let mut app = App::started(init().args(&options), V4, "default");
        let connect = |_| Client::connect(app.address).expect("connected");
        let mut clients: Vec<_> = (0..10).map(connect).collect();
        for client in &mut clients {
            client.get("/").expect("answered");
        }
        pause(ms(100));
        let stopped = app.stop();
        let end = stopped + ms(4000) + slack();
        let (cut, over) = thread::scope(|scope| {
            // When it asked for what it got no answer to, and when it saw that.
            let until_cut = |mut client: Client| {
                scope.spawn(move || {
                    for turn in 0.. {
                        let next = stopped + ms(250) * turn;
                        pause(next.saturating_duration_since(now()));
                        assert!(next < end, "{on}: it goes on and on");
                        if client.ask("/slow/0.15").is_err() {
                            break;
                        }
                        let asked = now();
                        if client.answer().is_err() {
                            return Some((asked, now()));
                        }
                    }
                    None
                })
            };
            let clients: Vec<_> = clients.into_iter().map(until_cut).collect();
            let over = app.over_at(stopped + due);
            let cut = clients.into_iter().filter_map(|client| client.join().expect("a client"));
            (cut.collect::<Vec<_>>(), stopped + due + over)
        });
        // All see the server's end at once, the first one the least late.
        let ended = cut.iter().map(|(_, seen)| *seen).chain([over]).min().unwrap_or(over);
        for (asked, _) in cut {
            let lasted = ended.saturating_duration_since(asked);
            assert!(lasted < ms(75) + busy(), "{on}: cut after {lasted:?}");
        }
        says_why(&app.run.ended().log(), why, over.saturating_duration_since(stopped + due));
    });
}

#[test]
fn what_goes_on_for_ever_ends_at_the_longest() {
    if !can_run() {
        return;
    }
    in_networks(&["/stream/30", "/slow/30", "/bytes/16", "/upload"], |&path| {
        let mut app = App::start(init(), "--max-delay 2s", V4);
        let mut client = Client::connect(app.address).expect("connected");
        thread::scope(|scope| {
            // The server's end ends it; the others ask and read nothing.
            scope.spawn(|| match path {
                "/upload" => drop(client.upload(300, ms(100))),
                _ => client.ask(path).expect("asked"),
            });
            pause(ms(100));
            let stopped = app.stop();
            let late = app.over_at(stopped + ms(2000));
            let why = "at its longest, 2s: 1 request in flight on :8080";
            says_why(&app.run.ended().log(), why, late);
        });
    });
}

/// Of each: traffic that is none of the app's.
#[test]
fn the_traffic_of_others_does_not_hold_it() {
    if !can_run() {
        return;
    }
    let listen = "[::]:8080";
    let cases = [
        ("", "127.0.0.1:9090", "/", true),
        ("--watch-port 8080", "127.0.0.1:9090", "/", true),
        ("--ready-listen 127.0.0.1:9091", "127.0.0.1:9091", "/readyz", true),
        ("--ignore-peer 127.0.0.1", "127.0.0.1:8080", "/", true),
        ("--ignore-peer 127.0.0.0/8", "127.0.0.1:8080", "/", true),
        // The control: who is not ignored holds it.
        ("--ignore-peer ::1", "127.0.0.1:8080", "/", false),
    ];
    in_networks(&cases, |&(option, to, path, ends)| {
        let _sidecar = sidecar("127.0.0.1:9090");
        let mut app = App::start(init(), &format!("--max-delay 4s {option}"), listen);
        let to: SocketAddr = to.parse().expect("an address");
        // One answers 503 from now on: what matters is the connection.
        let ask = || drop(get(to, path));
        let stopped = app.stop();
        let late = thread::scope(|scope| {
            scope.spawn(|| steady(ms(200), stopped + ms(4000), ask));
            app.over_at(stopped + if ends { QUIET } else { ms(4000) })
        });
        let log = app.run.ended().log();
        if ends {
            assert!(log.contains("quiet for 1s"), "{option}: {log}");
        } else {
            says_why(&log, "at its longest", late);
        }
    });
}

/// A prober that nobody has told of, in a rhythm, while clients come when they like.
#[test]
fn who_held_it_is_named() {
    if !can_run() {
        return;
    }
    // Whether it is taken for a probe.
    let is_probe = |regular: bool| {
        // Longer than any pause, on a busy machine too.
        let options = "--delay 0 --until-quiet 5s --max-delay 6s";
        let mut app = App::started(init().args(options), V4, "default");
        let address = app.address;
        let end = app.stop() + ms(6000);
        thread::scope(|scope| {
            scope.spawn(move || {
                let ask = || drop(get(address, "/"));
                if regular {
                    steady(ms(1000), end, ask);
                    return;
                }
                // Each at least three times the one before or after.
                for wait in [600, 2000, 550, 1900, 600] {
                    pause(ms(wait).min(end.saturating_duration_since(now())));
                    ask();
                }
            });
            app.over_at(end);
        });
        let log = app.run.ended().log();
        assert!(log.contains("ago from 127.0.0.1 on :8080"), "{log}");
        log.contains("s: a probe? --ignore-peer 127.0.0.1")
    };
    in_networks(&[true, false], |&regular| {
        // On a busy machine the requests do not come, or are not seen, as they were meant to.
        assert!((0..4).any(|_| is_probe(regular) == regular), "regular: {regular}");
    });
}

#[test]
fn the_apps_own_requests_do_not_hold_it() {
    if !can_run() || !needs_program("curl") {
        return;
    }
    in_networks(&[()], |()| {
        let _other = sidecar("127.0.0.1:9090");
        let app = r#""$0" --quiet --listen 127.0.0.1:8080 &
                     while curl -s -o /dev/null http://127.0.0.1:9090/; do sleep 0.2; done"#;
        let init = init().args("--delay 0 --until-quiet 1s --max-delay 4s");
        let server = server();
        let words = ["sh".as_ref(), "-c".as_ref(), app.as_ref(), server.as_os_str()];
        let mut run = init.pid1().command(words).start();
        run.line_with("listening on ");
        let address = V4.parse().expect("an address");
        let mut app = App { run, address, announced: None };
        answered(address);
        pause(ms(300));
        let stopped = app.stop();
        app.over_at(stopped + QUIET);
    });
}

#[test]
fn a_health_check_holds_it_for_one_quiet_time() {
    if !can_run() {
        return;
    }
    in_networks(&["requests", "connections"], |on| {
        let options = format!("--delay 0 --until-quiet 2s --max-delay 9s --quiet-on {on}");
        let mut app = App::started(init().args(&options), V4, "default");
        let address = app.address;
        let stopped = app.stop();
        pause(ms(1000));
        thread::scope(|scope| {
            let probed = now();
            scope.spawn(move || {
                // The first probe that is refused is the last one.
                steady(ms(10_000), stopped + ms(8000), || drop(get(address, "/")));
            });
            app.over_at(probed + ms(2000));
        });
    });
}

/// As in a rolling update: requests come until the endpoints are removed, and each takes a while.
#[test]
fn an_app_loses_no_request_however_it_takes_the_signal() {
    if !can_run() {
        return;
    }
    in_networks(&["default", "graceful"], |on_term| {
        let options = "--delay 0 --until-quiet 1s --max-delay 9s";
        let mut app = App::started(init().args(options), V4, on_term);
        let address = app.address;
        let begun = now();
        let until = begun + ms(2000);
        let last = thread::scope(|scope| {
            let request_all = |client| {
                scope.spawn(move || {
                    pause(ms(10) * client);
                    steady(ms(20), until, || {
                        let answer = get(address, "/slow/0.5");
                        answer.unwrap_or_else(|e| {
                            panic!("{on_term}: lost at {:?}: {e}", now() - begun)
                        });
                    })
                })
            };
            let clients: Vec<_> = (0..20).map(request_all).collect();
            pause(ms(500));
            app.stop();
            clients.into_iter().map(|client| client.join().expect("answered")).max()
        });
        app.over_at(last.expect("clients") + QUIET);
        assert_eq!(app.run.ended().code, if *on_term == "default" { 128 + TERM } else { 0 });
    });
}

// ---- where less can be seen

fn without_netlink(init: Init, options: &str, listen: &str) -> App {
    let mut app = App::start(init.without_netlink(), options, listen);
    app.announced = Some("reading /proc/net/tcp instead");
    app
}

#[test]
fn the_drain_ends_with_the_traffic_where_netlink_is_denied() {
    if !needs_static() || !can_run() {
        return;
    }
    ends_with_the_traffic(|init, options| without_netlink(init, options, V4));
}

#[test]
fn connections_of_a_millisecond_keep_the_drain_going_where_netlink_is_denied() {
    if !can_run() {
        return;
    }
    short_connections_keep_it_going(|listen| without_netlink(init(), "--max-delay 9s", listen));
}

#[test]
fn what_is_in_flight_is_not_cut_where_netlink_is_denied() {
    if !can_run() {
        return;
    }
    nothing_is_cut(|| without_netlink(init(), "--max-delay 9s", V4));
}

#[test]
fn where_nothing_can_be_read_the_drain_takes_its_longest() {
    if !can_run() {
        return;
    }
    in_networks(&[false, true], |&netlink| {
        let options = "--delay 0 --until-quiet 200ms --max-delay 2s --watch-port 8080";
        let init = init().args(options).without_proc();
        let init = if netlink { init } else { init.without_netlink() };
        let mut app = App::started(init, V4, "default");
        let stopped = app.stop();
        // Netlink alone is enough where the ports are named.
        let due = if netlink { ms(200) } else { ms(2000) };
        let late = app.over_at(stopped + due);
        let log = app.run.ended().log();
        let count = |part| log.matches(part).count();
        assert_eq!(count("the connections cannot be seen"), usize::from(!netlink), "{log}");
        let why = "at its longest, 2s: the connections could not be read";
        if netlink {
            assert_eq!(count(why), 0, "{log}");
        } else {
            says_why(&log, why, late);
        }
    });
}

// ---- servers that are hard to see

/// As Python's, in a thread where the main one has ended, or as another user than the one that has opened the port.
const PYTHON: &str = r#"
import ctypes, http.server, os, sys, threading
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 9090), Answers)
if sys.argv[1] == "user":
    os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
    server.serve_forever()
threading.Thread(target=server.serve_forever).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0) # exit(2): this thread alone
"#;

/// A second server of the app, beside one that is found as ever, is asked for longer than the quiet time.
#[test]
fn every_server_of_the_app_is_watched_however_hard_it_is_to_see() {
    let programs = ["python3", "setpriv", "unshare", "mount"].map(needs_program);
    if !can_run() || programs.contains(&false) {
        return;
    }
    let cases = [
        ("its main thread has ended", false, r#"python3 -c "$1" thread"#),
        (
            "in a mount namespace of its own",
            false,
            r#"unshare -m "$0" --quiet --listen 127.0.0.1:9090"#,
        ),
        (
            "a child of one in a mount namespace of its own",
            false,
            r#"unshare -m sh -c '"$0" --quiet --listen 127.0.0.1:9090; true' "$0""#,
        ),
        (
            "of another user and hidden",
            true,
            r#"mount -o remount,hidepid=2,gid=12345 /proc && setpriv --reuid 1000 --regid 1000 --clear-groups "$0" --quiet --listen 127.0.0.1:9090"#,
        ),
        (
            "of another user",
            true,
            r#"setpriv --reuid 1000 --regid 1000 --clear-groups "$0" --quiet --listen 127.0.0.1:9090"#,
        ),
        ("of another user since it listens", true, r#"python3 -c "$1" user"#),
    ];
    in_networks(&cases, |&(what, unprivileged, second)| {
        let script = format!(r#"{second} & exec "$0" --quiet --listen {V4}"#);
        let init = init().args("-v --delay 0 --until-quiet 1s --max-delay 9s");
        // As Docker does: root, without the right to look into other users' processes.
        let init = if unprivileged { init.under(WITHOUT_PTRACE) } else { init };
        let server = server();
        let words =
            ["sh".as_ref(), "-c".as_ref(), script.as_ref(), server.as_os_str(), PYTHON.as_ref()];
        let run = init.pid1().command(words).start();
        let address: SocketAddr = "127.0.0.1:9090".parse().expect("an address");
        let mut app = App { run, address, announced: None };
        for address in [V4.parse().expect("an address"), address] {
            assert!(
                becomes_true(LIMIT, || get(address, "/").is_ok()),
                "{what}: it listens on {address}"
            );
        }
        let until = app.stop() + ms(3000);
        let last = steady(ms(200), until, || answered(address));
        println!("{what}:");
        app.over_at(last + QUIET);
        let log = app.run.ended().log();
        let guessed = log.matches("not every process can be read: watching :8080, :9090").count();
        assert_eq!(guessed, usize::from(unprivileged), "{what}: {log}");
    });
}

/// As socket activation in another network namespace than the app's. The control is given one of its own.
#[test]
fn a_listening_socket_of_another_network_is_said_to_be_unseen() {
    if !can_run() || !needs_program("ip") {
        return;
    }
    let cases = [
        ("", true, true),
        ("--watch-port 7070", true, true),
        ("--watch-port 8080", true, false),
        ("", false, false),
    ];
    in_networks(&cases, |&(options, elsewhere, unseen)| {
        let listen = || TcpListener::bind("127.0.0.1:7070").expect("bound");
        let listener = if elsewhere { NetworkBeside::new().run(listen) } else { listen() };
        let init = init().args("--delay 0 --until-quiet 500ms --max-delay 3s").args(options);
        let mut app = App::started(init.keeping(Arc::new(OwnedFd::from(listener))), V4, "default");
        let stopped = app.stop();
        app.over_at(stopped + if unseen { ms(3000) } else { ms(500) });
        let log = app.run.ended().log();
        let said = log.matches("listening socket of another network namespace, :7070:").count();
        assert_eq!(said, usize::from(unseen), "{options}: {log}");
    });
}

const WITHOUT_PTRACE: [&str; 5] =
    ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"];

/// Its workers are another user, and cannot be read with Docker's capabilities; but whoever opened the sidecar's port is none of
/// these, or it is the user that nginx's master is, which has all the sockets that its workers have.
#[test]
fn a_sidecar_does_not_hold_an_nginx_with_workers_of_another_user() {
    if !can_run() || !needs_program("nginx") || !needs_program("setpriv") {
        return;
    }
    // Each nginx removes its own file as it ends.
    let folder = Folder::new();
    let config = |number: usize| {
        let file = folder.path(&format!("nginx{number}.conf"));
        let config = "daemon off; user nobody nogroup; worker_processes 2; error_log stderr; events {} http { access_log off;
            server { listen 127.0.0.1:8080; location / { return 200 ok; } } }";
        let pid = folder.path(&format!("nginx{number}.pid"));
        std::fs::write(&file, format!("{config} pid {};", pid.display())).expect("written");
        file
    };
    in_networks(
        &[(0, None, false), (1, Some(1337), false), (2, None, true)],
        |&(number, user, asks)| {
            let file = config(number);
            let beside = init().bare();
            let beside = if let Some(user) = user { beside.user(user) } else { beside };
            let _sidecar = App::started(beside, "127.0.0.1:9090", "default");
            let init =
                init().args("-v --delay 0 --until-quiet 1s --max-delay 5s").under(WITHOUT_PTRACE);
            let words = [
                "nginx".as_ref(),
                "-e".as_ref(),
                "stderr".as_ref(),
                "-c".as_ref(),
                file.as_os_str(),
            ];
            let run = init.pid1().command(words).start();
            let address = V4.parse().expect("an address");
            let mut app = App { run, address, announced: None };
            assert!(becomes_true(LIMIT, || get(address, "/").is_ok()));
            // A worker that is still root might have opened the sidecar's port.
            let status = |pid: i32| fs::read_to_string(format!("/proc/{pid}/status"));
            let is_nobody = |pid: &i32| status(*pid).is_ok_and(|it| it.contains("Uid:\t65534"));
            let master = app.run.children()[0];
            let workers = || children_of(master).iter().filter(|pid| is_nobody(pid)).count();
            assert!(becomes_true(LIMIT, || workers() == 2));
            let stopped = app.stop();
            let sidecar = "127.0.0.1:9090".parse().expect("an address");
            thread::scope(|scope| {
                scope.spawn(|| {
                    steady(ms(100), stopped + ms(5000), || {
                        let _ = get(sidecar, "/");
                        // The control: what nginx is asked does hold it.
                        if asks {
                            let _ = get(address, "/");
                        }
                    })
                });
                app.over_at(stopped + if asks { ms(5000) } else { QUIET });
            });
            let log = app.run.ended().log();
            assert!(log.contains("watching :8080") && !log.contains("not every process"), "{log}");
        },
    );
}

// ---- others on the machine

/// On a node whose other pods have thousands of connections in TIME_WAIT, in one table with ours. Requests come so often on each
/// connection that samples alone, as many as may be taken of such a table, never find all of them between two requests.
#[test]
fn the_end_is_seen_whatever_connections_others_have_closed() {
    const CLOSED: usize = 6000;
    if !needs_static() || !can_run() || !needs_program("ip") {
        return;
    }
    static_init(); // is built before any time is measured
    in_networks(&[()], |()| {
        let others = NetworkBeside::new();
        others.run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
            let address = listener.local_addr().expect("bound");
            for _ in 0..CLOSED {
                // The one that closes first is the one that waits.
                drop(TcpStream::connect(address).expect("connected"));
                drop(listener.accept().expect("accepted"));
            }
            let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("read");
            let waiting = table.lines().filter(|line| line.contains(" 06 00000000:")).count();
            assert!(waiting > CLOSED / 2, "{waiting} in TIME_WAIT");
        });
        let options =
            "--delay 0 --until-quiet 2s --max-delay 20s --grace 60s --quiet-on connections";
        let init = Init::new(Kind::DrainInit, static_init());
        let mut app = App::started(init.args(options), V4, "default");
        let address = app.address;
        thread::scope(|scope| {
            for number in 1..=8 {
                let mut client = Client::connect(address).expect("connected");
                scope.spawn(move || {
                    // 20 to 80 ms between two requests, in no rhythm, until the app has gone.
                    for turn in 0_u64.. {
                        if client.get("/").is_err() {
                            break;
                        }
                        pause(ms(20 + (turn * 37 + number * 23) % 61));
                    }
                });
            }
            pause(ms(500));
            app.stop();
            let over = app.over();
            assert!(over.text.contains("quiet for 2s"), "{}", over.text);
        });
    });
}
