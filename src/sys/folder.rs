//! Reads files, and folders of /proc and their links. std needs a path and an allocation for every
//! name, and there are thousands.

use core::ffi::{CStr, c_char, c_int, c_uint};
use core::ops::ControlFlow;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::checked;

/// Offsets of d_reclen and d_name in struct linux_dirent64, getdents64(2).
const LENGTH: usize = 16;
const NAME: usize = 19;

pub struct Folder(OwnedFd);

impl Folder {
    pub fn open(path: &CStr) -> io::Result<Self> {
        open_at(libc::AT_FDCWD, path, libc::O_DIRECTORY).map(Self)
    }

    /// Opens a folder within this one.
    pub fn folder(&self, path: &CStr) -> io::Result<Self> {
        open_at(self.0.as_raw_fd(), path, libc::O_DIRECTORY).map(Self)
    }

    /// The content of a file in it; empty if it cannot be read.
    pub fn read(&self, path: &CStr) -> Vec<u8> {
        open_at(self.0.as_raw_fd(), path, libc::O_RDONLY).and_then(read_all).unwrap_or_default()
    }

    /// Passes on the names in it, until `name` returns Break.
    pub fn each(&self, name: &mut dyn FnMut(&CStr) -> ControlFlow<()>) {
        let mut entries = [0_u8; 4096];
        loop {
            // SAFETY: the kernel writes at most as many bytes as the buffer has.
            let length = unsafe {
                let (start, size) = (entries.as_mut_ptr(), entries.len());
                libc::syscall(libc::SYS_getdents64, self.0.as_raw_fd(), start, size)
            };
            let length = usize::try_from(length).unwrap_or(0);
            let mut rest = entries.get(..length).unwrap_or_default();
            if rest.is_empty() {
                return;
            }
            while let Some(bytes) = rest.get(LENGTH..).and_then(|rest| rest.first_chunk()) {
                let Some((entry, next)) = rest.split_at_checked(u16::from_ne_bytes(*bytes).into())
                else {
                    return;
                };
                let found = CStr::from_bytes_until_nul(entry.get(NAME..).unwrap_or_default());
                if found.is_ok_and(|found| name(found).is_break()) {
                    return;
                }
                rest = next;
            }
        }
    }

    /// Device and inode of a link's target, even if no path leads there.
    pub fn identity(&self, link: &CStr) -> io::Result<(u64, u64)> {
        let mut stat = mem::MaybeUninit::<libc::stat64>::zeroed();
        // SAFETY: a C string, and live memory of that type, for which zeros are valid.
        unsafe {
            let folder = self.0.as_raw_fd();
            checked(libc::fstatat64(folder, link.as_ptr(), stat.as_mut_ptr(), 0))?;
            let stat = stat.assume_init();
            Ok((stat.st_dev, stat.st_ino))
        }
    }

    /// The text of a link, cut to the length of `place`; empty if it cannot be read.
    pub fn link<'a>(&self, link: &CStr, place: &'a mut [u8]) -> &'a [u8] {
        // SAFETY: a C string, and live memory of that size.
        let length = unsafe {
            let start = place.as_mut_ptr().cast::<c_char>();
            libc::readlinkat(self.0.as_raw_fd(), link.as_ptr(), start, place.len())
        };
        place.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default()
    }
}

fn open_at(folder: c_int, path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string; the descriptor has just been opened and has no other owner.
    unsafe {
        let mode: c_uint = 0o666;
        let descriptor = libc::openat(folder, path.as_ptr(), flags | libc::O_CLOEXEC, mode);
        Ok(OwnedFd::from_raw_fd(checked(descriptor)?))
    }
}

fn read_all(file: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(file);
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(text),
            length => text.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
}

/// Opens a file with flags of open(2). std would add the code that checks combinations of options.
pub fn open(path: &str, flags: c_int) -> io::Result<File> {
    open_at(libc::AT_FDCWD, &CString::new(path)?, flags).map(File::from)
}

/// The content of a file.
pub fn read(path: &str) -> io::Result<Vec<u8>> {
    open_at(libc::AT_FDCWD, &CString::new(path)?, libc::O_RDONLY).and_then(read_all)
}

/// The beginning of a file, cut to the length of `place`, in one read and without an allocation.
pub fn read_piece<'a>(path: &CStr, place: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut file = open_at(libc::AT_FDCWD, path, libc::O_RDONLY).map(File::from)?;
    let length = file.read(place)?;
    Ok(place.get(..length).unwrap_or_default())
}
