//! Errors of system calls: from C to Rust, and as text.

use core::ffi::{CStr, c_int};
use std::fmt;
use std::io;

/// Converts C's -1 to an error, for all system calls.
pub(super) fn checked(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Formats an errno by the C library's text; std's includes the number as well.
pub struct Errno(pub c_int);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut text = [0; 64];
        // SAFETY: live memory of that size; the text is cut to fit and ends with a null byte.
        let text = unsafe {
            libc::strerror_r(self.0, text.as_mut_ptr(), text.len());
            CStr::from_ptr(text.as_ptr())
        };
        f.write_str(text.to_str().unwrap_or_default())
    }
}

/// Formats an error without its number.
pub struct Described<'a>(pub &'a io::Error);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0.raw_os_error() {
            Some(number) => write!(f, "{}", Errno(number)),
            None => write!(f, "{}", self.0),
        }
    }
}
