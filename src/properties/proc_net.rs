//! /proc/net/tcp, tcp6 and snmp: no connection is invented, and a damaged table is never taken for
//! a complete one with fewer connections.

use std::net::IpAddr;
use std::time::Duration;

use crate::drain::traffic::connection::{Connection, Family};
use crate::drain::traffic::proc_net;
use crate::drain::traffic::verdict::{Judge, Verdict};
use crate::options::watched::QuietOn;

/// The kernel's shortest line: two merged lines are recognised by their length.
const SHORTEST_LINE: usize = 144;

/// A text, then a byte 0xff and the damage: at a place (two bytes) a byte is overwritten, or, if it
/// is 0xff, the rest is cut off.
pub fn proc_net(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0xff);
    let (text, damage) = (parts.next().unwrap_or_default(), parts.next());
    counters(text);
    let Some(whole) = sockets(text) else { return };
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').skip(1).collect();
    assert_eq!(whole.len(), lines.len(), "a line was left out");
    for (connection, line) in whole.iter().zip(&lines) {
        is_told(connection, line);
    }
    let Some([low, high, byte]) = damage.and_then(|damage| damage.first_chunk()) else { return };
    let place = usize::from(u16::from_le_bytes([*low, *high])) % text.len();
    if *byte == 0xff {
        let damaged = &text[..place];
        match sockets(damaged) {
            None => assert!(!verdict(damaged).nothing_in_flight()),
            // A cut between two lines leaves a valid, shorter table.
            Some(found) => {
                assert!(damaged.ends_with(b"\n"), "cut within a line, and whole");
                assert_eq!(found, whole[..found.len()]);
            }
        }
    } else if text.split(|byte| *byte == b'\n').rev().skip(1).all(|it| it.len() >= SHORTEST_LINE) {
        let mut damaged = text.to_vec();
        damaged[place] = *byte;
        match sockets(&damaged) {
            None => assert!(!verdict(&damaged).nothing_in_flight()),
            Some(found) => assert!(found.len() >= whole.len(), "a connection is missing"),
        }
    }
}

fn sockets(text: &[u8]) -> Option<Vec<Connection>> {
    let mut found = Vec::new();
    let read = proc_net::read(&mut &text[..], Family::V4, &mut |line, family| {
        found.push(proc_net::connection(line, family)?);
        Some(())
    });
    read.ok().map(|()| found)
}

/// The verdict of a drain.
fn verdict(text: &[u8]) -> Verdict {
    let mut judge = Judge::new(Duration::ZERO, QuietOn::Requests, Duration::ZERO);
    judge.begin(Duration::ZERO);
    let read = proc_net::read(&mut &text[..], Family::V4, &mut |line, family| {
        judge.present(&proc_net::connection(line, family)?);
        Some(())
    });
    judge.end(read.is_ok())
}

/// Its peer, ports, state and inode are in their columns of the line.
fn is_told(connection: &Connection, line: &[u8]) {
    let line = str::from_utf8(line).expect("text");
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let port = |field: usize| fields[field].split_once(':').expect("a port").1;
    let is = |field: &str, number: u64, base| {
        field.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && u64::from_str_radix(field, base) == Ok(number)
    };
    let hex = |bytes: &[u8]| -> String {
        let words = bytes.chunks_exact(4).map(|word| word.try_into().map(u32::from_ne_bytes));
        words.map(|word| format!("{:08X}", word.expect("four bytes"))).collect()
    };
    let peer = fields[2].split_once(':').expect("an address").0.to_ascii_uppercase();
    assert!(match connection.peer {
        IpAddr::V4(it) => peer == hex(&it.octets()) || peer == hex(&it.to_ipv6_mapped().octets()),
        IpAddr::V6(it) => peer == hex(&it.octets()),
    });
    assert!(is(port(1), connection.port.into(), 16), "{line}");
    assert!(is(port(2), connection.peer_port.into(), 16), "{line}");
    assert!(is(fields[3], connection.state.into(), 16), "{line}");
    assert!(is(fields[9], connection.inode, 10), "{line}");
    let blank_alone = line.trim_end().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if blank_alone && let Some((inode, _)) = proc_net::interactive(line.trim_end().as_bytes()) {
        assert_eq!(inode, connection.inode);
        assert!(connection.can_be_answered());
    }
}

fn counters(text: &[u8]) {
    let Some(count) = proc_net::passive_opens(text) else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let mut words = || lines.next().expect("a line").split_ascii_whitespace();
    let (mut names, mut values) = (words(), words());
    let column = names.position(|name| name == "PassiveOpens").expect("named");
    assert_eq!(values.nth(column).expect("a value").parse(), Ok(count), "never said");
}
