//! Marker files: their being there is all that they say. The ready-file and the drain-file.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::log::Log;
use crate::sys::{self, Described};

/// Beside a marker, for a moment before the app starts.
const TRIAL: &str = ".drain-init-trial";

/// Why a path is of no use for a marker.
pub enum Unusable<'a> {
    Folder,
    Kept(io::Error),
    /// No file can be made in there.
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

/// The folder of a path, and the name in it.
pub fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => (".", path),
    }
}

/// Whether a file could be made at `path` and removed again, as far as one can know without doing
/// it.
pub fn check(path: &str) -> Result<(), Unusable<'_>> {
    let (folder, name) = split(path);
    if ["", ".", ".."].contains(&name) || Path::new(path).is_dir() {
        return Err(Unusable::Folder);
    }
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| Unusable::In(folder, errno.into()))
}

/// Removes what a container that was killed has left there, on a volume that outlived it, and makes
/// sure that a file can be made, which access(2) does not know of everywhere (/proc, a full disk).
/// It is tried under another name: a ready-file that is there for a moment would be believed.
pub fn prepare(path: &str) -> Result<(), Unusable<'_>> {
    removed(path).map_err(Unusable::Kept)?;
    let (folder, _) = split(path);
    let trial = format!("{folder}/{TRIAL}");
    let made = match sys::open(&trial, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL) {
        // So it can be done: by a container on the same volume, or by one that was killed just then.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => removed(&trial),
    };
    made.map_err(|error| Unusable::In(folder, error))
}

/// That it is not there is as good.
fn removed(path: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the file. That it is there already is as good.
pub fn create(path: &str, log: Log) {
    // A pipe or a device of that name must not hold PID 1 up.
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
