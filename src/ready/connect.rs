//! Connects a socket without waiting, which std cannot do.

#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

/// A connection that is established or in progress.
pub fn to(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the connection is established; an error if it failed.
pub fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    match stream.take_error()? {
        // It was established and then reset: a refused connection has another error.
        Some(error) if matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)) => {
            return Ok(true);
        }
        Some(error) => return Err(error),
        None => {}
    }
    let Ok(peer) = stream.peer_addr() else {
        return Ok(false);
    };
    // If nothing listens, the kernel may choose that very port for our own end and connect the
    // socket to itself (RFC 9293, 3.5: a simultaneous open). That counts as refused.
    if stream.local_addr().is_ok_and(|own| own == peer) {
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::bind;

    use super::*;

    /// A socket connected to itself, as may happen if nothing listens.
    #[test]
    fn a_connection_to_oneself_is_nobody() {
        let SocketAddr::V4(address) = "127.0.0.1:0".parse().expect("an address") else {
            panic!("IPv4");
        };
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None);
        let stream = TcpStream::from(socket.expect("a socket"));
        let raw = stream.as_raw_fd();
        bind(raw, &SockaddrStorage::from(address)).expect("bound");
        let own = stream.local_addr().expect("an address");
        connect(raw, &SockaddrStorage::from(own)).expect("connected to itself");
        let error = is_connected(&stream).expect_err("nobody");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    }
}
