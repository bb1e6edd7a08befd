//! The readiness companion: tells probes whether the app is ready, over HTTP or by an open port.
//!
//! It reads untrusted bytes, so it is a process of its own, and PID 1 restarts it whatever happens
//! to it. It is one loop that never waits for a single client: a slow or hostile client delays no
//! probe. It must not know why a drain begins: a pipe that closes is the signal.
//!
//! Longer than 300 lines because four small companions share its helpers.

#![forbid(unsafe_code)]

mod connection;
mod readiness;
pub mod request;

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::Duration;

use self::connection::Connection;
use self::readiness::{ANSWER_LIMIT, FRESH, Readiness};
use crate::clock::{Clock, Time};
use crate::exit_code::OWN_FAILURE;
use crate::log::Log;
use crate::options::target::Target;
use crate::poll;
use crate::ready::check;
use crate::ready::slate::Slate;
use crate::sys::{Described, Polled};

/// The most clients at a time.
const CONNECTIONS: usize = 64;

/// How long to pause after accept(2) failed: a missing resource is not back at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers /readyz until the listener is shut down. `draining` is the read end of a pipe that
/// closes when the drain begins. `slate` holds the app's own messages, if it is used.
pub fn serve(
    listener: OwnedFd,
    draining: OwnedFd,
    check: Option<Target>,
    slate: Option<Slate>,
    clock: Clock,
) -> u8 {
    let Some(listener) = non_blocking(listener) else {
        return OWN_FAILURE;
    };
    let mut draining = Some(File::from(draining));
    // The drain has begun already: this companion was restarted in the middle of it.
    let has_begun = is_readable(&draining, clock.now()) && has_closed(&mut draining);
    let readiness = Readiness::new(check, slate, has_begun);
    Server::new(listener, draining, readiness).run(clock)
}

/// Answers 503 until it is killed: the app is not started yet. `news` carries lines that name the
/// targets waited for.
pub fn serve_before_start(listener: OwnedFd, news: OwnedFd, clock: Clock) -> u8 {
    let Some(listener) = non_blocking(listener) else {
        return OWN_FAILURE;
    };
    let server = Server::new(listener, None, Readiness::before_start());
    let news = Some(News { pipe: news.into(), text: Vec::new() });
    Server { news, ..server }.run(clock)
}

/// Makes the listener non-blocking: a client that has gone before it is accepted must not block the
/// next.
fn non_blocking(listener: OwnedFd) -> Option<TcpListener> {
    let listener = TcpListener::from(listener);
    let result = listener.local_addr().and_then(|_| listener.set_nonblocking(true));
    if let Err(error) = &result {
        Log::default()
            .error("ready", format_args!("cannot listen for probes: {}", Described(error)));
    }
    result.is_ok().then_some(listener)
}

struct Server {
    listener: TcpListener,
    /// None once the drain has begun.
    draining: Option<File>,
    /// The news of the app's start, if it waits for targets.
    news: Option<News>,
    readiness: Readiness,
    /// Oldest first.
    connections: Vec<Connection>,
    /// No connection is accepted before this time.
    paused_until: Option<Time>,
}

/// Lines from the companion that waits for the start; the last line counts.
struct News {
    pipe: File,
    /// The bytes read so far of an unfinished line.
    text: Vec<u8>,
}

impl News {
    /// The last complete line, with earlier bytes of it. An error means end of file.
    fn read(&mut self) -> Result<Option<String>, ()> {
        let mut piece = [0; 1024];
        match self.pipe.read(&mut piece) {
            Ok(count @ 1..) => self.text.extend(piece.iter().take(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(()),
        }
        let Some(end) = self.text.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let rest = self.text.split_off(end + 1);
        let whole = std::mem::replace(&mut self.text, rest);
        let line = whole.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
        Ok(line.map(|line| String::from_utf8_lossy(line).into_owned()))
    }
}

/// Which descriptors are ready, or may be.
struct Ready {
    draining: bool,
    news: bool,
    listener: bool,
    connections: Vec<bool>,
}

/// The listener has been shut down.
struct ShutDown;

impl Server {
    fn new(listener: TcpListener, draining: Option<File>, readiness: Readiness) -> Self {
        let connections = Vec::new();
        Self { listener, draining, news: None, readiness, connections, paused_until: None }
    }

    fn run(mut self, clock: Clock) -> u8 {
        loop {
            let ready = self.wait(clock.now());
            let now = clock.now();
            if ready.draining && has_closed(&mut self.draining) {
                self.readiness.drain_begins(now);
            }
            if ready.news {
                match self.news.as_mut().map(News::read) {
                    Some(Ok(Some(line))) => self.readiness.waits_for(line),
                    Some(Ok(None)) => {}
                    _ => self.news = None,
                }
            }
            self.readiness.advance(now);
            for (connection, ready) in self.connections.iter_mut().zip(&ready.connections) {
                if *ready {
                    connection.advance(now);
                }
            }
            // First, so that a finished connection is closed rather than an unfinished one.
            self.connections.retain(|connection| !connection.is_over(now));
            if ready.listener && self.accept(now).is_err() {
                return 0;
            }
            if self.connections.iter().any(Connection::is_asking)
                && let Some(told) = self.readiness.tell(now)
            {
                self.connections.iter_mut().for_each(|connection| connection.tell(&told, now));
            }
            self.connections.retain(|connection| !connection.is_over(now));
        }
    }

    /// Waits for something to do; without a deadline if there are no clients.
    fn wait(&mut self, now: Time) -> Ready {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        // One place per connection, at a fixed index.
        let mut places = Vec::with_capacity(4 + self.connections.len());
        places.push(match self.paused_until {
            None => Polled::readable(&self.listener),
            Some(_) => Polled::NOTHING,
        });
        places.push(self.draining.as_ref().map_or(Polled::NOTHING, Polled::readable));
        let (check, mut deadline) = match self.readiness.wants() {
            Some((check, until)) => (check, earlier(self.paused_until, Some(until))),
            None => (Polled::NOTHING, self.paused_until),
        };
        places.push(check);
        places
            .push(self.news.as_ref().map_or(Polled::NOTHING, |news| Polled::readable(&news.pipe)));
        for connection in &self.connections {
            places.push(connection.wants());
            deadline = earlier(deadline, connection.deadline());
        }
        poll::wait(&mut places, deadline, now);

        let mut ready = places.iter().map(Polled::is_ready);
        let mut next = || ready.next().unwrap_or(false);
        let (listener, draining, _, news) = (next(), next(), next(), next());
        Ready { listener, draining, news, connections: ready.collect() }
    }

    /// Accepts new connections and reads their first bytes at once, so that a complete request is
    /// never closed to make room.
    fn accept(&mut self, now: Time) -> Result<(), ShutDown> {
        for _ in 0..CONNECTIONS {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if self.connections.len() >= CONNECTIONS {
                        self.make_room();
                    }
                    if stream.set_nonblocking(true).is_ok() {
                        let mut connection = Connection::new(stream, now);
                        connection.advance(now);
                        self.connections.push(connection);
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EINVAL) => {
                        return Err(ShutDown);
                    }
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        self.make_room();
                        self.paused_until = Some(now.saturating_add(PAUSE));
                        break;
                    }
                    // accept(2): the error concerns this connection alone. It is gone, and the next
                    // may be fine.
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// Closes the oldest answered connection, else the oldest without a complete request, else the
    /// oldest.
    fn make_room(&mut self) {
        let oldest = |which: fn(&Connection) -> bool| self.connections.iter().position(which);
        let place = oldest(Connection::is_answered)
            .or_else(|| oldest(|connection| !connection.is_complete()))
            .unwrap_or(0);
        if place < self.connections.len() {
            self.connections.remove(place);
        }
    }
}

fn is_readable(pipe: &Option<File>, now: Time) -> bool {
    let mut place = [pipe.as_ref().map_or(Polled::NOTHING, Polled::readable)];
    poll::wait(&mut place, Some(now), now);
    place.iter().any(Polled::is_ready)
}

/// The earlier of two optional deadlines.
fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

/// Whether a readable pipe has reached end of file; closes it then.
fn has_closed(pipe: &mut Option<File>) -> bool {
    let has_closed = match pipe.as_mut().map(|pipe| pipe.read(&mut [0; 64])) {
        // Nothing writes to this pipe; bytes on it mean nothing.
        Some(Ok(1..)) => false,
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => false,
        _ => true,
    };
    if has_closed {
        *pipe = None;
    }
    has_closed
}

/// Accepts and closes connections until the listener is shut down: an open port is the whole
/// answer.
pub fn accept_and_close(listener: OwnedFd, clock: Clock) -> u8 {
    let Some(listener) = non_blocking(listener) else {
        return OWN_FAILURE;
    };
    loop {
        match listener.accept() {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => {
                    poll::wait(&mut [Polled::readable(&listener)], None, clock.now());
                }
                Some(libc::EINVAL) => return 0,
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    let now = clock.now();
                    poll::wait(&mut [], Some(now.saturating_add(PAUSE)), now);
                }
                _ => {}
            },
        }
    }
}

/// Asks until the first success.
pub fn await_ready(check: &Target, clock: Clock) -> u8 {
    loop {
        let began = clock.now();
        if check::ask(check, ANSWER_LIMIT, clock).is_ok() {
            return 0;
        }
        // Measured from the start of the last question, so that a slow answer adds no delay.
        let next = began.saturating_add(FRESH);
        while clock.now() < next {
            poll::wait(&mut [], Some(next), clock.now());
        }
    }
}
