//! A small HTTP client, and a steady load. It must not know the server.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::LIMIT;
use super::system::{now, pause};

/// A keep-alive connection.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Client(BufReader::new(stream)))
    }

    pub fn get(&mut self, path: &str) -> io::Result<usize> {
        self.ask(path)?;
        self.answer()
    }

    pub fn ask(&mut self, path: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())
    }

    /// Sends a body in `pieces`, one each `every`.
    pub fn upload(&mut self, pieces: usize, every: Duration) -> io::Result<usize> {
        let piece = [b'.'; 1000];
        let length = pieces * piece.len();
        let head =
            format!("POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes())?;
        for _ in 0..pieces {
            self.0.get_mut().write_all(&piece)?;
            pause(every);
        }
        self.answer()
    }

    /// Reads an answer and returns its length. A premature end is an error.
    pub fn answer(&mut self) -> io::Result<usize> {
        let mut length = None;
        if !self.line()?.contains(" 200 ") {
            return Err(io::Error::other("not 200"));
        }
        loop {
            let line = self.line()?.to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().ok();
            }
        }
        if let Some(length) = length {
            return self.read(length);
        }
        let mut all = 0; // it comes in chunks
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            all += self.read(size)?;
            self.line()?;
            if size == 0 {
                return Ok(all);
            }
        }
    }

    /// Whether the server has closed it. Reads nothing.
    pub fn is_at_its_end(&self) -> bool {
        let stream = self.0.get_ref();
        stream.set_nonblocking(true).expect("set");
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("set");
        match peeked {
            Ok(length) => length == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn read(&mut self, length: usize) -> io::Result<usize> {
        self.0.read_exact(&mut vec![0; length])?;
        Ok(length)
    }
}

/// Connections that have been used once.
pub fn clients(address: SocketAddr, count: usize) -> Vec<Client> {
    let connect = |_| {
        let mut client = Client::connect(address).expect("connected");
        client.get("/").expect("answered");
        client
    };
    (0..count).map(connect).collect()
}

/// Sends a request on its own connection, which the client closes first.
pub fn get(address: SocketAddr, path: &str) -> io::Result<usize> {
    Client::connect(address)?.get(path)
}

#[track_caller]
pub fn answered(address: SocketAddr) {
    get(address, "/").unwrap_or_else(|e| panic!("a request was lost: {e}"));
}

/// Sends a request each `every` until then. Returns when the last one began.
pub fn steady(every: Duration, until: Instant, mut request: impl FnMut()) -> Instant {
    let mut last = now();
    let mut next = last;
    while next < until {
        pause(next.saturating_duration_since(now()));
        last = now();
        request();
        next = (next + every).max(now());
    }
    last
}
