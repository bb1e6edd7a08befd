//! The command line and the environment: never a panic, and the result is either options that leave
//! the app time to stop, or messages of one line each.

use std::ffi::{CStr, CString};
use std::time::Duration;

use super::is_one_line;
use crate::log;
use crate::options::command_line::{self, Asked, Read, Refused, Verb};
use crate::options::config::{self, Config, Surroundings};
use crate::options::environment;
use crate::options::plan::Plan;
use crate::options::typed::{Asking, Options, Texts};
use crate::signal::Signal;
use crate::sys;
use crate::verbs::explain;

const PREFIX: &[u8] = b"DRAIN_INIT_";

const RUN: Verb = Verb { name: "run", only: None, command: true };
const PROBE: Verb = Verb { name: "probe", only: None, command: false };

/// Takes the words of a command line, each ended by a zero byte, as for execve(2). Words that
/// assign to a DRAIN_INIT_ variable form the environment.
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
    let is_probe = arguments.first().is_some_and(|word| word.as_bytes() == b"probe");
    let words = arguments.get(usize::from(is_probe)..).unwrap_or_default();
    if is_probe {
        let _ = read::<Asking>(&PROBE, words);
    } else if let Some(options) = read::<Options>(&RUN, words) {
        sys::with_arguments(&environment, |variables| {
            with_environment(options, variables.iter().map(CStr::to_bytes));
        });
    }
}

/// The options of these words, if valid. The result must not depend on this process's own
/// environment, which normally has no such variable.
fn read<T: Texts>(verb: &Verb, words: &[CString]) -> Option<T> {
    let mut result = None;
    sys::with_arguments(words, |all| match command_line::read(verb, all) {
        Ok(Asked::Help | Asked::Version) => {}
        Ok(Asked::Options(read)) => {
            is_all(&read, words);
            result = Some(read.options);
        }
        Err(refused) => are_clear(&refused),
    });
    result
}

fn split_at_equals(word: &'static [u8]) -> (&'static [u8], &'static [u8]) {
    let equals = word.iter().position(|byte| *byte == b'=').expect("a variable");
    (&word[..equals], &word[equals + 1..])
}

/// The options and COMMAND are the words as given.
fn is_all<T>(read: &Read<T>, arguments: &[CString]) {
    let separator = arguments.iter().position(|word| word.as_bytes() == b"--");
    let (words, command) = match separator {
        Some(separator) => (&arguments[..separator], &arguments[separator + 1..]),
        None => (arguments, &arguments[..0]),
    };
    assert!(read.words.iter().eq(words.iter().map(CString::as_c_str)));
    assert!(read.command.iter().eq(command.iter().map(CString::as_c_str)));
}

fn with_environment(mut options: Options, variables: impl Iterator<Item = &'static [u8]>) {
    let format = log::Format::Text;
    let variables = variables.map(split_at_equals);
    match environment::add(&mut options.options(), variables) {
        Ok(unknown) => {
            let warnings = config::without_effect(&options, &unknown);
            warnings.iter().for_each(|warning| is_clear(warning));
        }
        Err(lines) => return are_clear(&Refused { lines, format, termination_log: None }),
    }
    // The result must not depend on the folders of this machine.
    match Config::new(&options, Surroundings::Taken) {
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
        Err(refused) => are_clear(&refused),
    }
}

/// The app has time between the end of the drain and SIGKILL, and SIGKILL comes before the end.
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

/// Signals that request a stop reach drain-init and still request it after rewriting. The app is
/// not sent an uncatchable signal.
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

fn are_clear(refused: &Refused) {
    assert!(!refused.lines.is_empty(), "refused, and nobody knows why");
    refused.lines.iter().for_each(|line| is_clear(line));
}

/// The message says something, and is one line of the log.
fn is_clear(complaint: &str) {
    assert!(!complaint.trim().is_empty());
    for format in [log::Format::Text, log::Format::Json] {
        let line = log::text(format, complaint);
        is_one_line(line.strip_suffix('\n').expect("ended"));
    }
}
