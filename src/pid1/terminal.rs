//! The controlling terminal: the app has its foreground, and job control works as under a shell.
//!
//! All signals are blocked in drain-init, SIGTTOU too, so nothing here ever stops it unasked.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::unistd::{Pid, getpgrp, getpid, tcgetpgrp, tcsetpgrp};

use crate::signal::Signal;
use crate::sys::{self, Recipient};

/// The terminal that controls this session, by the standard descriptor that it is on.
#[derive(Clone, Copy)]
pub struct Terminal {
    descriptor: BorrowedFd<'static>,
    /// The process group that drain-init was started in.
    own_group: Pid,
    /// Whether that group had the foreground then.
    had_foreground: bool,
}

impl Terminal {
    /// The controlling terminal, if a standard descriptor is it.
    pub fn find() -> Option<Self> {
        // Standard output is the one that is redirected most often.
        let descriptors = [sys::STANDARD_INPUT, sys::STANDARD_ERROR, sys::STANDARD_OUTPUT];
        let (descriptor, foreground) =
            descriptors.into_iter().find_map(|fd| Some((fd, tcgetpgrp(fd).ok()?)))?;
        let own_group = getpgrp();
        Some(Self { descriptor, own_group, had_foreground: foreground == own_group })
    }

    /// Its descriptor, if drain-init has its foreground and may hand it to the app.
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

    /// The app was stopped: by the terminal for being in the background, where it can be helped,
    /// or by a person, who wants the shell back.
    pub fn app_stopped(self, app: sys::Pid, by: Signal) -> io::Result<()> {
        if [Signal::TTIN, Signal::TTOU].contains(&by) && self.has_foreground() {
            self.give_to(Pid::from_raw(app));
            sys::send(Recipient::Group(app), Signal::CONT)
        } else if by == Signal::TSTP && getpid() == Pid::from_raw(1) {
            // Ctrl-Z where no shell is that could let it go on: without an init it does nothing.
            sys::send(Recipient::Group(app), Signal::CONT)
        } else {
            sys::suspend_own_group();
            Ok(())
        }
    }

    /// drain-init was told to go on: by `fg` if it has the foreground now, else by `bg`.
    pub fn resumed(self, app: sys::Pid) -> io::Result<()> {
        if self.has_foreground() {
            self.give_to(Pid::from_raw(app));
        }
        // The terminal stopped the whole group.
        sys::send(Recipient::Group(app), Signal::CONT)
    }

    /// The app could not be started, and may have had the foreground before that was clear.
    pub fn take_back(self) {
        if !self.has_foreground() && self.had_foreground {
            self.give_to(self.own_group);
        }
    }

    /// The app has ended: whoever started drain-init reads from the terminal next.
    pub fn app_ended(self, app: sys::Pid) {
        if tcgetpgrp(self.descriptor) == Ok(Pid::from_raw(app)) {
            self.give_to(self.own_group);
        }
    }
}
