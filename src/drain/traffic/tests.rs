//! `Watch` with real sockets, over the loopback interface. One file, as the tests share an app and
//! a drain.

use super::*;
use crate::options::network::Network;
use crate::options::watched::QuietOn;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Pseudorandom numbers, the same in each run: xorshift64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[allow(clippy::disallowed_methods, reason = "the tests are their own supervisor")]
fn clock() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the tests are their own supervisor")]
pub fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Waits until `is_so` returns true, and fails after a while.
pub fn until(mut is_so: impl FnMut() -> bool) {
    let began = clock();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        pause(1);
    }
}

const V4: &str = "127.0.0.1";
const V6: &str = "[::1]";
const MAPPED: &str = "[::ffff:127.0.0.1]";

/// The app: a listening socket; the test answers by hand.
struct App {
    listener: TcpListener,
    address: SocketAddr,
}

/// On this host, and a port that is nobody else's: the kernel gives one and the same to a listener on
/// another address, or to somebody's connection, and what is watched is a port.
pub fn listener(host: &str) -> TcpListener {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = std::process::id().wrapping_mul(100) + COUNT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(count % 20_000).expect("a port");
        if let Ok(listener) = TcpListener::bind(format!("{host}:{port}")) {
            return listener;
        }
    }
}

impl App {
    fn on(host: &str) -> Self {
        let listener = listener(host);
        let address = listener.local_addr().expect("bound");
        Self { listener, address }
    }

    /// The client's end and the app's.
    fn connection(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address).expect("connected");
        client.set_nodelay(true).expect("set");
        let (server, _) = self.listener.accept().expect("accepted");
        server.set_nodelay(true).expect("set");
        (client, server)
    }
}

fn ask(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(&[b'r'; 100]).expect("asked");
    server.read_exact(&mut [0; 100]).expect("read");
}

fn answer(client: &mut TcpStream, server: &mut TcpStream) {
    server.write_all(&[b'a'; 100]).expect("answered");
    client.read_exact(&mut [0; 100]).expect("read");
}

fn exchange(connection: &mut (TcpStream, TcpStream)) {
    let (client, server) = connection;
    ask(client, server);
    answer(client, server);
}

/// A drain with a clock of its own.
struct Drain {
    began: Instant,
    watch: Watch,
}

impl Drain {
    fn begin(app: &App, until_quiet: u64, quiet_on: QuietOn) -> Self {
        Self::watching(Watched {
            until_quiet: Duration::from_millis(until_quiet),
            quiet_on,
            ports: vec![app.address.port()],
            ..Watched::default()
        })
    }

    fn watching(watched: Watched) -> Self {
        let began = clock();
        Self { began, watch: Watch::begin(watched, Log::default(), &|| began.elapsed()) }
    }

    fn sample(&mut self) -> Verdict {
        self.watch.sample(&|| self.began.elapsed())
    }

    /// Takes samples as the drain does, until `is_so` returns true.
    fn goes_on_until(&mut self, what: &str, is_so: impl Fn(&Verdict) -> bool) -> Verdict {
        loop {
            let now = self.began.elapsed();
            let wait = self.watch.next().saturating_sub(now);
            pause(u64::try_from(wait.as_millis()).expect("short") + 1);
            let verdict = self.watch.look(&|| self.began.elapsed());
            let late = self.began.elapsed() > Duration::from_secs(60);
            match verdict {
                Some(verdict) if is_so(&verdict) => return verdict,
                Some(verdict) => assert!(!late, "{what}: {verdict}"),
                None => assert!(!late, "{what}: no sample"),
            }
        }
    }

    fn until_quiet(&mut self) -> Duration {
        self.goes_on_until("until quiet", Verdict::is_quiet);
        self.began.elapsed()
    }
}

/// Checks that the drain lasted at least this long, and at most 20 times as long, for a loaded
/// machine. tests/suite/until_quiet.rs has the stricter limit, by comparison with a control.
fn assert_lasted(lasted: Duration, millis: u64) {
    let least = Duration::from_millis(millis);
    assert!(lasted >= least && lasted < least * 20, "{lasted:?}, not {millis}");
}

fn in_flight(verdict: &Verdict) -> u32 {
    verdict.in_flight
}

#[test]
fn without_traffic_it_is_quiet_when_the_window_is_over() {
    let app = App::on(V4);
    let mut idle = app.connection();
    exchange(&mut idle);
    let lasted = Drain::begin(&app, 1000, QuietOn::Requests).until_quiet();
    assert_lasted(lasted, 1000);
}

#[test]
fn a_new_connection_starts_the_window_anew() {
    for (address, quiet_on) in
        [(V4, QuietOn::Requests), (V6, QuietOn::Connections), (MAPPED, QuietOn::Connections)]
    {
        let app = App::on(address);
        let mut drain = Drain::begin(&app, 1000, quiet_on);
        pause(500);
        let mut connection = app.connection();
        exchange(&mut connection);
        let lasted = drain.until_quiet();
        assert_lasted(lasted, 1490);
    }
}

#[test]
fn a_request_on_a_kept_connection_does_so_on_requests_alone() {
    for (quiet_on, expected) in [(QuietOn::Requests, 1490), (QuietOn::Connections, 1000)] {
        let app = App::on(V4);
        let mut connection = app.connection();
        exchange(&mut connection);
        let mut drain = Drain::begin(&app, 1000, quiet_on);
        pause(500);
        exchange(&mut connection);
        let lasted = drain.until_quiet();
        assert_lasted(lasted, expected);
    }
}

/// Connections that come and go between two samples.
#[test]
fn connections_of_a_millisecond_are_seen() {
    for address in [V4, V6, MAPPED] {
        let app = App::on(address);
        let mut drain = Drain::begin(&app, 1000, QuietOn::Connections);
        let mut last = clock();
        for _ in 0..20 {
            last = clock();
            let mut connection = app.connection();
            exchange(&mut connection);
            let (client, server) = connection;
            // The client closes first, and the app at once.
            drop(client);
            drop(server);
        }
        // The kernel tells of them a moment later.
        let mut seen = 0;
        until(|| {
            let verdict = drain.sample();
            seen += verdict.new;
            // Since the last of them, or a tick less.
            let is_quiet = verdict.quiet_for > last.elapsed() + Duration::from_millis(20);
            assert!(seen < 20 || !is_quiet, "{verdict:?}");
            seen == 20
        });
    }
}

#[test]
fn a_request_is_in_flight_until_it_is_answered() {
    for address in [V4, V6, MAPPED] {
        let app = App::on(address);
        let (mut client, mut server) = app.connection();
        let mut drain = Drain::begin(&app, 300, QuietOn::Requests);
        client.write_all(b"unread").expect("asked");
        assert_eq!(in_flight(&drain.sample()), 1, "{address}: unread");
        server.read_exact(&mut [0; 6]).expect("read");
        assert_eq!(in_flight(&drain.sample()), 1, "{address}: read");
        let verdict = drain.goes_on_until("window", |verdict| verdict.no_traffic());
        assert_eq!(in_flight(&verdict), 1, "{address}: {verdict}");
        pause(200);
        assert_eq!(in_flight(&drain.sample()), 1, "{address}: later");
        answer(&mut client, &mut server);
        drain.goes_on_until("answered", Verdict::is_quiet);
    }
}

#[test]
fn a_request_from_before_the_drain_is_in_flight() {
    let app = App::on(V4);
    let (mut client, mut server) = app.connection();
    ask(&mut client, &mut server);
    pause(300);
    let mut drain = Drain::begin(&app, 100, QuietOn::Requests);
    let verdict = drain.goes_on_until("window", |verdict| verdict.no_traffic());
    assert_eq!(in_flight(&verdict), 1);
}

/// A download that the client reads slowly, or not at all.
#[test]
fn unsent_data_is_in_flight() {
    let app = App::on(V4);
    let (mut client, mut server) = app.connection();
    ask(&mut client, &mut server);
    server.set_nonblocking(true).expect("set");
    let mut sent = 0;
    while let Ok(count) = server.write(&[0; 64 * 1024]) {
        sent += count;
    }
    let mut drain = Drain::begin(&app, 100, QuietOn::Requests);
    pause(400);
    assert_eq!(in_flight(&drain.sample()), 1);
    // The app has sent everything and closed.
    drop(server);
    pause(200);
    assert_eq!(in_flight(&drain.sample()), 1);
    let mut rest = vec![0; sent];
    client.read_exact(&mut rest).expect("read");
    drain.goes_on_until("delivered", |verdict| verdict.nothing_in_flight());
}

#[test]
fn a_stream_is_in_flight_and_so_is_an_upload() {
    let app = App::on(V4);
    let (mut reader, mut stream) = app.connection();
    let (mut upload, mut sink) = app.connection();
    ask(&mut reader, &mut stream);
    ask(&mut upload, &mut sink);
    let mut drain = Drain::begin(&app, 500, QuietOn::Connections);
    for _ in 0..8 {
        pause(120);
        answer(&mut reader, &mut stream);
        ask(&mut upload, &mut sink);
        if drain.began.elapsed() > Duration::from_millis(300) {
            assert_eq!(in_flight(&drain.sample()), 2);
        }
    }
    answer(&mut upload, &mut sink);
    drain.goes_on_until("both over", Verdict::is_quiet);
}

/// Answers within one tick of the kernel's clock: before the drain, and during it.
#[test]
fn fifty_idle_connections_that_were_answered_at_once_hold_nothing_up() {
    for before in [0, 300] {
        let app = App::on(V4);
        let mut connections: Vec<_> = (0..50).map(|_| app.connection()).collect();
        // Some after a slow answer, which leaves the kernel in a different state.
        for (index, connection) in connections.iter_mut().enumerate() {
            if index % 5 == 0 {
                ask(&mut connection.0, &mut connection.1);
            }
        }
        pause(60);
        for (index, connection) in connections.iter_mut().enumerate() {
            if index % 5 == 0 {
                answer(&mut connection.0, &mut connection.1);
            }
            for _ in 0..index % 4 + 1 {
                exchange(connection);
            }
        }
        pause(before);
        let mut drain = Drain::begin(&app, 1000, QuietOn::Requests);
        let verdict = drain.goes_on_until("idle", Verdict::is_quiet);
        assert_eq!(verdict.idle, 50);
        let lasted = drain.began.elapsed();
        assert_lasted(lasted, 1000);
        pause(100);
        connections.iter_mut().for_each(exchange);
        let again = clock();
        drain.watch.spent = Duration::ZERO;
        drain.goes_on_until("idle again", Verdict::is_quiet);
        assert_lasted(again.elapsed(), 990);
    }
}

/// Many clients send a head and a body; each answer is one segment.
#[test]
fn idle_connections_whose_first_request_came_in_two_segments_hold_nothing_up() {
    let app = App::on(V4);
    let mut connections: Vec<_> = (0..50).map(|_| app.connection()).collect();
    for (client, server) in &mut connections {
        client.set_nodelay(true).expect("set");
        ask(client, server);
        ask(client, server);
        answer(client, server);
    }
    pause(300);
    let mut drain = Drain::begin(&app, 1000, QuietOn::Requests);
    let verdict = drain.goes_on_until("idle", Verdict::is_quiet);
    assert_eq!(verdict.idle, 50);
    assert_lasted(drain.began.elapsed(), 1000);
}

/// Busy connections that are answered at once leave instants at which nothing is owed.
#[test]
fn busy_connections_leave_an_instant() {
    let app = App::on(V4);
    let mut connections: Vec<_> = (0..10).map(|_| app.connection()).collect();
    connections.iter_mut().for_each(exchange);
    let mut drain = Drain::begin(&app, 200, QuietOn::Connections);
    drain.watch.hurry();
    let mut ended = None;
    for turn in 0..400_usize {
        // Whatever it costs on this machine.
        drain.watch.spent = Duration::ZERO;
        exchange(&mut connections[turn % 10]);
        pause(9);
        if drain.sample().is_quiet() {
            ended = Some(drain.began.elapsed());
            break;
        }
    }
    assert!(ended.expect("an instant") >= Duration::from_millis(200));
}

/// A slow request right after a fast answer, usually within the same tick: 100 trials.
#[test]
fn a_slow_request_after_a_fast_answer_is_never_taken_for_answered() {
    std::thread::scope(|scope| {
        for begin in 0..20 {
            scope.spawn(move || (begin..100).step_by(20).for_each(slow_after_fast));
        }
    });
}

/// Before the drain begins, or during it, with samples at any moment; after fast or slow answers.
fn slow_after_fast(trial: u64) {
    let app = App::on(V4);
    let mut connection = app.connection();
    let in_drain = !trial.is_multiple_of(2);
    let mut drain = in_drain.then(|| Drain::begin(&app, 100, QuietOn::Connections));
    for _ in 0..trial / 2 % 3 {
        exchange(&mut connection);
    }
    let (client, server) = &mut connection;
    if trial % 5 > 2 {
        pause(trial % 20);
        drain.as_mut().map(Drain::sample);
        ask(client, server);
        pause(45);
        answer(client, server);
    }
    ask(client, server);
    answer(client, server);
    ask(client, server);
    if !in_drain {
        pause(trial * 3);
    }
    let mut drain = drain.unwrap_or_else(|| Drain::begin(&app, 100, QuietOn::Connections));
    pause(trial % 11);
    for _ in 0..12 {
        let verdict = drain.sample();
        assert_eq!(in_flight(&verdict), 1, "trial {trial}: {verdict}");
        pause(3 + trial % 40);
    }
}

#[test]
fn connections_of_others_do_not_count() {
    let app = App::on(V4);
    let other = App::on(V4);
    let ignored = App::on(V4);
    let mut drain = Drain::watching(Watched {
        until_quiet: Duration::from_millis(300),
        ports: vec![app.address.port(), ignored.address.port()],
        ignored_peers: vec![Network::parse("127.0.0.0/8").expect("a network")],
        ..Watched::default()
    });
    let sidecar = other.connection();
    let mut prober = ignored.connection();
    ask(&mut prober.0, &mut prober.1);
    // The app's own requests to other servers are not traffic.
    let outgoing = TcpStream::connect(other.address).expect("connected");
    pause(50);
    let verdict = drain.sample();
    assert_eq!((in_flight(&verdict), verdict.new), (0, 0));
    drop((sidecar, prober, outgoing));
    let lasted = drain.until_quiet();
    assert_lasted(lasted, 300);
}

/// The kernel describes a single connection as in its dump.
#[test]
fn one_connection_is_looked_at() {
    for address in [V4, V6, MAPPED] {
        let app = App::on(address);
        let mut connections = [app.connection(), app.connection()];
        connections.iter_mut().for_each(exchange);
        let mut drain = Drain::begin(&app, 1000, QuietOn::Connections);
        drain.sample();
        let seen = drain.watch.judge.to_look_at().to_vec();
        assert_eq!(seen.len(), 2, "{address}");
        let mut look = |connection| drain.watch.source.look_at(connection);
        for connection in &seen {
            let Some(Look::There(now)) = look(connection) else { panic!("{address}: not found") };
            let info = now.info.expect("told");
            let then = connection.info.expect("told");
            assert_eq!((now.cookie, now.port), (connection.cookie, connection.port));
            assert_eq!((now.local, now.peer), (connection.local, connection.peer));
            assert_eq!((now.inode, info.counts), (connection.inode, then.counts));
        }
        // A different connection with the same addresses is not mistaken for it, nor is a closed
        // one.
        let other = Connection { cookie: 1, ..seen[0] };
        assert!(matches!(look(&other), Some(Look::Gone)));
        ask(&mut connections[0].0, &mut connections[0].1);
        let owed = seen.iter().filter(|connection| {
            let Some(Look::There(now)) = look(connection) else { return false };
            now.info.expect("told").counts != connection.info.expect("told").counts
        });
        assert_eq!(owed.count(), 1, "{address}");
        let [first, second] = connections;
        for (client, mut server) in [first, second] {
            // The one that has closed first is the one that waits.
            drop(client);
            assert_eq!(server.read(&mut [0]).expect("its end"), 0);
        }
        until(|| seen.iter().all(|connection| matches!(look(connection), Some(Look::Gone))));
    }
}

/// Netlink is denied.
#[test]
fn without_netlink_every_established_connection_is_in_flight() {
    for address in [V4, V6, MAPPED] {
        let app = App::on(address);
        let mut idle = app.connection();
        exchange(&mut idle);
        let mut drain = Drain::begin(&app, 1000, QuietOn::Requests);
        let accepted = proc_net::accepted().expect("told");
        drain.watch.source = Source::ProcNet { accepted };
        let verdict = drain.sample();
        assert!(!verdict.nothing_in_flight() && !verdict.no_traffic());
        drain.watch.hurry();
        assert_eq!(in_flight(&drain.sample()), 1, "{address}");
        pause(1100);
        let mut short = app.connection();
        exchange(&mut short);
        drop(short);
        let verdict = drain.sample();
        assert!(verdict.new > 0 && verdict.quiet_for.is_zero(), "{address}: {verdict}");
        drop(idle);
        // The app closes its end in its own time.
        until(|| in_flight(&drain.sample()) == 0);
    }
}

/// The table is read when the quiet window is over, and not earlier.
#[test]
fn without_netlink_it_is_quiet_at_last() {
    let app = App::on(V4);
    let idle = app.connection();
    let mut drain = Drain::begin(&app, 50, QuietOn::Requests);
    pause(60);
    // Connections of other tests count as accepted, so earlier ones are forgotten.
    let mut sample = || {
        let accepted = proc_net::accepted().expect("told");
        drain.watch.source = Source::ProcNet { accepted };
        drain.sample()
    };
    until(|| sample().complete);
    assert!(!sample().is_quiet());
    drop(idle);
    until(|| {
        pause(60);
        sample().is_quiet()
    });
}

#[test]
fn where_nothing_can_be_seen_it_is_never_quiet() {
    let app = App::on(V4);
    let mut drain = Drain::begin(&app, 10, QuietOn::Requests);
    drain.watch.source = Source::Nothing;
    pause(20);
    for _ in 0..3 {
        let verdict = drain.sample();
        assert!(!verdict.is_quiet() && !verdict.nothing_in_flight() && !verdict.no_traffic());
    }
}

#[test]
fn while_the_ports_are_not_known_it_is_never_quiet() {
    let app = App::on(V4);
    let mut drain = Drain::begin(&app, 0, QuietOn::Requests);
    assert!(drain.sample().is_quiet());
    drain.watch.ports_known = false;
    assert!(!drain.sample().is_quiet());
}

/// The app's ports, if none is given: those of a process that runs another program.
#[test]
fn the_ports_are_found() {
    let app = App::on(V6);
    let own = App::on(V4);
    let socket = std::os::fd::OwnedFd::from(app.listener.try_clone().expect("another"));
    let mut program = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::from(socket))
        .spawn()
        .expect("started");
    let mut drain =
        Drain::watching(Watched { until_quiet: Duration::from_secs(1), ..Watched::default() });
    let (mut client, mut server) = app.connection();
    ask(&mut client, &mut server);
    let verdict = drain.sample();
    drop(program.stdin.take());
    program.wait().expect("ended");
    assert!(drain.watch.watched.ports.contains(&app.address.port()));
    assert!(!drain.watch.watched.ports.contains(&own.address.port()));
    assert!(verdict.busy_ports.contains(&app.address.port()), "{verdict}");
}

#[test]
fn a_costly_sample_is_paid_for_with_time() {
    let app = App::on(V4);
    let mut drain = Drain::begin(&app, 0, QuietOn::Requests);
    let now = Duration::from_secs(100);
    let mut next_after = |spent: u64, cost: u64| {
        drain.watch.began = Duration::ZERO;
        drain.watch.spent = Duration::from_millis(spent);
        drain.watch.plan(now, Duration::from_millis(cost));
        (drain.watch.next() - now).as_millis()
    };
    // 2% of 100 s are 2 s; the unused part can be spent at once.
    assert_eq!(next_after(1900, 12), 10);
    assert_eq!(next_after(2010, 12), 500);
    // A larger cost is paid off bit by bit.
    assert_eq!(next_after(4000, 12), 800);
    assert_eq!(next_after(4000, 60), 3000);
}

#[test]
fn closing_takes_a_tenth_of_the_time_and_six_times_its_sample() {
    let affordable_after = |spent, cost| {
        let [spent, cost] = [spent, cost].map(Duration::from_millis);
        affordable(Duration::from_secs(2), spent, cost).expect("it fits")
    };
    // 10% of 2 s at 50 µs each.
    assert_eq!(affordable_after(0, 0), 4000);
    // Samples may take 2%, and half of that is left.
    assert_eq!(affordable_after(20, 0), 2000);
    assert_eq!(affordable_after(40, 0), 0);
    assert_eq!(affordable_after(40, 10), 1200);
}

/// Measures the cost of a sample of N connections: `N=9000 cargo test --release measure --
/// --ignored --nocapture`. It needs two descriptors per connection.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let app = App::on(V4);
    let n: usize = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let mut connections: Vec<_> = (0..n).map(|_| app.connection()).collect();
    connections.iter_mut().for_each(exchange);
    let mut drain = Drain::begin(&app, 500, QuietOn::Requests);
    for _ in 0..6 {
        pause(100);
        let (before, wall) = (cpu_time(), clock());
        let verdict = drain.sample();
        println!("{:?} cpu {:?} wall {verdict}", cpu_time() - before, wall.elapsed());
    }
    println!(
        "{}",
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"))
            .collect::<String>()
    );
}
