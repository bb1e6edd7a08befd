//! The app: starts it and sends it signals.

#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::fmt;
use std::io;

use crate::exit_code::OWN_FAILURE;
use crate::options::config::Config;
use crate::pid1::terminal::Terminal;
use crate::processes;
use crate::signal::Signal;
use crate::sys::{self, AppStart, Arguments, Described, Pid, Recipient};

/// The app, from its start until it is reaped, and any processes that it leaves behind.
pub struct App {
    pid: Pid,
    /// Signals go to the process group that it leads.
    group: bool,
    ended: bool,
    terminal: Option<Terminal>,
    own_pid: Pid,
}

/// Signals that were ignored when drain-init was started: the app must inherit that.
#[derive(Clone, Copy, Default)]
pub struct Found {
    ignores_children: bool,
    ignores_drain: bool,
}

impl Found {
    /// Shows a hook, before the app is started, that this process takes its signal.
    pub fn show_that_it_takes_hooks(self) -> Self {
        Self { ignores_drain: sys::show_that_it_takes(Signal::DRAIN), ..self }
    }
}

/// Why the app could not be started.
pub enum StartError {
    /// drain-init could not prepare itself.
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
    /// Makes this process ready to be the app's parent.
    pub fn prepare(config: &Config) -> Result<Found, StartError> {
        if nix::unistd::getpid().as_raw() != 1 {
            // Without subreapers in this kernel, orphans go to PID 1, as they would without
            // drain-init.
            let _ = sys::become_subreaper();
        }
        if let Some(signal) = config.parent_death_signal {
            sys::set_parent_death_signal(signal)
                .map_err(|error| StartError::Own { what: "set the parent death signal", error })?;
        }
        Ok(Found { ignores_children: sys::stop_ignoring_children(), ignores_drain: false })
    }

    /// Starts the app. `notify_socket`: the variable that replaces the caller's.
    pub fn start(
        command: Arguments,
        config: &Config,
        found: Found,
        notify_socket: Option<&CStr>,
    ) -> Result<Self, StartError> {
        let own_pid = nix::unistd::getpid().as_raw();
        let terminal = Terminal::find();
        let pid = sys::start_app(&AppStart {
            arguments: command,
            notify_socket,
            foreground: terminal.and_then(Terminal::foreground),
            ignore_children: found.ignores_children,
            ignore_drain: found.ignores_drain,
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

    /// The pid of this process, the ancestor of everything that the app starts.
    pub fn parent(&self) -> Pid {
        self.own_pid
    }

    pub fn is(&self, pid: Pid) -> bool {
        !self.ended && pid == self.pid
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether job control matters: there is a terminal to hand back.
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// The app was reaped: its pid may be reused from now on.
    pub fn ended(&mut self) {
        self.ended = true;
        if let Some(terminal) = self.terminal {
            terminal.app_ended(self.pid);
        }
    }

    /// Forwards a signal. Returns whether that was permitted; a missing recipient is not a refusal.
    #[must_use]
    pub fn forward(&self, signal: Signal) -> bool {
        if self.ended {
            return true;
        }
        match self.terminal {
            Some(terminal) if signal == Signal::CONT => {
                return is_permitted(&terminal.resumed(self.pid));
            }
            _ => {}
        }
        if !self.group {
            return is_permitted(&sys::send(Recipient::Process(self.pid), signal));
        }
        let to_group = sys::send(Recipient::Group(self.pid), signal);
        // It may have left the group, while others are still in it.
        if !self.leads_its_group() {
            return is_permitted(&sys::send(Recipient::Process(self.pid), signal));
        }
        // kill(2) succeeds if the signal may reach one process of the group.
        is_permitted(&to_group) && self.is_reachable()
    }

    fn leads_its_group(&self) -> bool {
        let pid = nix::unistd::Pid::from_raw(self.pid);
        nix::unistd::getpgid(Some(pid)).is_ok_and(|group| group == pid)
    }

    fn is_reachable(&self) -> bool {
        self.ended || sys::may_signal(self.pid)
    }

    /// Handles a stop of the app by job control. Returns whether it could be continued, if that was
    /// needed.
    #[must_use]
    pub fn stopped(&self, by: Signal) -> bool {
        self.terminal.is_none_or(|terminal| is_permitted(&terminal.app_stopped(self.pid, by)))
    }

    /// Sends a signal to all remaining processes: as PID 1, to everything in the namespace;
    /// otherwise to the app, its group, and drain-init's descendants. Returns whether that was
    /// permitted, as far as the kernel tells: as PID 1, for the app alone.
    #[must_use]
    pub fn signal_rest(&self, signal: Signal) -> bool {
        if self.own_pid == 1 {
            // No error, even if no process could be signalled (kill_something_info).
            let _ = sys::send(Recipient::Everyone, signal);
            return self.is_reachable();
        }
        // The group's number is the app's pid. It is safe to use while the app exists, or without a
        // /proc to list the members. First, as the scan takes time.
        let to_group = || sys::send(Recipient::Group(self.pid), signal);
        let mut permitted = true;
        if !self.ended {
            permitted &= is_permitted(&to_group());
        }
        let descendants = processes::of(self.own_pid);
        if descendants.is_empty() {
            // It may have left the group.
            permitted &= match self.ended {
                true => is_permitted(&to_group()),
                false => is_permitted(&sys::send(Recipient::Process(self.pid), signal)),
            };
        }
        for pid in descendants {
            permitted &= is_permitted(&sys::send(Recipient::Process(pid), signal));
        }
        permitted
    }

    /// Whether the app, or a process that it left, is out of reach of our signals.
    pub fn is_any_out_of_reach(&self) -> bool {
        !self.is_reachable() || processes::of(self.own_pid).iter().any(|pid| !sys::may_signal(*pid))
    }
}

fn is_permitted(sent: &io::Result<()>) -> bool {
    !sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
