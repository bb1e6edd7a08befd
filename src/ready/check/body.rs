//! Reads the body of an answer and throws it away: a server that is cut off while it writes would
//! log an error at each probe.

#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::clock::Time;

/// The most that is read.
const MOST: usize = 1024 * 1024;

/// How long to wait for it.
pub const LIMIT: Duration = Duration::from_secs(1);

/// If the length is not announced, a server that sends nothing for this long has sent everything,
/// and keeps the connection open for another request.
pub const PAUSE: Duration = Duration::from_millis(200);

pub struct Body {
    /// How many bytes may still be read.
    left: usize,
    is_announced: bool,
    until: Time,
    longest_until: Time,
}

pub enum Read {
    Some,
    /// Nothing more has arrived yet.
    Nothing,
    /// The body is complete, or no more of it is wanted.
    All,
}

impl Body {
    /// A body of the announced length, if known, of which `came` bytes arrived with the head.
    pub fn new(announced: Option<usize>, came: usize, now: Time, deadline: Time) -> Self {
        let longest_until = deadline.min(now.saturating_add(LIMIT));
        let left = announced.unwrap_or(MOST).min(MOST);
        let is_announced = announced.is_some();
        let mut body = Self { left, is_announced, until: longest_until, longest_until };
        body.came(came, now);
        body
    }

    fn came(&mut self, count: usize, now: Time) {
        self.left = self.left.saturating_sub(count);
        if !self.is_announced {
            self.until = self.longest_until.min(now.saturating_add(PAUSE));
        }
    }

    pub fn is_whole(&self) -> bool {
        self.left == 0
    }

    /// When to stop waiting for it.
    pub fn until(&self) -> Time {
        self.until
    }

    /// Reads as much as possible without waiting.
    pub fn read(&mut self, stream: &mut TcpStream, now: Time) -> Read {
        match stream.read(&mut [0; 4096]) {
            Ok(count @ 1..) => {
                self.came(count, now);
                if self.is_whole() { Read::All } else { Read::Some }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && now < self.until => {
                Read::Nothing
            }
            _ => Read::All,
        }
    }
}
