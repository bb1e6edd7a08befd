//! What the machine has to say: each note's text, how much it matters, and its short name.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use crate::duration::{Rounded, Short};
use crate::log::Level;
use crate::signal::Signal;
use crate::sys::Status;

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// `at_most`: a companion may hold it so long.
    Draining {
        by: Option<Signal>,
        lasts: Duration,
        at_most: Duration,
        kill_in: Duration,
    },
    /// The stop signal has come in a drain that a hook asked for.
    StillDraining {
        by: Signal,
        after: Duration,
        kill_in: Duration,
    },
    DrainOver {
        after: Duration,
        cut_by: Option<Signal>,
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
    AppEnded {
        status: Status,
        after: Option<Duration>,
    },
    Orphaned {
        status: Status,
        kill_in: Duration,
    },
    OrphansKilled,
    /// SIGKILL was sent, and 100 ms later somebody is there still.
    Unkillable,
}

impl Note {
    /// How much it matters, and its short name: the state that the machine is in from then on.
    pub fn class(self) -> (Level, &'static str) {
        match self {
            Note::Draining { .. } | Note::StillDraining { .. } => (Level::Info, "draining"),
            Note::Drained { .. } => (Level::Info, "drained"),
            Note::NoStopCame { .. } => (Level::Info, "running"),
            Note::DrainOver { .. } | Note::Stopping { .. } => (Level::Info, "stopping"),
            Note::Escalating { .. } => (Level::Info, "escalating"),
            Note::Deadline { .. } | Note::OrphansKilled => (Level::Error, "killing"),
            Note::Unkillable => (Level::Error, "ended"),
            Note::Orphaned { .. } => (Level::Info, "orphaned"),
            Note::AppEnded { after: Some(_), .. } => (Level::Info, "ended"),
            // Out of the blue, and by no doing of its own.
            Note::AppEnded { status: Status::Killed(_), after: None } => (Level::Info, "ended"),
            Note::AppEnded { status: Status::Exited(_), after: None } => (Level::Debug, "ended"),
            Note::Forwarded(_) => (Level::Debug, "forwarded"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Self::Draining { by, lasts, at_most, kill_in } => {
                match by {
                    Some(signal) => write!(f, "{signal}: draining for {}", Short(lasts))?,
                    None => write!(f, "prestop: draining for {}", Short(lasts))?,
                }
                if at_most > lasts {
                    write!(f, " to {}", Short(at_most))?;
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
                "drain over after {}: ready again in {} if no stop signal comes",
                Rounded(after),
                Rounded(waits)
            ),
            Self::NoStopCame { after } => {
                write!(
                    f,
                    "no stop signal came in {}: ready again, nothing is killed",
                    Rounded(after)
                )
            }
            Self::DrainOver { after, cut_by, forward, kill_in } => {
                if let Some(signal) = cut_by {
                    write!(f, "{signal} again: ")?;
                }
                write!(f, "drain over after {}: ", Rounded(after))?;
                write!(f, "{forward} to the app, SIGKILL in {}", Rounded(kill_in))
            }
            Self::Stopping { by, forward, drained: false, kill_in } => {
                write!(f, "{by}: no drain, {forward} to the app, SIGKILL in {}", Short(kill_in))
            }
            Self::Stopping { by, forward, drained: true, kill_in } => write!(
                f,
                "{by}: drained already, {forward} to the app, SIGKILL in {}",
                Rounded(kill_in)
            ),
            Self::Escalating { after, signal, kill_in } => {
                write!(f, "app still there after {}: ", Rounded(after))?;
                write!(f, "{signal} to the app, SIGKILL in {}", Rounded(kill_in))
            }
            Self::Deadline { after } => write!(
                f,
                "app still there after {}, the grace period is over: SIGKILL to all that is left",
                Rounded(after)
            ),
            Self::Forwarded(signal) => write!(f, "{signal} to the app"),
            Self::AppEnded { status, after: Some(after) } => {
                write!(f, "app {} {} after the stop signal", Outcome(status), Rounded(after))
            }
            Self::AppEnded { status, after: None } => write!(f, "app {}", Outcome(status)),
            Self::Orphaned { status, kill_in } => write!(
                f,
                "app {}: SIGTERM to the processes it left, SIGKILL in {}",
                Outcome(status),
                Rounded(kill_in)
            ),
            Self::OrphansKilled => {
                f.write_str("processes that the app left are still there: SIGKILL to them")
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
