//! `drain-init [OPTIONS] -- COMMAND [ARG...]`: runs COMMAND as the app.

#![forbid(unsafe_code)]

use std::fmt;

use super::configured;
use crate::exit_code::OWN_FAILURE;
use crate::marker;
use crate::options::command_line::Verb;
use crate::options::config::Surroundings;
use crate::pid1::app::{App, StartError};
use crate::pid1::notify::Notify;
use crate::pid1::readiness::Readiness;
use crate::pid1::supervisor::Supervisor;
use crate::pid1::termination::TerminationLog;
use crate::sys::{self, Arguments, Described};

/// Returns the exit code of the container. `name` is the verb as typed, or empty.
pub fn run(name: &'static str, arguments: Arguments) -> u8 {
    let verb = Verb { name, only: None, command: true };
    let (read, mut config) = match configured(&verb, arguments, Surroundings::Checked) {
        Ok(read) => read,
        Err(code) => return code,
    };
    // Nothing is opened before the app starts unless one of these options needs it: the app must
    // not wait for the unnecessary.
    let files = [config.ready_file, config.drain_file, config.termination_log];
    if config.ready_listen.is_some() || config.ready_notify || files.iter().any(Option::is_some) {
        sys::take_closed();
    }
    let mut termination_log = TerminationLog::new(config.termination_log, config.log);
    // The app's first output must not follow the line of an earlier life.
    termination_log.remove_former();
    let mut is_refused = false;
    let mut refuse = |line: fmt::Arguments| {
        config.log.error("refused", line);
        termination_log.write(line);
        is_refused = true;
    };
    if read.command.len() == 0 {
        refuse(format_args!("COMMAND is missing: drain-init [OPTIONS] -- COMMAND [ARG...]"));
        return OWN_FAILURE;
    }
    // `explain` cannot check this, since it changes nothing.
    for given in [read.options.ready_file, read.options.drain_file].into_iter().flatten() {
        if let Err(why) = marker::prepare(given.text) {
            refuse(format_args!("{given}: {why}"));
        }
    }
    let listener = config.bind().unwrap_or_else(|error| {
        if let Some(given) = read.options.ready_listen {
            refuse(format_args!("{given}: cannot listen there: {}", Described(&error)));
        }
        None
    });
    let notify = config.open_notify().unwrap_or_else(|error| {
        let why = Described(&error);
        refuse(format_args!("--ready-notify: cannot make a socket for the app: {why}"));
        None
    });
    if is_refused {
        return OWN_FAILURE;
    }
    let (command, words) = (read.command, read.words);
    drop(read);
    let mut refuse = |error: StartError| {
        config.log.error("refused", format_args!("{error}"));
        termination_log.write(format_args!("{error}"));
        error.exit_code()
    };
    let found = match App::prepare(&config) {
        Ok(found) => found,
        Err(error) => return refuse(error),
    };
    if config.start_after.is_empty() && config.exit_handlers.is_empty() {
        let app = match App::start(command, &config, found, notify.as_ref().map(Notify::variable)) {
            Ok(app) => app,
            Err(error) => return refuse(error),
        };
        sys::take_closed();
        if let Some(folder) = sys::leave_folder() {
            config.given_in(folder);
        }
        let readiness = Readiness::new(&config, listener, notify);
        return Supervisor::new(&config, words, Ok(app), readiness).run();
    }
    // Before the app starts, and where it cannot be started.
    sys::take_closed();
    if let Some(folder) = sys::folder() {
        config.given_in(folder);
    }
    let found = found.show_that_it_takes_hooks();
    let readiness = Readiness::new(&config, listener, notify);
    Supervisor::new(&config, words, Err((command, found)), readiness).run()
}
