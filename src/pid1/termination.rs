//! The termination log: one line on how the stop goes, for `kubectl describe pod`.
//!
//! It grows as the stop goes on, as nobody knows which of its stages is the last. It is written in
//! place, since it is a mount, and only behind what was written here: what the app has written is
//! the app's.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};

use crate::log::Log;
use crate::pid1::lifecycle::{Note, Told};
use crate::sys::{self, Described};

/// What the kubelet reads of it.
const LONGEST: usize = 4096;

/// What it begins with, if it is ours.
const BEGINNING: &[u8] = b"drain-init: ";

pub struct TerminationLog {
    path: Option<&'static str>,
    log: Log,
    /// A stop has begun it.
    begun: bool,
}

impl TerminationLog {
    pub fn new(path: Option<&'static str>, log: Log) -> Self {
        Self { path, log, begun: false }
    }

    /// Adds what has happened, from the beginning of a stop on.
    pub fn note(&mut self, told: &Told) {
        let note = told.note;
        let begins = matches!(note, Note::Draining { .. } | Note::Stopping { .. });
        match note {
            Note::Forwarded(_) | Note::SameRequest { .. } => {}
            _ if !self.begun && !begins => {}
            Note::NoStopCame { .. } => {
                self.begun = false;
                self.write(None);
            }
            _ => {
                self.begun = true;
                self.write(Some(format_args!("{told}")));
            }
        }
    }

    /// Adds what belongs to a stop, if one has begun.
    pub fn add(&self, text: fmt::Arguments) {
        if self.begun {
            self.write(Some(text));
        }
    }

    /// Adds a text; nothing makes it empty again.
    pub fn write(&self, text: Option<fmt::Arguments>) {
        if let Some(path) = self.path
            && let Err(error) = write(path, text)
        {
            self.log.error("termination-log", format_args!("{path}: {}", Described(&error)));
        }
    }
}

fn write(path: &str, text: Option<fmt::Arguments>) -> io::Result<()> {
    let mut file = match open(path, text.is_some()) {
        Err(error) if text.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    if length > 0 && !is_ours(&mut file)? {
        return Ok(());
    }
    let mut line = match (text, length) {
        (None, 0) => return Ok(()),
        (None, _) => return file.set_len(0),
        (Some(text), 0) => format!("drain-init: {text}"),
        (Some(text), _) => format!("; {text}"),
    };
    let room = LONGEST.saturating_sub(usize::try_from(length).unwrap_or(LONGEST));
    line.truncate(line.floor_char_boundary(room));
    file.write_all(line.as_bytes())
}

fn open(path: &str, create: bool) -> io::Result<File> {
    // A pipe or a device of that name must not hold PID 1 up.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | if create { libc::O_CREAT } else { 0 };
    sys::open(path, libc::O_RDWR | libc::O_APPEND | flags)
}

/// Whether the app has left it to us: then it is one line, which has not ended.
fn is_ours(file: &mut File) -> io::Result<bool> {
    let mut text = [0; LONGEST];
    let length = file.read(&mut text)?;
    let text = text.get(..length).unwrap_or_default();
    Ok(text.starts_with(BEGINNING) && !text.contains(&b'\n'))
}
