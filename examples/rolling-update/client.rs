//! One request of an HTTP client, and its result.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::clock::now;
use crate::pod::Name;

/// Longer than the slowest answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request got no complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was listening.
    Refused,
    /// The peer's kernel reset the connection: the request was not read, or the process no longer
    /// existed.
    Reset,
    /// The connection was closed without an answer, or in the middle of it.
    Cut,
    TimedOut,
    /// The balancer answered by itself: 502, 503 or 504.
    Error,
}

impl Failure {
    pub const ALL: [Failure; 5] =
        [Failure::Refused, Failure::Reset, Failure::Cut, Failure::TimedOut, Failure::Error];

    pub fn text(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Reset => "reset",
            Failure::Cut => "cut",
            Failure::TimedOut => "timed out",
            Failure::Error => "answered 5xx",
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Reset,
            // No answer within PATIENCE is WouldBlock; no host at that address is HostUnreachable.
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::HostUnreachable => {
                Failure::TimedOut
            }
            _ => Failure::Cut,
        }
    }
}

/// A connection that was kept and turns out to be closed later than this was not between two requests:
/// the server had read this one, and cut it.
const CLOSED_BEFORE: Duration = Duration::from_millis(50);

/// A connection kept for the next request.
pub struct Connection(BufReader<TcpStream>);

struct Answer {
    by: Name,
    keeps: bool,
}

struct Broken {
    why: Failure,
    /// Part of the answer had arrived.
    begun: bool,
}

pub struct Got {
    pub by: Result<Name, Failure>,
    pub retried: bool,
}

/// Sends a request on its own connection.
pub fn get_once(service: SocketAddr, path: &str) -> Got {
    let answer = connect(service).and_then(|mut connection| {
        exchange(&mut connection, path, "close").map_err(|broken| broken.why)
    });
    Got { by: answer.map(|answer| answer.by), retried: false }
}

/// A request on the connection that is kept, if there is one.
///
/// As HTTP clients do with a GET (RFC 9110, 9.2.2): if a connection that was kept turns out to be
/// closed before any byte of the answer has come, that is no failure; the request is sent once more,
/// on a new connection. What goes wrong on a new connection, or later, is a failure; so is a request that was
/// cut CLOSED_BEFORE or more after it was sent, whatever a client makes of it.
pub fn get(service: SocketAddr, path: &str, kept: &mut Option<Connection>) -> Got {
    let mut retried = false;
    if let Some(connection) = kept.take() {
        let sent = now();
        match on(connection, path, kept) {
            Err(Broken { why: Failure::Reset | Failure::Cut, begun: false })
                if now() - sent < CLOSED_BEFORE =>
            {
                retried = true;
            }
            result => return Got { by: result.map_err(|broken| broken.why), retried },
        }
    }
    let by = connect(service)
        .and_then(|connection| on(connection, path, kept).map_err(|broken| broken.why));
    Got { by, retried }
}

fn on(
    mut connection: Connection,
    path: &str,
    kept: &mut Option<Connection>,
) -> Result<Name, Broken> {
    let answer = exchange(&mut connection, path, "keep-alive")?;
    *kept = answer.keeps.then_some(connection);
    Ok(answer.by)
}

fn connect(service: SocketAddr) -> Result<Connection, Failure> {
    let stream = TcpStream::connect_timeout(&service, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(Connection(BufReader::new(stream)))
}

fn exchange(connection: &mut Connection, path: &str, keep: &str) -> Result<Answer, Broken> {
    let not_begun = |error: io::Error| Broken { why: error.into(), begun: false };
    let request = format!("GET {path} HTTP/1.1\r\nHost: service\r\nConnection: {keep}\r\n\r\n");
    connection.0.get_mut().write_all(request.as_bytes()).map_err(not_begun)?;
    if connection.0.fill_buf().map_err(not_begun)?.is_empty() {
        return Err(Broken { why: Failure::Cut, begun: false });
    }
    connection.answer().map_err(|why| Broken { why, begun: true })
}

impl Connection {
    fn answer(&mut self) -> Result<Answer, Failure> {
        let status = self.line()?;
        let (mut by, mut length, mut keeps) = (None, None, true);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(": ") {
                None if line.is_empty() => break,
                Some(("server", "old")) => by = Some(Name::Old),
                Some(("server", "new")) => by = Some(Name::New),
                Some(("content-length", value)) => length = value.parse::<u64>().ok(),
                Some(("connection", "close")) => keeps = false,
                _ => {}
            }
        }
        if !status.contains(" 200 ") {
            return Err(Failure::Error);
        }
        let (by, length) = (by.ok_or(Failure::Error)?, length.ok_or(Failure::Error)?);
        match io::copy(&mut (&mut self.0).take(length), &mut io::sink())? == length {
            true => Ok(Answer { by, keeps }),
            false => Err(Failure::Cut),
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or(Failure::Cut)
    }
}
