//! Looks up a name with the C library's resolver, in a child that can be killed.
//!
//! The resolver may block on files and servers, and parses what servers send. The child writes one
//! message: a code and an errno, and then the addresses, all of fixed size. It must not know who
//! asks, or for how long.

#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::AddressFamily;

use crate::options::target::Endpoint;
use crate::sys::{self, Child, Unresolved};

/// The most addresses of a name that are tried. The message stays below PIPE_BUF, so that one write
/// is atomic.
const MOST: usize = 48;

/// The sizes of a code or an errno, and of an address, in bytes.
const NUMBER: usize = 4;
const ADDRESS: usize = 16;

/// getaddrinfo's code for a name without an address of the requested family. Only glibc has it, and
/// libc does not define it.
const EAI_ADDRFAMILY: i32 = -9;

/// A lookup in progress.
pub struct LookUp {
    child: Child,
    port: u16,
    message: Vec<u8>,
}

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The answer: the name does not exist, or has no address.
    Unknown,
    /// No server has answered.
    NoAnswer,
    /// Name servers refuse, or send an invalid answer.
    Refused,
    /// A failure of this machine: an errno, or 0 if unknown.
    Here(i32),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let looked_up = "could not be looked up";
        match self {
            Self::Unknown => f.write_str("has an unknown host"),
            Self::NoAnswer => write!(f, "{looked_up}: no name server gave an answer"),
            Self::Refused => write!(f, "{looked_up}: no name server gave a valid answer"),
            Self::Here(0) => f.write_str(looked_up),
            Self::Here(errno) => write!(f, "{looked_up}: {}", sys::Errno(*errno)),
        }
    }
}

impl From<Unresolved> for Failure {
    fn from(Unresolved { code, errno }: Unresolved) -> Self {
        match code {
            libc::EAI_NONAME | libc::EAI_NODATA | EAI_ADDRFAMILY => Self::Unknown,
            libc::EAI_AGAIN => Self::NoAnswer,
            libc::EAI_FAIL => Self::Refused,
            libc::EAI_SYSTEM => Self::Here(errno),
            libc::EAI_MEMORY => Self::Here(libc::ENOMEM),
            _ => Self::Here(0),
        }
    }
}

impl LookUp {
    pub fn begin(endpoint: &Endpoint) -> io::Result<Self> {
        let name = CString::new(endpoint.host.as_str())?;
        let child = Child::start(|mut output| {
            // If the parent is gone, nobody needs the answer.
            let _ = output.write_all(&message(look_up(&name)));
        })?;
        Ok(Self { child, port: endpoint.port, message: Vec::new() })
    }

    /// The addresses, or None while the child is running.
    pub fn advance(&mut self) -> Option<Result<Vec<SocketAddr>, Failure>> {
        let mut piece = [0; 2 * NUMBER + MOST * ADDRESS];
        while self.message.len() < piece.len() {
            match self.child.output.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => self.message.extend(piece.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => break,
            }
        }
        Some(self.read())
    }

    fn read(&self) -> Result<Vec<SocketAddr>, Failure> {
        let (numbers, rest) = self.message.split_at_checked(2 * NUMBER).ok_or(Failure::Here(0))?;
        let mut numbers =
            numbers.as_chunks::<NUMBER>().0.iter().map(|bytes| i32::from_ne_bytes(*bytes));
        let mut next = || numbers.next().unwrap_or_default();
        let unresolved = Unresolved { code: next(), errno: next() };
        if unresolved.code != 0 {
            return Err(unresolved.into());
        }
        let mut addresses = Vec::new();
        for bytes in rest.as_chunks::<ADDRESS>().0 {
            let address = Ipv6Addr::from(*bytes).to_canonical();
            addresses.push(SocketAddr::new(address, self.port));
        }
        Ok(addresses)
    }
}

impl AsFd for LookUp {
    /// Readable when `advance` has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

/// One family at a time: asked for both, musl waits for both answers, and the address translation
/// of a node may lose one of two questions that come from the same port.
fn look_up(name: &CStr) -> Result<Vec<IpAddr>, Unresolved> {
    let first = match sys::resolve(name, AddressFamily::Inet) {
        Ok(addresses) => return Ok(addresses),
        // A server that does not answer this question will not answer the next.
        Err(unresolved) if unresolved.code == libc::EAI_AGAIN => return Err(unresolved),
        Err(unresolved) => unresolved,
    };
    sys::resolve(name, AddressFamily::Inet6).map_err(|unresolved| {
        if Failure::from(first) == Failure::Unknown { unresolved } else { first }
    })
}

fn message(found: Result<Vec<IpAddr>, Unresolved>) -> Vec<u8> {
    let (addresses, Unresolved { code, errno }) = match found {
        Ok(addresses) => (addresses, Unresolved { code: 0, errno: 0 }),
        Err(unresolved) => (Vec::new(), unresolved),
    };
    let mut bytes = [code.to_ne_bytes(), errno.to_ne_bytes()].concat();
    for address in addresses.into_iter().take(MOST) {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        bytes.extend_from_slice(&address.octets());
    }
    bytes
}
