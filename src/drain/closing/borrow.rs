//! Borrows duplicates of the app's sockets: from PID 1, from whom the app descends, or by itself,
//! where nobody lends any.
//!
//! It must not know what they are for. Each is handed out as soon as it is there, and is the
//! caller's to close.

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

/// PID 1 answers within this time, or is taken not to answer.
const ANSWER: Duration = Duration::from_millis(200);
/// So often in a row it may fail to before it is asked no more.
const SILENCES: u32 = 3;

/// A socket that is to be borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub cookie: u64,
    pub place: Place,
}

/// Is given the index of what was wanted, and the duplicate or why there is none.
pub type Each<'a> = &'a mut dyn FnMut(usize, Result<OwnedFd, Errno>);

pub enum Lender {
    /// PID 1, at the other end of this.
    Parent {
        socket: OwnedFd,
        silences: u32,
    },
    Nobody,
}

impl Lender {
    /// A companion finds its end of the socketpair as its third input.
    pub fn find() -> Self {
        let socket = sys::descriptor(THIRD_INPUT).ok().filter(is_seqpacket);
        let Some(socket) = socket else {
            return Self::Nobody;
        };
        // What is on its way is let go as soon as this end is closed, so there is only one.
        sys::close_given(THIRD_INPUT);
        Self::Parent { socket, silences: 0 }
    }

    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// Hands out each, or an error; and nothing where no answer comes in time.
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

    /// Answers that came too late: for as long as they lie there the connections stay open.
    pub fn throw_away_the_late(&self) {
        if let Self::Parent { socket, silences: 1.. } = self {
            let mut record = [0; Answer::SIZE];
            while sys::receive_record(socket.as_fd(), &mut record).is_ok_and(|(size, _)| size > 0) {
            }
        }
    }

    /// Nothing more is to be hoped for.
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

/// Whether every answer has come.
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
                // What answers an earlier question is let go.
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
            // Nobody is there any more, or nobody who could be understood.
            Ok(_) | Err(_) => return false,
        }
    }
    asked == wanted.len()
}

pub fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
