//! Messages of DNS, RFC 1035: a question for the addresses of a name, and what is answered.
//!
//! Pure, and trusts nobody: an answer is read as far as it goes and no further.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

/// What has addresses.
pub const A: u16 = 1;
pub const AAAA: u16 = 28;

const HEADER: usize = 12;
const INTERNET: u16 = 1;
/// A name's longest form, and its longest label.
const LONGEST: usize = 255;
const LONGEST_LABEL: usize = 63;
const POINTER: usize = 0xc0;
/// Of the header's flags.
const IS_ANSWER: u16 = 1 << 15;
const IS_CUT: u16 = 1 << 9;
const CODE: u16 = 0xf;
const NO_SUCH_NAME: u16 = 3;

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// None if there is no such name.
    All(Vec<IpAddr>),
    /// As many as went into the message.
    Cut(Vec<IpAddr>),
    /// It cannot tell.
    Nothing,
}

/// The question; none for what can be no name.
pub fn question(name: &str, kind: u16, id: u16) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + LONGEST);
    message.extend_from_slice(&id.to_be_bytes());
    // One question, and the server is to ask others for its answer.
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return None;
        }
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    if message.len() > HEADER + LONGEST {
        return None;
    }
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&INTERNET.to_be_bytes());
    Some(message)
}

/// What `message` answers to the question, if it is an answer to it.
pub fn answer(message: &[u8], question: &[u8]) -> Option<Answer> {
    let (header, asked) = question.split_at_checked(HEADER)?;
    let records = message.get(HEADER..)?;
    let (echo, mut records) = records.split_at_checked(asked.len())?;
    let flags = number(message, 2)?;
    let is_answer = flags & IS_ANSWER != 0 && number(message, 0) == number(header, 0);
    if !is_answer || !echo.eq_ignore_ascii_case(asked) {
        return None;
    }
    let mut addresses = Vec::new();
    match flags & CODE {
        0 => {}
        NO_SUCH_NAME => return Some(Answer::All(addresses)),
        _ => return Some(Answer::Nothing),
    }
    let kind = number(asked, asked.len().checked_sub(4)?)?;
    for _ in 0..number(message, 6)? {
        let Some((record, data)) = next_record(&mut records) else {
            return Some(Answer::Cut(addresses));
        };
        // The others are the names that it goes by.
        if record == kind {
            addresses.extend(address(data));
        }
    }
    let is_cut = flags & IS_CUT != 0;
    Some(if is_cut { Answer::Cut(addresses) } else { Answer::All(addresses) })
}

/// The kind of a record and its data.
fn next_record<'a>(records: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let mut rest = *records;
    // Its owner: labels, up to an empty one or a pointer to where the rest of them stands.
    loop {
        match usize::from(*rest.first()?) {
            0 => break rest = rest.get(1..)?,
            length @ ..=LONGEST_LABEL => rest = rest.get(1 + length..)?,
            POINTER.. => break rest = rest.get(2..)?,
            _ => return None,
        }
    }
    // Kind, class, time to live, length of the data.
    let (fixed, rest) = rest.split_at_checked(10)?;
    let (data, rest) = rest.split_at_checked(number(fixed, 8)?.into())?;
    *records = rest;
    Some((number(fixed, 0)?, data))
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(data) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(data).ok().map(IpAddr::from)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
