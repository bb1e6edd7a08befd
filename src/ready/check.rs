//! Asks a target whether it is ready: for `probe`, the readiness server, the wait for the first
//! success, and handlers that call a URL.
//!
//! A `Check` never waits. It returns the descriptor and the deadline that it waits for, and takes
//! the time as a value, so a loop can run it beside others. `ask` and `call` are such loops with a
//! single check.
//!
//! Longer than 300 lines because it is one state machine, from the lookup to the end of the body.

#![forbid(unsafe_code)]

pub mod answer;
mod body;

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use self::answer::{Answer, Head, read_answer};
use self::body::{Body, Read};
use crate::clock::{Clock, Time};
use crate::duration::Short;
use crate::options::target::{Endpoint, Target, Url};
use crate::poll;
use crate::ready::connect;
use crate::ready::lookup::LookUp;
use crate::sys::{self, Described, Polled};

/// Why a target is not ready: a short line, the same each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    target: String,
    why: String,
}

impl Reason {
    /// The reason without the target.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", self.target, self.why)
    }
}

/// A target that is being asked.
pub struct Check {
    /// The target's name in reasons.
    target: String,
    /// Sent once connected. If empty, the connection itself is the answer.
    request: Vec<u8>,
    /// The addresses still to try.
    addresses: std::vec::IntoIter<SocketAddr>,
    limit: Duration,
    deadline: Time,
    /// When the next address is tried.
    next_at: Time,
    /// Why the first address failed. It is the one reported.
    failure: Option<Reason>,
    state: State,
}

enum State {
    LookingUp(LookUp),
    Connecting(TcpStream),
    Sending {
        stream: TcpStream,
        sent: usize,
    },
    Reading {
        stream: TcpStream,
        head: Vec<u8>,
    },
    /// Reads the body: a server that is cut off while it writes would log an error at each probe.
    Finishing {
        stream: TcpStream,
        result: Result<(), Reason>,
        body: Body,
    },
    Over(Result<(), Reason>),
}

/// The longest time for one of several addresses, if there is no limit.
const LONGEST_SHARE: Duration = Duration::from_secs(5);

/// Asks, and returns the answer, or an error when `limit` has passed.
pub fn ask(target: &Target, limit: Duration, clock: Clock) -> Result<(), Reason> {
    finish(Check::begin(target, clock.now(), limit), clock)
}

/// Calls a URL with any method.
pub fn call(method: &str, url: &Url, limit: Duration, clock: Clock) -> Result<(), Reason> {
    finish(Check::begin_call(method, url, clock.now(), limit), clock)
}

fn finish(mut check: Check, clock: Clock) -> Result<(), Reason> {
    loop {
        let now = clock.now();
        if let Some(result) = check.advance(now) {
            return result;
        }
        let (descriptor, deadline) = check.wants();
        poll::wait(&mut [descriptor], Some(deadline), now);
    }
}

impl Check {
    /// Begins to ask. `limit` includes the lookup of a name.
    pub fn begin(target: &Target, now: Time, limit: Duration) -> Self {
        match target {
            Target::Tcp(endpoint) => {
                Self::new(target.to_string(), Vec::new(), now, limit).start(endpoint)
            }
            Target::Http(url) => Self::begin_call("GET", url, now, limit),
            Target::File(path) => {
                let mut check = Self::new(target.to_string(), Vec::new(), now, limit);
                check.state = State::Over(check.look_at(path));
                check
            }
        }
    }

    pub fn begin_call(method: &str, url: &Url, now: Time, limit: Duration) -> Self {
        // RFC 9110, 8.6: a method that expects content announces that there is none.
        let length = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
        let request = format!(
            "{method} {} HTTP/1.1\r\n{}{length}Connection: close\r\n\r\n",
            url.path,
            url.headers.of_request(&url.authority)
        );
        Self::new(url.to_string(), request.into_bytes(), now, limit).start(&url.endpoint)
    }

    fn new(target: String, request: Vec<u8>, now: Time, limit: Duration) -> Self {
        let deadline = now.saturating_add(limit);
        Self {
            target,
            request,
            addresses: Vec::new().into_iter(),
            limit,
            deadline,
            // The first call of `advance` starts it.
            next_at: now,
            failure: None,
            state: State::Over(Ok(())),
        }
    }

    fn start(mut self, endpoint: &Endpoint) -> Self {
        let now = self.next_at;
        let addresses = endpoint.addresses();
        if addresses.is_empty() {
            match LookUp::begin(endpoint) {
                Ok(look_up) => self.state = State::LookingUp(look_up),
                Err(error) => self
                    .end(Err(self.reason(format_args!("cannot be asked: {}", Described(&error))))),
            }
        } else {
            self.connect_to(addresses, now);
        }
        self
    }

    /// The descriptor that it waits for, and when to call `advance` at the latest.
    pub fn wants(&self) -> (Polled<'_>, Time) {
        let descriptor = match &self.state {
            State::LookingUp(look_up) => Polled::readable(look_up),
            State::Connecting(stream) | State::Sending { stream, .. } => Polled::writable(stream),
            State::Reading { stream, .. } => Polled::readable(stream),
            State::Finishing { stream, body, .. } => {
                return (Polled::readable(stream), body.until());
            }
            State::Over(_) => return (Polled::NOTHING, Time::ZERO),
        };
        let has_next = matches!(self.state, State::Connecting(_)) && self.addresses.len() > 0;
        let until = if has_next { self.next_at } else { self.deadline };
        (descriptor, until)
    }

    /// Goes on as far as possible without waiting. Returns the answer once it is known.
    pub fn advance(&mut self, now: Time) -> Option<Result<(), Reason>> {
        while self.step(now) {}
        if !matches!(self.state, State::Over(_)) && now >= self.deadline {
            let what = match self.state {
                State::LookingUp(_) => "could not be looked up",
                _ => "gave no answer",
            };
            let limit = Short(self.limit);
            self.end(Err(self.reason(format_args!("{what} within {limit}"))));
        }
        match &self.state {
            State::Over(result) => Some(result.clone()),
            _ => None,
        }
    }

    /// Takes one step; false if there was none to take.
    fn step(&mut self, now: Time) -> bool {
        match &mut self.state {
            State::LookingUp(look_up) => match look_up.advance() {
                None => return false,
                Some(Ok(addresses)) => self.connect_to(addresses, now),
                Some(Err(failure)) => self.end(Err(self.reason(format_args!("{failure}")))),
            },
            State::Connecting(stream) => match connect::is_connected(stream) {
                Ok(true) => self.connected(),
                Ok(false) if now >= self.next_at && self.addresses.len() > 0 => {
                    let limit = Short(self.limit);
                    self.failed(self.reason(format_args!("gave no answer within {limit}")), now);
                }
                Ok(false) => return false,
                Err(error) => self.failed(self.cannot_connect(&error), now),
            },
            State::Sending { stream, sent } => {
                let rest = self.request.get(*sent..).unwrap_or_default();
                match stream.write(rest) {
                    Ok(count) => *sent += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    // A server that stops reading may still have answered.
                    Err(_) => *sent = self.request.len(),
                }
                if *sent >= self.request.len() {
                    self.read_next();
                }
            }
            State::Reading { stream, head } => {
                let mut piece = [0; 1024];
                let count = match stream.read(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Ok(count) => count,
                    Err(_) => 0,
                };
                head.extend(piece.iter().take(count));
                if let Some(answer) = read_answer(head, count == 0) {
                    let came = head.len();
                    self.finish(&answer, came, now);
                }
            }
            State::Finishing { stream, result, body } => match body.read(stream, now) {
                Read::Some => {}
                Read::Nothing => return false,
                Read::All => {
                    let result = result.clone();
                    self.end(result);
                }
            },
            State::Over(_) => return false,
        }
        true
    }

    fn end(&mut self, result: Result<(), Reason>) {
        self.state = State::Over(result);
    }

    fn reason(&self, why: fmt::Arguments) -> Reason {
        Reason { target: self.target.clone(), why: why.to_string() }
    }

    fn cannot_connect(&self, error: &io::Error) -> Reason {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => self.reason(format_args!("refused")),
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => {
                self.reason(format_args!("is unreachable"))
            }
            // For example an address of a family that this machine does not have.
            Some(errno) => {
                let why = sys::Errno(errno);
                self.reason(format_args!("cannot be asked: {why}"))
            }
            None => self.reason(format_args!("cannot be asked")),
        }
    }

    fn look_at(&self, path: &str) -> Result<(), Reason> {
        match std::fs::metadata(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => self.reason(format_args!("is not there")),
                errno => {
                    let why = sys::Errno(errno.unwrap_or(0));
                    self.reason(format_args!("cannot be seen: {why}"))
                }
            }),
        }
    }

    fn connect_to(&mut self, addresses: Vec<SocketAddr>, now: Time) {
        self.addresses = addresses.into_iter();
        self.connect_to_next(now);
    }

    fn failed(&mut self, reason: Reason, now: Time) {
        self.failure.get_or_insert(reason);
        self.connect_to_next(now);
    }

    /// Starts to connect to the first remaining address where that is possible.
    fn connect_to_next(&mut self, now: Time) {
        while let Some(address) = self.addresses.next() {
            // Each address gets its share of the time, so that one that drops packets leaves some
            // to the rest.
            let shares = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
            let share = self.deadline.saturating_sub(now) / shares;
            self.next_at = now.saturating_add(share.min(LONGEST_SHARE));
            match connect::to(address) {
                Ok(stream) => return self.state = State::Connecting(stream),
                Err(error) => {
                    let reason = self.cannot_connect(&error);
                    self.failure.get_or_insert(reason);
                }
            }
        }
        let reason = self.failure.take();
        let reason = reason.unwrap_or_else(|| self.reason(format_args!("cannot be asked")));
        self.end(Err(reason));
    }

    fn connected(&mut self) {
        let nothing_to_send = self.request.is_empty();
        self.state = match std::mem::replace(&mut self.state, State::Over(Ok(()))) {
            State::Connecting(stream) if !nothing_to_send => State::Sending { stream, sent: 0 },
            _ => State::Over(Ok(())),
        };
    }

    fn read_next(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over(Ok(()))) {
            State::Sending { stream, .. } => State::Reading { stream, head: Vec::new() },
            other => other,
        };
    }

    /// Reads the rest of an answer, of which `came` bytes are here. It no longer changes the
    /// result.
    fn finish(&mut self, answer: &Answer, came: usize, now: Time) {
        let result = self.judge(answer);
        let (announced, came) = match answer {
            // Content-Length is that of the body that a GET would have.
            Answer::Status(_) if self.request.starts_with(b"HEAD ") => (Some(0), 0),
            Answer::Status(head) => (head.body, came.saturating_sub(head.length)),
            Answer::NoHttp | Answer::Nothing => (Some(0), 0),
        };
        let body = Body::new(announced, came, now, self.deadline);
        self.state = match std::mem::replace(&mut self.state, State::Over(Ok(()))) {
            State::Reading { stream, .. } if !body.is_whole() => {
                State::Finishing { stream, result, body }
            }
            _ => State::Over(result),
        };
    }

    fn judge(&self, answer: &Answer) -> Result<(), Reason> {
        match answer {
            Answer::Status(Head { status: 200..=399, .. }) => Ok(()),
            Answer::Status(Head { status, .. }) => {
                Err(self.reason(format_args!("answered {status}")))
            }
            Answer::NoHttp => Err(self.reason(format_args!("did not answer in HTTP"))),
            Answer::Nothing => {
                Err(self.reason(format_args!("closed the connection without an answer")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
