//! Listening sockets that drain-init has inherited for the app, as from systemd or inetd.

use core::ffi::c_int;
use core::mem::{MaybeUninit, size_of};

use super::error::checked;

/// Socket activation passes the lowest numbers.
const LIMIT: c_int = 1024;

/// Port and inode of each inherited TCP socket. Checks every number up to LIMIT, in less than a
/// millisecond.
pub fn listening() -> Vec<(u16, u64)> {
    (0..LIMIT).filter_map(listener).collect()
}

fn listener(descriptor: c_int) -> Option<(u16, u64)> {
    let listens = option(descriptor, libc::SO_ACCEPTCONN)? != 0;
    let is_tcp = option(descriptor, libc::SO_PROTOCOL)? == libc::IPPROTO_TCP;
    if !listens || !is_tcp {
        return None;
    }
    let mut stat = MaybeUninit::<libc::stat64>::zeroed();
    let mut address = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let mut length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    // SAFETY: live memory of the stated sizes, for which zeros are valid.
    unsafe {
        checked(libc::fstat64(descriptor, stat.as_mut_ptr())).ok()?;
        let place = address.as_mut_ptr().cast();
        checked(libc::getsockname(descriptor, place, &raw mut length)).ok()?;
        // The port is at the same offset in an IPv4 address.
        Some((u16::from_be(address.assume_init().sin6_port), stat.assume_init().st_ino))
    }
}

fn option(descriptor: c_int, option: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: live memory of the stated size.
    checked(unsafe {
        let place = (&raw mut value).cast();
        libc::getsockopt(descriptor, libc::SOL_SOCKET, option, place, &raw mut length)
    })
    .ok()?;
    Some(value)
}
