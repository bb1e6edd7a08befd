//! The readiness companion, started by hand with what PID 1 would give it: the listener as standard input, and as descriptor 3 the
//! pipe that closes when the drain begins.

use std::ffi::OsString;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::proc::{descriptors_of, name_of};
use crate::support::random::Random;
use crate::support::system::{now, pause};
use crate::support::{
    Init, LIMIT, Running, assert_after, becomes_true, becomes_true_after, init, ms, needs_program,
    settled, slack, stat_of,
};

// ---- the companion

struct Companion {
    run: Running,
    listener: TcpListener,
    address: SocketAddr,
    /// Closed, it says that the drain has begun.
    not_draining: Option<OwnedFd>,
    /// Its descriptors while nobody is there.
    idle: usize,
}

impl Companion {
    /// `ready`, with a check or without.
    fn ready(check: &[&str]) -> Self {
        let (draining, not_draining) = support::system::pipe().expect("a pipe");
        Self::start("ready", check, draining, Some(not_draining))
    }

    fn start(what: &str, rest: &[&str], draining: OwnedFd, not_draining: Option<OwnedFd>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        // A client for whom there is no room here comes again after a second: as many as the kernel takes.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXALLOWABLE)
            .expect("listen");
        let address = listener.local_addr().expect("an address");
        // The pipe comes in as standard output, as that is a number that can be chosen here.
        let words = ["sh", "-c", "exec 3<&1 >/dev/null; exec \"$@\"", "sh"].map(OsString::from);
        let mut companion = init().under(words).arg("companion").arg(what);
        for word in rest {
            companion = companion.arg(word);
        }
        let stdin = OwnedFd::from(listener.try_clone().expect("a copy"));
        let run = companion.stdin(stdin).stdout(draining).start();
        let mut companion = Self { run, listener, address, not_draining, idle: 0 };
        // In its loop, and no longer the shell.
        let sleeps = || stat_of(companion.run.pid).is_some_and(|stat| stat.state == 'S');
        assert!(becomes_true(LIMIT, || name_of(companion.run.pid) == "drain-init" && sleeps()));
        companion.idle = companion.descriptors();
        companion
    }

    fn drain(&mut self) {
        self.not_draining = None;
    }

    fn descriptors(&self) -> usize {
        descriptors_of(self.run.pid)
    }

    /// User and system time, in hundredths of a second.
    fn cpu_time(&self) -> u64 {
        stat_of(self.run.pid).expect("it is there").ticks
    }

    fn get(&self) -> Answer {
        ask(self.address, PROBE)
    }

    #[track_caller]
    fn assert_tells(&self, status: u16, body: &str) {
        let answer = self.get();
        assert_eq!((answer.status, answer.body.as_str()), (status, body));
    }
}

const PROBE: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
    took: Duration,
}

fn ask(address: SocketAddr, request: &[u8]) -> Answer {
    try_ask(address, request).expect("an answer")
}

/// Sends a request, and reads the answer to its end, the connection's, if there is one.
fn try_ask(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let began = now();
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut text = String::new();
    let sent = stream.write_all(request);
    match sent.and_then(|()| stream.read_to_string(&mut text)) {
        Ok(_) if text.is_empty() => return None,
        Ok(_) => {}
        // It was closed with the request on its way, which is a reset.
        Err(error)
            if [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) =>
        {
            return None;
        }
        Err(error) => panic!("an end: {error}"),
    }
    let took = now() - began;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("a head: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Some(Answer { status, head: head.to_owned(), body: body.to_owned(), took })
}

// ---- what it answers

#[test]
fn it_answers_probes_and_refuses_the_rest() {
    let companion = Companion::ready(&[]);
    let large = [&b"GET /readyz HTTP/1.1\r\nA: "[..], &[b'a'; 9000]].concat();
    for (request, status, body) in [
        (&b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"[..], 200, "ready\n"),
        (
            b"GET /readyz?verbose HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
            200,
            "ready\n",
        ),
        (b"GET /readyz HTTP/1.0\r\n\r\n", 200, "ready\n"),
        (b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "only /readyz is here\n"),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 404, ""),
        (b"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 405, "GET or HEAD\n"),
        (b"\x16\x03\x01\x00\x05hello", 400, "not an HTTP/1 request\n"),
        (&large, 431, "more than 8 KiB\n"),
    ] {
        let answer = ask(companion.address, request);
        let shown = request[..request.len().min(80)].escape_ascii();
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{shown}: {answer:?}");
        assert!(answer.head.starts_with("HTTP/1.1 "), "{shown}: {answer:?}");
        assert!(answer.head.contains("\r\nConnection: close"), "{shown}: {answer:?}");
        assert!(answer.took < slack(), "{shown}: {answer:?}");
    }
    let answer = ask(companion.address, b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.head.contains("\r\nContent-Length: 6\r\n"), "{answer:?}");
}

/// The server reads and discards the bytes after a request. If it closed with these unread, or still arriving, the connection would
/// be reset, and a client that is still writing would see an error in place of the answer.
#[test]
fn an_answer_is_not_lost_to_what_nobody_reads() {
    let companion = Companion::ready(&[]);
    for _ in 0..10 {
        let mut stream = TcpStream::connect(companion.address).expect("connected");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 20000\r\n\r\n").expect("sent");
        for _ in 0..20 {
            stream.write_all(&[b'x'; 1_000]).expect("taken, and no reset");
            pause(ms(1));
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the answer, and no reset");
        assert!(text.starts_with("HTTP/1.1 405 "), "{text}");
    }
}

/// The request in pieces; and the first that comes after its client has said its last.
#[test]
fn a_request_may_come_in_pieces() {
    let companion = Companion::ready(&[]);
    let mut stream = TcpStream::connect(companion.address).expect("connected");
    for piece in ["GET /rea", "dyz HTTP/1.1\r", "\nHost: x\r\n\r", "\n"] {
        stream.write_all(piece.as_bytes()).expect("sent");
        pause(ms(10));
    }
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.ends_with("\r\n\r\nready\n"), "{text}");
}

/// Neither the half of a request nor an answer that nobody closes is kept for ever.
#[test]
fn nobody_stays_for_long() {
    let companion = Companion::ready(&[]);
    let idle = companion.idle;
    let began = now();
    let mut half = TcpStream::connect(companion.address).expect("connected");
    half.write_all(b"GET /readyz").expect("sent");
    let mut stays = TcpStream::connect(companion.address).expect("connected");
    stays.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").expect("sent");
    assert!(becomes_true(LIMIT, || companion.descriptors() == idle + 2));
    assert!(becomes_true(LIMIT, || companion.descriptors() == idle));
    let took = now() - began;
    assert_after("gone", took, ms(2000));
    let mut text = String::new();
    assert_eq!(half.read_to_string(&mut text).unwrap_or(0), 0, "no answer: {text}");
}

// ---- the check

#[test]
fn the_reason_says_why_it_is_not_ready() {
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = app.local_addr().expect("an address").port();
    drop(app);
    let target = format!("tcp://127.0.0.1:{port}");
    let companion = Companion::ready(&[&target]);
    companion.assert_tells(503, &format!("starting: {target} refused\n"));
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port");
    becomes_true_after("ready", now(), ms(0), || companion.get().status == 200);
    drop(app);
    assert!(becomes_true(LIMIT, || companion.get().status == 503));
    companion.assert_tells(503, &format!("not ready: {target} refused\n"));
}

/// Many probes, and the app is asked ten times a second at the most.
#[test]
fn the_app_is_asked_at_most_once_in_100_ms() {
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = format!("http://{}/healthz", app.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = app.accept() {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        }
    });
    let companion = Companion::ready(&[&target]);
    let address = companion.address;
    let began = now();
    let probes: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut told = 0_usize;
                while now() - began < ms(1000) || told < 50 {
                    let answer = ask(address, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
                    assert_eq!(answer.status, 200);
                    told += 1;
                }
                told
            })
        })
        .collect();
    let told: usize = probes.into_iter().map(|probe| probe.join().expect("answered")).sum();
    let took = now() - began;
    let asked = asked.load(Ordering::SeqCst);
    println!("{told} probes in {took:?}, {asked} questions to the app");
    assert!(asked as u128 <= took.as_millis() / 100 + 1, "{asked} in {took:?}");
    assert!(told >= 200 && asked >= 2, "{told} probes, {asked} questions");
}

/// It accepts, by its kernel, and does not answer: one question, and all who wait get its answer.
#[test]
fn a_hanging_app_is_not_ready_within_a_second() {
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    app.set_nonblocking(true).expect("non-blocking");
    let target = format!("http://{}/", app.local_addr().expect("an address"));
    let companion = Companion::ready(&[&target]);
    let address = companion.address;
    let idle = companion.idle;
    let probes: Vec<_> = (0..8)
        .map(|_| {
            let request = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
            thread::spawn(move || ask(address, request))
        })
        .collect();
    for probe in probes {
        let answer = probe.join().expect("answered");
        let expected = format!("starting: {target} gave no answer within 1s\n");
        assert_eq!((answer.status, answer.body), (503, expected));
        assert!(answer.took < ms(1000) + slack(), "{:?}", answer.took);
    }
    let asked = std::iter::from_fn(|| app.accept().ok()).count();
    assert_eq!(asked, 1, "one question for all");
    assert!(becomes_true(LIMIT, || companion.descriptors() == idle), "nothing is left open");
}

/// A client that waits for the app's answer does not delay the clients that ask for something else.
#[test]
fn a_check_under_way_delays_nobody_else() {
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = format!("http://{}/", app.local_addr().expect("an address"));
    let companion = Companion::ready(&[&target]);
    let mut waiting = TcpStream::connect(companion.address).expect("connected");
    waiting.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let answer = ask(companion.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.status == 404 && answer.took < slack(), "{answer:?}");
}

// ---- the drain

#[test]
fn the_drain_is_told_at_once_and_to_those_who_wait() {
    let mut companion = Companion::ready(&[]);
    companion.assert_tells(200, "ready\n");
    let began = now();
    companion.drain();
    becomes_true_after("draining", began, ms(0), || companion.get().status == 503);
    let seen = now();
    assert_draining(&companion.get(), seen, began);
    pause(ms(1200));
    assert_draining(&companion.get(), seen, began);

    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = format!("http://{}/", app.local_addr().expect("an address"));
    let mut companion = Companion::ready(&[&target]);
    let address = companion.address;
    let waiting = thread::spawn(move || ask(address, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"));
    let _asked = app.accept().expect("the app is asked");
    let began = now();
    companion.drain();
    let answer = waiting.join().expect("answered");
    assert_after("the answer", now() - began, ms(0));
    assert_draining(&answer, now(), began);
}

/// For as many seconds, rounded to tenths, as it is since the drain was seen, and not more than since it was asked for.
#[track_caller]
fn assert_draining(answer: &Answer, seen: Instant, asked: Instant) {
    let told = answer.body.strip_prefix("draining for ").and_then(|rest| rest.strip_suffix("s\n"));
    let told: f64 = told.and_then(|told| told.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"));
    let least = (now() - seen).as_secs_f64() - answer.took.as_secs_f64() - 0.1;
    let most = (now() - asked).as_secs_f64() + 0.1;
    assert!(answer.status == 503 && told >= least && told <= most, "{answer:?}: {least} to {most}");
}

#[test]
fn started_in_mid_drain_it_says_so() {
    let (draining, _) = support::system::pipe().expect("a pipe");
    let companion = Companion::start("ready", &[], draining, None);
    companion.assert_tells(503, "draining\n");
}

// ---- slow and hostile clients

/// 200 who hold half a request, and come again when they are closed, until told to stop. How often they came.
fn slow_clients(address: SocketAddr, stop: &AtomicBool) -> usize {
    let open = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHo").ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    };
    let mut came = 200;
    let mut clients: Vec<Option<TcpStream>> = (0..came).map(|_| open()).collect();
    while !stop.load(Ordering::SeqCst) {
        for client in &mut clients {
            let is_open = client.as_mut().is_some_and(|stream| {
                matches!(stream.read(&mut [0; 16]), Err(e) if e.kind() == ErrorKind::WouldBlock)
            });
            if !is_open {
                *client = open();
                came += 1;
            }
        }
        pause(ms(5));
    }
    came
}

/// 10,000 of them: sent, and either closed at once or read to the end.
fn random_requests(address: SocketAddr) {
    let mut random = Random::new();
    for number in 0..10_000 {
        let mut bytes = random.bytes(600);
        // Some begin as a request should, to come further in.
        if number % 3 == 0 {
            bytes.splice(0..0, *b"GET /readyz HTTP/1.1\r\n");
        }
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let _ = stream.write_all(&bytes);
        if number % 2 == 0 {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.set_read_timeout(Some(ms(500)));
            let _ = stream.read(&mut [0; 512]);
        }
    }
}

#[test]
fn slow_and_hostile_clients_delay_no_probe() {
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = format!("tcp://{}", app.local_addr().expect("an address"));
    thread::spawn(move || while app.accept().is_ok() {});
    let companion = Companion::ready(&[&target]);
    companion.assert_tells(200, "ready\n");
    let (address, idle) = (companion.address, companion.idle);
    let memory = companion.run.status("VmRSS");

    let stop = Arc::new(AtomicBool::new(false));
    let slow_stop = stop.clone();
    let slow = thread::spawn(move || slow_clients(address, &slow_stop));
    pause(ms(100));
    let hostile = thread::spawn(move || random_requests(address));
    // The control: a minimal server, asked under the same load, shows how fast the machine answers now.
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let control_address = control.local_addr().expect("an address");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = control.accept() {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        }
    });
    let mut times: Vec<Duration> = vec![];
    let mut control_max = Duration::ZERO;
    let (mut held, mut pushed_out) = (0, 0);
    while !hostile.is_finished() || times.len() < 200 {
        match try_ask(address, PROBE) {
            Some(answer) => {
                assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
                times.push(answer.took);
            }
            // Held up between its connecting and its request, with 64 others behind it.
            None => pushed_out += 1,
        }
        let control = ask(control_address, PROBE);
        control_max = control_max.max(control.took);
        held = held.max(companion.descriptors() - idle);
        pause(ms(5));
    }
    hostile.join().expect("all sent");
    let memory_under_load = companion.run.status("VmHWM");
    stop.store(true, Ordering::SeqCst);
    let came = slow.join().expect("stopped");

    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 1000];
    println!(
        "{} probes: p50 {:?}, p99 {:?}, max {:?} (a bare server's: {control_max:?}); slow clients came {came} times, at most {held} descriptors; \
         {memory} KiB before, {memory_under_load} at most",
        times.len(),
        at(500),
        at(990),
        at(1000)
    );
    assert!(pushed_out * 5 <= times.len(), "{pushed_out} of {}", times.len());
    assert!(at(1000) < slack() + control_max, "max {:?}, {control_max:?}", at(1000));
    assert!(held <= 64 + 1, "64 clients and a check, not {held}");
    assert!(memory_under_load < memory + 1024, "{memory} KiB, then {memory_under_load}");

    // Within 2 s the last one is gone, and then nothing happens.
    assert!(becomes_true(LIMIT, || companion.descriptors() == idle), "nothing is left open");
    let wakeups = settled(|| companion.run.status("voluntary_ctxt_switches"));
    pause(ms(500));
    assert_eq!(companion.run.status("voluntary_ctxt_switches"), wakeups, "it sleeps");
}

/// The error that accept(2) then returns must not become a busy loop. If there is a connection to close, no client has to wait.
#[test]
fn lacking_descriptors_it_neither_spins_nor_stops() {
    if !needs_program("prlimit") {
        return;
    }
    let companion = Companion::ready(&[]);
    let limit = |descriptors: usize| {
        let pid = companion.run.pid.to_string();
        let soft = format!("--nofile={descriptors}:");
        let status = Command::new("prlimit").args(["--pid", &pid, &soft]).status();
        assert!(status.expect("prlimit").success());
    };
    let half = |_| {
        let mut stream = TcpStream::connect(companion.address).expect("connected");
        stream.write_all(b"GET /readyz").expect("sent");
        stream
    };
    // For nobody at all: the numbers up to the highest one are in use.
    limit(companion.idle);
    let client = half(0);
    pause(ms(100));
    let before = companion.cpu_time();
    pause(ms(700));
    let spent = companion.cpu_time() - before;
    assert!(spent <= 10, "{spent} hundredths of a second in 700 ms");
    drop(client);
    // For three, and there are forty.
    limit(companion.idle + 3);
    let clients: Vec<TcpStream> = (0..40).map(half).collect();
    assert_eq!(companion.get().status, 200);
    drop(clients);
}

// ---- the open port, and the wait for the first success

#[test]
fn tcp_accepts_and_closes_until_it_is_shut_down() {
    let (draining, not_draining) = support::system::pipe().expect("a pipe");
    let companion = Companion::start("accept", &[], draining, Some(not_draining));
    let idle = companion.idle;
    for _ in 0..300 {
        let mut stream = TcpStream::connect(companion.address).expect("connected");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        assert_eq!(stream.read(&mut [0; 16]).expect("closed"), 0);
    }
    assert!(becomes_true(LIMIT, || companion.descriptors() == idle), "nothing is left open");
    let wakeups = settled(|| companion.run.status("voluntary_ctxt_switches"));
    pause(ms(300));
    assert_eq!(companion.run.status("voluntary_ctxt_switches"), wakeups, "it sleeps");
    shut_down(&companion.listener);
    assert_eq!(companion.run.ended().code, 0);
}

#[test]
fn the_server_ends_when_its_listener_is_shut_down() {
    let companion = Companion::ready(&[]);
    companion.assert_tells(200, "ready\n");
    shut_down(&companion.listener);
    assert_eq!(companion.run.ended().code, 0);
}

fn shut_down(listener: &TcpListener) {
    nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both)
        .expect("shut down");
}

#[test]
fn it_waits_for_the_first_success() {
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = app.local_addr().expect("an address");
    drop(app);
    let waiting = |target: &str| -> Init { init().arg("companion").arg("await").arg(target) };
    let run = waiting(&format!("tcp://{address}")).start();
    assert!(!run.ends_within(ms(500)), "nobody listens yet");
    let app = TcpListener::bind(address).expect("the port");
    let began = now();
    let ended = run.ended();
    assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:?}");
    assert_after("the success", ended.at - began, ms(0));
    let _first = app.accept().expect("the connection of the first wait");

    // Every 100 ms, from one question to the next.
    let answers = thread::spawn(move || {
        for number in 1..=6 {
            let (mut stream, _) = app.accept().expect("a question");
            let _ = stream.read(&mut [0; 512]);
            let status = if number < 6 { "503 No" } else { "200 OK" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
        }
    });
    let began = now();
    let ended = waiting(&format!("http://{address}/")).ended();
    assert_eq!(ended.code, 0);
    assert_after("the sixth question", ended.at - began, ms(500));
    answers.join().expect("asked six times");
}

#[test]
fn what_the_companion_is_not_is_refused() {
    for words in [
        &["companion"][..],
        &["companion", "other"],
        &["companion", "await"],
        &["companion", "ready", "tcp://a.name:1"],
        &["companion", "ready"], // and no descriptor 3
    ] {
        let mut companion = init();
        for word in words {
            companion = companion.arg(word);
        }
        let ended = companion.ended();
        assert_eq!((ended.code, ended.err.len()), (125, 1), "{words:?}: {ended:?}");
    }
}
