//! The companions that answer whether the app is ready, and that wait until it is.
//!
//! One loop, no threads, nothing that blocks: a slow or hostile client delays nobody. The listener
//! is standard input, as PID 1 has bound it; the pipe that closes when the drain begins is
//! descriptor SECOND_INPUT. It must not know when or why a drain begins.

#![forbid(unsafe_code)]

mod client;

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::OWN_FAILURE;
use crate::check::{Check, Reason, answer, until};
use crate::clock::{Clock, Time};
use crate::duration::Rounded;
use crate::sys::{self, SECOND_INPUT};
use crate::target::Target;
use client::Client;

/// Clients at one time: when there are more, the oldest whose request is not there yet has to go.
const MOST_CLIENTS: usize = 64;

/// An answer of the app that is younger than this is as good as a new one.
const FRESH: Duration = Duration::from_millis(100);

/// How long the app has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What the server knows of the app.
struct Server<'a> {
    clients: Vec<Client>,
    target: Option<&'a Target>,
    check: Option<Check>,
    /// The last answer, and when it was asked for.
    last: Option<(Time, Result<(), Reason>)>,
    was_ready: bool,
    drain: Drain,
    /// No connection is taken before: there was no descriptor for the last one.
    accepts_from: Time,
}

enum Drain {
    No,
    Since(Time),
    /// It had begun when this server was started, in place of one that has ended.
    Already,
}

/// Answers /readyz until it is killed.
pub fn serve(target: Option<&Target>, clock: Clock) -> u8 {
    let mut pipe = sys::take_descriptor(SECOND_INPUT);
    let Some(listener) = sys::take_descriptor(0).map(TcpListener::from) else {
        return OWN_FAILURE;
    };
    if listener.set_nonblocking(true).is_err() {
        return OWN_FAILURE;
    }
    let mut server = Server {
        clients: Vec::new(),
        target,
        check: None,
        last: None,
        was_ready: false,
        drain: Drain::No,
        accepts_from: Time::ZERO,
    };
    if pipe.as_ref().is_some_and(has_closed) {
        (pipe, server.drain) = (None, Drain::Already);
    }
    loop {
        let closed = server.wait(&listener, pipe.as_ref(), clock.now());
        let now = clock.now();
        if closed {
            (pipe, server.drain) = (None, Drain::Since(now));
        }
        server.accept(&listener, now);
        server.go_on(now);
    }
}

/// Whether the other end of a pipe is gone: nothing is ever written to it.
fn has_closed(pipe: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

impl Server<'_> {
    /// Waits until there is something to do; whether the pipe has closed.
    fn wait(&self, listener: &TcpListener, pipe: Option<&OwnedFd>, now: Time) -> bool {
        let mut polled = Vec::with_capacity(self.clients.len() + 3);
        polled.extend(pipe.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        if now >= self.accepts_from {
            polled.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        let check = self.check.as_ref().and_then(Check::waits_for);
        polled.extend(check.map(|(descriptor, flags)| PollFd::new(descriptor, flags)));
        polled.extend(self.clients.iter().filter_map(Client::waits_for));
        let check = self.check.as_ref().map(Check::deadline);
        let accepts = (now < self.accepts_from).then_some(self.accepts_from);
        let deadlines = self.clients.iter().filter_map(Client::deadline);
        let deadlines = deadlines.chain(check).chain(accepts);
        let timeout = deadlines.min().map_or(PollTimeout::NONE, |deadline| until(deadline, now));
        let _ = poll(&mut polled, timeout);
        pipe.is_some() && polled.first().and_then(PollFd::any).unwrap_or(false)
    }

    /// Takes the connections that wait, as many as there is room for.
    fn accept(&mut self, listener: &TcpListener, now: Time) {
        if now < self.accepts_from {
            return;
        }
        for _ in 0..MOST_CLIENTS {
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_passing(&error) => {}
                // Every descriptor is in use, or the app has ended: to look at once would spin.
                Err(_) => {
                    self.accepts_from = now.saturating_add(FRESH);
                    return self.make_room();
                }
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream, now: Time) {
        if self.clients.len() >= MOST_CLIENTS {
            self.make_room();
        }
        if let Ok(mut client) = Client::new(stream, now) {
            // It may have said all: then no crowd can push it out.
            client.read();
            self.clients.push(client);
        }
    }

    /// The oldest goes whose request is not there yet; if all are, the oldest.
    fn make_room(&mut self) {
        let unfinished = self.clients.iter().position(Client::is_reading);
        if !self.clients.is_empty() {
            self.clients.remove(unfinished.unwrap_or(0));
        }
    }

    /// Does all that can be done without waiting.
    fn go_on(&mut self, now: Time) {
        self.clients.iter_mut().for_each(Client::read);
        let asked = self.clients.iter().any(Client::is_asking);
        if asked && matches!(self.drain, Drain::No) {
            self.ask(now);
        }
        if asked && let Some(answer) = self.answer(now) {
            self.clients.iter_mut().for_each(|client| client.answer(&answer));
        }
        self.clients.iter_mut().for_each(Client::write);
        self.clients.retain(|client| !client.is_done(now));
    }

    /// Asks the app, unless it is being asked, or has just answered.
    fn ask(&mut self, now: Time) {
        let Some(target) = self.target else {
            return;
        };
        let fresh = |(asked, _): &(Time, _)| now < asked.saturating_add(FRESH);
        if self.check.is_none() && !self.last.as_ref().is_some_and(fresh) {
            let addresses = target.endpoint().map(|it| it.addresses()).unwrap_or_default();
            self.check = Some(Check::begin(target, addresses, now, ANSWER));
        }
        if let Some(check) = &mut self.check
            && let Some(answer) = check.advance(now)
        {
            let asked = check.deadline().saturating_sub(ANSWER);
            self.was_ready |= answer.is_ok();
            self.last = Some((asked, answer));
            self.check = None;
        }
    }

    /// Ready, or why not; nothing as long as the app is being asked.
    fn answer(&self, now: Time) -> Option<Result<(), String>> {
        match (&self.drain, self.target, &self.last) {
            (Drain::Already, ..) => Some(Err("draining".to_owned())),
            (Drain::Since(began), ..) => {
                let since = Rounded(now.saturating_sub(*began));
                Some(Err(format!("draining for {since}")))
            }
            (Drain::No, None, _) => Some(Ok(())),
            (Drain::No, Some(_), _) if self.check.is_some() => None,
            (Drain::No, Some(target), Some((_, Err(reason)))) => {
                let state = if self.was_ready { "not ready" } else { "starting" };
                Some(Err(format!("{state}: {target} {reason}")))
            }
            (Drain::No, Some(_), Some((_, Ok(())))) => Some(Ok(())),
            (Drain::No, Some(_), None) => None,
        }
    }
}

/// For `tcp://`: who can connect has seen that the port is open, and wants nothing else.
pub fn accept_and_close() -> u8 {
    let Some(listener) = sys::take_descriptor(0).map(TcpListener::from) else {
        return OWN_FAILURE;
    };
    loop {
        match listener.accept() {
            Ok((stream, _)) => drop(stream),
            Err(error) if is_passing(&error) => {}
            // It is closed, or there is no descriptor: started again, after a pause.
            Err(_) => return 1,
        }
    }
}

/// Errors that concern the one connection alone.
fn is_passing(error: &io::Error) -> bool {
    [ErrorKind::ConnectionAborted, ErrorKind::Interrupted].contains(&error.kind())
}

/// Asks until the first success.
pub fn await_ready(target: &Target, clock: Clock) -> u8 {
    loop {
        let now = clock.now();
        let addresses = target.endpoint().map(|it| it.addresses()).unwrap_or_default();
        if answer(Check::begin(target, addresses, now, ANSWER), clock).is_ok() {
            return 0;
        }
        let next = now.saturating_add(FRESH);
        while let Some(rest) = next.checked_sub(clock.now()).filter(|rest| !rest.is_zero()) {
            // All signals are blocked, and none is waited for: only time passes.
            sys::wait_for_signal(Some(rest));
        }
    }
}
