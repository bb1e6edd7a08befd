//! `drain-init probe TARGET [--timeout D]`: asks once whether TARGET is ready, for an exec probe or
//! a HEALTHCHECK.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::refuse;
use super::wait::Asked;
use crate::clock::Clock;
use crate::exit_code::NOT_READY;
use crate::log::Log;
use crate::options::command_line::Verb;
use crate::options::target::Target;
use crate::ready::check;
use crate::sys::Arguments;

const VERB: Verb = Verb { name: "probe", only: Some(&["timeout", "header"]), command: false };

/// Less than the kubelet's default of 1s (timeoutSeconds), after which it would kill the probe
/// before the reason is printed.
const TIMEOUT: Duration = Duration::from_millis(800);

/// Returns 0 if the target is ready; otherwise 1, and prints the reason in one line.
pub fn probe(arguments: Arguments) -> u8 {
    let Asked { targets, timeout, .. } = match Asked::read(&VERB, arguments, TIMEOUT) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let [target] = &targets[..] else {
        let second = targets.get(1).map(Target::to_string).unwrap_or_default();
        return refuse(format_args!("{second}: one word too many for probe"));
    };
    match check::ask(target, timeout, Clock::start()) {
        Ok(()) => 0,
        Err(reason) => {
            Log::default().error("not-ready", format_args!("{reason}"));
            NOT_READY
        }
    }
}
