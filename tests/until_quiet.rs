//! --until-quiet from the outside: the binary with a real HTTP server as its app, each in a network namespace of its own, and
//! clients of many kinds. The server ends by SIGTERM's default action, with whatever is in flight: what the drain doesn't
//! wait for is lost. src/traffic has the finer tests of what is seen.

mod support;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::system::{enter_own_network, now, pause};
use support::{Init, LIMIT, Line, Running, init, ms, needs_drain_init, needs_root, server};

const TERM: i32 = 15;
const V4: &str = "127.0.0.1:8080";
const V6: &str = "[::1]:8080";

/// --until-quiet in most tests.
const QUIET: Duration = Duration::from_secs(1);

/// How much later than at the end of the quiet time the drain may end: half a second, and as long again for a loaded machine.
const LATE: Duration = Duration::from_secs(2);

/// The kernel's ages are in its ticks.
const TICK: Duration = Duration::from_millis(10);

fn can_run() -> bool {
    needs_drain_init() && needs_root()
}

/// Runs it with each of them at once, each in a network of its own.
fn in_networks<T: Sync, R: Send>(cases: &[T], run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    server(); // is built before any time is measured
    let run = &run;
    thread::scope(|scope| {
        let start = |case| {
            scope.spawn(move || {
                enter_own_network();
                run(case)
            })
        };
        let threads: Vec<_> = cases.iter().map(start).collect();
        let ends = threads.into_iter().map(thread::ScopedJoinHandle::join);
        ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

// ---- the app

struct App {
    run: Running,
    address: SocketAddr,
}

impl App {
    /// Under drain-init with these options, and listening there.
    fn start(options: &str, listen: &str) -> Self {
        Self::started(init().args("--delay 0 --until-quiet 1s").args(options), listen, "default")
    }

    fn started(init: Init, listen: &str, on_term: &str) -> Self {
        let words = ["--quiet", "--on-term", on_term, "--listen", listen].map(Into::into);
        let mut run = init.command([server().into_os_string()].into_iter().chain(words)).start();
        run.line_with("listening on ");
        Self { run, address: listen.parse().expect("an address") }
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

    /// The drain ends when this time has come, and not much later; how much.
    #[track_caller]
    fn over_at(&mut self, due: Instant) -> Duration {
        let over = self.over();
        let excess = over.at.saturating_duration_since(due);
        println!("    {excess:?} after it was due");
        assert!(over.at + TICK >= due, "{:?} too soon: {}", due - over.at, over.text);
        assert!(excess < LATE, "{excess:?} too late: {}", over.text);
        excess
    }
}

// ---- the clients

/// A connection that is kept.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Client(BufReader::new(stream)))
    }

    fn get(&mut self, path: &str) -> io::Result<usize> {
        self.ask(path)?;
        self.answer()
    }

    fn ask(&mut self, path: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())
    }

    /// How long it is. An end before its own is an error.
    fn answer(&mut self) -> io::Result<usize> {
        let mut length = None;
        if !self.line()?.contains(" 200 ") {
            return Err(io::Error::other("not 200"));
        }
        loop {
            let line = self.line()?.to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().ok();
            }
        }
        if let Some(length) = length {
            return self.read(length);
        }
        let mut all = 0; // it comes in chunks
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            all += self.read(size)?;
            self.line()?;
            if size == 0 {
                return Ok(all);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn read(&mut self, length: usize) -> io::Result<usize> {
        self.0.read_exact(&mut vec![0; length])?;
        Ok(length)
    }
}

/// A request on a connection of its own, which the client closes first.
fn get(address: SocketAddr, path: &str) -> io::Result<usize> {
    Client::connect(address)?.get(path)
}

fn answered(address: SocketAddr) {
    get(address, "/").unwrap_or_else(|e| panic!("a request was lost: {e}"));
}

/// One each `every` until then; when the last one began.
fn steady(every: Duration, until: Instant, mut request: impl FnMut()) -> Instant {
    let mut last = now();
    let mut next = last;
    while next < until {
        pause(next.saturating_duration_since(now()));
        last = now();
        request();
        next = (next + every).max(now());
    }
    last
}

// ---- the tests

/// What is printed is what the drain takes beyond the last connection and the quiet time.
fn ends_with_the_traffic(start: impl Fn(&str) -> App + Sync) {
    let mut cases = vec![];
    for quiet_on in ["requests", "connections"] {
        for per_second in [200, 2] {
            cases.extend([500, 2000].map(|lag| (quiet_on, per_second, lag)));
        }
    }
    let mut excesses = in_networks(&cases, |&(quiet_on, per_second, lag)| {
        let mut app = start(quiet_on);
        answered(app.address);
        let until = app.stop() + ms(lag);
        let last = steady(ms(1000 / per_second), until, || answered(app.address));
        app.over_at(last + QUIET)
    });
    excesses.sort_unstable();
    let (median, worst) = (excesses[excesses.len() / 2], excesses[excesses.len() - 1]);
    println!("{} runs: excess over L + quiet: median {median:?}, worst {worst:?}", excesses.len());
}

#[test]
fn the_drain_ends_with_the_traffic() {
    if !can_run() {
        return;
    }
    ends_with_the_traffic(|on| App::start(&format!("--max-delay 9s --quiet-on {on}"), V4));
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
        App::start("--max-delay 9s --quiet-on connections", listen)
    });
}

/// What is asked for just before the stop; where netlink is denied a connection that is kept counts until it closes.
fn nothing_is_cut(start: impl Fn() -> App + Sync) {
    let cases =
        [("/slow/3.5", false), ("/slow/3.5", true), ("/stream/3", false), ("/bytes/16", false)];
    in_networks(&cases, |&(path, used)| {
        let mut app = start();
        let mut client = Client::connect(app.address).expect("connected");
        if used {
            for _ in 0..3 {
                client.get("/").expect("answered");
            }
        }
        client.ask(path).expect("asked");
        let stopped = app.stop();
        if path == "/bytes/16" {
            pause(ms(2500)); // it reads nothing for so long
        }
        let got = client.answer().unwrap_or_else(|e| panic!("{path}, used {used}: {e}"));
        let answered = now();
        assert!(got > 10 && answered - stopped > 2 * QUIET, "{path}: {got} bytes");
        if path == "/bytes/16" {
            assert_eq!(got, 16 << 20);
        }
        drop(client);
        let over = app.over();
        let after = over.at.saturating_duration_since(answered);
        assert!(over.text.contains("quiet for 1s"), "{path}: {}", over.text);
        assert!(over.at + TICK > answered && after < QUIET + LATE, "{path}: {after:?} after it");
    });
}

#[test]
fn what_is_in_flight_is_not_cut() {
    if !can_run() {
        return;
    }
    nothing_is_cut(|| App::start("--max-delay 9s", V4));
}
