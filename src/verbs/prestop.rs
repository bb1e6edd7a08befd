//! `drain-init prestop [OPTIONS]`: a preStop hook. It blocks until the drain is over.
//!
//! If drain-init is the entrypoint, that drains, and the hook waits for its companion. So a hook
//! that is killed or run twice changes nothing, and no delay is paid twice. Otherwise the hook
//! drains by itself. Whatever goes wrong, including invalid options, it does not return early, and
//! it does not fail.

#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{help, version};
use crate::clock::Clock;
use crate::drain::entrypoint::{self, Entrypoint};
use crate::drain::{Drain, End, standard_error};
use crate::duration::{Lasts, Rounded};
use crate::log::{Level, Log};
use crate::marker;
use crate::options::command_line::{self, Asked, Refused, Verb};
use crate::options::config::{Config, Surroundings};
use crate::options::typed::Options;
use crate::poll;
use crate::signal::{Signal, SignalSet};
use crate::sys::{self, Arguments, Polled};

const VERB: Verb = Verb {
    name: "prestop",
    only: Some(&[
        "delay",
        "until_quiet",
        "quiet_on",
        "close_idle",
        "in_flight",
        "watch_port",
        "ignore_peer",
        "max_delay",
        "on_drain",
        "drain_file",
        "grace",
        "kill_margin",
        "header",
        "log_format",
        "quiet",
        "verbose",
    ]),
    command: false,
};

/// How long an entrypoint has to take the signal and start its companion.
const ANSWER: Duration = Duration::from_secs(1);

/// How often it is checked meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// The signals that end a hook, with exit code 0: it has done what it could.
fn told_by() -> SignalSet {
    ["TERM", "INT", "QUIT", "HUP"].into_iter().filter_map(Signal::parse).collect()
}

pub fn prestop(arguments: Arguments) -> u8 {
    let (options, refused) = match options(arguments) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let (mut config, mut wrong) = Config::where_right(&options, Surroundings::Taken);
    if let Some(Refused { mut lines, format, .. }) = refused {
        config.log.format = format;
        lines.append(&mut wrong);
        wrong = lines;
    }
    config.log.copy = container_log();
    for line in wrong {
        let line = format_args!("prestop: {line}; the hook drains without it");
        config.log.error("refused", line);
    }
    let asked = Entrypoint::find().and_then(|entrypoint| {
        if entrypoint.waits_to_start() {
            config
                .log
                .debug("prestop", format_args!("the app is not started yet: nothing to drain"));
            return Some(());
        }
        entrypoint.ask().ok()?;
        wait_for(&entrypoint, config.log)
    });
    if asked.is_none() {
        drain(&config);
    }
    0
}

/// The options, and the mistakes in them; an error is the exit code. A hook that fails drains
/// nothing, and its message is hardly ever read. So mistakes are logged and otherwise ignored.
fn options(arguments: Arguments) -> Result<(Options, Option<Refused>), u8> {
    let mut wrong = None;
    // The words before the first invalid one are valid.
    for length in (0..=arguments.len()).rev() {
        match command_line::read(&VERB, arguments.head(length)) {
            Ok(Asked::Help) => return Err(help()),
            Ok(Asked::Version) => return Err(version()),
            Ok(Asked::Options(read)) => return Ok((read.options, wrong)),
            Err(refused) => wrong = wrong.or(Some(refused)),
        }
    }
    Ok((Options::default(), wrong))
}

/// The container's log, if it can be written: a hook's own output is thrown away.
fn container_log() -> Option<BorrowedFd<'static>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_APPEND;
    let path = format!("/proc/{}/fd/2", entrypoint::first_process()?);
    let log = sys::open(&path, libc::O_WRONLY | flags).ok()?;
    let own = File::from(standard_error().try_clone_to_owned().ok()?);
    let [log_file, own_file] = [log.metadata().ok()?, own.metadata().ok()?];
    let same = (log_file.dev(), log_file.ino()) == (own_file.dev(), own_file.ino());
    // It stays open until the process ends.
    if same {
        return None;
    }
    let log: &'static File = Box::leak(Box::new(log));
    Some(log.as_fd())
}

/// Waits until the entrypoint's drain is over, or a signal ends the hook. None if the entrypoint
/// does not answer.
fn wait_for(entrypoint: &Entrypoint, log: Log) -> Option<()> {
    let clock = Clock::start();
    while clock.now() < ANSWER {
        if let Some(companion) = entrypoint.companion() {
            let pid = entrypoint.pid;
            log.debug("prestop", format_args!("waiting for the drain of process {pid}"));
            return wait_for_end(&companion);
        }
        if sys::wait_for_signal(Some(LOOK)).is_some_and(|it| told_by().contains(it.signal)) {
            return Some(());
        }
    }
    // It has taken the signal, and has no companion to wait for: it keeps the rest of its delay
    // itself.
    entrypoint.has_taken().then_some(())
}

/// None if it is impossible to wait.
fn wait_for_end(companion: &OwnedFd) -> Option<()> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC).ok()?;
    loop {
        let mut both = [Polled::readable(companion), Polled::readable(&signals)];
        poll::wait(&mut both, None, Duration::ZERO);
        let [ended, signalled] = both.map(|it| it.is_ready());
        let told = signalled
            && sys::wait_for_signal(Some(Duration::ZERO))
                .is_some_and(|it| told_by().contains(it.signal));
        if ended || told {
            return Some(());
        }
    }
}

/// Drains, if no entrypoint does.
fn drain(config: &Config) {
    let log = config.log;
    let lasts = Lasts(config.plan.delay, config.plan.longest_drain());
    log.line(Level::Info, "draining", format_args!("prestop: draining for {lasts}"));
    if let Some(path) = config.drain_file {
        marker::create(path, log);
    }
    let clock = Clock::start();
    let output = log.copy.unwrap_or_else(standard_error);
    let end = Drain::begin(config, output).wait(Duration::ZERO, told_by());
    let after = Rounded(clock.now());
    match end {
        End::Seen(why) => {
            log.line(Level::Info, "drained", format_args!("drain over after {after}: {why}"));
        }
        End::Over => log.line(Level::Info, "drained", format_args!("drain over after {after}")),
        End::Told => {
            log.line(Level::Info, "drained", format_args!("ended by a signal after {after}"))
        }
    }
}
