//! `drain-init companion NAME ...`: the tasks that PID 1 does not do itself, above all those that
//! read outside input. Not in --help; each can be run by hand.
//!
//! A verb of its own, so that a companion is never taken for an entrypoint or a hook. The listener
//! is standard input. Descriptor SECOND_INPUT is a pipe: it closes when the drain begins, or, for
//! the drain itself, takes the reason why the drain is over. With --ready-notify the app's socket
//! is `notify`'s standard input; the slate is its SECOND_INPUT and the server's THIRD_INPUT.

#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use super::{configured, read, refuse};
use crate::clock::Clock;
use crate::drain::handlers::{ON_EXIT, run_all};
use crate::drain::{Drain, End, standard_error};
use crate::duration::Rounded;
use crate::exit_code::{NOT_READY, OWN_FAILURE};
use crate::log::{Format, Level, Log};
use crate::options::command_line::Verb;
use crate::options::config::{Config, Surroundings};
use crate::options::target::{Handler, Headers, Target};
use crate::options::typed::Asking;
use crate::ready::check;
use crate::ready::notify;
use crate::ready::server;
use crate::ready::slate::Slate;
use crate::ready::waiter::{Outcome, Waits, joined, until_ready};
use crate::signal::{Signal, SignalSet};
use crate::sys::{self, Arguments, Described, SECOND_INPUT, THIRD_INPUT};

const LISTENER: i32 = 0;
const SOCKET: i32 = 0;

/// The descriptor of the companion that answers probes for news of the targets waited for.
const NEWS: i32 = 0;

pub fn companion(words: Arguments) -> u8 {
    // Signals are blocked, so nothing else would end it when its parent is gone.
    let _ = sys::set_parent_death_signal(Signal::KILL);
    let text = |index: usize| words.get(index)?.to_str().ok();
    match (text(0), text(1)) {
        (Some("drain"), Some(before)) => {
            let folder = text(2).unwrap_or(".");
            // If that file system was unmounted, relative paths must not resolve elsewhere.
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
        (Some("start"), Some(left)) => {
            let tells = text(2) == Some("tells");
            let left = Duration::from_millis(left.parse().unwrap_or(0));
            with_options(words.tail(3), |config| start(config, left, tells))
        }
        (Some("notify"), believed) => notify(believed, text(2)),
        (Some("exit"), Some(left)) => {
            let left = Duration::from_millis(left.parse().unwrap_or(0));
            let _ = env::set_current_dir(text(2).unwrap_or("."));
            with_options(words.tail(3), |config| {
                run_all(&config.exit_handlers, ON_EXIT, left, config.log);
                0
            })
        }
        (Some("call"), Some(event)) => call(event, words.tail(2)),
        (Some(what), _) => readiness(what, words.tail(1)),
        (None, _) => refuse(format_args!(
            "companion: its name is missing; drain-init starts companions itself"
        )),
    }
}

/// The target or handler of a companion, and the options to ask it with.
fn asking(words: Arguments) -> Result<Asking, u8> {
    let verb = Verb { name: "companion", only: None, command: false };
    read(&verb, words).map(|read| read.options)
}

/// The companions that answer probes, and the one that waits until the app is ready.
fn readiness(what: &str, words: Arguments) -> u8 {
    let asking = match asking(words) {
        Ok(asking) => asking,
        Err(code) => return code,
    };
    let target = match asking.targets.first().map(|it| Target::parse_local(it)).transpose() {
        Ok(target) => target,
        Err(why) => return refuse(format_args!("companion: its target {why}")),
    };
    // PID 1 has refused invalid ones.
    let headers = Headers::read(&asking.header).unwrap_or_default();
    let target = target.map(|mut target| {
        target.send(&headers);
        target
    });
    let clock = Clock::start();
    let result: io::Result<u8> = match (what, target) {
        // In this order: if the pipe is missing, a duplicate of the listener could get its number.
        ("ready", target) => sys::descriptor(SECOND_INPUT).and_then(|draining| {
            let listener = sys::descriptor(LISTENER)?;
            Ok(server::serve(listener, draining, target, None, clock))
        }),
        ("ready-notified", target) => sys::descriptor(THIRD_INPUT).and_then(|slate| {
            let (draining, listener) = (sys::descriptor(SECOND_INPUT)?, sys::descriptor(LISTENER)?);
            Ok(server::serve(listener, draining, target, Some(Slate::new(slate)), clock))
        }),
        ("waiting", None) => sys::descriptor(SECOND_INPUT).and_then(|news| {
            let listener = sys::descriptor(LISTENER)?;
            Ok(server::serve_before_start(listener, news, clock))
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

/// Receives the app's sd_notify(3) messages until the app's state differs from what PID 1 believes.
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

/// Parses `PORT:INODE,...`, as PID 1 writes it.
fn listeners(words: &str) -> Vec<(u16, u64)> {
    let pairs = words.split(',').filter_map(|word| word.split_once(':'));
    pairs.filter_map(|(port, inode)| Some((port.parse().ok()?, inode.parse().ok()?))).collect()
}

/// Runs the drain that PID 1 began `before` ago.
fn drain(config: &Config, before: Duration) -> u8 {
    let drain =
        if before.is_zero() { Drain::begin(config, standard_error()) } else { Drain::join(config) };
    let clock = Clock::start();
    // No signal ends it: PID 1 kills it when there is nothing left to wait for. Only this process
    // knows what it has seen; PID 1 logs that together with what follows.
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

/// Waits for the targets of --start-after, and reports to PID 1 which were not ready. Meanwhile it
/// reports the missing ones to the companion that answers probes, if there is one.
fn start(config: &Config, timeout: Duration, tells: bool) -> u8 {
    let log = config.log;
    let waits = Waits { timeout, log, ready: Level::Debug, repeats: true, told: None };
    let outcome = until_ready(&config.start_after, &waits, Clock::start(), &mut |missing| {
        if tells {
            sys::write_line(NEWS, format!("{missing}\n").as_bytes());
        }
    });
    match outcome {
        Outcome::Ready => 0,
        Outcome::Late(reasons) => {
            let told = sys::descriptor(SECOND_INPUT)
                .and_then(|account| File::from(account).write_all(joined(&reasons).as_bytes()));
            if told.is_err() {
                log.error("starting", format_args!("not ready: {}", joined(&reasons)));
            }
            NOT_READY
        }
        Outcome::Told => OWN_FAILURE,
    }
}

/// Calls a handler's URL. The parent kills it when its time has passed.
fn call(event: &str, words: Arguments) -> u8 {
    let asking = match asking(words) {
        Ok(asking) => asking,
        Err(code) => return code,
    };
    let handler = asking.targets.first().map_or("", String::as_str);
    let (method, mut url) = match Handler::parse(handler) {
        Ok(Handler::Call { method, url }) => (method, url),
        Ok(Handler::Exec(_)) => return refuse(format_args!("companion call: calls a URL")),
        Err(why) => return refuse(format_args!("companion call: {why}")),
    };
    url.headers = Headers::read(&asking.header).unwrap_or_default();
    match check::call(&method, &url, Duration::MAX, Clock::start()) {
        Ok(()) => 0,
        Err(reason) => {
            let format = asking.log_format.and_then(|given| Format::parse(given.text).ok());
            let log = Log { format: format.unwrap_or_default(), ..Log::default() };
            log.error(event, format_args!("{handler}: {reason}"));
            1
        }
    }
}
