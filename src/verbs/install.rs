//! `drain-init install DEST`: copies this program to where another image can run it from.
//!
//! The copy is made in the same folder and renamed into place. So other processes see the old
//! program or the new one, each complete, and a running program is not affected. A signal that asks
//! for an end leaves no half copy, even as PID 1 of an init container, which no signal ends by
//! default.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::statvfs::{FsFlags, statvfs};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

use super::{read, refuse};
use crate::exit_code;
use crate::marker;
use crate::options::command_line::Verb;
use crate::options::typed::Install;
use crate::signal::Signal;
use crate::sys::{self, Arguments, Described};

/// The name of the copy if DEST is a folder.
const NAME: &str = "drain-init";

/// Executable for everyone, whatever the umask.
const MODE: u32 = 0o755;

/// The most copies in progress, or left behind by killed processes, in one folder.
const ATTEMPTS: u32 = 100;

const VERB: Verb = Verb { name: "install", only: None, command: false };

/// Returns 0, or the exit code of a failure, which it reports in one line.
pub fn install(arguments: Arguments) -> u8 {
    let asked = Asked::listen();
    // Not earlier: the kernel would discard a signal that PID 1 does not handle.
    sys::let_signals_end_it();
    let dest = match read::<Install>(&VERB, arguments) {
        Ok(read) => read.options.dest,
        Err(code) => return code,
    };
    match copy_to(&dest, &asked) {
        Ok(()) => 0,
        Err(why) => {
            let code = refuse(format_args!("{dest}: {why}"));
            if let Problem::Asked(signal) = why { exit_code::of_signal(signal) } else { code }
        }
    }
}

/// The number of the signal that asked for an end; 0 if there was none.
struct Asked(Arc<AtomicUsize>);

impl Asked {
    fn listen() -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        for signal in TERM_SIGNALS {
            if let Ok(number) = usize::try_from(*signal) {
                // If a filter forbids it, the signal keeps its default action.
                let _ = flag::register_usize(*signal, asked.clone(), number);
            }
        }
        Self(asked)
    }

    fn check(&self) -> Result<(), Problem<'static>> {
        let number = i32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or_default();
        Signal::new(number).map_or(Ok(()), |signal| Err(Problem::Asked(signal)))
    }
}

/// Why it cannot be installed there.
enum Problem<'a> {
    Empty,
    IsNoFolder(&'a str),
    NoFolder(&'a str, io::Error),
    NoFile,
    NoExec,
    NoSource(io::Error),
    NotWritten(io::Error),
    Asked(Signal),
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("DEST is empty; name a file or a folder"),
            Self::IsNoFolder(folder) => write!(f, "{folder} is not a folder; name one"),
            Self::NoFolder(folder, error) => {
                write!(f, "folder {folder}: {}; name one that exists", Described(error))
            }
            Self::NoFile => f.write_str("exists and is not a file; name a file or a folder"),
            Self::NoExec => f.write_str(
                "is on a file system that is mounted noexec: nothing can be executed from there; \
                 choose another, such as an emptyDir",
            ),
            Self::NoSource(error) => write!(f, "cannot read this program: {}", Described(error)),
            Self::Asked(signal) => write!(f, "{signal}: nothing was installed"),
            Self::NotWritten(error) => write!(f, "cannot be written: {}", Described(error)),
        }
    }
}

fn copy_to<'a>(dest: &'a str, asked: &Asked) -> Result<(), Problem<'a>> {
    if dest.is_empty() {
        return Err(Problem::Empty);
    }
    let named = fs::metadata(dest);
    let is_folder = dest.ends_with('/') || named.is_ok_and(|about| about.is_dir());
    let folder = if is_folder { dest } else { marker::split(dest).0 };
    match fs::metadata(folder) {
        Ok(about) if about.is_dir() => {}
        Ok(_) => return Err(Problem::IsNoFolder(folder)),
        Err(error) => return Err(Problem::NoFolder(folder, error)),
    }
    let file = if is_folder { format!("{dest}/{NAME}") } else { dest.to_owned() };
    match fs::symlink_metadata(&file) {
        Ok(about) if !is_folder && !about.is_file() && !about.is_symlink() => {
            return Err(Problem::NoFile);
        }
        _ => {}
    }
    match statvfs(folder) {
        Ok(about) if about.flags().contains(FsFlags::ST_NOEXEC) => return Err(Problem::NoExec),
        // Then the copy will report what is wrong, if anything.
        _ => {}
    }
    let source = own_program().map_err(Problem::NoSource)?;
    let (copy, mut output) = create_beside(folder).map_err(Problem::NotWritten)?;
    let written = write_copy(source, &mut output, asked).and_then(|()| {
        // A file that is open for writing cannot be executed.
        drop(output);
        asked.check()?;
        fs::rename(&copy, &file).map_err(Problem::NotWritten)
    });
    written.inspect_err(|_| {
        // The folder was writable a moment ago; if it no longer is, nothing more can be done.
        let _ = fs::remove_file(&copy);
    })
}

/// Opens this program; without /proc, by the path that it was executed by.
fn own_program() -> io::Result<File> {
    sys::open("/proc/self/exe", libc::O_RDONLY).or_else(|error| {
        match sys::executed_as().and_then(|path| path.to_str().ok()) {
            Some(path) => sys::open(path, libc::O_RDONLY),
            None => Err(error),
        }
    })
}

/// Creates a new file in the folder, under an unused name.
fn create_beside(folder: &str) -> io::Result<(String, File)> {
    // Not the pid alone: in a container it is always 1.
    let pid = std::process::id();
    let mut attempt = 0;
    loop {
        let path = format!("{folder}/.{NAME}.{pid}.{attempt}");
        match sys::open(&path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Does not sync to disk: after a crash of the node the pod's init containers run again.
fn write_copy(mut source: File, output: &mut File, asked: &Asked) -> Result<(), Problem<'static>> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        asked.check()?;
        let count = source.read(&mut piece).map_err(Problem::NotWritten)?;
        if count == 0 {
            break;
        }
        let piece = piece.get(..count).unwrap_or_default();
        output.write_all(piece).map_err(Problem::NotWritten)?;
    }
    output.set_permissions(Permissions::from_mode(MODE)).map_err(Problem::NotWritten)
}
