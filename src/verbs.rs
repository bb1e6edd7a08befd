//! What the program can be asked to do.

#![forbid(unsafe_code)]

pub mod companion;
pub mod explain;
pub mod install;
pub mod prestop;
pub mod probe;
pub mod run;

use std::fmt;
use std::io::Write;

use crate::exit_code::OWN_FAILURE;
use crate::log::{Format, Level, Log};
use crate::options::command_line::{self, Asked, Options, Read, Refused, Verb};
use crate::options::config::{self, Config, Surroundings};
use crate::sys::{self, Arguments};

/// What --help says. A test holds it to the options.
const HELP: &str = include_str!("options/help.txt");

/// The options of an entrypoint.
const ENTRYPOINT: Options = Options::AllBut(&["timeout"]);

/// Reads the options of a verb; answers --help and --version itself, and refuses nonsense with a
/// line for each finding. An error is the exit code.
fn read(verb: &Verb, arguments: Arguments) -> Result<Read, u8> {
    match command_line::read(verb, arguments, &mut complain_to(arguments)) {
        Ok(Asked::Help) => Err(print(HELP)),
        Ok(Asked::Version) => Err(print(concat!("drain-init ", env!("CARGO_PKG_VERSION"), "\n"))),
        Ok(Asked::Options(read)) => Ok(read),
        Err(Refused) => Err(OWN_FAILURE),
    }
}

/// Reads the options of a verb, and what they mean.
fn configured(
    verb: &Verb,
    arguments: Arguments,
    surroundings: Surroundings,
) -> Result<(Read, Config), u8> {
    let read = read(verb, arguments)?;
    let Ok(config) = Config::new(&read.typed, surroundings, &mut complain_to(arguments)) else {
        return Err(OWN_FAILURE);
    };
    // A hook's options are the entrypoint's, which has said so.
    if verb.command {
        let log = config.log;
        config::without_effect(&read.typed, &mut |line| log.line(Level::Info, "options", line));
    }
    Ok((read, config))
}

/// Says what is wrong in the form that these arguments ask for.
fn complain_to(arguments: Arguments) -> impl FnMut(fmt::Arguments) {
    move |line| {
        let format =
            if command_line::json_is_asked(arguments) { Format::Json } else { Format::Text };
        Log { format, ..Log::default() }.error("refused", line);
    }
}

fn refuse(line: fmt::Arguments) -> u8 {
    Log::default().error("refused", line);
    OWN_FAILURE
}

/// Answers on standard output. The exit code says whether that worked.
fn print(text: &str) -> u8 {
    // Not std's handle of it: what that has of locks and buffers is of no use here.
    let output = sys::STANDARD_OUTPUT.try_clone_to_owned().map(std::fs::File::from);
    match output.and_then(|mut output| output.write_all(text.as_bytes())) {
        Ok(()) => 0,
        Err(_) => OWN_FAILURE,
    }
}
