//! `drain-init [OPTIONS] -- COMMAND [ARG...]`: runs COMMAND as the app.

#![forbid(unsafe_code)]

use std::path::Path;

use super::{ENTRYPOINT, configured, refuse};
use crate::app::App;
use crate::cli::{Complaint, Given, Typed, Verb, as_written};
use crate::config::Surroundings;
use crate::marker;
use crate::readiness::Readiness;
use crate::supervisor::Supervisor;
use crate::sys::Arguments;

/// Returns the exit code of the container. `name` is the verb as typed, if it was.
pub fn run(name: &'static str, arguments: Arguments) -> u8 {
    let verb = Verb { name, options: ENTRYPOINT, operand: None, command: true };
    let (read, config) = match configured(&verb, arguments, Surroundings::Checked) {
        Ok(read) => read,
        Err(code) => return code,
    };
    if read.command.len() == 0 {
        return refuse(&["there is no COMMAND; it follows `--`: drain-init [OPTIONS] -- COMMAND \
                         [ARG...]"
            .to_owned()]);
    }
    let mut complaints = prepare_markers(&read.typed);
    let listener = config.bind().unwrap_or_else(|error| {
        let given = read.typed.ready_listen.as_ref();
        let written = given.map(|given| as_written("ready-listen", given)).unwrap_or_default();
        complaints.push(format!("{written}: cannot listen there: {error}"));
        None
    });
    if !complaints.is_empty() {
        return refuse(&complaints);
    }
    let (command, words) = (read.command, read.words);
    drop(read);
    match App::start(command, &config) {
        Ok(app) => {
            let readiness = Readiness::new(&config, listener);
            Supervisor::new(config, words, app, readiness).run()
        }
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
