//! The verbs of the command line.

#![forbid(unsafe_code)]

pub mod companion;
pub mod explain;
pub mod install;
pub mod prestop;
pub mod probe;
pub mod run;
pub mod wait;

use std::fmt;
use std::io::Write;

use crate::exit_code::OWN_FAILURE;
use crate::log::{Level, Log};
use crate::options::command_line::{self, Asked, Read, Refused, Verb};
use crate::options::config::{self, Config, Surroundings};
use crate::options::typed::{Options, Texts};
use crate::pid1::termination::TerminationLog;
use crate::sys::{self, Arguments};

/// The text of --help. A test keeps it in step with the options.
const HELP: &str = include_str!("options/help.txt");

/// Reads the options of a verb. Answers --help and --version itself, and reports each mistake in a
/// line of its own. An error is the exit code.
fn read<T: Texts>(verb: &Verb, arguments: Arguments) -> Result<Read<T>, u8> {
    match command_line::read(verb, arguments).map_err(|refused| report(verb, refused))? {
        Asked::Help => Err(help()),
        Asked::Version => Err(version()),
        Asked::Options(read) => Ok(read),
    }
}

fn help() -> u8 {
    print(HELP)
}

fn version() -> u8 {
    print(concat!("drain-init ", env!("CARGO_PKG_VERSION"), "\n"))
}

/// Reads the options of an entrypoint or a hook, and builds their configuration.
fn configured(
    verb: &Verb,
    arguments: Arguments,
    surroundings: Surroundings,
) -> Result<(Read<Options>, Config), u8> {
    let read = read(verb, arguments)?;
    let config = Config::new(&read.options, surroundings);
    let config = config.map_err(|refused| report(verb, refused))?;
    // A hook has the options of its entrypoint, which has reported this.
    if verb.command {
        for line in config::without_effect(&read.options, &read.unknown) {
            config.log.line(Level::Info, "options", format_args!("{line}"));
        }
    }
    Ok((read, config))
}

/// Reports the mistakes.
fn report(verb: &Verb, Refused { lines, format, termination_log }: Refused) -> u8 {
    let log = Log { format, ..Log::default() };
    lines.iter().for_each(|line| log.error("refused", format_args!("{line}")));
    if let Some(path) = termination_log.filter(|_| verb.command) {
        TerminationLog::refuse(path, format_args!("{}", lines.join("; ")));
    }
    OWN_FAILURE
}

fn refuse(line: fmt::Arguments) -> u8 {
    Log::default().error("refused", line);
    OWN_FAILURE
}

/// Writes to standard output. The exit code is that of a failure if it could not.
fn print(text: &str) -> u8 {
    // Not std's handle: its locks and buffers are of no use here.
    let output = sys::STANDARD_OUTPUT.try_clone_to_owned().map(std::fs::File::from);
    match output.and_then(|mut output| output.write_all(text.as_bytes())) {
        Ok(()) => 0,
        Err(_) => OWN_FAILURE,
    }
}
