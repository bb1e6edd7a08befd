//! Reads the kernel's socket table as text: /proc/net/tcp and tcp6, and the count of connections
//! ever accepted from /proc/net/snmp. See proc_pid_net(5).
//!
//! The fallback where netlink is denied. It has no ages, so it cannot tell an idle connection from
//! one that is owed an answer. It has one thing that netlink lacks: `pingpong`. A line that cannot
//! be parsed is an error, never "no socket".

#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sys;

use super::connection::{Connection, Families, Family};

/// The process's own network namespace, wherever /proc was mounted.
const TABLE: &str = "/proc/self/net/tcp";
const TABLE_6: &str = "/proc/self/net/tcp6";
const COUNTERS: &str = "/proc/self/net/snmp";

/// Longer than any line of the kernel's and shorter than two, so that a line whose end is lost
/// never swallows the next one. Lines have 150 bytes over IPv4, padded, and 160 to 284 over IPv6
/// (tcp4_seq_show(), get_timewait6_sock(), get_tcp6_sock()).
const LONGEST_LINE: usize = 288;

/// Passes on every socket of the network namespace, including listening ones. Slow: the kernel
/// walks a hash table that grows with the machine's memory.
pub fn sockets(families: Families, each: &mut dyn FnMut(Connection)) -> io::Result<()> {
    tables(families, &mut |line, family| {
        each(connection(line, family)?);
        Some(())
    })
}

/// Passes on inodes, each with whether the kernel takes the connection for interactive.
///
/// A connection becomes interactive when received data was answered before its ACK was due. It
/// stops being interactive as soon as the kernel has to send a bare ACK because no answer came
/// (inet_csk_in_pingpong_mode()).
pub fn pingpong(families: Families, each: &mut dyn FnMut(u64, bool)) -> io::Result<()> {
    tables(families, &mut |line, _| {
        // Most lines are connections in TIME_WAIT, which are skipped quickly.
        if let Some((inode, pingpong)) = interactive(line) {
            each(inode, pingpong);
        }
        Some(())
    })
}

/// Handles one line; None marks it as broken.
pub type Line<'a> = &'a mut dyn FnMut(&[u8], Family) -> Option<()>;

fn tables(families: Families, each: Line) -> io::Result<()> {
    if families.v4 {
        read(&mut sys::open(TABLE, libc::O_RDONLY)?, Family::V4, each)?;
    }
    if families.v6 {
        match sys::open(TABLE_6, libc::O_RDONLY) {
            Ok(mut file) => read(&mut file, Family::V6, each)?,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && families.v4 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How many connections the network namespace has ever accepted.
pub fn accepted() -> io::Result<u64> {
    passive_opens(&sys::read(COUNTERS)?).ok_or_else(broken)
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Reads a table. A line that is cut short is broken too.
pub fn read(table: &mut dyn Read, family: Family, each: Line) -> io::Result<()> {
    let mut piece = [0; 16 * LONGEST_LINE];
    let mut left = 0;
    let mut heading = true;
    loop {
        let count = table.read(piece.get_mut(left..).unwrap_or_default())?;
        let filled = left + count;
        let mut rest = piece.get(..filled).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(end);
            if line.len() >= LONGEST_LINE {
                return Err(broken());
            }
            let done = if std::mem::take(&mut heading) {
                line.trim_ascii_start().starts_with(b"sl ").then_some(())
            } else {
                each(line, family)
            };
            done.ok_or_else(broken)?;
            rest = behind.get(1..).unwrap_or_default();
        }
        left = rest.len();
        if left > LONGEST_LINE || (count == 0 && (left > 0 || heading)) {
            return Err(broken());
        }
        if count == 0 {
            return Ok(());
        }
        piece.copy_within(filled - left..filled, 0);
    }
}

/// `SL: LOCAL REMOTE STATE TX:RX TIMER RETRANSMITS UID TIMEOUT INODE REFERENCES POINTER RTO ATO
/// QUICK ...`; the line of a socket without a process ends sooner.
pub fn connection(line: &[u8], family: Family) -> Option<Connection> {
    let mut fields = fields(line);
    fields.next().filter(|number| number.ends_with(b":"))?;
    let (local, port) = address(fields.next()?)?;
    let (peer, peer_port) = address(fields.next()?)?;
    let state = hex(fields.next()?)?.try_into().ok()?;
    let (undelivered, unread) = halves(fields.next()?)?;
    let (undelivered, unread) = (hex(undelivered)?, hex(unread)?);
    let uid = decimal(fields.nth(2)?)?.try_into().ok()?;
    let inode = decimal(fields.nth(1)?)?;
    let mut connection = Connection {
        cookie: 0,
        inode,
        state,
        family,
        local: local.to_canonical(),
        port,
        peer_port,
        peer: peer.to_canonical(),
        interface: 0,
        uid,
        unread: 0,
        undelivered: 0,
        info: None,
    };
    connection.set_queues(unread, undelivered);
    Some(connection)
}

/// The inode and the interactive flag of a connection that can still be answered.
pub fn interactive(line: &[u8]) -> Option<(u64, bool)> {
    let mut fields = fields(line);
    if !matches!(fields.nth(3)?, b"01" | b"08") {
        return None;
    }
    let inode = decimal(fields.nth(5)?)?;
    // The lowest bit of the field; the bits above count quick ACKs (get_tcp4_sock()).
    let quick = decimal(fields.nth(4)?)?;
    Some((inode, quick & 1 == 1))
}

/// `0100007F:1F90`: four-byte words in native byte order, and a port.
fn address(text: &[u8]) -> Option<(IpAddr, u16)> {
    let (address, port) = halves(text)?;
    let mut bytes = [0; 16];
    let mut places = bytes.chunks_exact_mut(4);
    for word in address.chunks(8) {
        places.next()?.copy_from_slice(&hex(word).filter(|_| word.len() == 8)?.to_ne_bytes());
    }
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        32 => IpAddr::V6(Ipv6Addr::from(bytes)),
        _ => return None,
    };
    Some((address, hex(port)?.try_into().ok()?))
}

/// Parses the two lines that begin with `Tcp:`, names and values.
pub fn passive_opens(text: &[u8]) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"Tcp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = fields(names).position(|name| name == b"PassiveOpens")?;
    decimal(fields(values).nth(place)?)
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ').filter(|field| !field.is_empty())
}

/// The text on each side of a colon.
fn halves(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((text.get(..colon)?, text.get(colon + 1..)?))
}

fn hex(digits: &[u8]) -> Option<u32> {
    number(digits, 16)?.try_into().ok()
}

pub fn decimal(digits: &[u8]) -> Option<u64> {
    number(digits, 10)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let mut number = (!digits.is_empty()).then_some(0_u64)?;
    for digit in digits {
        let digit = char::from(*digit).to_digit(radix)?;
        number = number.checked_mul(radix.into())?.checked_add(digit.into())?;
    }
    Some(number)
}

#[cfg(test)]
mod tests;
