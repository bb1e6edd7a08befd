//! Asking a target whether it is ready, without waiting for it: who asks polls, and comes back.
//!
//! One way to ask for all: the probe, the readiness server, the wait for the first success, and
//! handlers that are called. What is asked is given as addresses; nothing is looked up here.

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, getsockopt, sockopt,
};

use crate::clock::{Clock, Time};
use crate::duration::Short;
use crate::target::{Target, Url};

/// What is read of an answer: its head, in all but odd cases.
const LONGEST_HEAD: usize = 8 * 1024;

/// Why a target is not ready, in a few words that follow its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    Refused,
    NoAnswer(Duration),
    Status(u16),
    NoHttp,
    NotThere,
    Error(Errno),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::NoAnswer(limit) => write!(f, "gave no answer within {}", Short(*limit)),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::NoHttp => f.write_str("gave an answer that is no HTTP"),
            Self::NotThere => f.write_str("is not there"),
            Self::Error(errno) => f.write_str(errno.desc()),
        }
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::NotFound => Self::NotThere,
            _ => Self::Error(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    }
}

impl From<Errno> for Reason {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

/// A question that is under way.
pub struct Check {
    /// What is sent once there is a connection; nothing if that is all that is asked.
    request: Option<String>,
    /// Those that have not been tried.
    addresses: std::vec::IntoIter<SocketAddr>,
    stage: Stage,
    deadline: Time,
    limit: Duration,
}

enum Stage {
    Connecting(OwnedFd),
    Asking { stream: TcpStream, sent: usize },
    Reading { stream: TcpStream, head: Vec<u8> },
    Done(Result<(), Reason>),
}

impl Check {
    /// Asks `target`, at `addresses` if it is not a file, one after another.
    pub fn begin(target: &Target, addresses: Vec<SocketAddr>, now: Time, limit: Duration) -> Self {
        let request = match target {
            Target::Http(url) => Some(request("GET", url)),
            Target::Tcp(_) | Target::File(_) => None,
        };
        let mut check = Self::new(request, addresses, now, limit);
        if let Target::File(path) = target {
            check.stage = Stage::Done(path.metadata().map(drop).map_err(Reason::from));
        } else {
            check.connect(Reason::NotThere);
        }
        check
    }

    /// Sends a request of any method.
    pub fn call(
        method: &str,
        url: &Url,
        addresses: Vec<SocketAddr>,
        now: Time,
        limit: Duration,
    ) -> Self {
        let mut check = Self::new(Some(request(method, url)), addresses, now, limit);
        check.connect(Reason::NotThere);
        check
    }

    fn new(
        request: Option<String>,
        addresses: Vec<SocketAddr>,
        now: Time,
        limit: Duration,
    ) -> Self {
        let stage = Stage::Done(Err(Reason::NotThere));
        let deadline = now.saturating_add(limit);
        Self { request, addresses: addresses.into_iter(), stage, deadline, limit }
    }

    /// Tries the next address; `before` is why the last one would not do.
    fn connect(&mut self, before: Reason) {
        let mut reason = before;
        for address in self.addresses.by_ref() {
            match begin_connect(address) {
                Ok(socket) => {
                    self.stage = Stage::Connecting(socket);
                    return;
                }
                Err(errno) => reason = errno.into(),
            }
        }
        self.stage = Stage::Done(Err(reason));
    }

    /// What is waited for, if there is anything to wait for.
    pub fn waits_for(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.stage {
            Stage::Connecting(socket) => Some((socket.as_fd(), PollFlags::POLLOUT)),
            Stage::Asking { stream, .. } => Some((stream.as_fd(), PollFlags::POLLOUT)),
            Stage::Reading { stream, .. } => Some((stream.as_fd(), PollFlags::POLLIN)),
            Stage::Done(_) => None,
        }
    }

    /// When it is over whatever happens.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Goes on as far as it can; the answer, when there is one.
    pub fn advance(&mut self, now: Time) -> Option<Result<(), Reason>> {
        while self.step() {}
        if let Stage::Done(answer) = &self.stage {
            return Some(answer.clone());
        }
        (now >= self.deadline).then_some(Err(Reason::NoAnswer(self.limit)))
    }

    /// Whether there may be more to do at once.
    fn step(&mut self) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Done(Err(Reason::NotThere)));
        let (stage, more) = match stage {
            Stage::Connecting(socket) => match connected(&socket) {
                Ok(false) => (Stage::Connecting(socket), false),
                Ok(true) if self.request.is_none() => (Stage::Done(Ok(())), false),
                Ok(true) => (Stage::Asking { stream: socket.into(), sent: 0 }, true),
                Err(errno) => {
                    self.connect(errno.into());
                    return true;
                }
            },
            Stage::Asking { stream, sent } => self.send(stream, sent),
            Stage::Reading { stream, head } => read(stream, head),
            Stage::Done(answer) => (Stage::Done(answer), false),
        };
        self.stage = stage;
        more
    }

    fn send(&self, mut stream: TcpStream, sent: usize) -> (Stage, bool) {
        let request = self.request.as_deref().unwrap_or_default().as_bytes();
        let rest = request.get(sent..).unwrap_or_default();
        if rest.is_empty() {
            return (Stage::Reading { stream, head: Vec::new() }, true);
        }
        match stream.write(rest) {
            Ok(count) => (Stage::Asking { stream, sent: sent + count }, true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                (Stage::Asking { stream, sent }, false)
            }
            Err(error) => (Stage::Done(Err(error.into())), false),
        }
    }
}

/// Reads the head of an answer to its end: one that is cut off may be logged as a failure.
fn read(mut stream: TcpStream, mut head: Vec<u8>) -> (Stage, bool) {
    let mut buffer = [0; 1024];
    match stream.read(&mut buffer) {
        Ok(0) => (Stage::Done(judge(&head)), false),
        Ok(count) => {
            head.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let whole = head.windows(4).any(|end| end == b"\r\n\r\n");
            if whole || head.len() >= LONGEST_HEAD {
                return (Stage::Done(judge(&head)), false);
            }
            (Stage::Reading { stream, head }, true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            (Stage::Reading { stream, head }, false)
        }
        // A server that is in a hurry: what it said before counts.
        Err(_) if !head.is_empty() => (Stage::Done(judge(&head)), false),
        Err(error) => (Stage::Done(Err(error.into())), false),
    }
}

/// What a status line says.
fn judge(head: &[u8]) -> Result<(), Reason> {
    let line = head.strip_prefix(b"HTTP/1.").ok_or(Reason::NoHttp)?;
    let (minor, digits) = (line.first(), line.get(1..5).ok_or(Reason::NoHttp)?);
    let status = str::from_utf8(digits).ok().and_then(|it| it.strip_prefix(' ')?.parse().ok());
    match (minor, status) {
        (Some(b'0' | b'1'), Some(200..=399)) => Ok(()),
        (Some(b'0' | b'1'), Some(status)) => Err(Reason::Status(status)),
        _ => Err(Reason::NoHttp),
    }
}

fn request(method: &str, url: &Url) -> String {
    let (endpoint, path) = (&url.endpoint, &url.path);
    // A method that may carry a body is told that there is none.
    let length = if ["GET", "HEAD"].contains(&method) { "" } else { "Content-Length: 0\r\n" };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {endpoint}\r\nUser-Agent: drain-init\r\n\
         Accept: */*\r\nConnection: close\r\n{length}\r\n"
    )
}

fn begin_connect(address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// Whether a connection has come about; an error if it never will.
fn connected(socket: &OwnedFd) -> nix::Result<bool> {
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut polled, PollTimeout::ZERO)? == 0 {
        return Ok(false);
    }
    match getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(true),
        error => Err(Errno::from_raw(error)),
    }
}

/// Asks, and waits for the answer.
pub fn answer(mut check: Check, clock: Clock) -> Result<(), Reason> {
    loop {
        let now = clock.now();
        if let Some(answer) = check.advance(now) {
            return answer;
        }
        let Some((descriptor, flags)) = check.waits_for() else {
            continue;
        };
        // All signals are blocked: nothing interrupts it.
        let _ = poll(&mut [PollFd::new(descriptor, flags)], until(check.deadline(), now));
    }
}

/// The rest of a time, as poll takes it: rounded up, so that it is over afterwards.
pub fn until(deadline: Time, now: Time) -> PollTimeout {
    let rest = deadline.saturating_sub(now).as_micros().div_ceil(1000);
    PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_is_what_counts() {
        for status in [200, 204, 302, 399] {
            assert_eq!(judge(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes()), Ok(()));
        }
        for status in [100, 199, 400, 404, 500, 503] {
            let head = format!("HTTP/1.0 {status}\r\n");
            assert_eq!(judge(head.as_bytes()), Err(Reason::Status(status)));
        }
        for head in ["", "HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2x0 ", "HTTP/2 200", "SSH-2.0-x\r\n"]
        {
            assert_eq!(judge(head.as_bytes()), Err(Reason::NoHttp), "{head}");
        }
    }
}
