//! What the options mean: the texts of `cli` become values, and nonsense becomes complaints.
//!
//! `run` and `explain` both come through here, so that explain shows what run would do and refuses
//! what run would refuse. Every finding is collected: nobody has to mend one line a start.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::cli::{Complain, Given, Refused, Typed};
use crate::duration::{self, Short};
use crate::lifecycle::{Escalation, ExitCodes, HeldBy, Plan};
use crate::log::{Format, Level, Log};
use crate::marker;
use crate::signal::{Signal, SignalMap, SignalSet};
use crate::target::{Handler, ListenOn, Target};
use crate::traffic::{Network, QuietOn, Watched};

const DELAY: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(30);
const KILL_MARGIN: Duration = Duration::from_millis(500);
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

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
                always: self.values("map-exit", exit_codes),
                after_stop: self.values("map-stop-exit", exit_codes),
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
            termination_log: self.value("termination-log", termination_log),
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

    fn duration(&mut self, option: &'static str) -> Option<Duration> {
        let given = self.typed.one(option)?;
        let parsed = duration::parse(given.text);
        parsed
            .map_err(|why| self.refuse(given, format_args!("{why}; write 500ms, 5s or 1m30s")))
            .ok()
    }

    fn signal(&mut self, option: &'static str, role: Role) -> Option<Signal> {
        let given = self.typed.one(option)?;
        self.named(given, given.text, role)
    }

    /// A signal that an option may name for this.
    fn named(&mut self, given: &Given, name: &str, role: Role) -> Option<Signal> {
        let Some(signal) = Signal::parse(name) else {
            let remedy = "write TERM, SIGTERM, 15 or SIGRTMIN+3";
            self.refuse(given, format_args!("there is no signal \"{name}\"; {remedy}"));
            return None;
        };
        match (signal.excepted(), role) {
            (Some(reason), _) => {
                self.refuse(given, format_args!("{signal} cannot be named: {reason}"));
            }
            (None, Role::Received) if signal.uncatchable() => {
                let why = "never reaches drain-init: no process can catch it";
                self.refuse(given, format_args!("{signal} {why}"));
            }
            (None, Role::Sent) if signal.uncatchable() => {
                let why = "leaves the app no choice; --grace says when SIGKILL falls";
                self.refuse(given, format_args!("{signal} {why}"));
            }
            (None, Role::OfParent) if signal == Signal::STOP => {
                self.refuse(given, format_args!("would stop drain-init for ever"));
            }
            (None, Role::Received | Role::Sent | Role::OfParent) => return Some(signal),
        }
        None
    }

    fn stop_on(&mut self) -> SignalSet {
        if self.typed.one("stop-on").is_none() {
            return SignalSet::from_iter([Signal::TERM, Signal::INT]);
        }
        let mut set = SignalSet::default();
        for given in self.typed.all("stop-on") {
            if let Some(signal) = self.named(given, given.text, Role::Received) {
                set.insert(signal);
            }
        }
        set
    }

    fn escalate(&mut self) -> Vec<Escalation> {
        let mut escalations = Vec::<Escalation>::new();
        for given in self.typed.all("escalate") {
            let Some((name, before)) = given.text.split_once(':') else {
                self.refuse(given, format_args!("has no `:`; write SIGNAL:TIME, as in QUIT:2s"));
                continue;
            };
            let signal = self.named(given, name, Role::Sent);
            match (signal, duration::parse(before)) {
                (Some(signal), Ok(before_kill)) => {
                    // Longest before the SIGKILL is due first; equals keep their order.
                    let place = escalations.partition_point(|it| it.before_kill >= before_kill);
                    escalations.insert(place, Escalation { signal, before_kill });
                }
                (_, Err(why)) => self.refuse(given, format_args!("its time {why}; write QUIT:2s")),
                (None, Ok(_)) => {}
            }
        }
        escalations
    }

    fn signal_map(&mut self) -> SignalMap {
        let mut map = SignalMap::default();
        for given in self.typed.all("map-signal") {
            let Some((from, to)) = given.text.split_once('=') else {
                self.refuse(given, format_args!("has no `=`; write FROM=TO, as in HUP=USR1"));
                continue;
            };
            let from = self.named(given, from, Role::Received);
            let to = if to.eq_ignore_ascii_case("none") {
                Some(None)
            } else {
                self.named(given, to, Role::Sent).map(Some)
            };
            if let (Some(from), Some(to)) = (from, to) {
                map.set(from, to);
            }
        }
        map
    }

    /// A stop signal that is dropped, or rewritten to one that asks for no stop, would leave the
    /// container with no drain and no deadline.
    fn check_stops_survive(&mut self, map: &SignalMap, stop_on: SignalSet) {
        for given in self.typed.all("map-signal") {
            let from = given.text.split_once('=').and_then(|(from, _)| Signal::parse(from));
            let Some(from) = from.filter(|from| stop_on.contains(*from)) else {
                continue;
            };
            match map.get(from) {
                None => {
                    let why = "asks for a stop and cannot be dropped; see --stop-on";
                    self.refuse(given, format_args!("{from} {why}"));
                }
                Some(to) if !stop_on.contains(to) => self.refuse(
                    given,
                    format_args!(
                        "{from} would ask for no stop any more; \
                         --stop-signal {to} is what sends the app another signal"
                    ),
                ),
                Some(_) => {}
            }
        }
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

    /// The times against each other: each must leave room for the next.
    fn check_times(&mut self, plan: &Plan) {
        let typed = self.typed;
        let [delay, grace, kill_margin] =
            ["delay", "grace", "kill-margin"].map(|option| typed.one(option));
        let kill_after = plan.kill_after();
        if kill_after.is_zero() {
            if let Some(given) = kill_margin.or(grace) {
                self.refuse(
                    given,
                    format_args!(
                        "SIGKILL would fall at once: --grace {} less --kill-margin {} leaves \
                         nothing; make the grace period longer or the margin shorter",
                        Short(plan.grace),
                        Short(plan.kill_margin)
                    ),
                );
            }
            return;
        }
        let no_time = NoTime(kill_after);
        if plan.delay >= kill_after {
            match (delay, grace, kill_margin) {
                (Some(given), _, _) => {
                    let remedy = "make --delay shorter or --grace longer";
                    self.refuse(given, format_args!("{no_time}; {remedy}"));
                }
                (None, Some(given), _) => {
                    let delay = Short(plan.delay);
                    self.refuse(
                        given,
                        format_args!("{no_time}; give --delay, which is {delay} without"),
                    );
                }
                // Then it is the margin that leaves none.
                (None, None, Some(given)) => {
                    self.refuse(given, format_args!("{no_time}; make it shorter"));
                }
                (None, None, None) => {}
            }
        }
        if let Some(given) = typed.one("max-delay") {
            if plan.max_delay < plan.delay {
                let delay = Short(plan.delay);
                let why = format_args!("is shorter than --delay, {delay}; make it at least that");
                self.refuse(given, why);
            } else if plan.max_delay >= kill_after && plan.delay < kill_after {
                self.refuse(given, format_args!("{no_time}; make it shorter"));
            }
        }
        for option in ["until-quiet", "unready-delay"] {
            if let Some(given) = typed.one(option)
                && duration::parse(given.text).is_ok_and(|time| time > plan.max_delay)
            {
                let longest = Short(plan.max_delay);
                self.refuse(
                    given,
                    format_args!("is longer than the longest drain, {longest}; make it shorter"),
                );
            }
        }
        let longest = plan.longest_drain();
        let room = kill_after.saturating_sub(longest);
        for given in typed.all("escalate") {
            let before =
                given.text.split_once(':').and_then(|(_, time)| duration::parse(time).ok());
            if before.is_some_and(|before| before > room) && longest < kill_after {
                self.refuse(
                    given,
                    format_args!(
                        "may come before the app is told to stop: from the end of the longest \
                         drain, {}, to SIGKILL there are {}; make its time shorter",
                        Short(longest),
                        Short(room)
                    ),
                );
            }
        }
    }
}

/// What a signal is named for.
#[derive(Clone, Copy)]
enum Role {
    /// drain-init is to receive it.
    Received,
    /// The app is to be sent it.
    Sent,
    /// The parent's end is to send it.
    OfParent,
}

/// What is wrong with a drain that lasts until SIGKILL falls, so long after the stop signal.
struct NoTime(Duration);

impl fmt::Display for NoTime {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kill_after = Short(self.0);
        write!(
            f,
            "leaves the app no time to stop: SIGKILL falls {kill_after} after the stop signal"
        )
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

fn termination_log(path: &'static str) -> Result<&'static str, &'static str> {
    if path.is_empty() || Path::new(path).is_dir() {
        return Err("is no file; write /dev/termination-log");
    }
    Ok(path)
}

/// Half of the grace period, if that leaves the app time to stop.
fn default_max_delay(plan: &Plan) -> Duration {
    let half = plan.grace / 2;
    if half < plan.kill_after() { half.max(plan.delay) } else { plan.delay }
}

#[cfg(test)]
mod tests;
