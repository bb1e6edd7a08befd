//! `drain-init probe TARGET [--timeout D]`: asks once whether TARGET is ready, for an exec probe or a
//! HEALTHCHECK.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{read, refuse};
use crate::clock::Clock;
use crate::duration;
use crate::log::Log;
use crate::options::command_line::Verb;
use crate::options::target::Target;
use crate::options::typed::Probe;
use crate::ready::check;
use crate::sys::Arguments;

const VERB: Verb = Verb { name: "probe", only: None, command: false };

/// Less than the kubelet's default of 1s (timeoutSeconds): it would kill the probe, and the line that
/// says why with it.
const TIMEOUT: Duration = Duration::from_millis(800);

/// It is not ready.
const NOT_READY: u8 = 1;

/// The exit code: 0 if it is ready, 1 with a line that says why it is not.
pub fn probe(arguments: Arguments) -> u8 {
    let Probe { timeout, target } = match read(&VERB, arguments) {
        Ok(read) => read.options,
        Err(code) => return code,
    };
    let timeout = match timeout.map(|given| (given, duration::parse(given.text))) {
        None => TIMEOUT,
        Some((_, Ok(timeout))) if !timeout.is_zero() => timeout,
        Some((given, parsed)) => {
            let why = parsed.err().unwrap_or("leaves no time for an answer");
            return refuse(format_args!("{given}: {why}; write 500ms or 1s"));
        }
    };
    let parsed = match Target::parse(&target) {
        Ok(parsed) => parsed,
        Err(why) => return refuse(format_args!("{target}: {why}")),
    };
    match check::ask(&parsed, timeout, Clock::start()) {
        Ok(()) => 0,
        Err(reason) => {
            Log::default().error("not-ready", format_args!("{reason}"));
            NOT_READY
        }
    }
}
