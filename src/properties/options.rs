//! The command line and the environment: never a panic, and in the end either options that leave
//! the app time to stop, or complaints of a line each.

use std::ffi::{CStr, CString};
use std::fmt;
use std::time::Duration;

use super::is_one_line;
use crate::log;
use crate::options::command_line::{self, Asked, Options, Read, Typed, Verb};
use crate::options::config::{self, Config, Surroundings};
use crate::options::plan::Plan;
use crate::signal::Signal;
use crate::sys;
use crate::verbs::explain;

const PREFIX: &[u8] = b"DRAIN_INIT_";

const RUN: Verb =
    Verb { name: "run", options: Options::AllBut(&["timeout"]), operand: None, command: true };
const PROBE: Verb = Verb {
    name: "probe",
    options: Options::Only(&["timeout"]),
    operand: Some("TARGET"),
    command: false,
};

/// Words of a command line, each ended by a zero byte, as execve(2) takes them; those that assign to
/// a DRAIN_INIT_ variable are the environment.
pub fn options(input: &[u8]) {
    let (mut arguments, mut environment) = (Vec::new(), Vec::new());
    for word in input.split(|byte| *byte == 0) {
        match word.strip_prefix(PREFIX) {
            Some(variable) if variable.contains(&b'=') => {
                environment.extend(CString::new(variable))
            }
            _ => arguments.extend(CString::new(word)),
        }
    }
    let verb = if arguments.first().is_some_and(|word| word.as_bytes() == b"probe") {
        arguments.remove(0);
        PROBE
    } else {
        RUN
    };
    sys::with_arguments(&arguments, |all| {
        // Of this process's own environment nothing is to depend, and nothing does: it has no such
        // variable, as a rule.
        let mut complaints = Vec::new();
        let read = command_line::read(&verb, all, &mut |line| complaints.push(line.to_string()));
        match read {
            Ok(Asked::Help | Asked::Version) => {}
            Ok(Asked::Options(read)) => {
                is_all(&read, &arguments);
                assert_eq!(read.operand.is_some(), verb.operand.is_some());
                sys::with_arguments(&environment, |variables| {
                    with_environment(read.typed, variables.iter().map(CStr::to_bytes));
                });
            }
            Err(command_line::Refused) => are_clear(&complaints),
        }
    });
}

fn split_at_equals(word: &'static [u8]) -> (&'static [u8], &'static [u8]) {
    let equals = word.iter().position(|byte| *byte == b'=').expect("a variable");
    (&word[..equals], &word[equals + 1..])
}

/// The options and COMMAND are the words as they were given.
fn is_all(read: &Read, arguments: &[CString]) {
    let separator = arguments.iter().position(|word| word.as_bytes() == b"--");
    let (words, command) = match separator {
        Some(separator) => (&arguments[..separator], &arguments[separator + 1..]),
        None => (arguments, &arguments[..0]),
    };
    assert!(read.words.iter().eq(words.iter().map(CString::as_c_str)));
    assert!(read.command.iter().eq(command.iter().map(CString::as_c_str)));
}

fn with_environment(mut typed: Typed, environment: impl Iterator<Item = &'static [u8]>) {
    let mut complaints = Vec::new();
    let mut complain = |line: fmt::Arguments| complaints.push(line.to_string());
    let added = typed.add_environment(environment.map(split_at_equals), &mut complain);
    config::without_effect(&typed, &mut |warning| is_clear(&warning.to_string()));
    if added.is_err() {
        return are_clear(&complaints);
    }
    // Of the folders of this machine nothing is to depend.
    let mut complain = |line: fmt::Arguments| complaints.push(line.to_string());
    match Config::new(&typed, Surroundings::Taken, &mut complain) {
        Ok(config) => {
            leaves_time(&config.plan);
            stops(&config.plan);
            if let Some(watched) = &config.watched {
                let window = watched.until_quiet;
                assert!(!window.is_zero() && window <= config.plan.max_delay, "{window:?}");
                assert!(!watched.ports.contains(&0));
            }
            assert!(config.drain_file.is_none() || config.drain_file != config.ready_file);
            assert!(!explain::timeline(&config).is_empty());
        }
        Err(command_line::Refused) => are_clear(&complaints),
    }
}

/// The app has time between the end of the drain and the SIGKILL, and that comes before the end.
fn leaves_time(plan: &Plan) {
    let kill_after = plan.kill_after();
    assert!(kill_after <= plan.grace);
    assert!(kill_after == plan.grace.saturating_sub(plan.kill_margin));
    assert!(plan.delay <= plan.max_delay, "{plan:?}");
    assert!(plan.max_delay < kill_after, "{plan:?}");
    assert!(plan.unready_delay <= plan.longest_drain(), "{plan:?}");
    assert!(plan.told_after() < kill_after, "{plan:?}");
    let room = kill_after.saturating_sub(plan.told_after());
    let mut before = Duration::MAX;
    for escalation in &plan.escalate {
        assert!(escalation.before_kill <= room.min(before), "{plan:?}");
        before = escalation.before_kill;
    }
}

/// What asks for a stop reaches drain-init and goes on asking; what the app is sent leaves it a
/// choice.
fn stops(plan: &Plan) {
    assert!(plan.stop_on.iter().next().is_some());
    for signal in plan.stop_on.iter() {
        assert!(signal.excepted().is_none() && !signal.uncatchable(), "{signal}");
        let to = plan.map_signal.get(signal);
        assert!(to.is_some_and(|to| plan.stop_on.contains(to)), "{signal} becomes {to:?}");
    }
    let escalated = plan.escalate.iter().map(|escalation| escalation.signal);
    let mapped = (1..=64).filter_map(Signal::new);
    let mapped = mapped.filter_map(|from| plan.map_signal.get(from).filter(|to| *to != from));
    for signal in plan.stop_signal.into_iter().chain(escalated).chain(mapped) {
        assert!(signal.excepted().is_none() && !signal.uncatchable(), "{signal}");
    }
}

fn are_clear(complaints: &[String]) {
    assert!(!complaints.is_empty(), "refused, and nobody knows why");
    complaints.iter().for_each(|complaint| is_clear(complaint));
}

/// It says something, and is a line of the log and no more.
fn is_clear(complaint: &str) {
    assert!(!complaint.trim().is_empty());
    for format in [log::Format::Text, log::Format::Json] {
        let line = log::text(format, complaint);
        is_one_line(line.strip_suffix('\n').expect("ended"));
    }
}
