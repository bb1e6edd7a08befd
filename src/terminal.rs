//! The controlling terminal: the app has its foreground, and job control works as under a shell.
//!
//! All signals are blocked in drain-init, SIGTTOU too, so nothing here ever stops it unasked.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

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

/// The descriptors are the process's for as long as it lives, open or not: a call on a closed one
/// is an error and no more.
fn standard_descriptors() -> [BorrowedFd<'static>; 3] {
    // Leaked on purpose: handles of nothing that could be closed.
    let input: &'static io::Stdin = Box::leak(Box::new(io::stdin()));
    let output: &'static io::Stdout = Box::leak(Box::new(io::stdout()));
    let error: &'static io::Stderr = Box::leak(Box::new(io::stderr()));
    [input.as_fd(), error.as_fd(), output.as_fd()]
}

impl Terminal {
    /// The controlling terminal, if a standard descriptor is it.
    pub fn find() -> Option<Self> {
        let descriptor = standard_descriptors().into_iter().find(|fd| tcgetpgrp(fd).is_ok())?;
        let own_group = getpgrp();
        let had_foreground = tcgetpgrp(descriptor) == Ok(own_group);
        Some(Self { descriptor, own_group, had_foreground })
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
    pub fn app_stopped(self, app: sys::Pid, by: Signal) {
        if [Signal::TTIN, Signal::TTOU].contains(&by) && self.has_foreground() {
            self.give_to(Pid::from_raw(app));
            let _ = sys::send(Recipient::Group(app), Signal::CONT);
        } else {
            sys::suspend_own_group();
        }
    }

    /// drain-init was told to go on: by `fg` if it has the foreground now, else by `bg`.
    pub fn resumed(self, app: sys::Pid) {
        if self.has_foreground() {
            self.give_to(Pid::from_raw(app));
        }
        // The terminal stopped the whole group.
        let _ = sys::send(Recipient::Group(app), Signal::CONT);
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

/// Whether a person sits at standard input.
pub fn on_standard_input() -> bool {
    io::stdin().is_terminal()
}
