//! What the program can be asked to do.

#![forbid(unsafe_code)]

pub mod companion;
pub mod explain;
pub mod install;
pub mod prestop;
pub mod probe;
pub mod run;

use crate::cli::{self, Asked, Complaint, Options, Read, Verb};
use crate::config::{Config, Surroundings};
use crate::log::{Level, Log};
use crate::sys::Arguments;
use crate::{OWN_FAILURE, print};

/// What --help says. A test holds it to the options.
const HELP: &str = include_str!("../help.txt");

/// The options of an entrypoint.
const ENTRYPOINT: Options = Options::AllBut(&["--timeout"]);

/// Reads the options of a verb; answers --help and --version itself, and refuses nonsense with a
/// line for each finding. An error is the exit code.
fn read(verb: &Verb, arguments: Arguments) -> Result<Box<Read>, u8> {
    let warn = |warning: Complaint| {
        // The entrypoint has said so, and a probe would say it every second.
        if verb.command {
            Log::default().line(Level::Info, "options", format_args!("{warning}"));
        }
    };
    match cli::read(verb, arguments, warn) {
        Ok(Asked::Help) => Err(print(HELP)),
        Ok(Asked::Version) => Err(print(concat!("drain-init ", env!("CARGO_PKG_VERSION"), "\n"))),
        Ok(Asked::Options(read)) => Ok(read),
        Err(complaints) => Err(refuse(&complaints)),
    }
}

/// Reads the options of a verb, and what they mean.
fn configured(
    verb: &Verb,
    arguments: Arguments,
    surroundings: Surroundings,
) -> Result<(Box<Read>, Config), u8> {
    let read = read(verb, arguments)?;
    match Config::new(&read.typed, surroundings) {
        Ok(config) => Ok((read, config)),
        Err(complaints) => Err(refuse(&complaints)),
    }
}

fn refuse(complaints: &[Complaint]) -> u8 {
    for complaint in complaints {
        Log::default().error("refused", format_args!("{complaint}"));
    }
    OWN_FAILURE
}
