//! Marker files, which mean something by existing: the ready-file and the drain-file.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::log::Log;
use crate::sys::{self, Described};

/// A file that is created beside a marker for a moment before the app starts.
const TRIAL: &str = ".drain-init-trial";

/// Why a path cannot be used for a marker.
pub enum Unusable<'a> {
    Folder,
    Kept(io::Error),
    /// No file can be created in that folder.
    In(&'a str, io::Error),
}

impl fmt::Display for Unusable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("is a folder; name a file in it"),
            Self::Kept(error) => write!(f, "exists and cannot be removed: {}", Described(error)),
            Self::In(folder, error) => write!(
                f,
                "cannot create a file in {folder}: {}; name a writable folder, such as an \
                 emptyDir or a tmpfs",
                Described(error)
            ),
        }
    }
}

/// Splits a path into folder and name.
pub fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", path),
    }
}

/// Whether a file could be created at `path` and removed again, as far as that can be told without
/// doing it.
pub fn check(path: &str) -> Result<(), Unusable<'_>> {
    let (folder, name) = split(path);
    if ["", ".", ".."].contains(&name) || Path::new(path).is_dir() {
        return Err(Unusable::Folder);
    }
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| Unusable::In(folder, errno.into()))
}

/// Removes a marker that a killed container left on a volume, and makes sure that a file can be
/// created there, which access(2) does not report reliably (/proc, a full disk). The trial has
/// another name: even a short-lived ready-file would be believed.
pub fn prepare(path: &str) -> Result<(), Unusable<'_>> {
    removed(path).map_err(Unusable::Kept)?;
    let (folder, _) = split(path);
    let trial = format!("{folder}/{TRIAL}");
    let made = match sys::open(&trial, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL) {
        // It exists, so creating it works: another container on this volume did, or a killed one.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => removed(&trial),
    };
    made.map_err(|error| Unusable::In(folder, error))
}

/// Success if the file does not exist.
fn removed(path: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Creates the file. Success if it exists already.
pub fn create(path: &str, log: Log) {
    // A FIFO or a device at that path must not block PID 1.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    if let Err(error) = sys::open(path, libc::O_WRONLY | libc::O_CREAT | flags) {
        log.error("marker", format_args!("cannot make {path}: {}", Described(&error)));
    }
}

/// Removes the file.
pub fn remove(path: &str, log: Log) {
    if let Err(error) = removed(path) {
        log.error("marker", format_args!("cannot remove {path}: {}", Described(&error)));
    }
}
