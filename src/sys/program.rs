//! The search for a child's program: the files that a name may mean, and the shell for a script
//! without an interpreter line, both as in execvp(3). Functions that the child calls allocate
//! nothing.

use core::ffi::{CStr, c_char, c_int};
use std::ffi::CString;
use std::io;
use std::ptr;

use super::environment;

/// execvp's path if PATH is not set.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/bin:/usr/bin";

/// Runs a script without an interpreter line, as in execvp(3).
const SHELL: &CStr = c"/bin/sh";

/// The kernel refuses this with ENOEXEC although it is no script: a program for another machine.
const ELF: [u8; 4] = *b"\x7fELF";

/// The files that `name` may mean, in the order of execvp.
pub(super) fn programs(name: &CStr) -> Vec<CString> {
    let name = name.to_bytes();
    if name.is_empty() || name.contains(&b'/') {
        return CString::new(name).into_iter().collect();
    }
    let path = environment(b"PATH").find(|(rest, _)| rest.is_empty());
    let path = path.map_or(DEFAULT_PATH, |(_, path)| path);
    let mut programs = Vec::new();
    for folder in path.split(|&byte| byte == b':') {
        // An empty entry is the current folder.
        let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        if let Ok(program) = CString::new([folder, slash, name].concat()) {
            programs.push(program);
        }
    }
    programs
}

/// The arguments of a shell that runs a script: the program's, after a place for its path. Empty if
/// there is no memory for them.
pub(super) fn shell(arguments: *const *const c_char, count: usize) -> Vec<*const c_char> {
    let mut shell = Vec::new();
    if count > 0 && shell.try_reserve_exact(count + 2).is_ok() {
        shell.extend([SHELL.as_ptr(), ptr::null()]);
        // SAFETY: there are that many arguments, and a null pointer after them.
        shell.extend((1..=count).map(|index| unsafe { *arguments.add(index) }));
    }
    shell
}

/// Whether it is a program for another machine. Runs in the child, so it allocates nothing.
pub(super) fn is_elf(program: &CStr) -> bool {
    let mut start = [0; ELF.len()];
    // SAFETY: a C string, and live memory of that size.
    unsafe {
        let file = libc::openat(libc::AT_FDCWD, program.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        libc::read(file, start.as_mut_ptr().cast(), start.len());
        libc::close(file);
    }
    start == ELF
}

/// Returns only if that failed, with the reason.
///
/// # Safety
/// `environment` is ended by a null pointer.
pub(super) unsafe fn run_by_shell(
    script: &CStr,
    arguments: &mut [*const c_char],
    environment: *const *const c_char,
) -> c_int {
    let Some(place) = arguments.get_mut(1) else {
        return libc::ENOMEM;
    };
    *place = script.as_ptr();
    // SAFETY: C strings and a null pointer after them, by `shell` and our own contract.
    unsafe { libc::execve(SHELL.as_ptr(), arguments.as_ptr(), environment) };
    last_errno()
}

pub(super) fn last_errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}
