//! The machine's log lines: the text of each note, its level, and its short name.
//!
//! A companion's report is part of a text, and is never parsed.
//!
//! Longer than 300 lines because the notes and their texts are one list.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use crate::duration::{Lasts, Rounded, Short};
use crate::log::Level;
use crate::signal::Signal;
use crate::sys::Status;

/// A wait for the app's start that lasts this long is logged.
const SAID_AFTER: Duration = Duration::from_secs(1);

/// Events that are worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The targets that the app's start waited for are ready.
    AllReady {
        after: Duration,
    },
    NotReady {
        after: Duration,
    },
    StoppedBeforeStart {
        by: Signal,
        after: Duration,
    },
    /// A signal that came before there was an app to forward it to.
    NoAppYet(Signal),
    /// Exit handlers did not end in time.
    HandlersKilled,
    /// There was no time for the exit handlers.
    HandlersNotRun,
    /// `at_most`: a companion may hold the drain this long.
    Draining {
        by: Option<Signal>,
        lasts: Duration,
        at_most: Duration,
        kill_in: Duration,
    },
    /// The stop signal came in a drain that a hook asked for.
    StillDraining {
        by: Signal,
        after: Duration,
        kill_in: Duration,
    },
    DrainOver {
        after: Duration,
        cut: Option<Cut>,
        forward: Signal,
        kill_in: Duration,
    },
    /// A hook's drain is over.
    Drained {
        after: Duration,
        waits: Duration,
    },
    NoStopCame {
        after: Duration,
    },
    Stopping {
        by: Signal,
        forward: Signal,
        /// The drain that a hook asked for is over.
        drained: bool,
        kill_in: Duration,
    },
    Escalating {
        after: Duration,
        signal: Signal,
        kill_in: Duration,
    },
    Deadline {
        after: Duration,
    },
    Forwarded(Signal),
    /// A stop signal so soon after the first one that it is the same request.
    SameRequest {
        signal: Signal,
        first: Signal,
        after: Duration,
    },
    /// The app has ended after a signal that requests no stop here.
    MayBeStopSignal {
        signal: Signal,
        after: Duration,
    },
    AppEnded {
        status: Status,
        after: Option<Duration>,
    },
    Orphaned {
        status: Status,
        kill_in: Duration,
    },
    OrphansKilled,
    /// A process still exists 100 ms after SIGKILL.
    Unkillable,
}

/// The signal that ended a drain early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub by: Signal,
    pub why: WhyCut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyCut {
    /// The same signal came first too.
    Again,
    /// A different signal or a hook came first; or a person sent it.
    Asked,
    /// The hook that asked for the drain still waits: its time is over.
    HookWaits,
}

/// A note, and what became of it.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    pub note: Note,
    /// Why a drain is over, as its companion reported. Empty without a report.
    pub why: &'a str,
    /// The signal that the note mentions could not be sent.
    pub is_unsent: bool,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.note.write(*self, f)
    }
}

/// `SIGTERM to the app, `, if it was sent.
struct ToApp(Option<Signal>);

impl fmt::Display for ToApp {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.map_or(Ok(()), |signal| write!(f, "{signal} to the app, "))
    }
}

/// ` (quiet for 2s)`, or nothing.
struct Why<'a>(&'a str);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}

impl Note {
    /// Its level, and its short name: the state that the machine is in from then on.
    pub fn class(self) -> (Level, &'static str) {
        match self {
            // In that case the wait was logged as well.
            Note::AllReady { after } if after >= SAID_AFTER => (Level::Info, "starting"),
            Note::AllReady { .. } => (Level::Debug, "starting"),
            Note::NoAppYet(signal) if signal.controls_jobs() => (Level::Debug, "starting"),
            Note::NoAppYet(_) => (Level::Info, "starting"),
            Note::NotReady { .. } => (Level::Error, "ended"),
            Note::StoppedBeforeStart { .. } => (Level::Info, "ended"),
            Note::HandlersKilled | Note::HandlersNotRun => (Level::Error, "on-exit"),
            Note::Draining { .. } | Note::StillDraining { .. } => (Level::Info, "draining"),
            Note::Drained { .. } => (Level::Info, "drained"),
            Note::NoStopCame { .. } => (Level::Info, "running"),
            Note::DrainOver { .. } | Note::Stopping { .. } => (Level::Info, "stopping"),
            Note::Escalating { .. } => (Level::Info, "escalating"),
            Note::Deadline { .. } | Note::OrphansKilled => (Level::Error, "killing"),
            Note::Unkillable => (Level::Error, "ended"),
            Note::Orphaned { .. } => (Level::Info, "orphaned"),
            Note::AppEnded { after: Some(_), .. } => (Level::Info, "ended"),
            // Unexpected, and not of the app's own accord.
            Note::AppEnded { status: Status::Killed(_), after: None } => (Level::Info, "ended"),
            Note::AppEnded { status: Status::Exited(_), after: None } => (Level::Debug, "ended"),
            Note::MayBeStopSignal { .. } => (Level::Info, "ended"),
            Note::Forwarded(_) => (Level::Debug, "forwarded"),
            Note::SameRequest { .. } => (Level::Debug, "repeated"),
        }
    }

    fn write(self, Told { why, is_unsent, .. }: Told, f: &mut fmt::Formatter) -> fmt::Result {
        let to_app = |signal| ToApp((!is_unsent).then_some(signal));
        match self {
            Self::AllReady { after } => {
                write!(f, "all targets ready after {}: starting the app", Rounded(after))
            }
            Self::NotReady { after } if why.is_empty() => {
                write!(f, "app not started after {}: its targets were not ready", Rounded(after))
            }
            Self::NotReady { after } => {
                write!(f, "app not started after {}: {why}", Rounded(after))
            }
            Self::StoppedBeforeStart { by, after } => {
                write!(f, "{by} after waiting {} for targets: app not started", Rounded(after))
            }
            Self::NoAppYet(signal) => {
                write!(f, "{signal}: dropped, as the app has not been started yet")
            }
            Self::HandlersKilled => f.write_str("--on-exit handlers are not done: killed"),
            Self::HandlersNotRun => {
                f.write_str("--on-exit handlers are not run: the grace period is over")
            }
            Self::Draining { by, lasts, at_most, kill_in } => {
                let lasts = Lasts(lasts, at_most);
                match by {
                    Some(signal) => write!(f, "{signal}: draining for {lasts}")?,
                    None => write!(f, "prestop: draining for {lasts}")?,
                }
                match by {
                    Some(_) => write!(f, ", SIGKILL at {}", Short(kill_in)),
                    None => {
                        write!(f, ", ready again at {} if no stop signal comes", Short(kill_in))
                    }
                }
            }
            Self::StillDraining { by, after, kill_in } => write!(
                f,
                "{by}: draining for {} already, SIGKILL in {}",
                Rounded(after),
                Rounded(kill_in)
            ),
            Self::Drained { after, waits } => write!(
                f,
                "drain over after {}{}: ready again in {} if no stop signal comes",
                Rounded(after),
                Why(why),
                Rounded(waits)
            ),
            Self::NoStopCame { after } => {
                write!(
                    f,
                    "no stop signal came in {}: ready again, nothing is killed",
                    Rounded(after)
                )
            }
            Self::DrainOver { after, cut, forward, kill_in } => {
                if let Some(Cut { by, why }) = cut {
                    let how = match why {
                        WhyCut::Again => " again",
                        WhyCut::Asked => "",
                        WhyCut::HookWaits => {
                            " while prestop still waits, so the kubelet's grace period is over"
                        }
                    };
                    write!(f, "{by}{how}: ")?;
                }
                write!(f, "drain over after {}{}: ", Rounded(after), Why(why))?;
                write!(f, "{}SIGKILL in {}", to_app(forward), Rounded(kill_in))
            }
            Self::Stopping { by, forward, drained: false, kill_in } => {
                write!(f, "{by}: no drain, {}SIGKILL in {}", to_app(forward), Short(kill_in))
            }
            Self::Stopping { by, forward, drained: true, kill_in } => write!(
                f,
                "{by}: drained already, {}SIGKILL in {}",
                to_app(forward),
                Rounded(kill_in)
            ),
            Self::Escalating { after, signal, kill_in } => {
                write!(f, "app still there after {}: ", Rounded(after))?;
                write!(f, "{}SIGKILL in {}", to_app(signal), Rounded(kill_in))
            }
            Self::Deadline { after } if is_unsent => write!(
                f,
                "app still there after {}, the grace period is over, and it cannot be sent SIGKILL",
                Rounded(after)
            ),
            Self::Deadline { after } => write!(
                f,
                "app still there after {}, the grace period is over: SIGKILL to all that is left",
                Rounded(after)
            ),
            Self::Forwarded(signal) => write!(f, "{signal} to the app"),
            Self::SameRequest { signal, first, after } => write!(
                f,
                "{signal} {} after the {first}: the same request, not forwarded",
                Rounded(after)
            ),
            Self::MayBeStopSignal { signal, after } => {
                let name = signal.to_string();
                write!(
                    f,
                    "{signal} was forwarded and the app ended {} later: if it is the image's stop \
                     signal, --stop-on {} drains first",
                    Rounded(after),
                    name.trim_start_matches("SIG")
                )
            }
            Self::AppEnded { status, after: Some(after) } => {
                write!(f, "app {} {} after the stop signal", Outcome(status), Rounded(after))
            }
            Self::AppEnded { status, after: None } => write!(f, "app {}", Outcome(status)),
            Self::Orphaned { status, kill_in } if is_unsent => write!(
                f,
                "app {}: the processes it left cannot be sent SIGTERM, SIGKILL in {}",
                Outcome(status),
                Rounded(kill_in)
            ),
            Self::Orphaned { status, kill_in } => write!(
                f,
                "app {}: SIGTERM to the processes it left, SIGKILL in {}",
                Outcome(status),
                Rounded(kill_in)
            ),
            Self::OrphansKilled if is_unsent => f.write_str(
                "processes that the app left are still there, and cannot be sent SIGKILL",
            ),
            Self::OrphansKilled => {
                f.write_str("processes that the app left are still there: SIGKILL to them")
            }
            Self::Unkillable if is_unsent => {
                f.write_str("a process cannot be sent SIGKILL: leaving it behind")
            }
            Self::Unkillable => f.write_str("a process does not end on SIGKILL: leaving it behind"),
        }
    }
}

/// `exited with 3`, `was killed by SIGSEGV`.
struct Outcome(Status);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Status::Exited(code) => write!(f, "exited with {code}"),
            Status::Killed(signal) => write!(f, "was killed by {signal}"),
        }
    }
}
