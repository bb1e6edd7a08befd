//! Readiness as a kubelet sees it: over HTTP, by an open port, by a file; with clients of every kind, and with its companion
//! killed. The app that is asked is a server in the test, so that it is known when it accepts.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support;
use crate::support::proc::descriptors_of;
use crate::support::random::Random;
use crate::support::system::{self, KILL, now, pause};
use crate::support::{
    Folder, Init, LIMIT, Running, Server, at_both_levels, becomes_true, becomes_true_after,
    companion_of, free_port, init, ms, needs, needs_program, settled, slack, stat_of, status_of,
};

const USR1: i32 = 10;
const TERM: i32 = 15;

/// As text, whatever it is; nothing where there is no answer.
fn ask(address: (&str, u16), request: &[u8]) -> String {
    let mut answer = vec![];
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.set_read_timeout(Some(ms(5000)));
        let _ = stream.write_all(request);
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn probe(port: u16) -> String {
    ask(("127.0.0.1", port), b"GET /readyz HTTP/1.1\r\nHost: pod\r\n\r\n")
}

fn is_ready(port: u16) -> bool {
    probe(port).starts_with("HTTP/1.1 200 ")
}

fn listening(init: Init, port: u16) -> Init {
    init.arg("--ready-listen").arg(format!("127.0.0.1:{port}"))
}

fn started(init: Init) -> Running {
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    run
}

/// Once it is told it waits for another signal, so that what comes of the drain is seen.
fn started_to_stay(init: Init) -> Running {
    let mut run = init.app(["ready", "until:15", "until:10", "exit:3"]).start();
    run.line("ready");
    run
}

fn ends(mut run: Running) {
    run.line("signal 15");
    run.signal(USR1);
    assert_eq!(run.ended().code, 3);
}

#[test]
fn readyz_is_503_with_the_reason_then_200_then_503_from_the_stop_signal_on() {
    at_both_levels(|init| {
        let [port, app] = [free_port(), free_port()];
        let target = format!("tcp://127.0.0.1:{app}");
        let init = listening(init(), port).args("--delay 1s --ready-check").arg(&target);
        let run = started_to_stay(init);
        let answer = probe(port);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains(&format!("starting: {target} refused")), "{answer}");
        pause(ms(150));
        assert!(probe(port).contains("starting: "));
        let _server = Server::on(app);
        becomes_true_after("ready", now(), ms(0), || is_ready(port));
        let asked = run.signal(TERM);
        let is_draining = || probe(port).contains("draining for ");
        becomes_true_after("draining", asked, ms(0), is_draining);
        assert!(probe(port).starts_with("HTTP/1.1 503 "));
        ends(run);
    });
}

#[test]
fn readyz_answers_each_kind_of_request() {
    let port = free_port();
    let _run = started(listening(init(), port));
    for (request, status, has_body) in [
        ("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "200", true),
        ("GET /readyz HTTP/1.0\r\n\r\n", "200", true),
        ("HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "200", false),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404", false),
        ("GET /readyz/more HTTP/1.1\r\nHost: x\r\n\r\n", "404", false),
        ("POST /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "405", false),
        ("what is this\r\n\r\n", "400", false),
        ("\0\0\0\r\n\r\n", "400", false),
    ] {
        let answer = ask(("127.0.0.1", port), request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert_eq!(answer.ends_with("\r\n\r\nready\n"), has_body, "{request}: {answer}");
    }
}

#[test]
fn an_address_in_use_is_refused_before_the_app_starts() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("its address").port();
    for scheme in ["", "http://", "tcp://"] {
        let address = format!("{scheme}127.0.0.1:{port}");
        let ended = init().arg("--ready-listen").arg(&address).app(["ready"]).ended();
        assert_eq!((ended.code, ended.err.len(), ended.out.len()), (125, 1, 0), "{:?}", ended.err);
        assert!(ended.log().contains(&port.to_string()), "{}", ended.log());
    }
}

#[test]
fn every_address_of_ipv6_is_every_address_of_ipv4_too() {
    if !needs("IPv6", TcpListener::bind("[::1]:0").is_ok()) {
        return;
    }
    let port = free_port();
    let _run = started(init().arg("--ready-listen").arg(format!("[::]:{port}")));
    for host in ["127.0.0.1", "::1"] {
        let answer = ask((host, port), b"GET /readyz HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
}

/// As on a node that was booted with ipv6.disable=1: the first socket that is asked for is refused.
#[test]
fn without_ipv6_every_address_is_every_address_of_ipv4() {
    if !needs_program("strace") {
        return;
    }
    let port = free_port();
    let inject = "inject=socket:error=EAFNOSUPPORT:when=1";
    let init = init().under(["strace", "-qq", "-o", "/dev/null", "-e", inject]);
    let _run = started(init.arg("--ready-listen").arg(format!("[::]:{port}")));
    let answer = ask(("127.0.0.1", port), b"GET /readyz HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A tcp:// check cannot see this: the kernel accepts for an app that hangs.
#[test]
fn an_app_that_hangs_is_not_ready_until_it_goes_on() {
    let (port, server) = (free_port(), Server::on(0));
    let target = format!("http://127.0.0.1:{}/healthz", server.port);
    let _run = started(listening(init(), port).arg("--ready-check").arg(target));
    assert!(is_ready(port));
    assert_eq!(server.calls()[0], "GET /healthz HTTP/1.1");
    server.answers(false);
    pause(ms(150)); // an answer is good for 100 ms
    let began = now();
    let answer = probe(port);
    support::assert_after("503", began.elapsed(), ms(1000));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("not ready: "), "{answer}");
    server.answers(true);
    assert!(becomes_true(LIMIT, || is_ready(port)));
}

/// However many probe, and the app isn't asked when nobody does.
#[test]
fn the_app_is_asked_at_most_once_in_100_ms() {
    let (port, server) = (free_port(), Server::on(0));
    let target = format!("http://127.0.0.1:{}/", server.port);
    let _run = started(listening(init(), port).arg("--ready-check").arg(target));
    pause(ms(300));
    assert_eq!(server.calls().len(), 0);
    let began = now();
    while began.elapsed() < ms(500) || server.calls().len() < 2 {
        assert!(is_ready(port));
    }
    let most = began.elapsed().as_millis() / 100 + 1;
    let asked = server.calls().len();
    assert!(asked as u128 <= most, "{asked}, where {most} are the most");
}

#[test]
fn a_ready_file_appears_with_the_first_success_and_stays_until_the_drain() {
    at_both_levels(|init| {
        let folder = Folder::new();
        let [path, app] = ["ready", "app"].map(|name| folder.path(name));
        let init = init().args("--delay 1s --ready-file").arg(&path);
        let target = format!("file:{}", app.display());
        let run = started_to_stay(init.arg("--ready-check").arg(target));
        pause(ms(300));
        assert!(!path.exists());
        fs::write(&app, "").expect("written");
        becomes_true_after("there", now(), ms(0), || path.exists());
        fs::remove_file(&app).expect("removed");
        pause(ms(300));
        assert!(path.exists());
        let asked = run.signal(TERM);
        becomes_true_after("gone", asked, ms(0), || !path.exists());
        ends(run);
    });
}

#[test]
fn with_unready_delay_it_stays_ready_so_long_into_the_drain() {
    let (port, folder) = (free_port(), Folder::new());
    let path = folder.path("ready");
    let init = listening(init(), port).args("--delay 9s --unready-delay 2s --ready-file");
    let mut run = started(init.arg(&path));
    let asked = run.signal(TERM);
    run.log("draining");
    assert!(is_ready(port) && path.exists());
    becomes_true_after("not ready", asked, ms(2000), || !is_ready(port));
    becomes_true_after("no ready-file", asked, ms(2000), || !path.exists());
}

fn switches(pid: i32) -> u64 {
    status_of(pid, "voluntary_ctxt_switches")
}

/// Random bytes, floods of connections with nothing on them, and requests by the hundred in one: 10,000 of them, and for so long.
fn attack(port: u16, until: Instant) {
    let mut random = Random::new();
    let mut number = 0;
    while number < 10_000 || now() < until {
        number += 1;
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
        let _ = match number % 4 {
            0 => Ok(()),
            1 => stream.write_all("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100).as_bytes()),
            _ => stream.write_all(&random.bytes(400)),
        };
    }
}

/// A byte a second, by 50 clients that come again when they are closed.
fn dribble(port: u16, stop: &AtomicBool) {
    let connect = || TcpStream::connect(("127.0.0.1", port)).ok();
    let mut clients: Vec<_> = (0..50).map(|_| connect()).collect();
    while !stop.load(Ordering::SeqCst) {
        for client in &mut clients {
            if client.as_mut().is_none_or(|stream| stream.write_all(b"G").is_err()) {
                *client = connect();
            }
        }
        pause(ms(1000));
    }
}

/// Of a neighbour in the same pod. ATTACK_SECONDS=300 makes it last so long.
#[test]
fn slow_and_hostile_clients_delay_nobodys_probe_and_leave_nothing() {
    let port = free_port();
    let run = started(listening(init(), port));
    assert!(is_ready(port));
    let companion = companion_of(run.pid, "ready").expect("the companion");
    // PID 1 has started it, and the probe's connection is gone.
    let before = settled(|| (run.status("VmRSS"), switches(run.pid), descriptors_of(companion)));
    let seconds = std::env::var("ATTACK_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = now() + Duration::from_secs(seconds.unwrap_or(0));
    let slow = || {
        let streams = (0..200).filter_map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHos").ok()?;
            Some(stream)
        });
        streams.collect::<Vec<_>>()
    };
    let (mut times, mut unanswered, mut largest) = (vec![], 0, 0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hostile = scope.spawn(|| attack(port, until));
        scope.spawn(|| dribble(port, &over));
        while !hostile.is_finished() || times.len() < 200 {
            let held = slow();
            assert_eq!(held.len(), 200);
            for _ in 0..20 {
                let began = now();
                let answer = probe(port);
                times.push(began.elapsed());
                // A client that is delayed between its connect and its request is dropped once 64 others are waiting behind it.
                unanswered += usize::from(answer.is_empty());
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200 "), "{answer}");
            }
            largest = largest.max(status_of(companion, "VmRSS"));
        }
        over.store(true, Ordering::SeqCst);
    });
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{} probes: p50 {:?}, p99 {:?}, max {:?}", times.len(), at(50), at(99), at(100));
    println!("companion RSS {largest} kB at most; {unanswered} probes pushed out");
    assert!(unanswered * 5 <= times.len(), "{unanswered} of {}", times.len());
    assert!(at(99) < slack(), "{:?}, not {:?}", at(99), slack());
    assert!(largest < 4096, "{largest} kB");
    assert!(becomes_true(LIMIT, || descriptors_of(companion) == before.2));
    assert_eq!((run.status("VmRSS"), switches(run.pid), descriptors_of(companion)), before);
    assert_eq!(companion_of(run.pid, "ready"), Some(companion), "it was started again");
}

/// The port is PID 1's: probes wait in its backlog meanwhile.
#[test]
fn a_companion_that_is_killed_is_started_again() {
    at_both_levels(|init| {
        let port = free_port();
        let run = started(listening(init(), port));
        assert!(is_ready(port));
        system::signal(companion_of(run.pid, "ready").expect("the companion"), KILL);
        becomes_true_after("answers again", now(), ms(0), || is_ready(port));
    });
}

/// Started again at once, then after pauses that double: what comes of the first is seen from outside, and the rest is
/// src/companions.rs'.
#[test]
fn a_companion_that_keeps_being_killed_is_no_reason_to_spin() {
    let port = free_port();
    let run = started(listening(init(), port));
    assert!(is_ready(port));
    let used = || stat_of(run.pid).expect("it is there").ticks_with_children;
    let (woken_before, used_before) = (switches(run.pid), used());
    let (mut last, mut killed) = (0, now());
    let deaths = 7;
    for death in 0..deaths {
        let is_new = |pid: &i32| *pid != last;
        assert!(becomes_true(LIMIT, || companion_of(run.pid, "ready").is_some_and(|p| is_new(&p))));
        let pause = if death < 2 { ms(0) } else { ms(5) * (1 << (death - 1)) };
        println!("start {death}: after {:?}, {pause:?} at the least", killed.elapsed());
        assert!(killed.elapsed() >= pause, "start {death} after {:?}", killed.elapsed());
        last = companion_of(run.pid, "ready").expect("the companion");
        killed = now();
        system::signal(last, KILL);
    }
    let woken = switches(run.pid) - woken_before;
    let used = used() - used_before;
    println!("{deaths} deaths: PID 1 woke up {woken} times, used {used} ticks of 10 ms");
    assert!(woken < 10 * deaths && used < 100, "{woken} times, {used} ticks");
    assert!(becomes_true(LIMIT, || is_ready(port)));
}
