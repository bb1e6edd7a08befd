//! The environment of a child: ours, except for descriptors that a service manager has passed by
//! sd_listen_fds(3), which are the app's, and for the app's sd_notify(3) socket.

use core::ffi::{CStr, c_char, c_int};
use std::io;
use std::ptr;

use super::arguments::variables;
use super::environ;

/// The process that the descriptors from 3 on are for.
const PID: &[u8] = b"LISTEN_PID=";

/// The same process by its pidfd's inode, which is unknown before the process exists. Without it,
/// sd_listen_fds goes by LISTEN_PID alone.
const PIDFD_ID: &[u8] = b"LISTEN_PIDFDID=";

/// The other variables about these descriptors.
const ABOUT: [&[u8]; 2] = [b"LISTEN_FDS=", b"LISTEN_FDNAMES="];

/// The address for sd_notify(3). Without --ready-notify it is the caller's, for the app and
/// companions alike.
const NOTIFY: &[u8] = b"NOTIFY_SOCKET=";

pub(super) struct Environment {
    /// Ended by a null pointer. If empty, the child gets our environment unchanged.
    variables: Vec<*const c_char>,
    /// The index of LISTEN_PID, which the child fills in: its pid is unknown before.
    pid: Option<usize>,
    /// LISTEN_PID=, its value, and a null byte, at the end of the buffer.
    text: [u8; PID.len() + 11],
}

impl Environment {
    /// If LISTEN_PID names us, it will name the app. `notify_socket` replaces the caller's.
    pub(super) fn of_app(notify_socket: Option<&CStr>) -> io::Result<Self> {
        let is_own = |pid: &[u8]| {
            let pid = str::from_utf8(pid).ok().and_then(|pid| pid.parse().ok());
            pid == Some(nix::unistd::getpid().as_raw())
        };
        let mut pids = variables().filter_map(|variable| variable.to_bytes().strip_prefix(PID));
        let is_listening = pids.any(is_own);
        if !is_listening && notify_socket.is_none() {
            return Ok(Self::ours());
        }
        let is_kept = |variable: &[u8]| {
            !(is_listening && variable.starts_with(PIDFD_ID)
                || notify_socket.is_some() && variable.starts_with(NOTIFY))
        };
        let mut environment = Self::filtered(notify_socket, is_kept)?;
        if !is_listening {
            environment.pid = None;
        }
        Ok(environment)
    }

    /// Companions, and the programs they run, get neither these descriptors nor the variables.
    pub(super) fn of_companion() -> io::Result<Self> {
        let is_passed = |variable: &[u8]| {
            [PID, PIDFD_ID].iter().chain(&ABOUT).any(|name| variable.starts_with(name))
        };
        if !variables().any(|variable| is_passed(variable.to_bytes())) {
            return Ok(Self::ours());
        }
        Self::filtered(None, |variable| !is_passed(variable))
    }

    fn ours() -> Self {
        Self { variables: Vec::new(), pid: None, text: [0; _] }
    }

    fn filtered(added: Option<&CStr>, is_kept: impl Fn(&[u8]) -> bool) -> io::Result<Self> {
        let mut environment = Self::ours();
        environment.variables.try_reserve_exact(variables().count() + 2)?;
        environment.variables.extend(added.map(CStr::as_ptr));
        for variable in variables().filter(|variable| is_kept(variable.to_bytes())) {
            if variable.to_bytes().starts_with(PID) {
                environment.pid = Some(environment.variables.len());
            }
            environment.variables.push(variable.as_ptr());
        }
        environment.variables.push(ptr::null());
        Ok(environment)
    }

    /// As execve(2) takes it. Runs in the child, so it allocates nothing.
    pub(super) fn complete(&mut self) -> *const *const c_char {
        if let Some(place) = self.pid.and_then(|pid| self.variables.get_mut(pid)) {
            *place = pid_variable(&mut self.text, nix::unistd::getpid().as_raw()).as_ptr();
        }
        // SAFETY: environ is null or an array of C strings; nothing in this program changes it.
        if self.variables.is_empty() { unsafe { environ } } else { self.variables.as_ptr() }
    }
}

/// Formats LISTEN_PID into `text`, from its end backwards, as digits come out that way.
fn pid_variable(text: &mut [u8; PID.len() + 11], pid: c_int) -> &CStr {
    let mut left = pid.unsigned_abs();
    let mut length = 1;
    let mut places = text.iter_mut().rev().skip(1);
    for place in places.by_ref() {
        *place = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
        length += 1;
        if left == 0 {
            break;
        }
    }
    for (place, byte) in places.zip(PID.iter().rev()) {
        *place = *byte;
        length += 1;
    }
    let start = text.len().saturating_sub(length);
    CStr::from_bytes_until_nul(text.get(start..).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_of_any_length_is_written() {
        for (pid, expected) in [
            (2, c"LISTEN_PID=2"),
            (10, c"LISTEN_PID=10"),
            (4_194_304, c"LISTEN_PID=4194304"),
            (c_int::MAX, c"LISTEN_PID=2147483647"),
        ] {
            assert_eq!(pid_variable(&mut [0; _], pid), expected);
        }
    }
}
