//! The kernel's socket table as text: /proc/net/tcp and tcp6, and the count of connections ever
//! accepted in /proc/net/snmp. See proc_pid_net(5).
//!
//! What there is where netlink is denied. It has no ages, so that it cannot tell an idle connection
//! from one that is owed an answer; and it has one thing that netlink lacks, `pingpong`. A line
//! that cannot be read is an error and never "nothing there".

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::connection::{Connection, Families, Family};

/// Of this process's own network namespace, wherever /proc comes from.
const TABLE: &str = "/proc/self/net/tcp";
const TABLE_6: &str = "/proc/self/net/tcp6";
const COUNTERS: &str = "/proc/self/net/snmp";

/// A line of the kernel's keeps below, and two do not: where the end of one is lost, the next is not
/// taken for its rest. They have 150 bytes over IPv4, which are filled up, and 160 to 284 over IPv6
/// (tcp4_seq_show(), get_timewait6_sock(), get_tcp6_sock()).
const LONGEST_LINE: u64 = 288;

/// Hands out every socket of the network namespace, listening ones too. The kernel takes its time:
/// it looks through a table that is as large as the machine's memory lets it be.
pub fn sockets(families: Families, each: &mut dyn FnMut(Connection)) -> io::Result<()> {
    tables(families, &mut |line, family| {
        each(connection(line, family)?);
        Some(())
    })
}

/// Hands out inodes, and whether the kernel takes the connection for interactive.
///
/// It does from when data that came was answered before an acknowledgement of its own was due, and
/// no longer as soon as it has to send a bare one because no answer came
/// (inet_csk_in_pingpong_mode()).
pub fn pingpong(families: Families, each: &mut dyn FnMut(u64, bool)) -> io::Result<()> {
    tables(families, &mut |line, _| {
        // Mostly these are the many that are closed, in TIME_WAIT: they are passed over quickly.
        if let Some((inode, pingpong)) = interactive(line) {
            each(inode, pingpong);
        }
        Some(())
    })
}

/// What is done with a line; None is what makes it a broken one.
pub type Line<'a> = &'a mut dyn FnMut(&[u8], Family) -> Option<()>;

fn tables(families: Families, each: Line) -> io::Result<()> {
    if families.v4 {
        read(BufReader::new(File::open(TABLE)?), Family::V4, each)?;
    }
    if families.v6 {
        match File::open(TABLE_6) {
            Ok(file) => read(BufReader::new(file), Family::V6, each)?,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && families.v4 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How many connections the network namespace has ever accepted.
pub fn accepted() -> io::Result<u64> {
    let mut text = String::new();
    File::open(COUNTERS)?.take(64 * 1024).read_to_string(&mut text)?;
    passive_opens(&text).ok_or_else(broken)
}

fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Reads a table; a line that is cut at its end is broken too.
pub fn read(mut table: impl BufRead, family: Family, each: Line) -> io::Result<()> {
    let mut line = Vec::with_capacity(256);
    let mut heading = true;
    loop {
        line.clear();
        table.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        let text = match line.split_last() {
            None if heading => return Err(broken()),
            None => return Ok(()),
            Some((b'\n', text)) => text,
            Some(_) => return Err(broken()),
        };
        if heading {
            heading = false;
            if !text.trim_ascii_start().starts_with(b"sl ") {
                return Err(broken());
            }
            continue;
        }
        each(text, family).ok_or_else(broken)?;
    }
}

/// `SL: LOCAL REMOTE STATE TX:RX TIMER RETRANSMITS UID TIMEOUT INODE REFERENCES POINTER RTO ATO
/// QUICK ...`; sockets without a process end sooner.
pub fn connection(line: &[u8], family: Family) -> Option<Connection> {
    // Numbers may have a sign in Rust, and have none here.
    let line = str::from_utf8(line).ok().filter(|line| !line.contains('+'))?;
    let mut fields = line.split_ascii_whitespace();
    fields.next().filter(|number| number.ends_with(':'))?;
    let (_, port) = address(fields.next()?)?;
    let (peer, peer_port) = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (undelivered, unread) = fields.next()?.split_once(':')?;
    let (undelivered, unread) =
        (u32::from_str_radix(undelivered, 16).ok()?, u32::from_str_radix(unread, 16).ok()?);
    let inode = fields.nth(4)?.parse().ok()?;
    let mut connection = Connection {
        cookie: 0,
        inode,
        state,
        family,
        port,
        peer_port,
        peer: peer.to_canonical(),
        unread: 0,
        undelivered: 0,
        info: None,
    };
    connection.set_queues(unread, undelivered);
    Some(connection)
}

/// The inode and the kernel's opinion, of a connection that can be answered.
pub fn interactive(line: &[u8]) -> Option<(u64, bool)> {
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    if !matches!(fields.nth(3)?, b"01" | b"08") {
        return None;
    }
    let mut number = |skipped| str::from_utf8(fields.nth(skipped)?).ok()?.parse::<u64>().ok();
    let inode = number(5)?;
    // Its lowest bit, below the acknowledgements that are to be sent at once (get_tcp4_sock()).
    let quick = number(4)?;
    Some((inode, quick & 1 == 1))
}

/// `0100007F:1F90`: words of four bytes in the byte order of the machine, and a port.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0; 16];
    let mut words = address.as_bytes().chunks_exact(8);
    let mut length = 0;
    for (place, word) in bytes.chunks_exact_mut(4).zip(words.by_ref()) {
        let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        place.copy_from_slice(&word.to_ne_bytes());
        length += 4;
    }
    if words.next().is_some() || !words.remainder().is_empty() {
        return None;
    }
    match length {
        4 => Some((IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)), port)),
        16 => Some((IpAddr::V6(Ipv6Addr::from(bytes)), port)),
        _ => None,
    }
}

/// Two lines that begin with `Tcp:`, names and values.
pub fn passive_opens(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let names = lines.next()?.split_ascii_whitespace();
    let values = lines.next()?.split_ascii_whitespace();
    names.zip(values).find(|(name, _)| *name == "PassiveOpens")?.1.parse().ok()
}

#[cfg(test)]
mod tests;
