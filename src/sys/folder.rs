//! A folder of /proc: what is in it, and where its links lead. std's way takes a path and memory for
//! each name, and there are thousands of them.

use core::ffi::{CStr, c_char, c_int};
use core::ops::ControlFlow;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::checked;

/// Of struct linux_dirent64, getdents64(2).
const LENGTH: usize = 16;
const NAME: usize = 19;

pub struct Folder(OwnedFd);

impl Folder {
    pub fn open(path: &CStr) -> io::Result<Self> {
        open_at(libc::AT_FDCWD, path, libc::O_DIRECTORY).map(Self)
    }

    /// One that is in this one.
    pub fn folder(&self, path: &CStr) -> io::Result<Self> {
        open_at(self.0.as_raw_fd(), path, libc::O_DIRECTORY).map(Self)
    }

    /// What a file in it says; nothing where it cannot be read.
    pub fn read(&self, path: &CStr) -> Vec<u8> {
        let mut text = Vec::new();
        let mut piece = [0; 1024];
        if let Ok(file) = open_at(self.0.as_raw_fd(), path, 0) {
            let mut file = File::from(file);
            while let Ok(length @ 1..) = file.read(&mut piece) {
                text.extend_from_slice(piece.get(..length).unwrap_or_default());
            }
        }
        text
    }

    /// Hands out the names in it, until it is told to stop.
    pub fn each(&self, name: &mut dyn FnMut(&CStr) -> ControlFlow<()>) {
        let mut entries = [0_u8; 4096];
        loop {
            // SAFETY: the kernel writes as many bytes as are there at most.
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

    /// Device and inode of what a link leads to, be there a path to it or not.
    pub fn identity(&self, link: &CStr) -> io::Result<(u64, u64)> {
        let mut stat = mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: a C string, and live memory of that type, for which zeros are valid.
        unsafe {
            let folder = self.0.as_raw_fd();
            checked(libc::fstatat(folder, link.as_ptr(), stat.as_mut_ptr(), 0))?;
            let stat = stat.assume_init();
            Ok((stat.st_dev, stat.st_ino))
        }
    }

    /// The beginning of what a link says, as much as `place` holds; nothing if it cannot be read.
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
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | flags;
    // SAFETY: the path is a C string; the descriptor has just been opened for us alone.
    unsafe { Ok(OwnedFd::from_raw_fd(checked(libc::openat(folder, path.as_ptr(), flags))?)) }
}
