//! Parses netlink's answers about sockets, sock_diag(7), into connections.
//!
//! Reads as much of a message as there is, since newer kernels send longer ones, and trusts none of
//! it: a message that cannot be parsed is `Damaged`, never "no socket". Has no socket itself;
//! `netlink` does.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::connection::{Connection, Counts, Family, Info, state};

/// The size of struct nlmsghdr.
const HEADER: usize = 16;
/// The size of struct inet_diag_msg, which follows it.
const BODY: usize = 72;
/// The offset of the local port in a message; the filter of `Closed` uses it.
pub const PORT_OFFSET: usize = HEADER + 4;

const NOOP: u16 = libc::NLMSG_NOOP as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
const DUMP_INTERRUPTED: u16 = libc::NLM_F_DUMP_INTR as u16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Attributes of an answer and of a request, inet_diag.h.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const ATTRIBUTE_TYPE: u16 = !(libc::NLA_F_NESTED as u16 | libc::NLA_F_NET_BYTEORDER as u16);

/// How a datagram ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Datagram {
    /// More follows.
    Part,
    /// The last one of a dump.
    Last,
    /// The kernel's errno.
    Refused(i32),
    /// Part of it could not be parsed, or the table changed during the dump: the dump is
    /// incomplete.
    Damaged,
}

/// Parses a datagram and passes on each socket in it, including listening ones. With a `sequence`,
/// skips messages that answer an earlier request.
pub fn read(mut bytes: &[u8], sequence: Option<u32>, each: &mut dyn FnMut(Connection)) -> Datagram {
    while !bytes.is_empty() {
        let Some(length) = u32_at(bytes, 0).and_then(|length| usize::try_from(length).ok()) else {
            return Datagram::Damaged;
        };
        let (Some(message), true) = (bytes.get(..length), length >= HEADER) else {
            return Datagram::Damaged;
        };
        let (Some(kind), Some(flags)) = (u16_at(message, 4), u16_at(message, 6)) else {
            return Datagram::Damaged;
        };
        if sequence.is_none() || sequence == u32_at(message, 8) {
            if flags & DUMP_INTERRUPTED != 0 {
                return Datagram::Damaged;
            }
            let code = || u32_at(message, HEADER).map(u32::cast_signed);
            match kind {
                NOOP => {}
                SOCK_DIAG_BY_FAMILY => match connection(message) {
                    Some(connection) => each(connection),
                    None => return Datagram::Damaged,
                },
                // Netlink's errors are negative; 0 is an ACK, which was not requested.
                ERROR => match code() {
                    Some(code) if code < 0 => return Datagram::Refused(code.saturating_neg()),
                    _ => return Datagram::Damaged,
                },
                // Newer kernels end a dump with its error (netlink_dump_done()).
                DONE => match code() {
                    None | Some(0) => return Datagram::Last,
                    Some(code) if code < 0 => return Datagram::Refused(code.saturating_neg()),
                    Some(_) => return Datagram::Damaged,
                },
                _ => return Datagram::Damaged,
            }
        }
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    Datagram::Part
}

/// Parses struct inet_diag_msg and its tcp_info attribute.
fn connection(message: &[u8]) -> Option<Connection> {
    let body = message.get(HEADER..HEADER + BODY)?;
    let family = i32::from(*body.first()?);
    let cookie = u64::from(u32_at(body, 44)?) | u64::from(u32_at(body, 48)?) << u32::BITS;
    let family = match family {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    let (state, timer) = (*body.get(1)?, *body.get(2)?);
    let mut connection = Connection {
        cookie,
        inode: u32_at(body, 68)?.into(),
        state,
        family,
        local: address_at(body, 8, family)?,
        port: port_at(body, 4)?,
        peer_port: port_at(body, 6)?,
        peer: address_at(body, 24, family)?,
        interface: u32_at(body, 40)?,
        uid: u32_at(body, 64)?,
        unread: 0,
        undelivered: 0,
        info: None,
    };
    let end_of_stream = u64::from(connection.peer_has_closed());
    let attributes = message.get(HEADER + BODY..)?;
    connection.info = match info_attribute(attributes)? {
        Some(attribute) => Some(info(attribute, end_of_stream)?),
        None if attributes.is_empty() || has_no_info(state, timer) => None,
        None => return None,
    };
    if connection.state != state::LISTEN {
        connection.set_queues(u32_at(body, 56)?, u32_at(body, 60)?);
    }
    Some(connection)
}

/// Whether the socket has no tcp_info although it has other attributes: half-open, listening, or
/// the rest of a closed connection, which inet_twsk_diag_fill() marks by this timer.
fn has_no_info(state: u8, timer: u8) -> bool {
    const TIME_WAIT: u8 = 3;
    matches!(state, state::SYN_RECV | state::LISTEN) || timer == TIME_WAIT
}

/// The tcp_info attribute, if present. None if the attributes do not fill the message exactly: then
/// a length is wrong, and may hide the attribute.
fn info_attribute(mut attributes: &[u8]) -> Option<Option<&[u8]>> {
    let mut found = None;
    while !attributes.is_empty() {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & ATTRIBUTE_TYPE;
        let value = attributes.get(4..length)?;
        match kind {
            // Not an attribute: the next message begins like this, since its length has four bytes.
            0 => return None,
            INET_DIAG_INFO => found = Some(value),
            _ => {}
        }
        attributes = attributes.get(aligned(length)..).unwrap_or_default();
    }
    Some(found)
}

/// Parses struct tcp_info, tcp.h. It needs at least the ages, which every kernel has.
/// `end_of_stream` is 1 if one of the received bytes is the end of stream.
pub fn info(bytes: &[u8], end_of_stream: u64) -> Option<Info> {
    let millis = |at| u32_at(bytes, at).map(|age| Duration::from_millis(age.into()));
    let counts = || {
        let (segments_out, data_in, data_out) =
            (u32_at(bytes, 136)?, u32_at(bytes, 152)?, u32_at(bytes, 156)?);
        Some(Counts { data_in, data_out, bare_out: segments_out.wrapping_sub(data_out) })
    };
    let bytes_received = bytes.get(128..).and_then(|bytes| bytes.first_chunk());
    let bytes_received = bytes_received.map(|bytes| u64::from_ne_bytes(*bytes));
    let full_segment = u32_at(bytes, 20)?;
    Some(Info {
        sent: millis(44)?,
        received: millis(52)?,
        acknowledged: millis(56)?,
        round_trip: Duration::from_micros(u32_at(bytes, 68)?.into()),
        any_received: bytes_received.is_none_or(|bytes| bytes > end_of_stream),
        one_segment: bytes_received.is_some_and(|bytes| bytes <= full_segment.into()),
        counts: counts(),
    })
}

/// A request for every socket of a family in one of the states, with tcp_info.
///
/// The kernel drops ports outside the range `ports` by two comparisons in its byte code, which
/// every kernel supports. The caller checks for the exact ports.
pub fn request(family: u8, states: &[u8], ports: Option<(u16, u16)>, sequence: u32) -> Vec<u8> {
    const ANY_COOKIE: [u8; 8] = [0xff; 8];
    let states = states.iter().fold(0_u32, |set, state| set | 1 << state);
    let mut body = request_body(family, states);
    body.extend([0; 40]);
    body.extend(ANY_COOKIE);
    if let Some((lowest, highest)) = ports {
        const GREATER_OR_EQUAL: u8 = 2;
        const LESS_OR_EQUAL: u8 = 3;
        /// The size of a comparison: the operation and its argument.
        const STEP: u8 = 8;
        let mut code = Vec::new();
        // A true comparison continues at the next one; a false one jumps 4 bytes past the end,
        // which rejects.
        for (operation, port, to_end) in
            [(GREATER_OR_EQUAL, lowest, 2 * STEP), (LESS_OR_EQUAL, highest, STEP)]
        {
            code.extend([operation, STEP]);
            code.extend((u16::from(to_end) + 4).to_ne_bytes());
            code.extend([0, 0]);
            code.extend(port.to_ne_bytes());
        }
        let length = u16::try_from(code.len() + 4).unwrap_or_default();
        body.extend(length.to_ne_bytes());
        body.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
        body.extend(code);
    }
    message(libc::NLM_F_REQUEST | libc::NLM_F_DUMP, sequence, &body)
}

/// A request for this one connection. The kernel finds it by its addresses, at a cost that does not
/// depend on the size of its table, and checks the cookie.
pub fn request_one(connection: &Connection, sequence: u32) -> Vec<u8> {
    const ANY_STATE: u32 = u32::MAX;
    let mut body = request_body(number(connection.family), ANY_STATE);
    body.extend(connection.port.to_be_bytes());
    body.extend(connection.peer_port.to_be_bytes());
    for address in [connection.local, connection.peer] {
        let (IpAddr::V4(v4), Family::V4) = (address, connection.family) else {
            let address = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            body.extend(address.octets());
            continue;
        };
        body.extend(v4.octets());
        body.extend([0; 12]);
    }
    body.extend(connection.interface.to_ne_bytes());
    // Two words, the lower one first.
    body.extend((connection.cookie as u32).to_ne_bytes());
    body.extend(((connection.cookie >> u32::BITS) as u32).to_ne_bytes());
    message(libc::NLM_F_REQUEST, sequence, &body)
}

pub fn number(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

/// The beginning of struct inet_diag_req_v2; the socket's addresses follow.
fn request_body(family: u8, states: u32) -> Vec<u8> {
    let mut body = vec![family, libc::IPPROTO_TCP as u8, 1 << (INET_DIAG_INFO - 1), 0];
    body.extend(states.to_ne_bytes());
    body
}

fn message(flags: libc::c_int, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let flags = flags as u16;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// Messages and attributes are aligned to four bytes.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn address_at(bytes: &[u8], at: usize, family: Family) -> Option<IpAddr> {
    let bytes = bytes.get(at..)?;
    Some(match family {
        Family::V4 => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        Family::V6 => IpAddr::from(*bytes.first_chunk::<16>()?).to_canonical(),
    })
}

fn port_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
