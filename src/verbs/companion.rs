//! `drain-init companion ...`: what PID 1 starts to have done what it does not do itself.
//!
//! A verb of its own, so that none of these is ever taken for an entrypoint or a hook.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::probe::addresses;
use super::{ENTRYPOINT, configured, refuse};
use crate::check::{Check, answer};
use crate::cli::Verb;
use crate::clock::Clock;
use crate::config::{Config, Surroundings};
use crate::drain::{Drain, End, standard_error};
use crate::duration::Rounded;
use crate::log::{Level, Log};
use crate::signal::SignalSet;
use crate::sys::Arguments;
use crate::target::Handler;
use crate::termination::TerminationLog;
use crate::{OWN_FAILURE, ready_server};

/// The words behind `companion`: which one, what it is told, and the entrypoint's options.
pub fn companion(words: Arguments) -> u8 {
    let text = |index: usize| words.get(index).and_then(|word| word.to_str().ok());
    match (text(0), text(1)) {
        (Some("drain"), Some(before)) => with_options(words.tail(2), |config| {
            let before = Duration::from_millis(before.parse().unwrap_or(0));
            drain(config, before)
        }),
        (Some("ready"), _) => with_options(words.tail(1), |config| {
            ready_server::serve(config.ready_check.as_ref(), Clock::start())
        }),
        (Some("accept"), _) => ready_server::accept_and_close(),
        (Some("await"), _) => with_options(words.tail(1), |config| match &config.ready_check {
            Some(target) => ready_server::await_ready(target, Clock::start()),
            None => OWN_FAILURE,
        }),
        (Some("call"), Some(handler)) => call(handler),
        _ => refuse(&["companion: drain-init starts these itself".to_owned()]),
    }
}

fn with_options(words: Arguments, run: impl FnOnce(&Config) -> u8) -> u8 {
    let verb = Verb { name: "companion", options: ENTRYPOINT, operand: None, command: false };
    match configured(&verb, words, Surroundings::Taken) {
        Ok((_, config)) => run(&config),
        Err(code) => code,
    }
}

/// The drain that PID 1 has begun: for so long already.
fn drain(config: &Config, before: Duration) -> u8 {
    let drain =
        if before.is_zero() { Drain::begin(config, standard_error()) } else { Drain::join(config) };
    let clock = Clock::start();
    // Nothing tells it to end: PID 1 kills it when there is nothing more to wait for, and says that
    // the drain is over; what was seen only this process knows.
    if let End::Seen(why) = drain.wait(before, SignalSet::default()) {
        let after = Rounded(before.saturating_add(clock.now()));
        config.log.line(Level::Info, "drained", format_args!("drain over after {after}: {why}"));
        TerminationLog::new(config.termination_log.clone(), config.log).add(why);
    }
    0
}

/// Calls a handler's URL: whoever started this ends it when its time is over.
fn call(handler: &str) -> u8 {
    let Ok(Handler::Call { method, url }) = Handler::parse(handler) else {
        return OWN_FAILURE;
    };
    let clock = Clock::start();
    let limit = Duration::MAX;
    let called = addresses(&url.endpoint, limit).and_then(|addresses| {
        let check = Check::call(&method, &url, addresses, clock.now(), limit);
        answer(check, clock).map_err(|reason| reason.to_string())
    });
    match called {
        Ok(()) => 0,
        Err(why) => {
            Log::default().error("on-drain", format_args!("{handler} {why}"));
            1
        }
    }
}
