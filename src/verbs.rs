//! What the program can be asked to do.

#![forbid(unsafe_code)]

pub mod companion;
pub mod explain;
pub mod install;
pub mod prestop;
pub mod probe;
pub mod run;

use std::fmt;

use crate::cli::{self, Asked, Options, Read, Refused, Verb};
use crate::config::{Config, Surroundings};
use crate::log::{Level, Log};
use crate::sys::Arguments;
use crate::{OWN_FAILURE, print};

/// What --help says. A test holds it to the options.
const HELP: &str = include_str!("help.txt");

/// The options of an entrypoint.
const ENTRYPOINT: Options = Options::AllBut(&["timeout"]);

/// Reads the options of a verb; answers --help and --version itself, and refuses nonsense with a
/// line for each finding. An error is the exit code.
fn read(verb: &Verb, arguments: Arguments) -> Result<Read, u8> {
    let mut warn = |warning: fmt::Arguments| {
        // The entrypoint has said so, and a probe would say it every second.
        if verb.command {
            Log::default().line(Level::Info, "options", warning);
        }
    };
    match cli::read(verb, arguments, &mut complain, &mut warn) {
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
    match Config::new(&read.typed, surroundings, &mut complain) {
        Ok(config) => Ok((read, config)),
        Err(Refused) => Err(OWN_FAILURE),
    }
}

fn complain(line: fmt::Arguments) {
    Log::default().error("refused", line);
}

fn refuse(line: fmt::Arguments) -> u8 {
    complain(line);
    OWN_FAILURE
}
