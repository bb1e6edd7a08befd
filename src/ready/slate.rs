//! The app's last sd_notify(3) message, in a memory file that PID 1 creates and never reads. The
//! `notify` companion writes it, and the readiness server reads it for each probe. So a message
//! wakes no other process, and nothing is lost when either of them ends.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

/// The longest status in bytes; longer ones are cut.
pub const LONGEST: usize = 255;

/// One byte for the state, then the status, padded with zeros.
const SIZE: usize = 1 + LONGEST;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has not announced that it is ready. An empty slate means this.
    #[default]
    Starting,
    Ready,
    Stopping,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub state: State,
    /// One line of at most LONGEST bytes; empty if there is none.
    pub status: String,
}

pub struct Slate(File);

impl Slate {
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// Reads the slate. A status that is just being written may be partly old and partly new.
    pub fn read(&self) -> Said {
        let mut record = [0; SIZE];
        let length = self.0.read_at(&mut record, 0).unwrap_or(0);
        let (state, status) = match record.get(..length).and_then(<[u8]>::split_first) {
            Some((state, status)) => (*state, status),
            None => return Said::default(),
        };
        let state = match state {
            b'R' => State::Ready,
            b'S' => State::Stopping,
            _ => State::Starting,
        };
        let status = status.split(|byte| *byte == 0).next().unwrap_or_default();
        Said { state, status: String::from_utf8_lossy(status).into_owned() }
    }

    pub fn write(&self, said: &Said) -> io::Result<()> {
        let state = match said.state {
            State::Starting => 0,
            State::Ready => b'R',
            State::Stopping => b'S',
        };
        let mut record = [0; SIZE];
        let bytes = std::iter::once(state).chain(said.status.bytes());
        record.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        self.0.write_all_at(&record, 0)
    }
}
