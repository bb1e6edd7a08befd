//! What the options mean: the texts of `cli` become values, and nonsense becomes complaints.
//!
//! `run` and `explain` both come through here, so that explain shows what run would do and refuses
//! what run would refuse. Every finding is collected: nobody has to mend one line a start.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{Complaint, Given, Typed, as_written};
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
    pub drain_file: Option<PathBuf>,
    pub ready_file: Option<PathBuf>,
    pub ready_listen: Option<ListenOn>,
    pub ready_check: Option<Target>,
    pub termination_log: Option<PathBuf>,
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
    /// What the options mean, or all that is wrong with them.
    pub fn new(typed: &Typed, surroundings: Surroundings) -> Result<Self, Vec<Complaint>> {
        let mut reader = Reader { surroundings, ..Reader::default() };
        let config = reader.config(typed);
        if reader.complaints.is_empty() { Ok(config) } else { Err(reader.complaints) }
    }
}

/// Reads values and keeps what is wrong with them; a value that is wrong is its default from then
/// on, so that the others can be looked at too.
#[derive(Default)]
struct Reader {
    complaints: Vec<Complaint>,
    surroundings: Surroundings,
}

impl Reader {
    fn config(&mut self, typed: &Typed) -> Config {
        let map_signal = self.signal_map(&typed.map_signal);
        let stop_on = self.stop_on(&typed.stop_on);
        self.check_stops_survive(&typed.map_signal, &map_signal, stop_on);
        let escalate = self.escalate(&typed.escalate);
        let handlers = typed.on_drain.iter();
        let handlers: Vec<Handler> =
            handlers.filter_map(|given| self.parsed("on-drain", given, Handler::parse)).collect();
        let watched = self.watched(typed);
        let mut plan = Plan {
            delay: self.duration("delay", &typed.delay, DELAY),
            max_delay: Duration::ZERO,
            held_by: match (&watched, handlers.is_empty()) {
                (Some(_), _) => HeldBy::Traffic,
                (None, false) => HeldBy::Handlers,
                (None, true) => HeldBy::Nothing,
            },
            unready_delay: self.duration("unready-delay", &typed.unready_delay, Duration::ZERO),
            grace: self.duration("grace", &typed.grace, GRACE),
            kill_margin: self.duration("kill-margin", &typed.kill_margin, KILL_MARGIN),
            orphan_grace: self.duration("orphan-grace", &typed.orphan_grace, ORPHAN_GRACE),
            stop_on,
            stop_signal: self.signal_for_app("stop-signal", &typed.stop_signal),
            escalate,
            map_signal,
            exit_codes: ExitCodes {
                always: self.exit_codes("map-exit", &typed.map_exit),
                after_stop: self.exit_codes("map-stop-exit", &typed.map_stop_exit),
            },
        };
        let max_delay = typed.max_delay.as_ref();
        let max_delay = max_delay.and_then(|given| self.duration_of("max-delay", given));
        plan.max_delay = max_delay.unwrap_or_else(|| default_max_delay(&plan));
        // What follows from a value that could not be read would only mislead.
        if self.complaints.is_empty() {
            self.check_times(typed, &plan);
        }
        let config = Config {
            watched,
            handlers,
            drain_file: self.file("drain-file", &typed.drain_file),
            ready_file: self.file("ready-file", &typed.ready_file),
            ready_listen: self.maybe_parsed("ready-listen", &typed.ready_listen, ListenOn::parse),
            ready_check: self.maybe_parsed("ready-check", &typed.ready_check, Target::parse_local),
            termination_log: self.termination_log(&typed.termination_log),
            group: typed.group,
            parent_death_signal: self.parent_death_signal(&typed.parent_death_signal),
            log: Log {
                format: self.log_format(&typed.log_format),
                level: self.level(typed),
                ..Log::default()
            },
            plan,
        };
        if let Some(given) = &typed.drain_file
            && config.drain_file == config.ready_file
        {
            self.refuse("drain-file", given, "is the ready-file too; give it another path");
        }
        config
    }

    fn refuse(&mut self, option: &str, given: &Given, why: impl AsRef<str>) {
        self.complaints.push(format!("{}: {}", as_written(option, given), why.as_ref()));
    }

    fn parsed<T>(
        &mut self,
        option: &str,
        given: &Given,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(&given.text).map_err(|why| self.refuse(option, given, why)).ok()
    }

    fn maybe_parsed<T>(
        &mut self,
        option: &str,
        given: &Option<Given>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.parsed(option, given.as_ref()?, parse)
    }

    fn watched(&mut self, typed: &Typed) -> Option<Watched> {
        let quiet_on = self.maybe_parsed("quiet-on", &typed.quiet_on, |text| match text {
            "requests" => Ok(QuietOn::Requests),
            "connections" => Ok(QuietOn::Connections),
            _ => Err("is neither requests nor connections".to_owned()),
        });
        let port = |text: &str| match text.parse() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err("is no port; write 1 to 65535".to_owned()),
        };
        let ports = typed.watch_port.iter();
        let ports = ports.filter_map(|given| self.parsed("watch-port", given, port)).collect();
        let network = |text: &str| {
            Network::parse(text).map_err(|why| format!("{why}; write 10.0.0.7 or 10.0.0.0/24"))
        };
        let peers = typed.ignore_peer.iter();
        let ignored_peers =
            peers.filter_map(|given| self.parsed("ignore-peer", given, network)).collect();
        let given = typed.until_quiet.as_ref()?;
        let until_quiet = self.duration_of("until-quiet", given)?;
        if until_quiet.is_zero() {
            self.refuse("until-quiet", given, "is no time to be quiet in; write 2s");
        }
        Some(Watched { until_quiet, quiet_on: quiet_on.unwrap_or_default(), ports, ignored_peers })
    }

    fn duration(&mut self, option: &str, given: &Option<Given>, default: Duration) -> Duration {
        let value = given.as_ref().and_then(|given| self.duration_of(option, given));
        value.unwrap_or(default)
    }

    fn duration_of(&mut self, option: &str, given: &Given) -> Option<Duration> {
        duration::parse(&given.text)
            .map_err(|why| self.refuse(option, given, format!("{why}; write 500ms, 5s or 1m30s")))
            .ok()
    }

    /// A signal that an option may name.
    fn signal(&mut self, option: &str, given: &Given, name: &str) -> Option<Signal> {
        let Some(signal) = Signal::parse(name) else {
            let why = format!("there is no signal {name:?}; write TERM, SIGTERM, 15 or SIGRTMIN+3");
            self.refuse(option, given, why);
            return None;
        };
        if let Some(reason) = signal.excepted() {
            let why = format!("{signal} cannot be named: {reason}");
            self.refuse(option, given, why);
            return None;
        }
        Some(signal)
    }

    /// A signal that drain-init is to receive.
    fn received(&mut self, option: &str, given: &Given, name: &str) -> Option<Signal> {
        let signal = self.signal(option, given, name)?;
        if signal.uncatchable() {
            let why = format!("{signal} never reaches drain-init: no process can catch it");
            self.refuse(option, given, why);
            return None;
        }
        Some(signal)
    }

    /// A signal that the app is to be sent.
    fn sent(&mut self, option: &str, given: &Given, name: &str) -> Option<Signal> {
        let signal = self.signal(option, given, name)?;
        if signal.uncatchable() {
            let why = format!("{signal} leaves the app no choice; --grace says when SIGKILL falls");
            self.refuse(option, given, why);
            return None;
        }
        Some(signal)
    }

    fn signal_for_app(&mut self, option: &str, given: &Option<Given>) -> Option<Signal> {
        given.as_ref().and_then(|given| self.sent(option, given, &given.text))
    }

    fn stop_on(&mut self, list: &[Given]) -> SignalSet {
        if list.is_empty() {
            return SignalSet::from_iter([Signal::TERM, Signal::INT]);
        }
        let mut set = SignalSet::default();
        for given in list {
            if let Some(signal) = self.received("stop-on", given, &given.text) {
                set.insert(signal);
            }
        }
        set
    }

    fn escalate(&mut self, list: &[Given]) -> Vec<Escalation> {
        let mut escalations = Vec::<Escalation>::new();
        for given in list {
            let Some((name, before)) = given.text.split_once(':') else {
                self.refuse("escalate", given, "has no `:`; write SIGNAL:TIME, as in QUIT:2s");
                continue;
            };
            let signal = self.sent("escalate", given, name);
            match (signal, duration::parse(before)) {
                (Some(signal), Ok(before_kill)) => {
                    // Longest before the SIGKILL is due first; equals keep their order.
                    let place = escalations.partition_point(|it| it.before_kill >= before_kill);
                    escalations.insert(place, Escalation { signal, before_kill });
                }
                (_, Err(why)) => {
                    self.refuse("escalate", given, format!("its time {why}; write QUIT:2s"));
                }
                (None, Ok(_)) => {}
            }
        }
        escalations
    }

    fn signal_map(&mut self, list: &[Given]) -> SignalMap {
        let mut map = SignalMap::default();
        for given in list {
            let Some((from, to)) = given.text.split_once('=') else {
                self.refuse("map-signal", given, "has no `=`; write FROM=TO, as in HUP=USR1");
                continue;
            };
            let from = self.received("map-signal", given, from);
            let to = if to.eq_ignore_ascii_case("none") {
                Some(None)
            } else {
                self.sent("map-signal", given, to).map(Some)
            };
            if let (Some(from), Some(to)) = (from, to) {
                map.set(from, to);
            }
        }
        map
    }

    /// A stop signal that is dropped, or rewritten to one that asks for no stop, would leave the
    /// container with no drain and no deadline.
    fn check_stops_survive(&mut self, list: &[Given], map: &SignalMap, stop_on: SignalSet) {
        for given in list {
            let from = given.text.split_once('=').and_then(|(from, _)| Signal::parse(from));
            let Some(from) = from.filter(|from| stop_on.contains(*from)) else {
                continue;
            };
            match map.get(from) {
                None => {
                    let why =
                        format!("{from} asks for a stop and cannot be dropped; see --stop-on");
                    self.refuse("map-signal", given, why);
                }
                Some(to) if !stop_on.contains(to) => {
                    let why = format!(
                        "{from} would ask for no stop any more; \
                         --stop-signal {to} is what sends the app another signal"
                    );
                    self.refuse("map-signal", given, why);
                }
                Some(_) => {}
            }
        }
    }

    fn exit_codes(&mut self, option: &str, list: &[Given]) -> Vec<(u8, u8)> {
        let mut pairs = Vec::new();
        for given in list {
            let Some((from, to)) = given.text.split_once('=') else {
                self.refuse(option, given, "has no `=`; write FROM=TO, as in 143=0");
                continue;
            };
            match (from.parse(), to.parse()) {
                (Ok(from), Ok(to)) => pairs.push((from, to)),
                _ => self.refuse(option, given, "an exit code is a number from 0 to 255"),
            }
        }
        pairs
    }

    fn parent_death_signal(&mut self, given: &Option<Given>) -> Option<Signal> {
        let given = given.as_ref()?;
        let signal = self.signal("parent-death-signal", given, &given.text)?;
        if signal == Signal::STOP {
            self.refuse("parent-death-signal", given, "would stop drain-init for ever");
            return None;
        }
        Some(signal)
    }

    fn log_format(&mut self, given: &Option<Given>) -> Format {
        match given.as_ref().map(|given| (given, given.text.as_str())) {
            None | Some((_, "text")) => Format::Text,
            Some((_, "json")) => Format::Json,
            Some((given, _)) => {
                self.refuse("log-format", given, "is neither text nor json");
                Format::Text
            }
        }
    }

    fn level(&mut self, typed: &Typed) -> Level {
        match (typed.quiet, typed.verbose) {
            (true, true) => {
                self.complaints.push("--quiet and --verbose: choose one".to_owned());
                Level::Info
            }
            (true, false) => Level::Error,
            (false, true) => Level::Debug,
            (false, false) => Level::Info,
        }
    }

    fn termination_log(&mut self, given: &Option<Given>) -> Option<PathBuf> {
        let given = given.as_ref()?;
        let path = PathBuf::from(&given.text);
        if path.as_os_str().is_empty() || path.is_dir() {
            self.refuse("termination-log", given, "is no file; write /dev/termination-log");
        }
        Some(path)
    }

    fn file(&mut self, option: &str, given: &Option<Given>) -> Option<PathBuf> {
        let given = given.as_ref()?;
        let path = Path::new(&given.text);
        if self.surroundings == Surroundings::Checked
            && let Err(why) = marker::check(path)
        {
            self.refuse(option, given, why);
        }
        Some(path.to_owned())
    }

    /// The times against each other: each must leave room for the next.
    fn check_times(&mut self, typed: &Typed, plan: &Plan) {
        let kill_after = plan.kill_after();
        let kill_at = format!("SIGKILL falls {} after the stop signal", Short(kill_after));
        if kill_after.is_zero() {
            let why = format!(
                "SIGKILL would fall at once: --grace {} less --kill-margin {} leaves nothing; \
                 make the grace period longer or the margin shorter",
                Short(plan.grace),
                Short(plan.kill_margin)
            );
            match (&typed.kill_margin, &typed.grace) {
                (Some(given), _) => self.refuse("kill-margin", given, why),
                (None, Some(given)) => self.refuse("grace", given, why),
                (None, None) => {}
            }
            return;
        }
        if plan.delay >= kill_after {
            let problem = format!("leaves the app no time to stop: {kill_at}");
            match (&typed.delay, &typed.grace) {
                (Some(given), _) => {
                    let remedy = "make --delay shorter or --grace longer";
                    self.refuse("delay", given, format!("{problem}; {remedy}"));
                }
                (None, Some(given)) => {
                    let remedy = format!("give --delay, which is {} without", Short(plan.delay));
                    self.refuse("grace", given, format!("{problem}; {remedy}"));
                }
                // Then it is the margin that leaves none.
                (None, None) => {
                    if let Some(given) = &typed.kill_margin {
                        self.refuse("kill-margin", given, format!("{problem}; make it shorter"));
                    }
                }
            }
        }
        if let Some(given) = &typed.max_delay {
            if plan.max_delay < plan.delay {
                let delay = Short(plan.delay);
                let why = format!("is shorter than --delay, {delay}; make it at least that");
                self.refuse("max-delay", given, why);
            } else if plan.max_delay >= kill_after && plan.delay < kill_after {
                let why = format!("leaves the app no time to stop: {kill_at}; make it shorter");
                self.refuse("max-delay", given, why);
            }
        }
        if let Some(given) = &typed.until_quiet
            && duration::parse(&given.text).is_ok_and(|quiet| quiet > plan.max_delay)
        {
            let longest = Short(plan.max_delay);
            let why = format!("is longer than the longest drain, {longest}; make it shorter");
            self.refuse("until-quiet", given, why);
        }
        if let Some(given) = &typed.unready_delay
            && plan.unready_delay > plan.max_delay
        {
            let longest = Short(plan.max_delay);
            let why = format!("is longer than the longest drain, {longest}; make it shorter");
            self.refuse("unready-delay", given, why);
        }
        for given in &typed.escalate {
            let before =
                given.text.split_once(':').and_then(|(_, time)| duration::parse(time).ok());
            let room = kill_after.saturating_sub(plan.delay);
            if before.is_some_and(|before| before > room) && plan.delay < kill_after {
                let why = format!(
                    "comes before the app is told to stop: from the end of --delay to SIGKILL \
                     there are {}; make its time shorter",
                    Short(room)
                );
                self.refuse("escalate", given, why);
            }
        }
    }
}

/// Half of the grace period, if that leaves the app time to stop.
fn default_max_delay(plan: &Plan) -> Duration {
    let half = plan.grace / 2;
    if half < plan.kill_after() { half.max(plan.delay) } else { plan.delay }
}

#[cfg(test)]
mod tests;
