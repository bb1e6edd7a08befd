//! What the app has last said by sd_notify(3), in a file in memory that PID 1 made and never reads: the
//! `notify` companion writes it, the readiness server reads it when a probe asks. So nobody is woken up by
//! a message, and neither loses anything when the other ends.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

/// Of a status in bytes; what is more is cut.
pub const LONGEST: usize = 255;

/// The state's byte and the status, filled up with zeros.
const SIZE: usize = 1 + LONGEST;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has not said that it is ready. An empty slate says so.
    #[default]
    Starting,
    Ready,
    Stopping,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub state: State,
    /// On one line, and at most LONGEST bytes. Empty: none.
    pub status: String,
}

pub struct Slate(File);

impl Slate {
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// What stands there. A status that is just being written may be part the old and part the new one.
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
