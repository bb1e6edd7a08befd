//! What the options mean: the texts of `cli` become values, and nonsense becomes complaints.
//!
//! `run` and `explain` both come through here, so that explain shows what run would do and refuses
//! what run would refuse. Every finding is collected: nobody has to mend one line a start.

#![forbid(unsafe_code)]

mod signals;
mod times;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use signals::Role;

use super::command_line::{Complain, Given, PREFIX, Refused, Typed};
use super::network::Network;
use super::plan::{ExitCodes, HeldBy, Plan};
use super::target::{Handler, ListenOn, Target};
use super::watched::{QuietOn, Watched};
use crate::duration;
use crate::log::{Format, Level, Log};
use crate::marker;
use crate::signal::Signal;

const DELAY: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(30);
const KILL_MARGIN: Duration = Duration::from_millis(500);
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// Options that do nothing unless another is given.
const NEEDS: [(&str, &[&str], &str); 6] = [
    ("quiet-on", &["until-quiet"], "--until-quiet"),
    ("watch-port", &["until-quiet"], "--until-quiet"),
    ("ignore-peer", &["until-quiet"], "--until-quiet"),
    ("max-delay", &["until-quiet", "on-drain"], "--until-quiet or --on-drain"),
    ("ready-check", &["ready-file", "ready-listen"], "--ready-file or --ready-listen"),
    ("unready-delay", &["ready-file", "ready-listen"], "--ready-file or --ready-listen"),
];

/// Everything that a run is told.
#[derive(Debug)]
pub struct Config {
    pub plan: Plan,
    /// Whose end the drain waits for.
    pub watched: Option<Watched>,
    /// Run when the drain begins.
    pub handlers: Vec<Handler>,
    pub drain_file: Option<&'static str>,
    pub ready_file: Option<&'static str>,
    pub ready_listen: Option<ListenOn>,
    pub ready_check: Option<Target>,
    pub termination_log: Option<&'static str>,
    /// Signals go to the app's process group.
    pub group: bool,
    pub parent_death_signal: Option<Signal>,
    pub log: Log,
}

/// Whether the folders of files that are to be made are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Surroundings {
    /// Before the app starts: what is wrong is refused.
    #[default]
    Checked,
    /// Too late for that: what is wrong by now is no reason not to drain.
    Taken,
}

impl Config {
    /// What the options mean; `complain` hears all that is wrong with them.
    pub fn new(
        typed: &Typed,
        surroundings: Surroundings,
        complain: Complain,
    ) -> Result<Self, Refused> {
        let mut reader = Reader { typed, surroundings, complain, refused: false };
        let config = reader.config();
        if reader.refused { Err(Refused) } else { Ok(config) }
    }
}

/// Tells of variables that are no options', and of options that do nothing, as nothing is given that
/// they are about.
pub fn without_effect(typed: &Typed, warn: Complain) {
    for name in &typed.unknown {
        let why = "there is no such option; `drain-init --help` lists them";
        warn(format_args!("{PREFIX}{name} is ignored: {why}"));
    }
    for (option, needs, needed) in NEEDS {
        if let Some(given) = typed.one(option)
            && needs.iter().all(|need| typed.one(need).is_none())
        {
            warn(format_args!("{given}: has no effect without {needed}"));
        }
    }
}

/// Reads values and says what is wrong with them; a value that is wrong is its default from then
/// on, so that the others can be looked at too.
struct Reader<'a> {
    typed: &'a Typed,
    surroundings: Surroundings,
    complain: Complain<'a>,
    refused: bool,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let map_signal = self.signal_map();
        let stop_on = self.stop_on();
        self.check_stops_survive(&map_signal, stop_on);
        let escalate = self.escalate();
        let handlers = self.values("on-drain", Handler::parse);
        let watched = self.watched();
        let mut plan = Plan {
            delay: self.duration("delay").unwrap_or(DELAY),
            max_delay: Duration::ZERO,
            held_by: match (&watched, handlers.is_empty()) {
                (Some(_), _) => HeldBy::Traffic,
                (None, false) => HeldBy::Handlers,
                (None, true) => HeldBy::Nothing,
            },
            unready_delay: self.duration("unready-delay").unwrap_or(Duration::ZERO),
            grace: self.duration("grace").unwrap_or(GRACE),
            kill_margin: self.duration("kill-margin").unwrap_or(KILL_MARGIN),
            orphan_grace: self.duration("orphan-grace").unwrap_or(ORPHAN_GRACE),
            stop_on,
            stop_signal: self.signal("stop-signal", Role::Sent),
            escalate,
            map_signal,
            exit_codes: ExitCodes {
                always: self.exit_codes("map-exit"),
                after_stop: self.exit_codes("map-stop-exit"),
            },
        };
        let max_delay = self.duration("max-delay");
        plan.max_delay = max_delay.unwrap_or_else(|| default_max_delay(&plan));
        // What follows from a value that could not be read would only mislead.
        if !self.refused {
            self.check_times(&plan);
        }
        let config = Config {
            watched,
            handlers,
            drain_file: self.file("drain-file"),
            ready_file: self.file("ready-file"),
            ready_listen: self.value("ready-listen", ListenOn::parse),
            ready_check: self.value("ready-check", Target::parse_local),
            termination_log: self.termination_log(),
            group: self.typed.one("group").is_some(),
            parent_death_signal: self.signal("parent-death-signal", Role::OfParent),
            log: Log {
                format: self.value("log-format", log_format).unwrap_or_default(),
                level: self.level(),
                ..Log::default()
            },
            plan,
        };
        if let Some(given) = self.typed.one("drain-file")
            && config.drain_file == config.ready_file
        {
            self.refuse(given, format_args!("is the ready-file too; give it another path"));
        }
        config
    }

    #[cold]
    #[inline(never)]
    fn refuse(&mut self, given: &Given, why: fmt::Arguments) {
        (self.complain)(format_args!("{given}: {why}"));
        self.refused = true;
    }

    fn parsed<T, W: fmt::Display>(
        &mut self,
        given: &Given,
        parse: impl Fn(&'static str) -> Result<T, W>,
    ) -> Option<T> {
        parse(given.text).map_err(|why| self.refuse(given, format_args!("{why}"))).ok()
    }

    /// Of an option that is given once.
    fn value<T, W: fmt::Display>(
        &mut self,
        option: &'static str,
        parse: impl Fn(&'static str) -> Result<T, W>,
    ) -> Option<T> {
        self.parsed(self.typed.one(option)?, parse)
    }

    /// Of an option that is given as often as one likes.
    fn values<T, W: fmt::Display>(
        &mut self,
        option: &'static str,
        parse: impl Fn(&'static str) -> Result<T, W>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for given in self.typed.all(option) {
            if let Some(value) = self.parsed(given, &parse) {
                values.push(value);
            }
        }
        values
    }

    fn watched(&mut self) -> Option<Watched> {
        let quiet_on = self.value("quiet-on", |text| match text {
            "requests" => Ok(QuietOn::Requests),
            "connections" => Ok(QuietOn::Connections),
            _ => Err("is neither requests nor connections"),
        });
        let ports = self.values("watch-port", |text| match text.parse() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err("is no port; write 1 to 65535"),
        });
        let ignored_peers = self.values("ignore-peer", |text| {
            Network::parse(text).map_err(|why| format!("{why}; write 10.0.0.7 or 10.0.0.0/24"))
        });
        let until_quiet = self.duration("until-quiet")?;
        if until_quiet.is_zero()
            && let Some(given) = self.typed.one("until-quiet")
        {
            self.refuse(given, format_args!("is no time to be quiet in; write 2s"));
        }
        let ports = ports.into_iter().collect();
        Some(Watched { until_quiet, quiet_on: quiet_on.unwrap_or_default(), ports, ignored_peers })
    }

    fn exit_codes(&mut self, option: &'static str) -> Vec<(u8, u8)> {
        let mut codes = Vec::<(u8, u8)>::new();
        for given in self.typed.all(option) {
            let Some((from, to)) = self.parsed(given, exit_codes) else {
                continue;
            };
            if codes.iter().any(|(other, _)| *other == from) {
                self.refuse(given, format_args!("{from} is rewritten already; say it once"));
            }
            codes.push((from, to));
        }
        codes
    }

    fn duration(&mut self, option: &'static str) -> Option<Duration> {
        let given = self.typed.one(option)?;
        let parsed = duration::parse(given.text);
        parsed
            .map_err(|why| self.refuse(given, format_args!("{why}; write 500ms, 5s or 1m30s")))
            .ok()
    }

    fn termination_log(&mut self) -> Option<&'static str> {
        let given = self.typed.one("termination-log")?;
        let path = given.text;
        if self.surroundings == Surroundings::Checked {
            let (folder, _) = marker::split(path);
            if path.is_empty() || Path::new(path).is_dir() {
                self.refuse(given, format_args!("is no file; write /dev/termination-log"));
            } else if !Path::new(folder).is_dir() {
                self.refuse(
                    given,
                    format_args!("there is no folder {folder}; name one that is there"),
                );
            }
        }
        Some(path)
    }

    fn level(&mut self) -> Level {
        let [quiet, verbose] = ["quiet", "verbose"].map(|option| self.typed.one(option).is_some());
        match (quiet, verbose) {
            (true, true) => {
                (self.complain)(format_args!("--quiet and --verbose: choose one"));
                self.refused = true;
                Level::Info
            }
            (true, false) => Level::Error,
            (false, true) => Level::Debug,
            (false, false) => Level::Info,
        }
    }

    fn file(&mut self, option: &'static str) -> Option<&'static str> {
        let given = self.typed.one(option)?;
        if self.surroundings == Surroundings::Checked
            && let Err(why) = marker::check(given.text)
        {
            self.refuse(given, format_args!("{why}"));
        }
        Some(given.text)
    }
}

fn exit_codes(text: &str) -> Result<(u8, u8), &'static str> {
    let (from, to) = text.split_once('=').ok_or("has no `=`; write FROM=TO, as in 143=0")?;
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) => Ok((from, to)),
        _ => Err("an exit code is a number from 0 to 255"),
    }
}

fn log_format(text: &str) -> Result<Format, &'static str> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("is neither text nor json"),
    }
}

/// Half of the grace period, if that leaves the app time to stop.
fn default_max_delay(plan: &Plan) -> Duration {
    let half = plan.grace / 2;
    if half < plan.kill_after() { half.max(plan.delay) } else { plan.delay }
}

#[cfg(test)]
mod tests;
