//! Borrows duplicates of the app's sockets: from PID 1, which is an ancestor of the app, or
//! directly from the process where nothing lends any.
//!
//! It must not know what they are for. It hands out each duplicate as soon as it has it; the caller
//! closes it.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::holders::Place;
use crate::clock::Time;
use crate::lending::{AT_ONCE, Answer, Request};
use crate::poll;
use crate::sys::{self, Pid, Polled, THIRD_INPUT};

/// How long PID 1 has to answer. It does so at once, unless its cgroup has used up its quota or the
/// machine is overloaded.
const ANSWER: Duration = Duration::from_secs(1);
/// After this many missing answers in a row PID 1 is not asked again.
const SILENCES: u32 = 3;

/// A socket to borrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub cookie: u64,
    pub place: Place,
}

/// Takes the index of the wanted socket, and the duplicate or the reason why there is none.
pub type Each<'a> = &'a mut dyn FnMut(usize, Result<OwnedFd, Errno>);

pub enum Lender {
    /// PID 1, at the other end of this socketpair.
    Parent {
        socket: OwnedFd,
        silences: u32,
    },
    Nobody,
}

impl Lender {
    /// A companion inherits its end of the socketpair as its third input. Only for a process that
    /// has opened nothing of its own there.
    pub fn find() -> Self {
        let socket = sys::descriptor(THIRD_INPUT).ok().filter(is_seqpacket);
        let Some(socket) = socket else {
            return Self::Nobody;
        };
        // There is only this one descriptor, so that closing it also drops the messages in flight.
        sys::close_given(THIRD_INPUT);
        Self::Parent { socket, silences: 0 }
    }

    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// Hands out each duplicate or its error, and nothing for an answer that does not come in time.
    pub fn borrow(&mut self, wanted: &[Wanted], clock: &dyn Fn() -> Time, each: Each) {
        match self {
            Self::Nobody => take(wanted, each),
            Self::Parent { socket, silences } => {
                let some = wanted.chunks(AT_ONCE).enumerate();
                for (number, some) in some {
                    let first = number * AT_ONCE;
                    let all =
                        ask(socket, some, clock, &mut |index, lent| each(first + index, lent));
                    *silences = if all { 0 } else { silences.saturating_add(1) };
                    if !all {
                        break;
                    }
                }
            }
        }
    }

    /// Drops answers that came too late: while they are queued, their connections stay open.
    pub fn throw_away_the_late(&self) {
        if let Self::Parent { socket, silences: 1.. } = self {
            let mut record = [0; Answer::SIZE];
            while sys::receive_record(socket.as_fd(), &mut record).is_ok_and(|(size, _)| size > 0) {
            }
        }
    }

    /// Whether to give up asking.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Parent { silences: SILENCES.., .. })
    }
}

fn is_seqpacket(socket: &OwnedFd) -> bool {
    let number = |name| sys::socket_number(socket.as_fd(), libc::SOL_SOCKET, name).ok();
    number(libc::SO_DOMAIN) == Some(libc::AF_UNIX)
        && number(libc::SO_TYPE) == Some(libc::SOCK_SEQPACKET)
}

fn take(wanted: &[Wanted], each: Each) {
    let mut last: Option<(Pid, Result<OwnedFd, Errno>)> = None;
    for (index, Wanted { place, .. }) in wanted.iter().enumerate() {
        let process = match last.take() {
            Some((pid, process)) if pid == place.pid => process,
            _ => sys::open_process(place.pid).map_err(|error| errno(&error)),
        };
        let taken = process.as_ref().map_err(|errno| *errno).and_then(|process| {
            let taken = sys::take_descriptor(process.as_fd(), place.descriptor);
            taken.map_err(|error| errno(&error))
        });
        each(index, taken);
        last = Some((place.pid, process));
    }
}

/// Returns whether every answer has come.
fn ask(socket: &OwnedFd, wanted: &[Wanted], clock: &dyn Fn() -> Time, each: Each) -> bool {
    let mut asked = 0_usize;
    for Wanted { cookie, place } in wanted {
        let request = Request { pid: place.pid, descriptor: place.descriptor, cookie: *cookie };
        if sys::send_record(socket.as_fd(), &request.to_bytes(), None).is_err() {
            break;
        }
        asked += 1;
    }
    let mut missing = asked;
    let deadline = clock().saturating_add(ANSWER);
    while missing > 0 {
        let mut record = [0; Answer::SIZE];
        match sys::receive_record(socket.as_fd(), &mut record) {
            Ok((Answer::SIZE, descriptor)) => {
                let answer = Answer::from_bytes(record);
                let mut asked = wanted.iter().take(asked);
                // An answer to an earlier question is dropped.
                if let Some(index) = asked.position(|wanted| wanted.cookie == answer.cookie) {
                    missing -= 1;
                    each(index, descriptor.ok_or(Errno::from_raw(answer.errno)));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let now = clock();
                if now >= deadline {
                    return false;
                }
                poll::wait(&mut [Polled::readable(socket)], Some(deadline), now);
            }
            // The other end is closed, or sends nonsense.
            Ok(_) | Err(_) => return false,
        }
    }
    asked == wanted.len()
}

pub fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
