//! The reason why a drain is over, as its companion reports it: a few words that PID 1 puts into
//! its own log line, together with what follows. They are read once, from a pipe, when the
//! companion has ended, and are never parsed.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use crate::sys::{self, Polled};

/// Longer reports are cut.
const LONGEST: usize = 512;

/// PID 1's end of the pipe.
pub struct Account(OwnedFd);

impl Account {
    /// Opens the pipe; the second descriptor is the companion's.
    pub fn open() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = io::pipe()?;
        Ok((Self(sys::above_inputs(ours.into())?), sys::above_inputs(theirs.into())?))
    }

    /// Reads the report, once the companion has ended; empty if there is none.
    pub fn read(self) -> String {
        let mut places = [Polled::readable(&self.0)];
        sys::poll(&mut places, 0);
        if !places.iter().any(Polled::is_ready) {
            return String::new();
        }
        let mut text = [0; LONGEST];
        let length = File::from(self.0).read(&mut text).unwrap_or(0);
        String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned()
    }
}
