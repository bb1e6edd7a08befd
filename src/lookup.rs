//! Looking up a name: with the C library's resolver, which knows /etc/hosts and the name servers.
//!
//! The resolver waits as long as it likes and cannot be told when to give up, so it runs in a child.
//! There are no threads here, and an alarm could only end the process.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::Child;
use crate::target::Endpoint;

/// The most that is read of what the child found. A name has few addresses; more are not tried.
const ANSWER: usize = 4096;

/// A look-up under way.
pub struct LookUp {
    child: Child,
    answer: Vec<u8>,
}

impl LookUp {
    pub fn begin(endpoint: &Endpoint) -> io::Result<Self> {
        let child = Child::start(|mut output| {
            let found = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
            let lines: String = found.into_iter().flatten().map(|a| format!("{a}\n")).collect();
            // An answer that nobody reads any more, or that does not fit, is none.
            let _ = output.write_all(lines.as_bytes());
        })?;
        Ok(Self { child, answer: Vec::new() })
    }

    /// The addresses, none if the name is not known; `None` while the child is at it.
    pub fn advance(&mut self) -> Option<Vec<SocketAddr>> {
        let mut piece = [0; 512];
        while self.answer.len() < ANSWER {
            match self.child.output.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => self.answer.extend(piece.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => break,
            }
        }
        let lines = String::from_utf8_lossy(&self.answer);
        Some(lines.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

impl AsFd for LookUp {
    /// Readable when there is something to advance with.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}
