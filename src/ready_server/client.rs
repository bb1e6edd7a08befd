//! One client of the readiness server: its request, the answer, the end.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use crate::clock::Time;

/// The longest request.
const LONGEST_REQUEST: usize = 8 * 1024;

/// How long a client has for its request, and how long for taking the answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Client {
    stream: TcpStream,
    stage: Stage,
    came: Time,
}

enum Stage {
    Reading(Vec<u8>),
    /// It asks whether the app is ready.
    Asking {
        head_only: bool,
    },
    Writing {
        text: Vec<u8>,
        written: usize,
    },
    /// All is said: what the client still sends is read until it closes, so that no reset
    /// overtakes the answer.
    Closing,
    Done,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Readiness {
        head_only: bool,
    },
    /// It is answered with this status.
    Other(&'static str),
}

impl Client {
    pub fn new(stream: TcpStream, now: Time) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, stage: Stage::Reading(Vec::new()), came: now })
    }

    pub fn is_reading(&self) -> bool {
        matches!(self.stage, Stage::Reading(_))
    }

    pub fn is_asking(&self) -> bool {
        matches!(self.stage, Stage::Asking { .. })
    }

    /// Whether nothing more is to come of it.
    pub fn is_done(&self, now: Time) -> bool {
        matches!(self.stage, Stage::Done) || self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// When its time is over. Whoever waits for the app is waited for by nobody: that has a limit.
    pub fn deadline(&self) -> Option<Time> {
        (!self.is_asking()).then(|| self.came.saturating_add(PATIENCE))
    }

    pub fn waits_for(&self) -> Option<PollFd<'_>> {
        let flags = match self.stage {
            Stage::Reading(_) | Stage::Closing => PollFlags::POLLIN,
            Stage::Writing { .. } => PollFlags::POLLOUT,
            Stage::Asking { .. } | Stage::Done => return None,
        };
        Some(PollFd::new(self.stream.as_fd(), flags))
    }

    /// Reads what there is.
    pub fn read(&mut self) {
        let mut buffer = [0; 2048];
        // As much as one may send that has nothing to say: nobody is read for ever.
        for _ in 0..LONGEST_REQUEST / buffer.len() + 1 {
            if !matches!(self.stage, Stage::Reading(_) | Stage::Closing) {
                return;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.stage = Stage::Done,
                Ok(count) => self.take(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.stage = Stage::Done,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let Stage::Reading(request) = &mut self.stage else {
            return;
        };
        request.extend_from_slice(bytes);
        match parse(request) {
            None => {}
            Some(Request::Readiness { head_only }) => self.stage = Stage::Asking { head_only },
            Some(Request::Other(status)) => self.say(status, "", false),
        }
    }

    /// Answers it if it asks: ready, or why not.
    pub fn answer(&mut self, answer: &Result<(), String>) {
        let Stage::Asking { head_only } = self.stage else {
            return;
        };
        match answer {
            Ok(()) => self.say("200 OK", "ready\n", head_only),
            Err(why) => self.say("503 Service Unavailable", &format!("{why}\n"), head_only),
        }
    }

    fn say(&mut self, status: &str, body: &str, head_only: bool) {
        let length = body.len();
        let body = if head_only { "" } else { body };
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        self.stage = Stage::Writing { text: text.into_bytes(), written: 0 };
        self.write();
    }

    /// Writes what it takes.
    pub fn write(&mut self) {
        let Stage::Writing { text, written } = &mut self.stage else {
            return;
        };
        match self.stream.write(text.get(*written..).unwrap_or_default()) {
            Ok(count) => *written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => *written = text.len(),
        }
        if *written >= text.len() {
            let closed = self.stream.shutdown(Shutdown::Write).is_err();
            self.stage = if closed { Stage::Done } else { Stage::Closing };
        }
    }
}

/// What a request asks for; nothing as long as it is not whole.
fn parse(bytes: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST_REQUEST => return None,
        Ok(httparse::Status::Partial) => {
            return Some(Request::Other("431 Request Header Fields Too Large"));
        }
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Some(Request::Other("431 Request Header Fields Too Large"));
        }
        Err(_) => return Some(Request::Other("400 Bad Request")),
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Some(match (path, request.method.unwrap_or_default()) {
        ("/readyz", "GET") => Request::Readiness { head_only: false },
        ("/readyz", "HEAD") => Request::Readiness { head_only: true },
        ("/readyz", _) => Request::Other("405 Method Not Allowed"),
        _ => Request::Other("404 Not Found"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let get = Some(Request::Readiness { head_only: false });
        assert_eq!(parse(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"), get);
        assert_eq!(parse(b"GET /readyz?verbose HTTP/1.0\r\n\r\n"), get);
        let head = Some(Request::Readiness { head_only: true });
        assert_eq!(parse(b"HEAD /readyz HTTP/1.1\r\n\r\n"), head);
        let other = |status| Some(Request::Other(status));
        assert_eq!(parse(b"POST /readyz HTTP/1.1\r\n\r\n"), other("405 Method Not Allowed"));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n"), other("404 Not Found"));
        assert_eq!(parse(b"\x16\x03\x01\x02"), other("400 Bad Request"));
        assert_eq!(parse(b"GET /readyz HTTP/1.1\r\nHost: a\r\n"), None);
        let long = [b"GET /readyz HTTP/1.1\r\nA: ".as_slice(), &[b'a'; LONGEST_REQUEST]].concat();
        assert_eq!(parse(&long), other("431 Request Header Fields Too Large"));
    }
}
