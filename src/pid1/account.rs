//! Why a drain is over, as its companion tells it: a few words that PID 1 passes on in its own line,
//! so that one line has both why and what follows. They come through a pipe, are read once, when the
//! companion has ended, and are never looked into.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use crate::sys::{self, Polled};

/// What is more is cut.
const LONGEST: usize = 512;

/// The end that PID 1 keeps.
pub struct Account(OwnedFd);

impl Account {
    /// And the end for the companion.
    pub fn open() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = io::pipe()?;
        Ok((Self(sys::above_inputs(ours.into())?), sys::above_inputs(theirs.into())?))
    }

    /// What the companion has said, once it has ended; nothing where it has not.
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
