//! `drain-init [OPTIONS] -- COMMAND [ARG...]`: runs COMMAND as the app.

#![forbid(unsafe_code)]

use std::path::Path;

use super::{options, refuse};
use crate::app::App;
use crate::cli::{Complaint, Given, Typed, as_written};
use crate::marker;
use crate::supervisor::Supervisor;
use crate::sys::Arguments;

/// Returns the exit code of the container.
pub fn run(verb: &str, arguments: Arguments) -> u8 {
    let (typed, config, command) = match options(verb, arguments) {
        Ok(read) => read,
        Err(code) => return code,
    };
    if command.len() == 0 {
        return refuse(&["there is no COMMAND; it follows `--`: drain-init [OPTIONS] -- COMMAND \
                         [ARG...]"
            .to_owned()]);
    }
    let complaints = prepare_markers(&typed);
    drop(typed);
    if !complaints.is_empty() {
        return refuse(&complaints);
    }
    match App::start(command, &config) {
        Ok(app) => Supervisor::new(config, app).run(),
        Err(error) => {
            config.log.error("refused", format_args!("{error}"));
            error.exit_code()
        }
    }
}

/// What `explain` cannot find out, as it changes nothing.
fn prepare_markers(typed: &Typed) -> Vec<Complaint> {
    let markers = [("ready-file", &typed.ready_file), ("drain-file", &typed.drain_file)];
    let complaint = |(option, given): (&str, &Option<Given>)| {
        let given = given.as_ref()?;
        let why = marker::prepare(Path::new(&given.text)).err()?;
        Some(format!("{}: {why}", as_written(option, given)))
    };
    markers.into_iter().filter_map(complaint).collect()
}
