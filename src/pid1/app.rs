//! The app: starting it, and sending it signals.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::exit_code::OWN_FAILURE;
use crate::options::config::Config;
use crate::pid1::terminal::Terminal;
use crate::processes;
use crate::signal::Signal;
use crate::sys::{self, AppStart, Arguments, Described, Pid, Recipient};

/// The app, from its start until it was reaped, and what it may leave behind.
pub struct App {
    pid: Pid,
    /// Signals go to its process group, which it leads.
    group: bool,
    ended: bool,
    terminal: Option<Terminal>,
    own_pid: Pid,
}

/// Why the app could not be started.
pub enum StartError {
    /// drain-init could not make itself ready.
    Own { what: &'static str, error: io::Error },
    /// COMMAND could not be executed.
    Command { name: String, error: io::Error },
}

impl StartError {
    /// 127: not found. 126: it cannot be executed. 125: the fault is not COMMAND's.
    pub fn exit_code(&self) -> u8 {
        let Self::Command { error, .. } = self else {
            return OWN_FAILURE;
        };
        match error.raw_os_error() {
            Some(libc::ENOENT) => 127,
            Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => OWN_FAILURE,
            _ => 126,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Own { what, error } => write!(f, "cannot {what}: {}", Described(error)),
            Self::Command { name, error } => match self.exit_code() {
                127 => write!(f, "{name}: not found, or its interpreter is not"),
                126 => write!(f, "{name}: cannot be executed: {}", Described(error)),
                _ => write!(f, "{name}: cannot be started: {}", Described(error)),
            },
        }
    }
}

impl App {
    /// Makes this process ready to be its parent, and starts it.
    pub fn start(command: Arguments, config: &Config) -> Result<Self, StartError> {
        let own_pid = nix::unistd::getpid().as_raw();
        if own_pid != 1 {
            // Where the kernel has no subreapers, orphans go to PID 1, as they would without us.
            let _ = sys::become_subreaper();
        }
        if let Some(signal) = config.parent_death_signal {
            sys::set_parent_death_signal(signal)
                .map_err(|error| StartError::Own { what: "set the parent death signal", error })?;
        }
        let terminal = Terminal::find();
        let pid = sys::start_app(&AppStart {
            arguments: command,
            foreground: terminal.and_then(Terminal::foreground),
            ignore_children: sys::stop_ignoring_children(),
        })
        .map_err(|error| {
            if let Some(terminal) = terminal {
                terminal.take_back();
            }
            let name = command.get(0).map(|name| name.to_string_lossy().into_owned());
            StartError::Command { name: name.unwrap_or_default(), error }
        })?;
        Ok(Self { pid, group: config.group, ended: false, terminal, own_pid })
    }

    pub fn is(&self, pid: Pid) -> bool {
        !self.ended && pid == self.pid
    }

    /// Whether a stop of the app concerns anybody.
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// It was reaped: its pid may be somebody else's from now on.
    pub fn ended(&mut self) {
        self.ended = true;
        if let Some(terminal) = self.terminal {
            terminal.app_ended(self.pid);
        }
    }

    /// Passes a signal on. An error means that it is about to be reaped, or has made itself another
    /// user: nothing that PID 1 could do about.
    pub fn forward(&self, signal: Signal) {
        if self.ended {
            return;
        }
        match self.terminal {
            Some(terminal) if signal == Signal::CONT => return terminal.resumed(self.pid),
            _ => {}
        }
        let group = Recipient::Group(self.pid);
        let _ = sys::send(if self.group { group } else { Recipient::Process(self.pid) }, signal);
    }

    /// It was stopped by job control.
    pub fn stopped(&self, by: Signal) {
        if let Some(terminal) = self.terminal {
            terminal.app_stopped(self.pid, by);
        }
    }

    /// Sends a signal to all that is left: as PID 1 to everything in the namespace, else to the app,
    /// its group, and what descends from drain-init.
    pub fn signal_rest(&self, signal: Signal) {
        if self.own_pid == 1 {
            let _ = sys::send(Recipient::Everyone, signal);
            return;
        }
        // The group's number is the app's pid: safe to name while the app is there, or while there
        // is no /proc that would tell of members. First, as the scan takes its time.
        let to_group = || sys::send(Recipient::Group(self.pid), signal);
        if !self.ended {
            let _ = to_group();
        }
        let descendants = processes::of(self.own_pid);
        if self.ended && descendants.is_empty() {
            let _ = to_group();
        }
        for pid in descendants {
            let _ = sys::send(Recipient::Process(pid), signal);
        }
    }
}
