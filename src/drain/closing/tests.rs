//! The last check of a connection, and the fate of a request that arrives at that very moment. Each
//! is compared with a server that closes by its own keep-alive timeout. One file, as all of them
//! share the race.

use super::*;
use crate::options::watched::QuietOn;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};

use super::holders::Place;
use crate::drain::traffic::tests::{Random, pause};
use crate::lending::{Answer, Request};

#[allow(clippy::disallowed_methods, reason = "the tests are their own supervisor")]
fn now() -> Instant {
    Instant::now()
}

fn spin_until(at: Instant) {
    while now() < at {
        std::hint::spin_loop();
    }
}

/// How long a connection has to be idle, as the end of the longest drain comes near: 20 s.
#[test]
fn the_time_shrinks_to_nothing_in_the_last_tenth() {
    let ms = Duration::from_millis;
    let closer = Closer::new(ms(100), ms(20_000), Lender::Nobody, Log::default());
    let how = |at| {
        let CloseIdle { after, anyway } = closer.how(ms(at));
        (after, anyway)
    };
    assert_eq!(how(0), (ms(100), false));
    assert_eq!(how(18_000), (ms(100), false));
    assert_eq!(how(18_001), (ms(90), true));
    assert_eq!(how(19_000), (ms(50), true));
    assert_eq!(how(19_801), (ms(0), true));
    assert_eq!(how(20_000), (ms(0), true));
    assert_eq!(how(21_000), (ms(0), true));
}

/// A PID 1 that gets no processor for a while answers late, and is not given up.
#[test]
fn an_answer_that_is_late_is_waited_for() {
    let (socket, pid_1) = pair();
    thread::spawn(move || {
        let mut record = [0; Request::SIZE];
        while let Ok(Request::SIZE) = recv(pid_1.as_raw_fd(), &mut record, MsgFlags::empty()) {
            pause(300);
            let cookie = Request::from_bytes(record).cookie;
            let answer = Answer { errno: libc::EBADF, cookie };
            sys::send_record(pid_1.as_fd(), &answer.to_bytes(), None).expect("answered");
        }
    });
    let mut lender = Lender::Parent { socket, silences: 0 };
    let began = now();
    let clock = || Time::ZERO.saturating_add(began.elapsed());
    // On a busy machine one may be later than that; none is so with a limit that is too short.
    let is_answered = (0..3).any(|cookie| {
        let wanted = [Wanted { cookie, place: Place::of(1, 0) }];
        let mut answered = false;
        lender.borrow(&wanted, &clock, &mut |index, lent| {
            answered = (index, lent.err()) == (0, Some(Errno::EBADF));
        });
        answered
    });
    assert!(is_answered && !lender.is_silent());
}

/// The companion's end, which does not block, and PID 1's, which does here.
fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a pair");
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("set");
    (ours, theirs)
}

/// A connection of a server, as judged when nothing had moved on it.
struct Kept {
    client: TcpStream,
    server: TcpStream,
    idle: Idle,
}

fn counts(socket: &TcpStream) -> Option<Counts> {
    let mut info = [0; TCP_INFO];
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let length = sys::socket_option(socket.as_fd(), level, name, &mut info).expect("told");
    diag::info(&info[..length], 0).and_then(|info| info.counts)
}

impl Kept {
    fn new(listener: &TcpListener) -> Self {
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        for socket in [&client, &server] {
            socket.set_nodelay(true).expect("set");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        }
        client.write_all(b"request").expect("asked");
        server.read_exact(&mut [0; 7]).expect("read");
        server.write_all(b"answer!").expect("answered");
        client.read_exact(&mut [0; 7]).expect("read");
        // The client's ACK of the answer may still be on its way.
        while sys::queues(server.as_fd()).expect("told") != (0, 0) {}
        let idle = Idle::of(sys::cookie(server.as_fd()).expect("told"), counts(&server));
        Self { client, server, idle }
    }

    fn borrowed(&self) -> OwnedFd {
        self.server.try_clone().expect("a duplicate").into()
    }
}

fn listener() -> TcpListener {
    crate::drain::traffic::tests::listener("127.0.0.1")
}

#[test]
fn an_idle_connection_is_shut_and_the_server_sees_its_clients_end() {
    let mut kept = Kept::new(&listener());
    assert!(matches!(finish(kept.borrowed(), &kept.idle), Ok(Outcome::Shut)));
    assert_eq!(kept.server.read(&mut [0; 10]).expect("the end"), 0);
    // Data that still arrives can be read and answered.
    kept.client.write_all(b"request").expect("asked");
    while sys::queues(kept.server.as_fd()).expect("told").0 < 7 {}
    kept.server.read_exact(&mut [0; 7]).expect("read");
    kept.server.write_all(b"answer!").expect("answered");
    kept.client.read_exact(&mut [0; 7]).expect("read");
    drop(kept.server);
    assert_eq!(kept.client.read(&mut [0; 10]).expect("the end"), 0);
}

/// If anything has moved since it was judged, it is left alone.
#[test]
fn a_connection_that_is_busy_again_or_another_one_is_left_alone() {
    type Change = fn(&mut Kept);
    let changes: [(&str, Change); 4] = [
        ("a request that is not read", |kept| {
            kept.client.write_all(b"request").expect("asked");
            while sys::queues(kept.server.as_fd()).expect("told").0 == 0 {}
        }),
        ("a request that is read", |kept| {
            kept.client.write_all(b"request").expect("asked");
            kept.server.read_exact(&mut [0; 7]).expect("read");
        }),
        ("an answer", |kept| {
            kept.server.write_all(b"more").expect("sent");
            kept.client.read_exact(&mut [0; 4]).expect("read");
        }),
        ("the client's end", |kept| {
            kept.client.shutdown(std::net::Shutdown::Write).expect("closed");
            assert_eq!(kept.server.read(&mut [0]).expect("the end"), 0);
        }),
    ];
    for (what, change) in changes {
        let mut kept = Kept::new(&listener());
        change(&mut kept);
        assert!(matches!(finish(kept.borrowed(), &kept.idle), Ok(Outcome::Moved)), "{what}");
        let read = kept.server.set_nonblocking(true).and_then(|()| kept.server.peek(&mut [0]));
        let is_open = match read {
            Ok(length) => length > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        assert_eq!(is_open, what != "the client's end", "{what}");
    }
    let (kept, other) = (Kept::new(&listener()), Kept::new(&listener()));
    assert_eq!(finish(other.borrowed(), &kept.idle).err(), Some(Errno::ESTALE));
}

// ---- a request in the very moment

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// It waits in read(2).
    Blocking,
    /// It waits in poll(2).
    EventLoop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClosedBy {
    Us,
    /// The server's own timer.
    Timeout,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    answered: u32,
    /// The client had seen end of stream before it sent.
    closed_before: u32,
    /// It was sent, and got no answer.
    unanswered: u32,
}

/// Serves until end of stream, or until the timer; a request that has come by then is answered.
fn serve(mut server: TcpStream, how: Server, timer: Option<Instant>) {
    let mut piece = [0; 16];
    if how == Server::EventLoop || timer.is_some() {
        server.set_nonblocking(true).expect("set");
    }
    loop {
        match server.read(&mut piece) {
            Ok(0) => return,
            Ok(_) => drop(server.write_all(b"answer!")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if timer.is_some_and(|timer| now() >= timer) {
                    return;
                }
                if timer.is_none() {
                    sys::poll(&mut [sys::Polled::readable(&server)], 5000);
                }
            }
            Err(_) => return,
        }
    }
}

/// Runs a number of clients, each of which sends shortly before or after its connection is closed.
fn race(trials: u32, how: Server, closed_by: ClosedBy, seed: u64) -> Tally {
    const WITHIN: u64 = 150;
    let listener = listener();
    let mut random = Random(seed);
    let mut tally = Tally::default();
    for _ in 0..trials {
        let Kept { mut client, server, idle } = Kept::new(&listener);
        let borrowed: OwnedFd = server.try_clone().expect("a duplicate").into();
        let (ready, done) = (Barrier::new(3), AtomicBool::new(false));
        let at = now() + Duration::from_micros(400);
        let sends = at + Duration::from_micros(random.next() % (2 * WITHIN))
            - Duration::from_micros(WITHIN);
        let timer = (closed_by == ClosedBy::Timeout).then_some(at);
        thread::scope(|scope| {
            scope.spawn(|| {
                ready.wait();
                serve(server, how, timer);
            });
            scope.spawn(|| {
                ready.wait();
                match closed_by {
                    ClosedBy::Us => {
                        spin_until(at);
                        let _ = finish(borrowed, &idle);
                    }
                    ClosedBy::Timeout => drop(borrowed),
                }
                done.store(true, Ordering::Release);
            });
            ready.wait();
            spin_until(sends);
            client.set_nonblocking(true).expect("set");
            let before = client.peek(&mut [0]);
            client.set_nonblocking(false).expect("set");
            if before.is_ok() {
                tally.closed_before += 1;
                return;
            }
            let answer = client.write_all(b"request").and_then(|()| client.read_exact(&mut [0; 7]));
            match answer {
                Ok(()) => tally.answered += 1,
                Err(_) => tally.unanswered += 1,
            }
            // End of stream for a blocking server that nothing else closes.
            drop(client);
        });
        assert!(done.load(Ordering::Acquire));
    }
    tally
}

/// DRAIN_INIT_TRIALS=100000 takes minutes. A request that meets our close is lost no more often
/// than one that meets a server's own keep-alive timeout.
#[test]
fn a_request_in_the_very_moment_fares_as_at_a_keep_alive_timeout() {
    let trials = std::env::var("DRAIN_INIT_TRIALS").ok().and_then(|text| text.parse().ok());
    let trials: u32 = trials.unwrap_or(300);
    for how in [Server::Blocking, Server::EventLoop] {
        let [ours, theirs] = [ClosedBy::Us, ClosedBy::Timeout].map(|by| race(trials, how, by, 99));
        println!("{trials} trials, {how:?}: closed by us {ours:?}, by a timeout {theirs:?}");
        assert!(ours.answered > 0 && ours.answered + ours.closed_before > trials / 2, "{ours:?}");
        let slack = trials / 20;
        assert!(ours.unanswered <= theirs.unanswered * 2 + slack, "{ours:?} and {theirs:?}");
    }
}

// ---- all of it, over the sockets of this process

#[test]
fn a_watch_closes_what_is_idle_and_nothing_else() {
    use crate::drain::traffic::Watch;
    use crate::options::watched::Watched;

    let listener = listener();
    let port = listener.local_addr().expect("bound").port();
    let (mut idle, mut owed) = (Kept::new(&listener), Kept::new(&listener));
    owed.client.write_all(b"request").expect("asked");
    owed.server.read_exact(&mut [0; 7]).expect("read");
    let watched = Watched {
        until_quiet: Duration::from_millis(300),
        quiet_on: QuietOn::Requests,
        ports: vec![port],
        ..Watched::default()
    };
    let began = now();
    let clock = || began.elapsed();
    let mut watch = Watch::begin(watched, Log::default(), &clock);
    watch.close_idle(Duration::from_millis(100), Duration::from_secs(60), Lender::Nobody);
    let mut last = None;
    let until = |watch: &mut Watch, last: &mut Option<String>, limit: Duration| {
        while began.elapsed() < limit {
            thread::yield_now();
            if watch.next() > clock() {
                continue;
            }
            if let Some(verdict) = watch.look(&clock) {
                *last = Some(verdict.to_string());
                if verdict.is_quiet() {
                    return true;
                }
            }
        }
        false
    };
    let closes = |mut server: TcpStream| assert_eq!(server.read(&mut [0]).expect("the end"), 0);
    thread::scope(|scope| {
        scope.spawn(|| closes(idle.server));
        assert!(!until(&mut watch, &mut last, Duration::from_secs(2)), "{last:?}");
    });
    owed.server.set_nonblocking(true).expect("set");
    assert!(owed.server.read(&mut [0]).is_err(), "it is left alone: {last:?}");
    assert_eq!(idle.client.read(&mut [0]).expect("the end"), 0);

    owed.server.set_nonblocking(false).expect("set");
    owed.server.write_all(b"answer!").expect("answered");
    owed.client.read_exact(&mut [0; 7]).expect("read");
    thread::scope(|scope| {
        scope.spawn(|| closes(owed.server));
        assert!(until(&mut watch, &mut last, Duration::from_secs(20)), "{last:?}");
    });
    assert_eq!(last.as_deref(), Some("quiet for 300ms, closed 2 of 2 kept connections"));
}
