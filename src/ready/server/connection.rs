//! One client of the readiness server, from its first byte to its last.
//!
//! Nothing here waits. The size of a request and the time for it are bounded. It must not know how
//! readiness is determined.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::request::{self, HEAD, Request, Status};
use crate::clock::Time;
use crate::sys::Polled;

/// How long a client may take to send its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// How long it may take to read the answer and to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How many unexpected bytes are read before the connection is cut.
const IGNORED: usize = 64 * 1024;

pub struct Connection {
    stream: TcpStream,
    state: State,
    deadline: Option<Time>,
}

enum State {
    Reading(Vec<u8>),
    /// Its request has come; it waits for the answer.
    Asking {
        body: bool,
    },
    Answering {
        answer: Vec<u8>,
        sent: usize,
    },
    /// It has its answer. Closing now, with unread bytes of the client's here or on the way, would
    /// make the kernel reset the connection, and the client might lose the answer.
    Lingering {
        ignored: usize,
    },
    Over,
}

impl Connection {
    pub fn new(stream: TcpStream, now: Time) -> Self {
        let state = State::Reading(Vec::new());
        Self { stream, state, deadline: Some(now.saturating_add(REQUEST_LIMIT)) }
    }

    /// Whether its request is complete.
    pub fn is_complete(&self) -> bool {
        !matches!(self.state, State::Reading(_))
    }

    /// Whether the kernel has taken the whole answer.
    pub fn is_answered(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    pub fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    /// Whether it can be closed.
    pub fn is_over(&self, now: Time) -> bool {
        matches!(self.state, State::Over) || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// When it is over even if nothing more arrives.
    pub fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// The event it waits for. While it waits for the answer it is not polled: a client that has
    /// hung up would be reported again and again.
    pub fn wants(&self) -> Polled<'_> {
        match self.state {
            State::Reading(_) | State::Lingering { .. } => Polled::readable(&self.stream),
            State::Answering { .. } => Polled::writable(&self.stream),
            State::Asking { .. } | State::Over => Polled::NOTHING,
        }
    }

    /// Goes on as far as possible without waiting.
    pub fn advance(&mut self, now: Time) {
        while self.step(now) {}
    }

    /// Takes one step; false if there was none to take.
    fn step(&mut self, now: Time) -> bool {
        match &mut self.state {
            State::Reading(head) => {
                let mut piece = [0; 1024];
                let room = piece.len().min(HEAD.saturating_sub(head.len()));
                let count = match self.stream.read(piece.get_mut(..room).unwrap_or_default()) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(_) => return self.end(),
                };
                head.extend(piece.iter().take(count));
                match Request::read(head) {
                    Some(Request::Readiness { body }) => {
                        self.state = State::Asking { body };
                        self.deadline = None;
                    }
                    Some(Request::Refused { status, why, body }) => {
                        self.answer(status, why, body, now);
                    }
                    // The client has shut down its sending side, and may still read why its request
                    // was incomplete.
                    None if count == 0 && !head.is_empty() => {
                        self.answer(Status::Malformed, "half a request", true, now);
                    }
                    None if count == 0 => return self.end(),
                    None => {}
                }
            }
            State::Answering { answer, sent } => {
                match self.stream.write(answer.get(*sent..).unwrap_or_default()) {
                    Ok(count) => *sent += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(_) => return self.end(),
                }
                if *sent >= answer.len() {
                    if self.stream.shutdown(Shutdown::Write).is_err() {
                        return self.end();
                    }
                    self.state = State::Lingering { ignored: 0 };
                }
            }
            State::Lingering { ignored } => match self.stream.read(&mut [0; 1024]) {
                Ok(1..) if *ignored < IGNORED => *ignored += 1024,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                _ => return self.end(),
            },
            State::Asking { .. } | State::Over => return false,
        }
        true
    }

    /// Sends the answer if it waits for one.
    pub fn tell(&mut self, readiness: &Result<(), String>, now: Time) {
        let State::Asking { body } = self.state else {
            return;
        };
        match readiness {
            Ok(()) => self.answer(Status::Ok, "ready", body, now),
            Err(why) => self.answer(Status::NotReady, why, body, now),
        }
        self.advance(now);
    }

    fn answer(&mut self, status: Status, line: &str, body: bool, now: Time) {
        self.state = State::Answering { answer: request::answer(status, line, body), sent: 0 };
        self.deadline = Some(now.saturating_add(CLOSE_LIMIT));
    }

    fn end(&mut self) -> bool {
        self.state = State::Over;
        false
    }
}
