//! What the program can be asked to do.

#![forbid(unsafe_code)]

pub mod explain;
pub mod run;

use crate::cli::{self, Asked, Complaint, Typed};
use crate::config::Config;
use crate::log::{Level, Log};
use crate::sys::Arguments;
use crate::{OWN_FAILURE, print};

/// What --help says. A test holds it to the options.
const HELP: &str = include_str!("../help.txt");

/// Reads the options of a verb; answers --help and --version itself, and refuses nonsense with a
/// line for each finding. An error is the exit code.
fn options(verb: &str, arguments: Arguments) -> Result<(Typed, Config, Arguments), u8> {
    let warn = |warning: Complaint| {
        Log::default().line(Level::Info, "options", format_args!("{warning}"));
    };
    match cli::read(verb, arguments, warn) {
        Ok(Asked::Help) => Err(print(HELP)),
        Ok(Asked::Version) => Err(print(concat!("drain-init ", env!("CARGO_PKG_VERSION"), "\n"))),
        Ok(Asked::Options(typed, command)) => match Config::new(&typed) {
            Ok(config) => Ok((*typed, config, command)),
            Err(complaints) => Err(refuse(&complaints)),
        },
        Err(complaints) => Err(refuse(&complaints)),
    }
}

fn refuse(complaints: &[Complaint]) -> u8 {
    for complaint in complaints {
        Log::default().error("refused", format_args!("{complaint}"));
    }
    OWN_FAILURE
}
