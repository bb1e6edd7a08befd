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
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use self::connection::Connection;
use self::readiness::{ANSWER_LIMIT, FRESH, Readiness};
use crate::OWN_FAILURE;
use crate::check;
use crate::clock::{Clock, Time};
use crate::log::Log;
use crate::poll;
use crate::target::Target;

/// How many clients there are at a time.
const CONNECTIONS: usize = 64;

/// How long nobody is accepted when that failed: what is lacking then is lacking still.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers /readyz until the listener is shut down. `draining` is the read end of a pipe that closes
/// when the drain begins.
pub fn serve(listener: OwnedFd, draining: OwnedFd, check: Option<Target>, clock: Clock) -> u8 {
    let Some(listener) = non_blocking(listener) else {
        return OWN_FAILURE;
    };
    let mut draining = Some(File::from(draining));
    // There already: started again in mid-drain.
    let has_begun = is_readable(&draining, clock.now()) && has_closed(&mut draining);
    let readiness = Readiness::new(check, has_begun);
    let connections = Vec::new();
    Server { listener, draining, readiness, connections, paused_until: None }.run(clock)
}

/// Whoever has come and is gone before it is accepted must not hold up the next.
fn non_blocking(listener: OwnedFd) -> Option<TcpListener> {
    let listener = TcpListener::from(listener);
    let result = listener.local_addr().and_then(|_| listener.set_nonblocking(true));
    if let Err(error) = &result {
        Log::default().error("ready", format_args!("cannot listen for probes: {error}"));
    }
    result.is_ok().then_some(listener)
}

struct Server {
    listener: TcpListener,
    /// None when the drain has begun.
    draining: Option<File>,
    readiness: Readiness,
    /// The oldest first.
    connections: Vec<Connection>,
    /// Nobody is accepted until then.
    paused_until: Option<Time>,
}

/// What has something to be read or written, or may have.
struct Ready {
    draining: bool,
    listener: bool,
    connections: Vec<bool>,
}

/// The listener is of no use any more.
struct ShutDown;

impl Server {
    fn run(mut self, clock: Clock) -> u8 {
        loop {
            let ready = self.wait(clock.now());
            let now = clock.now();
            if ready.draining && has_closed(&mut self.draining) {
                self.readiness.drain_begins(now);
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
        let check = self.readiness.wants();
        let deadlines = self.connections.iter().filter_map(Connection::deadline);
        let deadlines = deadlines.chain(check.as_ref().map(|(_, deadline)| *deadline));
        let deadline = deadlines.chain(self.paused_until).min();

        let readable = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let listener = self.paused_until.is_none().then(|| readable(self.listener.as_fd()));
        let draining = self.draining.as_ref().map(|pipe| readable(pipe.as_fd()));
        let clients = self.connections.iter().map(Connection::wants);
        // A place for each, so that the places tell who is ready.
        let wanted: Vec<Option<PollFd>> = [listener, draining].into_iter().chain(clients).collect();
        let mut descriptors: Vec<PollFd> = wanted.iter().flatten().cloned().collect();
        descriptors.extend(check.and_then(|(descriptor, _)| descriptor));
        poll::wait(&mut descriptors, deadline, now);

        let mut polled = descriptors.iter();
        let mut ready =
            wanted.iter().map(|wanted| wanted.is_some() && polled.next().is_some_and(is_ready));
        let (listener, draining) = (ready.next(), ready.next());
        Ready {
            listener: listener.unwrap_or(false),
            draining: draining.unwrap_or(false),
            connections: ready.collect(),
        }
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

    /// Closes the oldest of those who have not asked yet, or the oldest.
    fn make_room(&mut self) {
        let slow = self.connections.iter().position(|connection| !connection.is_complete());
        if !self.connections.is_empty() {
            self.connections.remove(slow.unwrap_or(0));
        }
    }
}

fn is_readable(pipe: &Option<File>, now: Time) -> bool {
    let mut descriptor = pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
    poll::wait(descriptor.as_mut_slice(), Some(now), now);
    descriptor.as_ref().is_some_and(is_ready)
}

/// An error too is something to be read, and so is what nix has no name for.
fn is_ready(descriptor: &PollFd) -> bool {
    descriptor.any().unwrap_or(true)
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
                    let mut descriptor = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                    poll::wait(&mut descriptor, None, clock.now());
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
