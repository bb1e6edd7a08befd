//! `drain-init [OPTIONS] -- COMMAND [ARG...]`: runs COMMAND as the app.

#![forbid(unsafe_code)]

use super::{options, refuse};
use crate::app::App;
use crate::marker;
use crate::supervisor::Supervisor;
use crate::sys::Arguments;

/// Returns the exit code of the container.
pub fn run(verb: &str, arguments: Arguments) -> u8 {
    let (config, command) = match options(verb, arguments) {
        Ok((_, config, command)) => (config, command),
        Err(code) => return code,
    };
    if command.len() == 0 {
        return refuse(&["there is no COMMAND; it follows `--`: drain-init [OPTIONS] -- COMMAND \
                         [ARG...]"
            .to_owned()]);
    }
    // Left by a container that was killed, on a volume that outlived it.
    for path in config.ready_file.iter().chain(&config.drain_file) {
        marker::remove(path, config.log);
    }
    match App::start(command, &config) {
        Ok(app) => Supervisor::new(config, app).run(),
        Err(error) => {
            config.log.error("refused", format_args!("{error}"));
            error.exit_code()
        }
    }
}
