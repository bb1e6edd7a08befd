//! Netlink's answers, through the code that reads them in a drain, over a socket of the test's own.
//! For any input, no socket is invented, and a damaged dump never counts as complete, so no drain
//! ends because of it.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair,
};

use crate::drain::traffic::connection::{Connection, state};
use crate::drain::traffic::netlink::{Closed, Dumps};
use crate::drain::traffic::source::Source;
use crate::drain::traffic::verdict::{Judge, Verdict};
use crate::options::watched::{QuietOn, Watched};

const QUIET: Duration = Duration::from_secs(1);
/// Sizes of struct nlmsghdr, and of struct inet_diag_msg after it.
const HEADER: usize = 16;
const BODY: usize = 72;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const DONE: u16 = libc::NLMSG_DONE as u16;
const INET_DIAG_INFO: u16 = 2;
/// The part of struct tcp_info that is read. If it were shorter, other data could be taken for it.
const INFO: usize = 160;
/// The most that a socket takes at once; a longer datagram does not fit into the buffer of a dump.
const MOST: usize = 32 * 1024;
const MOST_DATAGRAMS: usize = 32;

type Datagrams = Vec<Vec<u8>>;

/// Seven bytes describe the damage: a kind, a place, a value. The rest is the datagrams of an
/// answer, each after its length in two bytes. Sequence numbers are 1 over IPv4 and 2 over IPv6.
pub fn netlink(input: &[u8]) {
    let Some((head, rest)) = input.split_first_chunk::<7>() else { return };
    let [kind, place @ .., a, b, c, d] = *head;
    let (place, value) = (usize::from(u16::from_le_bytes(place)), u32::from_le_bytes([a, b, c, d]));
    let datagrams = datagrams(rest);
    let length: usize = datagrams.iter().map(Vec::len).sum();
    if length > MOST || datagrams.len() > MOST_DATAGRAMS {
        return;
    }
    let Ok(found) = dump(&datagrams) else {
        // Damaged already: the code survives it, and that is all.
        let _ = verdict(&datagrams, &datagrams, &datagrams, &[]);
        return;
    };
    found.iter().for_each(|connection| is_told(connection, &datagrams));
    let messages = messages(&datagrams);
    let done = |sequence| messages.iter().any(|it| it.kind == DONE && it.sequence == sequence);
    assert!(done(1) && done(2), "whole, although its end never came");

    let mut ports: Vec<u16> = found.iter().map(|connection| connection.port).collect();
    // Without a watched port no event is read.
    ports.push(8080);
    ports.sort_unstable();
    ports.dedup();
    let events = messages.iter().filter_map(|it| it.event(&datagrams));
    let events: Datagrams = events.take(MOST_DATAGRAMS).collect();
    let intact = verdict(&datagrams, &datagrams, &events, &ports);
    if let Some((damaged, noticed)) = damaged(&datagrams, &messages, kind, place, value) {
        let verdict = verdict(&datagrams, &damaged, &events, &ports);
        assert!(!noticed || !verdict.complete, "damaged, and taken for whole: {verdict:?}");
        if verdict.complete {
            assert_eq!(verdict, intact, "a damaged dump is taken for a whole one");
        } else {
            assert!(!verdict.is_quiet() && !verdict.nothing_in_flight());
        }
    }
    if let Some(damaged) = damaged_event(&events, place, value) {
        let verdict = verdict(&datagrams, &datagrams, &damaged, &ports);
        // Traffic at this very instant.
        assert!(verdict.quiet_for.is_zero() || verdict == intact, "{verdict:?}, {intact:?}");
    }
}

fn datagrams(mut bytes: &[u8]) -> Datagrams {
    let mut datagrams = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (datagram, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        datagrams.push(datagram.to_vec());
        bytes = rest;
    }
    datagrams
}

/// A socket on which the datagrams have arrived.
fn socket(datagrams: &[Vec<u8>], ends: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    // Keeps boundaries, and has an end of file.
    let flags = if ends { SockFlag::empty() } else { SockFlag::SOCK_NONBLOCK };
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    for datagram in datagrams {
        send(theirs.as_raw_fd(), datagram, MsgFlags::MSG_DONTWAIT)?;
    }
    if ends {
        shutdown(theirs.as_raw_fd(), Shutdown::Write)?;
    }
    Ok((ours, theirs))
}

/// The connections, if the answer is complete.
fn dump(datagrams: &[Vec<u8>]) -> Result<Vec<Connection>, ()> {
    let (ours, _theirs) = socket(datagrams, true).map_err(|_| ())?;
    let mut found = Vec::new();
    let mut each = |connection| found.push(connection);
    Dumps::over(ours).dump(&state::OF_CONNECTIONS, None, &mut each).map_err(|_| ())?;
    Ok(found)
}

/// The verdict of a drain that has seen `first` before, with `events` of closed connections in
/// between.
fn verdict(first: &[Vec<u8>], second: &[Vec<u8>], events: &[Vec<u8>], ports: &[u16]) -> Verdict {
    let watched = Watched {
        until_quiet: QUIET,
        quiet_on: QuietOn::Requests,
        ports: ports.to_vec(),
        ignored_peers: Vec::new(),
        given: Vec::new(),
        ..Watched::default()
    };
    let mut judge = Judge::new(QUIET, QuietOn::Requests, Duration::ZERO);
    let mut verdicts = [(first, &[][..]), (second, events)].into_iter().zip(1..).map(
        |((dump, events), second)| {
            let (ours, _theirs) = socket(dump, true).expect("room");
            let (closed, _closers) = socket(events, false).expect("room");
            let mut source = Source::Netlink {
                dumps: Dumps::over(ours),
                closed: Some(Closed::over(closed)),
                accepted: None,
                may_get_lost: false,
                lost: false,
            };
            judge.begin(Duration::from_secs(second));
            let complete = source.read(&watched, &mut judge, true);
            judge.end(complete)
        },
    );
    verdicts.by_ref().last().expect("two")
}

/// Its addresses and numbers are together somewhere in the input.
fn is_told(connection: &Connection, datagrams: &[Vec<u8>]) {
    let told = datagrams.iter().flat_map(|datagram| {
        datagram
            .chunks(4)
            .enumerate()
            .map(move |(word, _)| datagram.get(4 * word + HEADER..4 * word + HEADER + BODY))
    });
    let is_it = |body: &[u8]| {
        body[1] == connection.state
            && body[4..6] == connection.port.to_be_bytes()
            && body[6..8] == connection.peer_port.to_be_bytes()
            && match connection.peer {
                IpAddr::V4(peer) if body[0] == libc::AF_INET as u8 => body[24..28] == peer.octets(),
                IpAddr::V4(peer) => body[24..40] == peer.to_ipv6_mapped().octets(),
                IpAddr::V6(peer) => body[24..40] == peer.octets(),
            }
            && body[44..52] == connection.cookie.to_ne_bytes()
            && u64::from(u32::from_ne_bytes([body[68], body[69], body[70], body[71]]))
                == connection.inode
    };
    assert!(told.flatten().any(is_it), "made up: {connection:?}");
}

/// A message of the answer.
struct Message {
    datagram: usize,
    at: usize,
    length: usize,
    kind: u16,
    sequence: u32,
}

impl Message {
    fn event(&self, datagrams: &[Vec<u8>]) -> Option<Vec<u8>> {
        let bytes = &datagrams[self.datagram][self.at..self.at + self.length];
        (self.kind == SOCK_DIAG_BY_FAMILY).then(|| bytes.to_vec())
    }
}

/// The messages of a complete answer, up to the end of each family.
fn messages(datagrams: &[Vec<u8>]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut sequence = 1;
    'datagrams: for (datagram, bytes) in datagrams.iter().enumerate() {
        let mut at = 0;
        while let Some(head) = bytes.get(at..at + HEADER) {
            let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
            let (length, kind) = (word(0) as usize, u16::from_ne_bytes([head[4], head[5]]));
            if word(8) == sequence {
                messages.push(Message { datagram, at, length, kind, sequence });
                if kind == DONE {
                    sequence += 1;
                    if sequence > 2 {
                        return messages;
                    }
                    continue 'datagrams;
                }
            }
            at += length.next_multiple_of(4);
        }
    }
    messages
}

/// The same answer with detectable damage, and whether it must be detected: a wrong length may be
/// harmless. None if that is impossible.
fn damaged(
    datagrams: &Datagrams,
    messages: &[Message],
    kind: u8,
    place: usize,
    value: u32,
) -> Option<(Datagrams, bool)> {
    let mut damaged = datagrams.clone();
    let message = &messages[place % messages.len()];
    let bytes = &mut damaged[message.datagram];
    match kind % 8 {
        // The answer ends there.
        1 => {
            bytes.truncate(message.at + value as usize % message.length);
            damaged.truncate(message.datagram + 1);
        }
        // Part of a message is missing, and later data is there.
        2 => bytes.truncate(message.at + 1 + value as usize % (message.length - 1)),
        // The length of a message is wrong.
        3 if message.kind == SOCK_DIAG_BY_FAMILY => {
            bytes[message.at..message.at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        // The kernel reports a change during the dump.
        4 => bytes[message.at + 6] |= libc::NLM_F_DUMP_INTR as u8,
        // An attribute's length reaches beyond the message.
        5 => {
            let state = bytes[message.at + HEADER + 1];
            let tells = state::OF_CONNECTIONS.contains(&state) && state != state::SYN_RECV;
            if message.kind != SOCK_DIAG_BY_FAMILY || !tells {
                return None;
            }
            let at = attribute(bytes, message, value >> 16)?;
            let length = u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
            let longer = (value as u16).max(length);
            bytes[at..at + 2].copy_from_slice(&longer.to_ne_bytes());
        }
        // The kernel could not go on.
        6 if message.kind == DONE && message.length >= HEADER + 4 => {
            let code = -((value % 4095) as i32 + 1);
            let place = message.at + HEADER;
            bytes[place..place + 4].copy_from_slice(&code.to_ne_bytes());
        }
        // Longer than the buffer.
        7 => bytes.resize(MOST + 1 + value as usize % 1024, 0),
        _ => return None,
    }
    Some((damaged, !matches!(kind % 8, 3 | 5)))
}

/// The offset of that attribute, if all of tcp_info that is read is in its place.
fn attribute(bytes: &[u8], message: &Message, number: u32) -> Option<usize> {
    let end = message.at + message.length;
    let (mut at, mut all) = (message.at + HEADER + BODY, Vec::new());
    while at < end {
        let length = usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let kind = u16::from_ne_bytes([bytes[at + 2], bytes[at + 3]]);
        if kind & 0x3fff == INET_DIAG_INFO && length < 4 + INFO {
            return None;
        }
        all.push(at);
        at += length.next_multiple_of(4);
    }
    let number = (number as usize).checked_rem(all.len())?;
    all.get(number).copied()
}

/// The same events, with one cut short or with a wrong length.
fn damaged_event(events: &Datagrams, place: usize, value: u32) -> Option<Datagrams> {
    let mut damaged = events.clone();
    let event = place.checked_rem(events.len()).and_then(|place| damaged.get_mut(place))?;
    if value.is_multiple_of(2) {
        event.truncate(1 + value as usize / 2 % (event.len() - 1));
    } else {
        event[..4].copy_from_slice(&(value / 2).to_ne_bytes());
    }
    Some(damaged)
}
