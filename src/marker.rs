//! Marker files: their being there is all that they say. The ready-file and the drain-file.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::log::Log;

/// Beside a marker, for a moment before the app starts.
const TRIAL: &str = ".drain-init-trial";

/// Whether a file could be made at `path` and removed again, as far as one can know without doing
/// it.
pub fn check(path: &Path) -> Result<(), String> {
    // A slash at the end is part of no name.
    let names_a_file = path
        .file_name()
        .is_some_and(|name| path.as_os_str().as_encoded_bytes().ends_with(name.as_encoded_bytes()));
    if path.is_dir() || !names_a_file {
        return Err("is a folder; name a file in it".to_owned());
    }
    access(folder(path), AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| unusable(path, errno.desc()))
}

/// Removes what a container that was killed has left there, on a volume that outlived it, and makes
/// sure that a file can be made, which access(2) does not know of everywhere (/proc, a full disk).
/// It is tried under another name: a ready-file that is there for a moment would be believed.
pub fn prepare(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(format!("is there and cannot be removed: {error}"));
        }
        _ => {}
    }
    let trial = path.with_file_name(TRIAL);
    match OpenOptions::new().write(true).create_new(true).open(&trial) {
        Ok(_) => fs::remove_file(&trial).map_err(|error| unusable(path, error)),
        // So it can be done: by a container on the same volume, or by one that was killed just then.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let _ = fs::remove_file(&trial);
            Ok(())
        }
        Err(error) => Err(unusable(path, error)),
    }
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(path);
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

fn unusable(path: &Path, why: impl fmt::Display) -> String {
    let remedy = "name a folder that is there and can be written, such as an emptyDir or tmpfs";
    format!("no file can be made in {}: {why}; {remedy}", folder(path).display())
}

/// Makes the file. That it is there already is as good.
pub fn create(path: &Path, log: Log) {
    // A pipe or a device of that name must not hold PID 1 up.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let options = OpenOptions::new().write(true).create(true).custom_flags(flags).open(path);
    if let Err(error) = options {
        log.error("marker", format_args!("cannot make {}: {error}", path.display()));
    }
}

/// Removes the file. That it is not there is as good.
pub fn remove(path: &Path, log: Log) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log.error("marker", format_args!("cannot remove {}: {error}", path.display()));
        }
        _ => {}
    }
}
