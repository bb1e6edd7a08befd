//! The controlling terminal: the app gets the foreground, and job control works as under a shell.
//!
//! drain-init blocks all signals, including SIGTTOU, so nothing here stops it by accident.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::unistd::{Pid, getpgrp, getpid, tcgetpgrp, tcsetpgrp};

use crate::signal::Signal;
use crate::sys::{self, Recipient};

/// The controlling terminal of this session, by the standard descriptor that is open on it.
#[derive(Clone, Copy)]
pub struct Terminal {
    descriptor: BorrowedFd<'static>,
    /// The process group that drain-init was started in.
    own_group: Pid,
    /// Whether that group had the foreground then.
    had_foreground: bool,
}

impl Terminal {
    /// Finds the controlling terminal among the standard descriptors.
    pub fn find() -> Option<Self> {
        // Standard output comes last, as it is redirected most often.
        let descriptors = [sys::STANDARD_INPUT, sys::STANDARD_ERROR, sys::STANDARD_OUTPUT];
        let (descriptor, foreground) =
            descriptors.into_iter().find_map(|fd| Some((fd, tcgetpgrp(fd).ok()?)))?;
        let own_group = getpgrp();
        Some(Self { descriptor, own_group, had_foreground: foreground == own_group })
    }

    /// Its descriptor, if drain-init has the foreground and can give it to the app.
    pub fn foreground(self) -> Option<RawFd> {
        self.had_foreground.then(|| self.descriptor.as_raw_fd())
    }

    fn has_foreground(self) -> bool {
        tcgetpgrp(self.descriptor) == Ok(self.own_group)
    }

    fn give_to(self, group: Pid) {
        // A terminal that is gone needs no foreground.
        let _ = tcsetpgrp(self.descriptor, group);
    }

    /// Handles a stop of the app: by the terminal, because it is in the background, which is put
    /// right if possible; or by a person, who wants the shell back.
    pub fn app_stopped(self, app: sys::Pid, by: Signal) -> io::Result<()> {
        if [Signal::TTIN, Signal::TTOU].contains(&by) && self.has_foreground() {
            self.give_to(Pid::from_raw(app));
            sys::send(Recipient::Group(app), Signal::CONT)
        } else if by == Signal::TSTP && getpid() == Pid::from_raw(1) {
            // Ctrl-Z without a shell that could continue it: without an init it does nothing.
            sys::send(Recipient::Group(app), Signal::CONT)
        } else {
            sys::suspend_own_group();
            Ok(())
        }
    }

    /// drain-init was continued: by `fg` if it has the foreground now, otherwise by `bg`.
    pub fn resumed(self, app: sys::Pid) -> io::Result<()> {
        if self.has_foreground() {
            self.give_to(Pid::from_raw(app));
        }
        // The terminal stopped the whole group.
        sys::send(Recipient::Group(app), Signal::CONT)
    }

    /// Takes the foreground back from an app that failed to start.
    pub fn take_back(self) {
        if !self.has_foreground() && self.had_foreground {
            self.give_to(self.own_group);
        }
    }

    /// The app has ended: the foreground returns to the group that started drain-init.
    pub fn app_ended(self, app: sys::Pid) {
        if tcgetpgrp(self.descriptor) == Ok(Pid::from_raw(app)) {
            self.give_to(self.own_group);
        }
    }
}
