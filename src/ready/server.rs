//! The readiness companion: tells probes whether the app is ready, over HTTP or by an open port.
//!
//! It reads bytes from anywhere, so it is a process of its own, and whatever happens to it PID 1
//! starts it again. One loop, and nothing in it waits for one client: a slow one or a hostile one
//! delays nobody's probe. What begins the drain is not known here: a pipe that closes says that it
//! has.

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

/// How many clients there are at a time.
const CONNECTIONS: usize = 64;

/// How long nobody is accepted when that failed: what is lacking then is lacking still.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers /readyz until the listener is shut down. `draining` is the read end of a pipe that closes
/// when the drain begins. `slate` has what the app says by itself, if that is asked for.
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
    // There already: started again in mid-drain.
    let has_begun = is_readable(&draining, clock.now()) && has_closed(&mut draining);
    let readiness = Readiness::new(check, slate, has_begun);
    Server::new(listener, draining, readiness).run(clock)
}

/// Says 503 until it is ended: the app is not started yet. Lines that come through `news` say what is
/// waited for.
pub fn serve_before_start(listener: OwnedFd, news: OwnedFd, clock: Clock) -> u8 {
    let Some(listener) = non_blocking(listener) else {
        return OWN_FAILURE;
    };
    let server = Server::new(listener, None, Readiness::before_start());
    let news = Some(News { pipe: news.into(), text: Vec::new() });
    Server { news, ..server }.run(clock)
}

/// Whoever has come and is gone before it is accepted must not hold up the next.
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
    /// None when the drain has begun.
    draining: Option<File>,
    /// What the app's start waits for, if it has yet to be started.
    news: Option<News>,
    readiness: Readiness,
    /// The oldest first.
    connections: Vec<Connection>,
    /// Nobody is accepted until then.
    paused_until: Option<Time>,
}

/// Lines from the companion that waits, of which the last one counts.
struct News {
    pipe: File,
    /// What has come of a line.
    text: Vec<u8>,
}

impl News {
    /// The last line that has come, with what had come before. An error: no more will.
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

/// What has something to be read or written, or may have.
struct Ready {
    draining: bool,
    news: bool,
    listener: bool,
    connections: Vec<bool>,
}

/// The listener is of no use any more.
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
            // First, so that nobody who is still wanted has to go for one who comes.
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

    /// Waits for something to do: for ever while there is nobody.
    fn wait(&mut self, now: Time) -> Ready {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        // A place for each, so that the places tell who is ready.
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

    /// Accepts those who have come, and reads what they have sent with that: a probe that has come
    /// whole need not fear for its place.
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
                    // accept(2): of that one connection. It is gone, and the next may be well.
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// Closes the oldest of those who have their answer, or of those who have not asked yet, or the
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

/// The earlier of two deadlines, of which each may be missing.
fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

/// Whether a pipe that is readable has ended. Then it is closed here too.
fn has_closed(pipe: &mut Option<File>) -> bool {
    let has_closed = match pipe.as_mut().map(|pipe| pipe.read(&mut [0; 64])) {
        // Nobody writes to it; if somebody does, that means nothing.
        Some(Ok(1..)) => false,
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => false,
        _ => true,
    };
    if has_closed {
        *pipe = None;
    }
    has_closed
}

/// Accepts whoever comes, and closes: that the port is open says it all. Until the listener is shut
/// down.
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
        // From one question to the next, so that an answer that takes long delays nothing more.
        let next = began.saturating_add(FRESH);
        while clock.now() < next {
            poll::wait(&mut [], Some(next), clock.now());
        }
    }
}
