//! `drain-init companion WHAT ...`: what PID 1 starts to have done what it does not do itself, above
//! all whatever reads bytes from outside. Not in --help; each can be run by hand.
//!
//! A verb of its own, so that none of these is ever taken for an entrypoint or a hook. The listener
//! is standard input. Descriptor SECOND_INPUT is a pipe: one that closes when the drain begins, or,
//! for the drain itself, one that takes why it is over. With --ready-notify the app's socket is standard
//! input of `notify`, and the slate its SECOND_INPUT and the server's THIRD_INPUT.

#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use super::{configured, refuse};
use crate::clock::Clock;
use crate::drain::{Drain, End, standard_error};
use crate::duration::Rounded;
use crate::log::{Format, Level, Log};
use crate::options::command_line::Verb;
use crate::options::config::{Config, Surroundings};
use crate::options::target::{Handler, Target};
use crate::ready::check;
use crate::ready::notify;
use crate::ready::server;
use crate::ready::slate::Slate;
use crate::signal::{Signal, SignalSet};
use crate::sys::{self, Arguments, Described, SECOND_INPUT, THIRD_INPUT};

const LISTENER: i32 = 0;
const SOCKET: i32 = 0;

pub fn companion(words: Arguments) -> u8 {
    // Signals are blocked, so nothing else would end it when its parent is gone.
    let _ = sys::set_parent_death_signal(Signal::KILL);
    let text = |index: usize| words.get(index)?.to_str().ok();
    match (text(0), text(1)) {
        (Some("drain"), Some(before)) => {
            let folder = text(2).unwrap_or(".");
            // Where its file system was unmounted, what is named relative to it is not elsewhere.
            let _ = env::set_current_dir(folder);
            let given = text(3).unwrap_or_default();
            with_options(words.tail(4), |config| {
                config.given_in(folder);
                if let Some(watched) = &mut config.watched {
                    watched.given = listeners(given);
                }
                drain(config, Duration::from_millis(before.parse().unwrap_or(0)))
            })
        }
        (Some("call"), Some(handler)) => {
            let format = if text(2) == Some("json") { Format::Json } else { Format::Text };
            call(handler, Log { format, ..Log::default() })
        }
        (Some("notify"), believed) => notify(believed, text(2)),
        (Some(what), target) => readiness(what, target),
        (None, _) => refuse(format_args!(
            "companion: its name is missing; drain-init starts companions itself"
        )),
    }
}

/// Those that answer probes, and the one that waits until the app is ready.
fn readiness(what: &str, target: Option<&str>) -> u8 {
    let target = match target.map(Target::parse_local).transpose() {
        Ok(target) => target,
        Err(why) => return refuse(format_args!("companion: its target {why}")),
    };
    let clock = Clock::start();
    let result: io::Result<u8> = match (what, target) {
        // In this order: a copy of the listener could get the number of a pipe that is missing.
        ("ready", target) => sys::descriptor(SECOND_INPUT).and_then(|draining| {
            let listener = sys::descriptor(LISTENER)?;
            Ok(server::serve(listener, draining, target, None, clock))
        }),
        ("ready-notified", target) => sys::descriptor(THIRD_INPUT).and_then(|slate| {
            let (draining, listener) = (sys::descriptor(SECOND_INPUT)?, sys::descriptor(LISTENER)?);
            Ok(server::serve(listener, draining, target, Some(Slate::new(slate)), clock))
        }),
        ("accept", None) => {
            sys::descriptor(LISTENER).map(|listener| server::accept_and_close(listener, clock))
        }
        ("await", Some(target)) => Ok(server::await_ready(&target, clock)),
        _ => return refuse(format_args!("unknown companion {what}")),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            refuse(format_args!("companion {what}: a descriptor is missing: {}", Described(&error)))
        }
    }
}

/// Takes the app's sd_notify(3) messages until it is not what PID 1 believes any more.
fn notify(believed: Option<&str>, logged: Option<&str>) -> u8 {
    let is_ready = match believed {
        Some("ready") => true,
        Some("starting") => false,
        _ => return refuse(format_args!("companion notify: say whether it is starting or ready")),
    };
    let log = logged.map(|form| Log {
        format: if form == "json" { Format::Json } else { Format::Text },
        level: Level::Debug,
        ..Log::default()
    });
    let given = sys::descriptor(SECOND_INPUT).and_then(|slate| {
        let socket = sys::descriptor(SOCKET)?;
        Ok((socket, Slate::new(slate)))
    });
    match given {
        Ok((socket, slate)) => notify::listen(&socket, slate, is_ready, log),
        Err(error) => {
            refuse(format_args!("companion notify: a descriptor is missing: {}", Described(&error)))
        }
    }
}

fn with_options(words: Arguments, run: impl FnOnce(&mut Config) -> u8) -> u8 {
    let verb = Verb { name: "companion", only: None, command: false };
    match configured(&verb, words, Surroundings::Taken) {
        Ok((_, mut config)) => run(&mut config),
        Err(code) => code,
    }
}

/// `PORT:INODE,...`, as PID 1 writes them.
fn listeners(words: &str) -> Vec<(u16, u64)> {
    let pairs = words.split(',').filter_map(|word| word.split_once(':'));
    pairs.filter_map(|(port, inode)| Some((port.parse().ok()?, inode.parse().ok()?))).collect()
}

/// The drain that PID 1 has begun: for so long already.
fn drain(config: &Config, before: Duration) -> u8 {
    let drain =
        if before.is_zero() { Drain::begin(config, standard_error()) } else { Drain::join(config) };
    let clock = Clock::start();
    // Nothing tells it to end: PID 1 kills it when there is nothing more to wait for. What was seen
    // only this process knows; PID 1 says it, with what follows.
    if let End::Seen(why) = drain.wait(before, SignalSet::default()) {
        let told = sys::descriptor(SECOND_INPUT)
            .and_then(|account| File::from(account).write_all(why.as_bytes()));
        if told.is_err() {
            let after = Rounded(before.saturating_add(clock.now()));
            config.log.line(
                Level::Info,
                "drained",
                format_args!("drain over after {after}: {why}"),
            );
        }
    }
    0
}

/// Calls a handler's URL: whoever started this ends it when its time is over.
fn call(handler: &str, log: Log) -> u8 {
    let (method, url) = match Handler::parse(handler) {
        Ok(Handler::Call { method, url }) => (method, url),
        Ok(Handler::Exec(_)) => return refuse(format_args!("companion call: calls a URL")),
        Err(why) => return refuse(format_args!("companion call: {why}")),
    };
    match check::call(&method, &url, Duration::MAX, Clock::start()) {
        Ok(()) => 0,
        Err(reason) => {
            log.error("on-drain", format_args!("{handler}: {reason}"));
            1
        }
    }
}
