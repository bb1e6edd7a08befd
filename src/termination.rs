//! The termination log: one line on how the stop goes, for `kubectl describe pod`.
//!
//! It grows as the stop goes on, as nobody knows which of its stages is the last. It is written in
//! place, since it is a mount, and only behind what was written here: what the app has written is
//! the app's.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::lifecycle::Note;
use crate::log::Log;

/// What the kubelet reads of it.
const LONGEST: usize = 4096;

pub struct TerminationLog {
    path: Option<PathBuf>,
    /// How long the file is by our doing.
    written: usize,
}

impl TerminationLog {
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, written: 0 }
    }

    /// Adds what has happened, from the beginning of a stop on.
    pub fn note(&mut self, note: Note, log: Log) {
        let begins = matches!(note, Note::Draining { .. } | Note::Stopping { .. });
        let told = match (&self.path, note) {
            (None, _) | (_, Note::Forwarded(_)) => return,
            _ if self.written == 0 && !begins => return,
            (Some(path), Note::NoStopCame { .. }) => self.clear(path).map(|()| 0),
            (Some(path), _) => self.add(path, note),
        };
        match told {
            Ok(written) => self.written = written,
            Err(error) => log.error("termination-log", format_args!("termination log: {error}")),
        }
    }

    fn add(&self, path: &Path, note: Note) -> io::Result<usize> {
        let mut file = self.open(path)?;
        let separator = if self.written == 0 { "drain-init: " } else { "; " };
        let mut text = format!("{separator}{note}");
        text.truncate(text.floor_char_boundary(LONGEST.saturating_sub(self.written)));
        if !self.is_ours(&file)? {
            return Ok(self.written);
        }
        file.write_all(text.as_bytes())?;
        Ok(self.written + text.len())
    }

    fn clear(&self, path: &Path) -> io::Result<()> {
        let file = self.open(path)?;
        if self.is_ours(&file)? { file.set_len(0) } else { Ok(()) }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        // A pipe or a device of that name must not hold PID 1 up.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        OpenOptions::new().append(true).create(true).custom_flags(flags).open(path)
    }

    /// Whether nobody else has written to it.
    fn is_ours(&self, file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.len() == self.written as u64)
    }
}
