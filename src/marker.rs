//! Marker files: their being there is all that they say. The ready-file and the drain-file.

#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::log::Log;

/// Whether a file could be made at `path` and removed again, as far as one can know without doing
/// it: a ready-file that is there for a moment would be believed.
pub fn check(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err("is a folder; name a file in it".to_owned());
    }
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err("is no path of a file".to_owned()),
    };
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| {
        let remedy = "name a folder that is there and can be written, such as an emptyDir or tmpfs";
        format!("its folder {}: {}; {remedy}", folder.display(), errno.desc())
    })
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
