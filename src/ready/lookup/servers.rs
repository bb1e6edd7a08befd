//! Asking the name servers: all of them at once, as musl does, and the first to know is believed.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{SockFlag, SockType};

use super::files::Resolver;
use super::message::{self, A, AAAA, Answer};
use crate::clock::{Clock, Time};
use crate::poll;
use crate::ready::connect;
use crate::sys::{self, Polled};

/// An answer over UDP is no longer, as nobody is told that it may be.
const LONGEST: usize = 512;

/// How long the addresses of one family are waited for when those of the other are there: one of two
/// questions from one port may be lost on its way through a node's address translation.
const OTHER_FAMILY: Duration = Duration::from_millis(200);

struct Question {
    message: Vec<u8>,
    found: Option<Vec<IpAddr>>,
    /// How often it was said that nothing can be said.
    failed: usize,
}

/// The addresses of a name, those of IPv4 first, as far as there are any; `None` where
/// nobody says anything.
pub fn ask(resolver: &Resolver, port: u16, name: &str, clock: Clock) -> Option<Vec<IpAddr>> {
    let mut questions = Vec::new();
    for kind in [A, AAAA] {
        let Some(message) = message::question(name, kind, sys::random()) else {
            return Some(Vec::new());
        };
        questions.push(Question { message, found: None, failed: 0 });
    }
    let mut servers = Vec::new();
    for server in &resolver.servers {
        if let Ok(socket) = open(SocketAddr::new(*server, port)) {
            servers.push(socket);
        }
    }
    let pause = Duration::from_secs(resolver.timeout.into()) / resolver.attempts;
    let mut enough: Option<Time> = None;
    for attempt in 1..=resolver.attempts as usize {
        for question in questions.iter().filter(|question| question.found.is_none()) {
            for server in &servers {
                // What does not arrive is not answered either.
                let _ = server.send(&question.message);
            }
        }
        let until = clock.now().saturating_add(pause);
        while questions.iter().any(|question| question.waits(attempt * servers.len())) {
            let now = clock.now();
            let until = enough.map_or(until, |enough| enough.min(until));
            if now >= until {
                break;
            }
            let mut places = Vec::new();
            for server in &servers {
                places.push(Polled::readable(server));
            }
            poll::wait(&mut places, Some(until), now);
            for server in &servers {
                read(server, &mut questions);
            }
            if enough.is_none() && questions.iter().any(Question::has_addresses) {
                enough = Some(clock.now().saturating_add(OTHER_FAMILY));
            }
        }
        if enough.is_some() {
            break;
        }
    }
    let silent = questions.iter().all(|question| question.found.is_none() && question.failed == 0);
    let mut addresses = Vec::new();
    for question in &mut questions {
        addresses.append(question.found.get_or_insert_default());
    }
    (!silent).then_some(addresses)
}

impl Question {
    fn has_addresses(&self) -> bool {
        self.found.as_ref().is_some_and(|found| !found.is_empty())
    }

    /// Whether there may be an answer yet, if it was asked so many times.
    fn waits(&self, asked: usize) -> bool {
        self.found.is_none() && self.failed < asked
    }
}

/// The kernel lets through only what the server itself sends.
fn open(server: SocketAddr) -> io::Result<UdpSocket> {
    connect::to(server, SockType::Datagram, SockFlag::SOCK_NONBLOCK).map(UdpSocket::from)
}

/// Takes what a server has said.
fn read(server: &UdpSocket, questions: &mut [Question]) {
    let mut place = [0; LONGEST];
    // That nobody is there is an error too. Somebody may be when it is asked again.
    while let Ok(length) = server.recv(&mut place) {
        let bytes = place.get(..length).unwrap_or_default();
        for question in questions.iter_mut().filter(|question| question.found.is_none()) {
            match message::answer(bytes, &question.message) {
                None => {}
                Some(Answer::Cut(addresses)) if addresses.is_empty() => {
                    match over_tcp(server, &question.message) {
                        Ok(addresses) => question.found = Some(addresses),
                        Err(_) => question.failed += 1,
                    }
                }
                Some(Answer::All(addresses) | Answer::Cut(addresses)) => {
                    question.found = Some(addresses);
                }
                Some(Answer::Nothing) => question.failed += 1,
            }
        }
    }
}

/// The same question where there is room for the answer. It takes as long as it takes: whoever
/// waits for this process has a limit.
fn over_tcp(server: &UdpSocket, question: &[u8]) -> io::Result<Vec<IpAddr>> {
    let socket = connect::to(server.peer_addr()?, SockType::Stream, SockFlag::empty())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&[&(question.len() as u16).to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    match message::answer(&answer, question) {
        Some(Answer::All(addresses) | Answer::Cut(addresses)) => Ok(addresses),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests;
