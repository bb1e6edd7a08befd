//! `drain-init install DEST`: copies this program to where another image can run it from.
//!
//! The copy is made beside its place and renamed into it: whoever looks sees the old program or the
//! new one, whole, and one that is being executed goes on as it was.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{read, refuse};
use crate::cli::{Options, Verb};
use crate::sys::{self, Arguments};

/// What the copy is called in a folder.
const NAME: &str = "drain-init";

/// For everybody to execute, whatever the umask.
const MODE: u32 = 0o755;

/// How many copies may be under way, or left behind by one that was killed, in one folder.
const ATTEMPTS: u32 = 100;

const VERB: Verb =
    Verb { name: "install", options: Options::Only(&[]), operand: Some("DEST"), command: false };

/// The exit code: 0, or that of a failure, with a line that says why.
pub fn install(arguments: Arguments) -> u8 {
    let dest = match read(&VERB, arguments) {
        Ok(read) => PathBuf::from(read.operand.unwrap_or_default()),
        Err(code) => return code,
    };
    match copy_to(&dest) {
        Ok(()) => 0,
        Err(why) => refuse(format_args!("{}: {why}", dest.display())),
    }
}

fn copy_to(dest: &Path) -> Result<(), String> {
    let (folder, file) = place(dest)?;
    match statvfs(&folder) {
        Ok(about) if about.flags().contains(FsFlags::ST_NOEXEC) => {
            return Err(
                "is on a file system that is mounted noexec: nothing can be executed from \
                        there; choose another, such as an emptyDir"
                    .to_owned(),
            );
        }
        // Then the copy will say what is wrong, if something is.
        _ => {}
    }
    let source = own_program().map_err(|error| format!("cannot read this program: {error}"))?;
    let (copy, mut output) = create_beside(&folder).map_err(|error| cannot_write(&error))?;
    let written = write_copy(source, &mut output).and_then(|()| {
        // Whoever executes a file that is open for writing is refused.
        drop(output);
        fs::rename(&copy, &file)
    });
    written.map_err(|error| {
        // The folder was writable a moment ago; if it no longer is, nothing more can be done.
        let _ = fs::remove_file(&copy);
        cannot_write(&error)
    })
}

/// The folder that the copy goes to, and its path there.
fn place(dest: &Path) -> Result<(PathBuf, PathBuf), String> {
    if dest.as_os_str().is_empty() {
        return Err("DEST is empty; name a file or a folder".to_owned());
    }
    let ends_with_slash = dest.as_os_str().as_encoded_bytes().ends_with(b"/");
    if dest.is_dir() || ends_with_slash {
        is_there(dest)?;
        return Ok((dest.to_owned(), dest.join(NAME)));
    }
    let folder = match dest.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    is_there(folder)?;
    match dest.symlink_metadata() {
        Ok(about) if !about.is_file() && !about.is_symlink() => {
            Err("is there and is no file; name a file or a folder".to_owned())
        }
        _ => Ok((folder.to_owned(), dest.to_owned())),
    }
}

fn is_there(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    match folder.metadata() {
        Ok(about) if about.is_dir() => Ok(()),
        Ok(_) => Err(format!("{shown} is no folder; name one that is there")),
        Err(error) => {
            Err(format!("its folder {shown}: {}; name one that is there", described(&error)))
        }
    }
}

/// This program, opened. Where there is no /proc, by the path that it was executed by.
fn own_program() -> io::Result<File> {
    File::open("/proc/self/exe").or_else(|error| match sys::executed_as() {
        Some(path) => File::open(OsStr::from_bytes(path.to_bytes())),
        None => Err(error),
    })
}

/// A new file in the folder, under a name that nobody else has.
fn create_beside(folder: &Path) -> io::Result<(PathBuf, File)> {
    // Not the pid alone: in a container it is 1 each time.
    let pid = std::process::id();
    let mut attempt = 0;
    loop {
        let path = folder.join(format!(".{NAME}.{pid}.{attempt}"));
        let options = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path);
        match options {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Nothing waits for the disk: after a crash of the node the pod's init containers run again.
fn write_copy(mut source: File, output: &mut File) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = source.read(&mut piece)?;
        if count == 0 {
            break;
        }
        output.write_all(piece.get(..count).unwrap_or_default())?;
    }
    output.set_permissions(Permissions::from_mode(MODE))
}

fn cannot_write(error: &io::Error) -> String {
    format!("cannot be written: {}", described(error))
}

fn described(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |e| Errno::from_raw(e).desc().to_owned())
}
