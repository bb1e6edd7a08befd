//! One client of the readiness server, from its first byte to its last.
//!
//! Nothing here waits. What a client sends is bounded, and so is the time that it has; what the
//! answer is, others know.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::request::{self, HEAD, Request, Status};
use crate::clock::Time;
use crate::sys::Polled;

/// What a client has for its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// What it has to take the answer and to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What is read of what nobody asked for, before the connection is cut.
const IGNORED: usize = 64 * 1024;

pub struct Connection {
    stream: TcpStream,
    state: State,
    deadline: Option<Time>,
}

enum State {
    Reading(Vec<u8>),
    /// Wants to know whether it is ready.
    Asking {
        body: bool,
    },
    Answering {
        answer: Vec<u8>,
        sent: usize,
    },
    /// Has its answer. If it were closed now, with bytes of the client's unread or under way, the
    /// kernel would reset the connection, and the client might lose the answer.
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

    /// Whether its request has come.
    pub fn is_complete(&self) -> bool {
        !matches!(self.state, State::Reading(_))
    }

    /// Whether it has its answer, as far as the kernel has taken it.
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

    /// When it is over even if nothing comes.
    pub fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// What it waits for. One that waits for the answer is not looked at: a client that has hung up
    /// would be told of again and again.
    pub fn wants(&self) -> Polled<'_> {
        match self.state {
            State::Reading(_) | State::Lingering { .. } => Polled::readable(&self.stream),
            State::Answering { .. } => Polled::writable(&self.stream),
            State::Asking { .. } | State::Over => Polled::NOTHING,
        }
    }

    /// Goes on as far as that is possible without waiting.
    pub fn advance(&mut self, now: Time) {
        while self.step(now) {}
    }

    /// One step; false if there was none to make.
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
                    // It says no more, and may want to hear why that was not enough.
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

    /// Tells it, if it is asking.
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
