//! The meaning of the options: turns the texts of `typed` into values, and reports mistakes.
//!
//! Both `run` and `explain` use it, so explain shows what run would do and refuses what run would
//! refuse. It collects every mistake, so that nobody has to fix one per start.

#![forbid(unsafe_code)]

mod reader;
mod signals;
mod times;

use std::time::Duration;

use reader::Reader;
use signals::Role;

use super::command_line::Refused;
use super::plan::{ExitCodes, HeldBy, Plan};
use super::target::{Handler, ListenOn, Target};
use super::typed::{Given, Options, PREFIX};
use super::watched::Watched;
use crate::log::{Format, Log};
use crate::signal::Signal;

const DELAY: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(30);
const KILL_MARGIN: Duration = Duration::from_millis(500);
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The whole configuration of a run.
#[derive(Debug)]
pub struct Config {
    pub plan: Plan,
    /// The traffic whose end the drain waits for.
    pub watched: Option<Watched>,
    /// Run when the drain begins.
    pub handlers: Vec<Handler>,
    /// Run when the app has ended.
    pub exit_handlers: Vec<Handler>,
    /// Must be ready before the app is started.
    pub start_after: Vec<Target>,
    pub drain_file: Option<&'static str>,
    pub ready_file: Option<&'static str>,
    pub ready_listen: Option<ListenOn>,
    pub ready_check: Option<Target>,
    /// The app announces its readiness by sd_notify(3).
    pub ready_notify: bool,
    pub termination_log: Option<&'static str>,
    /// Forward signals to the app's process group.
    pub group: bool,
    pub parent_death_signal: Option<Signal>,
    pub log: Log,
    /// The folder that relative paths refer to, if this process has left it.
    pub folder: Option<&'static str>,
}

/// Whether to check the folders of files that will be created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Surroundings {
    /// Before the app starts: mistakes are refused.
    #[default]
    Checked,
    /// Too late for that: a folder that is wrong by now must not prevent the drain.
    Taken,
}

impl Config {
    /// Builds the configuration, or returns all mistakes.
    pub fn new(typed: &Options, surroundings: Surroundings) -> Result<Self, Refused> {
        match Self::where_right(typed, surroundings) {
            (config, lines) if lines.is_empty() => Ok(config),
            (config, lines) => Err(Refused {
                lines,
                format: config.log.format,
                termination_log: config.termination_log,
            }),
        }
    }

    /// Builds the configuration from the valid options, with defaults for invalid ones, and returns
    /// all mistakes: for a verb that has to go on.
    pub fn where_right(typed: &Options, surroundings: Surroundings) -> (Self, Vec<String>) {
        let mut reader = Reader { typed, surroundings, complaints: Vec::new() };
        let config = reader.config();
        (config, reader.complaints)
    }

    /// Sets the folder in which the options were given, which may not be the current one.
    pub fn given_in(&mut self, folder: &'static str) {
        self.folder = Some(folder);
        for path in [&mut self.ready_file, &mut self.drain_file, &mut self.termination_log] {
            if let Some(path) = path
                && !path.starts_with('/')
            {
                *path = format!("{folder}/{path}").leak();
            }
        }
    }
}

/// Reports unknown variables, and options without effect because the option they refine is missing.
pub fn without_effect(typed: &Options, unknown: &[&str]) -> Vec<String> {
    let of_unknown =
        |name: &&str| format!("{PREFIX}{name}: unknown variable, ignored (see drain-init --help)");
    let mut warnings: Vec<String> = unknown.iter().map(of_unknown).collect();
    let watches = typed.until_quiet.is_some();
    let is_held = watches || !typed.on_drain.is_empty();
    let is_read = typed.ready_file.is_some() || typed.ready_listen.is_some();
    let (quiet, held) = ("--until-quiet", "--until-quiet or --on-drain");
    let readiness = "--ready-file or --ready-listen";
    let calls = |given: &Vec<Given>| given.iter().any(|it| it.text.contains("http://"));
    let asks = [&typed.on_drain, &typed.on_exit, &typed.start_after].into_iter().any(calls)
        || typed.ready_check.is_some_and(|it| it.text.starts_with("http://"));
    let (waits, asked) = (!typed.start_after.is_empty(), "a target or handler of http://");
    for (given, has_effect, needed) in [
        (typed.quiet_on.as_ref(), watches, quiet),
        (typed.close_idle.as_ref(), watches, quiet),
        (typed.in_flight.as_ref(), watches, quiet),
        (typed.watch_port.first(), watches, quiet),
        (typed.ignore_peer.first(), watches, quiet),
        (typed.max_delay.as_ref(), is_held, held),
        (typed.ready_check.as_ref(), is_read, readiness),
        (typed.unready_delay.as_ref(), is_read, readiness),
        (typed.start_timeout.as_ref(), waits, "--start-after"),
        (typed.header.first(), asks, asked),
    ] {
        if let Some(given) = given
            && !has_effect
        {
            warnings.push(format!("{given}: has no effect without {needed}"));
        }
    }
    if let Some(given) = typed.close_idle
        && typed.in_flight.is_some_and(|given| given.text == "app")
    {
        warnings.push(format!("{given}: has no effect with --in-flight app"));
    }
    if typed.ready_notify && !is_read {
        warnings.push(format!("--ready-notify: has no effect without {readiness}"));
    }
    warnings
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let typed = self.typed;
        let stop_on = self.stop_on();
        let map_signal = self.signal_map(stop_on);
        let escalate = self.escalate();
        let headers = self.headers();
        let mut handlers = self.values(&typed.on_drain, Handler::parse);
        let mut exit_handlers = self.values(&typed.on_exit, Handler::parse);
        let mut start_after = self.values(&typed.start_after, Target::parse);
        let mut ready_check = self.value(typed.ready_check, Target::parse_local);
        handlers.iter_mut().chain(&mut exit_handlers).for_each(|it| it.send(&headers));
        start_after.iter_mut().chain(&mut ready_check).for_each(|it| it.send(&headers));
        let watched = self.watched();
        let mut plan = Plan {
            delay: self.duration(typed.delay).unwrap_or(DELAY),
            max_delay: Duration::ZERO,
            held_by: match (&watched, handlers.is_empty()) {
                (Some(_), _) => HeldBy::Traffic,
                (None, false) => HeldBy::Handlers,
                (None, true) => HeldBy::Nothing,
            },
            unready_delay: self.duration(typed.unready_delay).unwrap_or(Duration::ZERO),
            grace: self.duration(typed.grace).unwrap_or(GRACE),
            kill_margin: self.duration(typed.kill_margin).unwrap_or(KILL_MARGIN),
            orphan_grace: self.duration(typed.orphan_grace),
            stop_on,
            stop_signal: self.signal(typed.stop_signal, Role::Sent),
            escalate: escalate.iter().map(|(_, escalation)| *escalation).collect(),
            map_signal,
            exit_codes: ExitCodes {
                always: self.exit_codes(&typed.map_exit),
                after_stop: self.exit_codes(&typed.map_stop_exit),
            },
            start_timeout: self.start_timeout(),
            has_exit_handlers: !exit_handlers.is_empty(),
        };
        let max_delay = self.duration(typed.max_delay);
        plan.max_delay = max_delay.unwrap_or_else(|| default_max_delay(&plan));
        // After an unreadable value, further checks would only mislead.
        if self.complaints.is_empty() {
            self.check_times(&plan, watched.as_ref(), &escalate);
        }
        let config = Config {
            watched,
            handlers,
            exit_handlers,
            start_after,
            drain_file: self.file(typed.drain_file),
            ready_file: self.file(typed.ready_file),
            ready_listen: self.value(typed.ready_listen, ListenOn::parse),
            ready_check,
            ready_notify: typed.ready_notify,
            termination_log: self.termination_log(),
            group: typed.group,
            parent_death_signal: self.signal(typed.parent_death_signal, Role::OfParent),
            log: Log {
                format: self.value(typed.log_format, Format::parse).unwrap_or_default(),
                level: self.level(),
                ..Log::default()
            },
            plan,
            folder: None,
        };
        if let Some(given) = typed.drain_file
            && config.drain_file == config.ready_file
        {
            self.refuse(given, format_args!("is also the ready-file; give it another path"));
        }
        config
    }
}

/// Half of the grace period, if that leaves the app time to stop.
fn default_max_delay(plan: &Plan) -> Duration {
    let half = plan.grace / 2;
    if half < plan.kill_after() { half.max(plan.delay) } else { plan.delay }
}

#[cfg(test)]
mod tests;
