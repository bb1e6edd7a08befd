//! --start-after, `wait` and --header: the app is started when what it needs is there, and not before; the wait alone, as a verb.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::life::own_address;
use crate::support::system::{now, pause};
use crate::support::{
    Ended, Folder, Init, LIMIT, at_both_levels, becomes_true, companion_of, init, ms,
    needs_namespaces, needs_static,
};

const TERM: i32 = 15;
const INT: i32 = 2;

/// Listens there from then on, and accepts; says when it began to.
fn listens_after(address: &str, delay: Duration) -> thread::JoinHandle<Instant> {
    let address = address.to_owned();
    thread::spawn(move || {
        pause(delay);
        // Before: whoever has connected by then has done so before we know.
        let at = now();
        let listener = TcpListener::bind(address).expect("bound");
        thread::spawn(move || listener.incoming().for_each(drop));
        at
    })
}

/// Answers each request with this status, and keeps what was asked.
struct Sidecar {
    address: String,
    status: Arc<Mutex<&'static str>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Sidecar {
    fn new(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound").to_string();
        let (status, asked) = (Arc::new(Mutex::new(status)), Arc::<Mutex<Vec<String>>>::default());
        let (answers, heard) = (status.clone(), asked.clone());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = vec![];
                let mut piece = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(count @ 1..) => request.extend(&piece[..count]),
                        _ => break,
                    }
                }
                heard.lock().expect("asked").push(String::from_utf8_lossy(&request).into_owned());
                let status = *answers.lock().expect("a status");
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Self { address, status, asked }
    }

    fn says(&self, status: &'static str) {
        *self.status.lock().expect("a status") = status;
    }

    /// The requests for this path.
    fn asked(&self, path: &str) -> Vec<String> {
        let asked = self.asked.lock().expect("asked");
        asked.iter().filter(|request| request.contains(&format!(" {path} "))).cloned().collect()
    }
}

/// The answer of /readyz there.
fn readyz(address: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.set_read_timeout(Some(ms(5_000)));
        let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n");
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

fn millis_until(from: Instant, to: Instant) -> i128 {
    match to.checked_duration_since(from) {
        Some(after) => i128::try_from(after.as_millis()).expect("it fits"),
        None => -i128::try_from((from - to).as_millis()).expect("it fits"),
    }
}

#[test]
fn the_app_starts_as_soon_as_the_last_target_is_ready_and_not_before() {
    at_both_levels(|init| {
        let [first, second] = [own_address(), own_address()];
        let init =
            init().args(&format!("-v --start-after tcp://{first} --start-after tcp://{second}"));
        let mut run = init.app(["ready", "exit:7"]).start();
        let first = listens_after(&first, ms(500));
        let second = listens_after(&second, ms(1_500)).join().expect("it listens");
        let started = run.line("ready");
        assert!(first.join().expect("it listens") < second);
        let after = millis_until(second, started);
        println!("started {after} ms after the second target");
        // Within 200 ms on a machine with nothing else to do: the pause between two questions, 160 ms by then, and a start.
        assert!((0..2_000).contains(&after), "started {after} ms after the second");
        let ended = run.ended();
        assert_eq!(ended.code, 7);
        let log = ended.log();
        assert_eq!(log.matches(" is ready after ").count(), 2, "{log}");
        assert!(log.contains("all targets ready after"), "{log}");
    });
}

/// From one question to the next, as the target sees them.
#[test]
fn a_target_is_asked_every_100_ms_at_first() {
    let sidecar = Sidecar::new("503 Not Yet");
    let target = format!("http://{}/ready", sidecar.address);
    let mut run = init().args("--start-after").arg(&target).app(["ready", "exit:0"]).start();
    run.log("waiting for"); // after 1 s
    let asked = sidecar.asked("/ready").len();
    assert!((2..=11).contains(&asked), "{asked} times in a second");
    sidecar.says("200 OK");
    run.line("ready");
    let asked = sidecar.asked("/ready").len();
    assert_eq!(run.ended().code, 0);
    assert_eq!(sidecar.asked("/ready").len(), asked, "never again once it was ready");
}

#[test]
fn a_stop_signal_before_the_start_ends_it_at_once_and_no_handler_runs() {
    at_both_levels(|init| {
        for (signal, name) in [(TERM, "SIGTERM"), (INT, "SIGINT")] {
            let (folder, target) = (Folder::new(), own_address());
            let log = folder.path("termination");
            let told = folder.path("told");
            let init = init()
                .arg("--start-after")
                .arg(format!("tcp://{target}"))
                .arg(format!("--on-exit=exec:/bin/touch {}", told.display()))
                .arg("--termination-log")
                .arg(&log);
            let mut run = init.app(["ready", "until:15"]).start();
            let waiting = run.log("waiting for").text;
            assert!(waiting.ends_with(&format!("tcp://{target} (refused)")), "{waiting}");
            let sent = run.signal(signal);
            let ended = run.ended();
            let took = ended.at - sent;
            println!("ended {took:?} after {name}");
            assert!(took < ms(1_000), "at once: {took:?}");
            assert_eq!((ended.code, ended.out.len(), ended.left.len()), (128 + signal, 0, 0));
            let line = format!("drain-init: {name} after waiting ");
            assert!(ended.err.last().expect("a line").starts_with(&line), "{ended:?}");
            assert!(fs::read_to_string(&log).expect("the log").starts_with(&line));
            assert!(!told.exists(), "the app was never started, so it has not ended");
        }
    });
}

/// A stop signal and the last target at once, again and again: either the app was never started, or it is told.
#[test]
fn a_stop_signal_beside_the_last_target_never_starts_an_app_that_is_not_told() {
    let (mut started, mut never) = (0, 0);
    for turn in 0..12 {
        let folder = Folder::new();
        let path = folder.path("there");
        let init = init().arg("--start-after").arg(format!("file:{}", path.display()));
        let run = init.args("--delay 0").app(["ready", "until:15", "exit:3"]).start();
        assert!(becomes_true(LIMIT, || companion_of(run.pid, "start").is_some()));
        pause(ms(90 + turn * 5));
        fs::write(&path, "").expect("a file");
        pause(ms(turn * 10));
        run.signal(TERM);
        let ended = run.ended();
        match ended.code {
            143 => {
                assert_eq!(ended.out.len(), 0, "{ended:?}");
                never += 1;
            }
            3 => {
                assert_eq!(ended.out, ["ready", "signal 15"]);
                started += 1;
            }
            code => panic!("{code}: {ended:?}"),
        }
    }
    println!("{started} were started and told, {never} never");
}

#[test]
fn start_timeout_exits_with_125_and_names_each_reason() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let silent_at = silent.local_addr().expect("bound");
    let unready = Sidecar::new("503 Not Yet");
    let refused = own_address();
    let targets = [
        (format!("tcp://{refused}"), "refused".to_owned()),
        (format!("http://{silent_at}/"), "gave no answer within 1s".to_owned()),
        (format!("http://{}/ready", unready.address), "answered 503".to_owned()),
        ("file:/no/such/file".to_owned(), "is not there".to_owned()),
        // By whoever is asked, or where nobody answers.
        ("tcp://name.invalid:1".to_owned(), String::new()),
    ];
    let begun = |targets: &[&(String, String)]| {
        let folder = Folder::new();
        let init = init().args("--start-timeout 1s --termination-log").arg(folder.path("log"));
        let init = targets.iter().fold(init, |init, it| init.arg("--start-after").arg(&it.0));
        let began = now();
        let ended = init.app(["ready"]).ended();
        assert!(ended.at - began >= ms(1_000), "it has its time");
        assert_eq!((ended.code, ended.out.len(), ended.left.len()), (125, 0, 0), "{ended:?}");
        let last = ended.err.last().expect("a line").clone();
        assert_eq!(fs::read_to_string(folder.path("log")).expect("the log"), last);
        last
    };
    for target in &targets {
        let last = begun(&[target]);
        let line = format!("{} {}", target.0, target.1);
        assert!(last.contains("app not started after 1.") && last.contains(&line), "{last}");
    }
    let last = begun(&targets.iter().collect::<Vec<_>>());
    for (target, why) in &targets {
        assert!(last.contains(&format!("{target} {why}")), "{last}");
    }
    let unknown = last.rsplit("; ").next().expect("the last");
    let whys = ["has an unknown host", "could not be looked up"];
    assert!(whys.iter().any(|why| unknown.contains(why)), "{unknown}");
}

/// A name that is not there yet is looked up again.
#[test]
fn a_file_a_server_and_a_port_are_waited_for_side_by_side() {
    let (folder, sidecar, port) = (Folder::new(), Sidecar::new("500 No"), own_address());
    let file = folder.path("there");
    let init = init()
        .arg("--start-after")
        .arg(format!("file:{}", file.display()))
        .arg(format!("--start-after=http://{}/ready", sidecar.address))
        .arg(format!("--start-after=tcp://{port}"));
    let mut run = init.app(["ready", "exit:0"]).start();
    run.log("waiting for");
    for step in 0..3 {
        match step {
            0 => fs::write(&file, "").expect("a file"),
            1 => sidecar.says("204 Yes"),
            _ => {
                run.silent_for(ms(500));
                listens_after(&port, ms(0)).join().expect("it listens");
            }
        }
    }
    run.line("ready");
    assert_eq!(run.ended().code, 0);
}

#[test]
fn readyz_says_what_is_waited_for_until_the_app_is_started() {
    at_both_levels(|init| {
        let [target, address] = [own_address(), own_address()];
        let init = init().args(&format!("--ready-listen {address} --start-after tcp://{target}"));
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        let waiting = format!("starting: waiting for tcp://{target} (refused)\n");
        assert!(
            becomes_true(LIMIT, || readyz(&address).ends_with(&waiting)),
            "{}",
            readyz(&address)
        );
        assert!(readyz(&address).starts_with("HTTP/1.1 503 "));
        // If the companion that answers is killed, drain-init starts another and tells it the state.
        let server = companion_of(run.pid, "waiting").expect("it answers");
        support::system::signal(server, 9);
        assert!(
            becomes_true(LIMIT, || readyz(&address).ends_with(&waiting)),
            "{}",
            readyz(&address)
        );
        listens_after(&target, ms(0)).join().expect("it listens");
        // Never ready before the app is there, ready from then on.
        assert!(becomes_true(LIMIT, || {
            let is_ready = readyz(&address).starts_with("HTTP/1.1 200 ");
            // The only children are the companion that answers, and the app.
            assert!(!is_ready || companion_of(run.pid, "start").is_none());
            is_ready
        }));
        run.line("ready");
        run.signal(TERM);
        assert!(becomes_true(LIMIT, || readyz(&address).contains("draining for ")));
        pause(ms(1_100));
        run.signal(TERM);
        assert_eq!(run.ended().code, 3);
    });
}

#[test]
fn a_tcp_port_and_a_ready_file_come_when_the_app_is_started() {
    let [target, address] = [own_address(), own_address()];
    let folder = Folder::new();
    let init = init()
        .args(&format!("--delay 0 --ready-listen tcp://{address} --start-after tcp://{target}"))
        .arg("--ready-file")
        .arg(folder.path("ready"));
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.log("waiting for");
    assert!(TcpStream::connect(&address).is_err() && !folder.path("ready").exists());
    listens_after(&target, ms(0)).join().expect("it listens");
    run.line("ready");
    assert!(becomes_true(LIMIT, || TcpStream::connect(&address).is_ok()));
    assert!(becomes_true(LIMIT, || folder.path("ready").exists()));
    run.signal(TERM);
    assert_eq!(run.ended().code, 3);
}

/// There is nothing to drain.
#[test]
fn a_hook_returns_at_once_while_the_start_waits() {
    if !needs_namespaces() {
        return;
    }
    let target = own_address();
    let init = init().pid1().arg("--start-after").arg(format!("tcp://{target}"));
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.log("waiting for");
    let began = now();
    let hook = support::init().beside(&run).args("prestop --delay 9s").ended();
    let took = hook.at - began;
    assert_eq!(hook.code, 0, "{hook:?}");
    assert!(took < ms(4_500), "nothing is drained: {took:?}");
    // And nothing has changed.
    listens_after(&target, ms(0)).join().expect("it listens");
    run.line("ready");
    run.signal(TERM);
    run.log("draining for 5s");
}

/// Orphans are reaped, signals that are no stop are dropped and said, and a companion that dies is started again.
#[test]
fn what_happens_while_the_start_waits() {
    let target = own_address();
    let init = init().arg("--start-after").arg(format!("tcp://{target}"));
    let mut run = init.app(["ready", "trap"]).start();
    run.log("waiting for");
    run.signal(10);
    run.log("SIGUSR1: dropped, as the app has not been started yet");
    let first = companion_of(run.pid, "start").expect("it waits");
    support::system::signal(first, 9);
    run.log("the start companion failed");
    assert!(becomes_true(LIMIT, || companion_of(run.pid, "start").is_some_and(|pid| pid != first)));
    listens_after(&target, ms(0)).join().expect("it listens");
    run.line("ready");
    run.silent_for(ms(200));
    run.signal(10);
    run.line("signal 10");
}

#[test]
fn as_pid_1_orphans_are_reaped_before_the_start_too() {
    if !needs_namespaces() {
        return;
    }
    let target = own_address();
    let init = init().pid1().args("-v --start-after").arg(format!("tcp://{target}"));
    let mut run = init.app(["ready", "exit:0"]).start();
    run.log("waiting for");
    // Of `docker exec`, say: its child is PID 1's when it has ended.
    let other = support::init().bare().beside(&run);
    let other = other.app(["orphan:wait:100,exit:4", "exit:0"]).ended();
    assert_eq!(other.code, 0, "{other:?}");
    run.log("1 orphans reaped");
    listens_after(&target, ms(0)).join().expect("it listens");
    run.line("ready");
    assert_eq!(run.ended().code, 0);
}

#[test]
fn errors_of_the_start_have_their_exit_codes() {
    for (command, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
        let ended = init().args("--start-after file:/").command([command]).ended();
        assert_eq!((ended.code, ended.err.len()), (code, 1), "{ended:?}");
    }
    // Options are refused before anything is waited for.
    let ended = init().args("--start-after file:/no/such --grace 1x").app(["ready"]).ended();
    assert_eq!((ended.code, ended.err.len()), (125, 1), "{ended:?}");
}

/// The app gets the signal masks that drain-init was started with, as without a wait.
#[test]
fn the_app_finds_everything_as_it_was() {
    for options in ["", "--start-after file:/"] {
        let init = init().args(options).ignored([17, 64, 10]).blocked([12, 34]);
        let ended = init.app(["masks", "exit:0"]).ended();
        let bare = support::init().bare().ignored([17, 64, 10]).blocked([12, 34]);
        let bare = bare.app(["masks", "exit:0"]).ended();
        let program = support::init().program().to_owned();
        let without = |it: Ended| support::without_glibcs_own(&program, &it.out[0]);
        assert_eq!(without(ended), without(bare), "{options}");
    }
}

// ---- wait

fn wait(targets: &[String]) -> Init {
    targets.iter().fold(init().arg("wait"), |init, target| init.arg(target))
}

#[test]
fn wait_returns_when_all_are_ready_and_says_so() {
    let (address, sidecar) = (own_address(), Sidecar::new("503 No"));
    let targets = [format!("tcp://{address}"), format!("http://{}/ready", sidecar.address)];
    let mut run = wait(&targets).start();
    let line = run.log("waiting for").text;
    let [port, url] = &targets;
    assert_eq!(line, format!("drain-init: waiting for {port} (refused), {url} (answered 503)"));
    listens_after(&address, ms(0)).join().expect("it listens");
    run.log(&format!("{port} is ready after "));
    sidecar.says("200 Yes");
    run.log(&format!("{url} is ready after "));
    let ended = run.ended();
    assert_eq!((ended.code, ended.err.len()), (0, 3), "{ended:?}");
    // Again, with nothing to wait for; and with nothing to say.
    let ended = wait(&targets).ended();
    assert_eq!((ended.code, ended.err.len()), (0, 2), "{ended:?}");
    for quiet in ["-q", "--quiet"] {
        let ended = wait(&targets).arg(quiet).ended();
        assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:?}");
    }
    let ended = wait(&targets).env("DRAIN_INIT_QUIET", "1").ended();
    assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:?}");
}

#[test]
fn wait_names_each_that_was_not_ready_in_time() {
    let address = own_address();
    let targets = [format!("tcp://{address}"), "file:/".into(), "file:/no/such".into()];
    let began = now();
    let ended = wait(&targets).args("-q --timeout 500ms").ended();
    assert!(ended.at - began >= ms(500));
    let lines = [
        format!("drain-init: not ready after 500ms: tcp://{address} refused"),
        "drain-init: not ready after 500ms: file:/no/such is not there".to_owned(),
    ];
    assert_eq!((ended.code, ended.err), (1, lines.to_vec()));
    let ended = wait(&targets).args("-q --timeout 100ms --log-format json").ended();
    assert!(
        ended.err.iter().all(|line| line.starts_with(r#"{"from":"drain-init","level":"error","#))
    );
}

#[test]
fn wait_refuses_nonsense_in_one_line() {
    for words in [
        "",
        "db:5432",
        "tcp://db",
        "https://db/",
        "file:/ db",
        "file:/ --timeout 0",
        "file:/ --timeout soon",
        "file:/ --header X",
        "file:/ --header Content-Length:1",
        "file:/ --log-format xml",
        "file:/ --delay 1s",
        "file:/ -- true",
    ] {
        let ended = init().arg("wait").args(words).ended();
        assert_eq!(
            (ended.code, ended.err.len(), ended.out.len()),
            (125, 1, 0),
            "{words}: {ended:?}"
        );
    }
}

/// As PID 1 too, which no signal ends that it does not take.
#[test]
fn a_signal_ends_wait_at_once() {
    at_both_levels(|init| {
        // The time that it takes anyone to end here and now, to compare with.
        let control = |signal| {
            let mut run = support::init().bare().app(["ready", "until:15", "until:2"]).start();
            run.line("ready");
            let sent = run.signal(signal);
            run.line(&format!("signal {signal}")) - sent
        };
        for (signal, code) in [(TERM, 143), (INT, 130), (1, 129), (3, 131)] {
            let mut run = init().args("wait file:/no/such tcp://name.invalid:1").start();
            run.log("waiting for");
            let usual = if signal == TERM { control(signal) } else { ms(0) };
            let sent = run.signal(signal);
            let ended = run.ended();
            let took = ended.at - sent;
            println!("signal {signal}: ended after {took:?}, a witness hears it after {usual:?}");
            assert_eq!((ended.code, ended.left.len()), (code, 0), "{ended:?}");
            assert!(took < ms(500), "50 ms on a machine with nothing else to do: {took:?}");
        }
    });
}

/// The one that ships, with nothing around it.
#[test]
fn wait_needs_nothing_around_it() {
    if !needs_namespaces() || !needs_static() {
        return;
    }
    let root = Folder::new();
    let address = own_address();
    let init = support::init().in_empty_root(&root).pid1().without_proc();
    let mut run = init.args(&format!("wait tcp://{address}")).start();
    run.log("waiting for");
    listens_after(&address, ms(0)).join().expect("it listens");
    assert_eq!(run.ended().code, 0);
    let init = support::init().in_empty_root(&root).pid1().without_proc();
    let mut run = init.args("wait file:/no/such").start();
    run.log("waiting for");
    run.signal(TERM);
    assert_eq!(run.ended().code, 143);
}

// ---- headers

/// Whatever makes a request sends them, and `Host` is the given one.
#[test]
fn headers_are_sent_with_every_request() {
    let sidecar = Sidecar::new("200 OK");
    let address = own_address();
    let url = |path: &str| format!("http://{}/{path}", sidecar.address);
    for by_variable in [false, true] {
        let headers = ["Host: app.example", "X-Key: a, b"];
        let with = |init: Init| match by_variable {
            true => init.env("DRAIN_INIT_HEADER", headers.join("\n")),
            false => headers.iter().fold(init, |init, header| init.arg("--header").arg(header)),
        };
        let init = with(init())
            .arg("--start-after")
            .arg(url("start"))
            .arg("--ready-check")
            .arg(url("check"))
            .arg("--on-drain")
            .arg(format!("POST {}", url("drain")))
            .arg("--on-exit")
            .arg(url("exit"))
            .args(&format!("--delay 100ms --ready-listen {address}"));
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || readyz(&address).starts_with("HTTP/1.1 200 ")));
        // Where one that is secret is not for everyone to read.
        let server = companion_of(run.pid, "ready").expect("it answers");
        let words = fs::read(format!("/proc/{server}/cmdline")).expect("its words");
        let words = String::from_utf8_lossy(&words).into_owned();
        assert_eq!(words.contains("X-Key"), !by_variable, "{words}");
        run.signal(TERM);
        assert_eq!(run.ended().code, 3);
        for verb in ["probe", "wait"] {
            let ended = with(support::init().arg(verb)).arg(url(verb)).ended();
            assert_eq!(ended.code, 0, "{ended:?}");
        }
        for path in ["start", "check", "drain", "exit", "probe", "wait"] {
            let asked = sidecar.asked(&format!("/{path}"));
            assert!(!asked.is_empty(), "{path} was not asked");
            for request in asked {
                assert!(request.contains("\r\nHost: app.example\r\n"), "{request}");
                assert!(request.contains("\r\nX-Key: a, b\r\n"), "{request}");
                assert_eq!(request.to_lowercase().matches("\r\nhost:").count(), 1, "{request}");
            }
        }
        sidecar.asked.lock().expect("asked").clear();
    }
}
