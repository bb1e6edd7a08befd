//! The body of an answer: it is read, and thrown away. Cut off while it writes, a server logs an error
//! at each probe.

#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::clock::Time;

/// How much of it is read.
const MOST: usize = 1024 * 1024;

/// How long it is waited for.
pub const LIMIT: Duration = Duration::from_secs(1);

/// Where its length is not announced, a server that says nothing for so long has said all, and keeps
/// the connection open for another request.
pub const PAUSE: Duration = Duration::from_millis(200);

pub struct Body {
    /// How much more is read.
    left: usize,
    is_announced: bool,
    until: Time,
    longest_until: Time,
}

pub enum Read {
    Some,
    /// Nothing more has come yet.
    Nothing,
    /// There is no more of it, or no more is wanted.
    All,
}

impl Body {
    /// One of so many bytes, where that is announced, of which some have come with the head.
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

    /// When it is not waited for any more.
    pub fn until(&self) -> Time {
        self.until
    }

    /// Reads a piece, as far as that is possible without waiting.
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
