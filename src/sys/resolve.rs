//! The C library's resolver, getaddrinfo(3): /etc/hosts, and then the name servers of
//! /etc/resolv.conf. It parses outside input, and may block for a long time.

use core::ffi::{CStr, c_int};
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use nix::sys::socket::AddressFamily;

/// Why there are no addresses: a code of getaddrinfo, and for EAI_SYSTEM an errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Unresolved {
    pub code: c_int,
    pub errno: c_int,
}

/// The addresses of a name in one family, in the order in which to try them.
pub fn resolve(name: &CStr, family: AddressFamily) -> Result<Vec<IpAddr>, Unresolved> {
    // SAFETY: zeros are valid: no flags, any protocol, null pointers.
    let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
    hints.ai_family = family as c_int;
    // Otherwise each address would be listed once per socket type.
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut first = ptr::null_mut();
    // SAFETY: a C string, no service, live hints, and room for one pointer.
    let code =
        unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut first) };
    if code != 0 {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Unresolved { code, errno });
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: a list of live entries ended by a null pointer. Each has an address of the family it
    // states, aligned for that family.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: as above.
        addresses.extend(unsafe { address(entry) });
        next = entry.ai_next;
    }
    // SAFETY: the list is getaddrinfo's own, and nothing points into it any more.
    unsafe { libc::freeaddrinfo(first) };
    Ok(addresses)
}

/// # Safety
/// `ai_addr` points to an address of `ai_family`.
unsafe fn address(entry: &libc::addrinfo) -> Option<IpAddr> {
    // SAFETY: by the contract.
    unsafe {
        match entry.ai_family {
            libc::AF_INET => {
                let address = *entry.ai_addr.cast::<libc::sockaddr_in>();
                Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let address = *entry.ai_addr.cast::<libc::sockaddr_in6>();
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}
