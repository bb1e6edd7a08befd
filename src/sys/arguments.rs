//! The process's arguments and environment, without a copy.

use core::ffi::{CStr, c_char};
#[cfg(any(test, fuzzing))]
use std::ptr;

/// The arguments of the process, or a part of them: the kernel's own memory, not a copy.
#[derive(Clone, Copy)]
pub struct Arguments {
    first: *const *const c_char,
    count: usize,
}

impl Arguments {
    /// # Safety
    /// `first` points to `count` pointers to C strings and a null pointer after them, all of which
    /// live and stay unchanged until the process ends.
    pub(super) unsafe fn new(first: *const *const c_char, count: usize) -> Self {
        Self { first, count }
    }

    /// The number of arguments.
    pub fn len(self) -> usize {
        self.count
    }

    /// The argument at `index`.
    pub fn get(self, index: usize) -> Option<&'static CStr> {
        if index >= self.count {
            return None;
        }
        // SAFETY: by the contract of `new`, and index is below count.
        Some(unsafe { CStr::from_ptr(*self.first.add(index)) })
    }

    /// The arguments before `index`.
    pub fn head(self, index: usize) -> Self {
        Self { count: index.min(self.count), ..self }
    }

    /// The arguments from `index` on.
    pub fn tail(self, index: usize) -> Self {
        let skipped = index.min(self.count);
        // SAFETY: skipped is at most count, where the null pointer is.
        Self { first: unsafe { self.first.add(skipped) }, count: self.count - skipped }
    }

    /// All arguments in order.
    pub fn iter(self) -> impl Iterator<Item = &'static CStr> {
        (0..self.count).filter_map(move |index| self.get(index))
    }

    /// As execve takes them. The null pointer is missing after a `head`.
    pub(super) fn as_ptr(self) -> *const *mut c_char {
        self.first.cast()
    }
}

/// Calls `with` with these words as the process's arguments. They must not outlive the call.
#[cfg(any(test, fuzzing))]
pub fn with_arguments(words: &[std::ffi::CString], with: impl FnOnce(Arguments)) {
    let ended = words.iter().map(|word| word.as_ptr()).chain([ptr::null()]);
    let pointers: Vec<*const c_char> = ended.collect();
    // SAFETY: fulfils the contract except that they do not live until the process ends, and `with`
    // returns nothing.
    with(unsafe { Arguments::new(pointers.as_ptr(), words.len()) });
}

unsafe extern "C" {
    pub(super) static environ: *const *const c_char;
}

/// The variables of the environment, each as `NAME=VALUE`.
pub(super) fn variables() -> impl Iterator<Item = &'static CStr> {
    let mut index = 0;
    std::iter::from_fn(move || {
        // SAFETY: environ is null or an array of C strings ended by a null pointer; nothing in this
        // program changes it.
        let variable = unsafe {
            if environ.is_null() || (*environ.add(index)).is_null() {
                return None;
            }
            CStr::from_ptr(*environ.add(index))
        };
        index += 1;
        Some(variable)
    })
}

/// The variables whose names begin with `prefix`: the rest of the name, and the value.
pub fn environment(prefix: &[u8]) -> impl Iterator<Item = (&'static [u8], &'static [u8])> {
    variables().filter_map(move |variable| {
        let rest = variable.to_bytes().strip_prefix(prefix)?;
        let equals = rest.iter().position(|&byte| byte == b'=')?;
        Some((rest.get(..equals)?, rest.get(equals + 1..)?))
    })
}
