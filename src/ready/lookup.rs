//! Looking up a name: the hosts file, and then the name servers.
//!
//! Not with the C library's resolver, which would be a twelfth of this program. Files and servers may
//! take as long as they like, and what a server says comes from outside: so it is done in a child,
//! which can be ended.

#![forbid(unsafe_code)]

mod files;
mod message;
mod servers;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use self::files::Resolver;
use crate::clock::Clock;
use crate::options::target::Endpoint;
use crate::sys::{self, Child};

/// More addresses of a name are not tried.
const MOST: usize = 48;

/// How many bytes an address is on its way from the child.
const SIZE: usize = 16;

/// Where name servers listen.
const PORT: u16 = 53;

/// A look-up under way.
pub struct LookUp {
    child: Child,
    port: u16,
    answer: Vec<u8>,
}

impl LookUp {
    pub fn begin(endpoint: &Endpoint) -> io::Result<Self> {
        let child = Child::start(|mut output| {
            let mut bytes = Vec::new();
            for address in addresses(&endpoint.host).into_iter().take(MOST) {
                let address = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                bytes.extend_from_slice(&address.octets());
            }
            // An answer that nobody reads any more is none.
            let _ = output.write_all(&bytes);
        })?;
        Ok(Self { child, port: endpoint.port, answer: Vec::new() })
    }

    /// The addresses, none if the name is not known; `None` while the child is at it.
    pub fn advance(&mut self) -> Option<Vec<SocketAddr>> {
        let mut piece = [0; MOST * SIZE];
        while self.answer.len() < piece.len() {
            match self.child.output.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => self.answer.extend(piece.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => break,
            }
        }
        let mut addresses = Vec::new();
        for bytes in self.answer.as_chunks::<SIZE>().0 {
            let address = Ipv6Addr::from(*bytes).to_canonical();
            addresses.push(SocketAddr::new(address, self.port));
        }
        Some(addresses)
    }
}

impl AsFd for LookUp {
    /// Readable when there is something to advance with.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

fn addresses(name: &str) -> Vec<IpAddr> {
    let found = files::hosts(&text("/etc/hosts"), name);
    if !found.is_empty() {
        return found;
    }
    let text = text("/etc/resolv.conf");
    let resolver = Resolver::read(&text);
    let clock = Clock::start();
    for name in resolver.names(name) {
        match servers::ask(&resolver, PORT, &name, clock) {
            Some(found) if found.is_empty() => {}
            Some(found) => return found,
            // Who did not answer to this one will not answer to the next.
            None => break,
        }
    }
    Vec::new()
}

fn text(path: &str) -> String {
    String::from_utf8_lossy(&sys::read(path).unwrap_or_default()).into_owned()
}
