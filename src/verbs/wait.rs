//! `drain-init wait TARGET...`: waits until all targets are ready, for an init container, Compose's
//! depends_on, or CI.
//!
//! It may be PID 1, which only handled signals end. So it waits for the signals that ask for an end
//! on a descriptor, beside the targets. No other process depends on this one.

#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{read, refuse};
use crate::clock::Clock;
use crate::duration::{self, Short};
use crate::exit_code::{self, NOT_READY};
use crate::log::{Format, Level, Log};
use crate::options::command_line::Verb;
use crate::options::target::{Headers, Target};
use crate::options::typed::Asking;
use crate::ready::waiter::{Outcome, Waits, until_ready};
use crate::signal::{Signal, SignalSet};
use crate::sys::{self, Arguments};

const VERB: Verb = Verb {
    name: "wait",
    only: Some(&["timeout", "header", "log_format", "quiet"]),
    command: false,
};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns 0 if all targets are ready; 1, and a line for each that was not ready in time; or 128 +
/// N if signal N asked for an end.
pub fn wait(arguments: Arguments) -> u8 {
    let Asked { targets, timeout, log } = match Asked::read(&VERB, arguments, TIMEOUT) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let told_by: SignalSet =
        ["TERM", "INT", "QUIT", "HUP"].into_iter().filter_map(Signal::parse).collect();
    sys::let_signals_end_it_but(told_by);
    // Without a signalfd the signals keep their default action.
    let told = signals(told_by);
    if told.is_none() {
        sys::let_signals_end_it();
    }
    let waits = Waits { timeout, log, ready: Level::Info, repeats: false, told: told.as_ref() };
    match until_ready(&targets, &waits, Clock::start(), &mut |_| ()) {
        Outcome::Ready => 0,
        Outcome::Late(reasons) => {
            for reason in reasons {
                log.error(
                    "not-ready",
                    format_args!("not ready after {}: {reason}", Short(timeout)),
                );
            }
            NOT_READY
        }
        Outcome::Told => {
            let mut by = Signal::TERM;
            while let Some(received) = sys::wait_for_signal(Some(Duration::ZERO)) {
                by = received.signal;
                if told_by.contains(by) {
                    break;
                }
            }
            exit_code::of_signal(by)
        }
    }
}

/// A descriptor that becomes readable when one of these signals comes.
fn signals(set: SignalSet) -> Option<OwnedFd> {
    let mut signals = SigSet::empty();
    for signal in set.iter() {
        signals.add(signal.number().try_into().ok()?);
    }
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).ok().map(OwnedFd::from)
}

/// The targets given to a verb.
pub(super) struct Asked {
    /// At least one.
    pub targets: Vec<Target>,
    pub timeout: Duration,
    pub log: Log,
}

impl Asked {
    /// Reads a command line; an error is the exit code.
    pub fn read(verb: &Verb, arguments: Arguments, timeout: Duration) -> Result<Self, u8> {
        let asking: Asking = read(verb, arguments)?.options;
        let timeout = match asking.timeout.map(|given| (given, duration::parse(given.text))) {
            None => timeout,
            Some((_, Ok(timeout))) if !timeout.is_zero() => timeout,
            Some((given, parsed)) => {
                let why = parsed.err().unwrap_or("leaves no time for an answer");
                return Err(refuse(format_args!("{given}: {why}; write 500ms or 1s")));
            }
        };
        let headers = Headers::read(&asking.header)
            .map_err(|(given, why)| refuse(format_args!("{given}: {why}")))?;
        let mut targets = Vec::new();
        for target in &asking.targets {
            let mut parsed =
                Target::parse(target).map_err(|why| refuse(format_args!("{target}: {why}")))?;
            parsed.send(&headers);
            targets.push(parsed);
        }
        if targets.is_empty() {
            let name = verb.name;
            return Err(refuse(format_args!("TARGET is missing: drain-init {name} TARGET")));
        }
        let format = match asking.log_format.map(|given| (given, Format::parse(given.text))) {
            None => Format::Text,
            Some((_, Ok(format))) => format,
            Some((given, Err(why))) => return Err(refuse(format_args!("{given}: {why}"))),
        };
        let level = if asking.quiet { Level::Error } else { Level::Info };
        Ok(Self { targets, timeout, log: Log { format, level, ..Log::default() } })
    }
}
