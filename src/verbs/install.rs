//! `drain-init install DEST`: copies this program, for an image that has no `cp`: from an init
//! container into a volume, and from there in front of an app whose image cannot be rebuilt.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{read, refuse};
use crate::cli::{Options, Verb};
use crate::sys::{self, Arguments};

const VERB: Verb =
    Verb { name: "install", options: Options::Only(&[]), operand: Some("DEST"), command: false };

/// What it is called in a folder.
const NAME: &str = "drain-init";

pub fn install(arguments: Arguments) -> u8 {
    let destination = match read(&VERB, arguments) {
        Ok(read) => PathBuf::from(read.operand.unwrap_or_default()),
        Err(code) => return code,
    };
    let destination = if destination.is_dir() { destination.join(NAME) } else { destination };
    match copy_to(&destination) {
        Ok(()) => 0,
        Err(why) => refuse(&[format!("install {}: {why}", destination.display())]),
    }
}

/// Whoever looks at `destination` sees the old file or the new one, and never a part; who executes
/// the old one goes on doing so.
fn copy_to(destination: &Path) -> Result<(), String> {
    let folder = match destination.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err("is no path of a file".to_owned()),
    };
    if !folder.is_dir() {
        return Err(format!("there is no folder {}", folder.display()));
    }
    let Some(name) = destination.file_name() else {
        return Err("is no path of a file".to_owned());
    };
    let mut hidden = OsStr::new(".").to_owned();
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let new = folder.join(hidden);
    let copied = fill(&new)
        .and_then(|()| executable(&new))
        .and_then(|()| fs::rename(&new, destination).map_err(|error| error.to_string()));
    if copied.is_err() {
        let _ = fs::remove_file(&new);
    }
    copied
}

fn fill(new: &Path) -> Result<(), String> {
    let copy = || {
        let mut program = own_program()?;
        // Left by one that was killed.
        if let Err(error) = fs::remove_file(new)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o755).open(new)?;
        io::copy(&mut program, &mut copy)?;
        // Whatever the umask is.
        copy.set_permissions(Permissions::from_mode(0o755))?;
        copy.sync_all()
    };
    copy().map_err(|error| error.to_string())
}

/// Where there is no /proc, by the path that it was executed by.
fn own_program() -> io::Result<File> {
    File::open("/proc/self/exe").or_else(|error| match sys::executed_as() {
        Some(path) => File::open(OsStr::from_bytes(path.to_bytes())),
        None => Err(error),
    })
}

/// A volume may be mounted so that nothing on it can be executed.
fn executable(new: &Path) -> Result<(), String> {
    access(new, AccessFlags::X_OK)
        .map_err(|_| "it could not be executed from there; is it mounted noexec?".to_owned())
}
