//! Random lives of a container: options, an app, and timed events, all from a seed. Each is checked
//! against the laws of the walk through `lifecycle`, as far as they are visible from outside.
//!
//! One violation breaks a law that says "never". A law that says "by then" may also break on a
//! loaded machine, so the caller runs that schedule again.
//!
//! Longer than 300 lines because a schedule and its laws share one model.

use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::control::SLACK;
use super::life::own_address;
use super::proc::is_companion;
use super::system::{KILL, now, pause, try_signal};
use super::{Ended, Folder, Running, init, ms, slack, witness};

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const USR1: i32 = 10;
const USR2: i32 = 12;
const TERM: i32 = 15;
const CONT: i32 = 18;
const STOP: i32 = 19;
const ESCALATION: i32 = 50;
const TOLD: i32 = 51;
const DRAIN: i32 = 64;

/// Signals that request a stop. Each is sent once, so that none is lost by merging with another.
const STOPS: [i32; 3] = [INT, QUIT, TERM];

/// Other signals, each sent once for the same reason.
const OTHERS: [i32; 8] = [HUP, USR1, USR2, 14, 28, 34, 40, 63];

/// Stop signals this soon after the first one are the same request.
const SAME_REQUEST: Duration = ms(1000);

/// How much sooner something may seem to happen on an idle machine, if it is measured from a line
/// of the app's, which may be read late.
const EARLY: Duration = ms(50);

/// SplitMix64.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    /// True once in `many` times.
    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Happens {
    Signal(i32),
    /// The signal of `prestop`.
    Hook,
    /// drain-init is stopped for this long.
    Paused(u64),
    AppPaused(u64),
    CompanionsDie,
    AppKilled,
}

#[derive(Debug)]
struct Schedule {
    pid1: bool,
    delay: u64,
    max_delay: u64,
    kill_after: u64,
    margin: u64,
    unready: u64,
    orphan_grace: u64,
    stop_signal: Option<i32>,
    /// How long before SIGKILL.
    escalate: Option<u64>,
    /// A handler that takes this long.
    handler: Option<u64>,
    until_quiet: bool,
    listens: bool,
    group: bool,
    /// HUP is rewritten to USR2's neighbour, or dropped.
    drops_hup: bool,
    maps_exit: bool,
    /// The signal that ends the app; None if it ignores all.
    ends_by: Option<i32>,
    cleans_up: u64,
    code: u8,
    dies: bool,
    /// It leaves a process that ignores SIGTERM.
    leaves: bool,
    /// Orphans that end together with it.
    crowd: bool,
    events: Vec<(u64, Happens)>,
}

impl Schedule {
    fn new(seed: u64, pid1: Option<bool>) -> Self {
        let mut chance = Chance::new(seed);
        let c = &mut chance;
        let delay = c.of(&[0, 50, 150, 300, 600, 1500]);
        let handler = c.one_in(3).then(|| c.of(&[50, 250, 5000]));
        let stop_signal = c.one_in(3).then_some(TOLD);
        let ends_by = match c.below(4) {
            0 => None,
            1 => Some(c.of(&[USR1, 40])),
            _ => Some(stop_signal.unwrap_or_else(|| c.of(&STOPS))),
        };
        let mut schedule = Self {
            pid1: pid1.unwrap_or_else(|| c.one_in(2)),
            delay,
            max_delay: delay + c.of(&[100, 200, 300]),
            kill_after: delay + 400 + c.below(600),
            margin: c.of(&[0, 100, 200]),
            unready: c.of(&[0, 0, delay / 2]),
            orphan_grace: c.of(&[100, 300]),
            stop_signal,
            escalate: c.one_in(3).then_some(40),
            handler,
            until_quiet: c.one_in(6),
            listens: c.one_in(3),
            group: c.one_in(4),
            drops_hup: c.one_in(3),
            maps_exit: c.one_in(2),
            ends_by,
            cleans_up: c.of(&[0, 0, 100, 3000]),
            code: c.of(&[0, 3, 77]),
            dies: c.one_in(4),
            leaves: c.one_in(4),
            crowd: c.one_in(4),
            events: vec![],
        };
        let signals = (0..c.below(5)).map(|_| Happens::Signal(c.of(&OTHERS))).collect::<Vec<_>>();
        let stops = (0..c.of(&[0, 1, 1, 1, 2, 2, 3])).map(|_| Happens::Signal(c.of(&STOPS)));
        let mut all: Vec<Happens> = signals.into_iter().chain(stops.collect::<Vec<_>>()).collect();
        let rare = [
            (5, Happens::Hook),
            (4, Happens::Paused(c.of(&[20, 200, 600]))),
            (8, Happens::Paused(c.of(&[1500]))),
            (6, Happens::AppPaused(c.of(&[20, 200]))),
            (3, Happens::CompanionsDie),
            (10, Happens::AppKilled),
        ];
        all.extend(rare.into_iter().filter(|(many, _)| c.one_in(*many)).map(|(_, it)| it));
        all.sort_by_key(|it| format!("{it:?}"));
        all.dedup();
        // At random, or all at once.
        let span = c.of(&[1, 100, 500, 800, 2000]);
        schedule.events = all.into_iter().map(|it| (c.below(span), it)).collect();
        schedule.events.sort_by_key(|(at, _)| *at);
        schedule
    }

    fn start(&self, folder: &Folder) -> Running {
        let Self { delay, max_delay, margin, unready, orphan_grace, .. } = self;
        let grace = self.kill_after + margin;
        let stops = STOPS.map(|n| format!("--stop-on {n}")).join(" ");
        let mut options = format!(
            "-v --delay {delay}ms --max-delay {max_delay}ms --grace {grace}ms --kill-margin {margin}ms \
             --unready-delay {unready}ms --orphan-grace {orphan_grace}ms {stops} --map-signal HUP={}",
            if self.drops_hup { "none" } else { "36" },
        );
        let mut option = |is_given: bool, text: &str| {
            if is_given {
                let _ = write!(options, " {text}");
            }
        };
        option(self.stop_signal.is_some(), &format!("--stop-signal {TOLD}"));
        let before = self.escalate.unwrap_or_default();
        option(self.escalate.is_some(), &format!("--escalate {ESCALATION}:{before}ms"));
        option(self.until_quiet, "--until-quiet 50ms --close-idle 20ms --watch-port 1");
        option(self.listens, &format!("--ready-listen {}", own_address()));
        option(self.group, "--group");
        option(self.maps_exit, "--map-exit 3=4 --map-stop-exit 77=78 --map-stop-exit 137=99");
        let mut init = init().args(&options).arg("--ready-file").arg(folder.path("ready"));
        if let Some(takes) = self.handler {
            let handler = format!("exec:{} wait:{takes}", witness().display());
            init = init.arg("--on-drain").arg(handler);
        }
        let mut steps = vec![];
        if self.leaves {
            steps.push("child:setsid,ignore:15,print:there,pause".to_owned());
        }
        if self.crowd {
            steps.push("orphans:20".to_owned());
        }
        steps.push("ready".to_owned());
        match self.ends_by {
            None => steps.push("trap".to_owned()),
            Some(signal) => {
                let end =
                    if self.dies { "die:40".to_owned() } else { format!("exit:{}", self.code) };
                let cleans_up = format!("wait:{}", self.cleans_up);
                steps.extend([format!("until:{signal}"), cleans_up, "print:end".to_owned()]);
                if self.crowd {
                    steps.push("release".to_owned());
                }
                steps.push(end);
            }
        }
        let app = [witness().into_os_string()].into_iter().chain(steps.into_iter().map(Into::into));
        let init = init.command(app);
        if self.pid1 { init.pid1().start() } else { init.start() }
    }
}

/// A law that was violated.
pub struct Broken {
    /// The law says "never".
    pub for_sure: bool,
    pub what: String,
}

/// The events of a life, as sent and as seen.
struct Story<'a> {
    schedule: &'a Schedule,
    sent: Vec<(i32, Instant)>,
    /// The times at which drain-init was stopped.
    pauses: Vec<(Instant, Instant)>,
    app_pauses: Vec<(Instant, Instant)>,
    companions_died: bool,
    app_killed: Option<Instant>,
    /// When the ready-file appeared and disappeared.
    ready: Vec<(Instant, bool)>,
    started: Instant,
    ended: Ended,
    /// How late an event may be.
    slack: Duration,
}

/// Runs the life of this seed.
pub fn live(seed: u64, pid1: Option<bool>) -> Result<(), Broken> {
    let schedule = Schedule::new(seed, pid1);
    let lived = catch_unwind(AssertUnwindSafe(|| schedule.live()));
    let for_sure = |what: String| Broken { for_sure: true, what };
    lived.unwrap_or_else(|_| Err(for_sure("a panic, above".to_owned()))).map_err(|broken| Broken {
        what: format!("seed {seed}: {}\n{schedule:#?}", broken.what),
        ..broken
    })
}

impl Schedule {
    fn live(&self) -> Result<(), Broken> {
        let folder = Folder::new();
        let file = folder.path("ready");
        let mut run = self.start(&folder);
        let started = run.line("ready");
        if self.leaves {
            run.says("there");
        }
        let app = children(run.pid).into_iter().find(|pid| !is_companion(*pid));
        let mut ready = vec![];
        let look = |ready: &mut Vec<(Instant, bool)>| {
            let is_there = file.exists();
            if ready.last().is_none_or(|(_, was_there)| *was_there != is_there) {
                ready.push((now(), is_there));
            }
        };
        super::becomes_true(super::LIMIT, || file.exists());
        let began = now();
        let (mut sent, mut pauses, mut app_pauses) = (vec![], vec![], vec![]);
        let (mut companions_died, mut app_killed) = (false, None);
        let mut ended_at = None;
        // True once it has ended.
        let mut wait_until = |run: &Running, at: Instant| {
            loop {
                look(&mut ready);
                if ended_at.is_none() && run.ends_within(Duration::ZERO) {
                    ended_at = Some(now());
                }
                let left = at.saturating_duration_since(now());
                if ended_at.is_some() || left.is_zero() {
                    return ended_at.is_some();
                }
                pause(left.min(ms(10)));
            }
        };
        // Every life ends.
        let stops =
            self.events.iter().any(|(_, it)| matches!(it, Happens::Signal(n) if STOPS.contains(n)));
        let last = self.events.last().map_or(0, |(at, _)| *at);
        let end = (!stops).then_some((last + 50, Happens::Signal(TERM)));
        for (at, happens) in self.events.iter().copied().chain(end) {
            if wait_until(&run, began + ms(at)) {
                break;
            }
            let children = children(run.pid);
            let at = now();
            match happens {
                Happens::Signal(number) => {
                    sent.push((number, at));
                    try_signal(run.pid, number);
                }
                Happens::Hook => {
                    sent.push((DRAIN, at));
                    try_signal(run.pid, DRAIN);
                }
                Happens::Paused(time) => {
                    try_signal(run.pid, STOP);
                    wait_until(&run, at + ms(time));
                    try_signal(run.pid, CONT);
                    pauses.push((at, now()));
                }
                Happens::AppPaused(time) => {
                    let app = app.filter(|app| children.contains(app));
                    app.iter().for_each(|pid| try_signal(*pid, STOP));
                    wait_until(&run, at + ms(time));
                    app.iter().for_each(|pid| try_signal(*pid, CONT));
                    app_pauses.push((at, now()));
                }
                Happens::CompanionsDie => {
                    companions_died = true;
                    let companions = children.into_iter().filter(|pid| is_companion(*pid));
                    companions.for_each(|pid| try_signal(pid, KILL));
                }
                Happens::AppKilled => {
                    app_killed = Some(at);
                    app.filter(|app| children.contains(app))
                        .into_iter()
                        .for_each(|pid| try_signal(pid, KILL));
                }
            }
        }
        if !wait_until(&run, now() + Duration::from_secs(15)) {
            let what = format!("it has not ended after 15 s; said: {:?}", run.killed());
            return Err(Broken { for_sure: true, what });
        }
        let ended = Ended { at: ended_at.unwrap_or_else(now), ..run.ended() };
        look(&mut ready);
        let story = Story {
            schedule: self,
            sent,
            pauses,
            app_pauses,
            companions_died,
            app_killed,
            ready,
            started,
            ended,
            slack: slack(),
        };
        story.judged()
    }
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

impl Story<'_> {
    /// How much sooner something may seem to happen, if it is measured from a line of the app's.
    fn early(&self) -> Duration {
        EARLY + (self.slack - SLACK)
    }

    /// By when drain-init has read a signal: after the pause in which it was sent.
    fn read(&self, sent: Instant) -> Instant {
        self.pauses.iter().fold(
            sent,
            |at, (from, to)| {
                if *from <= at + self.slack && at < *to { *to } else { at }
            },
        )
    }

    /// By when a due action is done: later on a loaded machine, and not in a pause.
    fn done_by(&self, due: Instant) -> Instant {
        let mut by = due + self.slack;
        for (from, to) in &self.pauses {
            if *from <= by && *to >= due {
                by = by.max(*to + self.slack);
            }
        }
        by
    }

    fn heard(&self, number: i32) -> Vec<Instant> {
        let line = format!("signal {number}");
        self.ended.heard.iter().filter(|l| l.text == line).map(|l| l.at).collect()
    }

    /// The signal that reaches the app.
    fn becomes(&self, number: i32) -> Option<i32> {
        match number {
            HUP if self.schedule.drops_hup => None,
            HUP => Some(36),
            number => Some(number),
        }
    }

    fn judged(&self) -> Result<(), Broken> {
        let never = |is_so: bool, what: &str| self.law(true, !is_so, what);
        let by_then = |is_so: bool, what: &str| self.law(false, is_so, what);
        let Schedule { delay, max_delay, kill_after, .. } = *self.schedule;
        let stops: Vec<Instant> =
            self.sent.iter().filter(|(n, _)| STOPS.contains(n)).map(|(_, at)| *at).collect();
        let hook = self.sent.iter().find(|(n, _)| *n == DRAIN).map(|(_, at)| *at);
        // The test requests the drain and keeps running, so it counts as a waiting hook where drain-init
        // can see it.
        let hook_waits = hook.is_some() && !self.schedule.pid1;
        // If drain-init ended before a stop signal was sent, none counts.
        let never_sent = self.ended.at + Duration::from_secs(3600);
        let first_stop = stops.first().copied().unwrap_or(never_sent);
        let may_be_second =
            |at: &&Instant| **at > first_stop && self.done_by(**at) >= first_stop + SAME_REQUEST;
        let is_second = |at: &&Instant| **at >= self.done_by(first_stop) + SAME_REQUEST;
        let begun = hook.filter(|hook| *hook < first_stop).unwrap_or(first_stop);
        // A hook's drain that no stop signal follows in time ends in Running. The grace period then starts at the stop signal.
        let expires = hook.map(|hook| hook + ms(kill_after));
        let is_hooks =
            begun < first_stop && expires.is_some_and(|at| self.done_by(first_stop) < at);
        let may_be_stops = begun == first_stop || !is_hooks;
        let sure_stops = begun == first_stop && hook.is_none()
            || begun < first_stop && expires.is_some_and(|at| self.done_by(at) < first_stop);
        // The earliest and the latest instants from which the grace period may count.
        let earliest = if sure_stops { first_stop } else { begun };
        let latest = self.read(if may_be_stops { first_stop } else { begun });
        let end = self.ended.heard.iter().find(|line| line.text == "end").map(|line| line.at);
        let exit = self.ended.at;
        let by_stop = self.schedule.stop_signal.into_iter().chain(STOPS);
        let mut told: Vec<Instant> = by_stop.flat_map(|n| self.heard(n)).collect();
        told.sort();

        // ---- the drain
        if let Some(first) = told.first() {
            let may_cut = hook_waits || stops.iter().filter(may_be_second).any(|at| at < first);
            never(*first < first_stop, "the app gets a stop signal without a request")?;
            if !may_cut {
                never(
                    *first < earliest.min(begun) + ms(delay),
                    "the app gets the stop signal before the delay is over",
                )?;
                let held = self.schedule.handler.unwrap_or(0).min(max_delay);
                let holds = !self.companions_died && hook.is_none();
                never(
                    holds && *first < begun + ms(held),
                    "the app gets the stop signal while a handler holds the drain",
                )?;
            }
        }
        let most = stops.len();
        never(told.len() > most, "the app gets more stop signals than were sent")?;
        for number in STOPS.into_iter().chain([TOLD, ESCALATION]).chain(OTHERS).chain([36]) {
            never(
                self.heard(number).len() > 1,
                "the app receives a signal twice that was sent once",
            )?;
        }
        let unasked = |number: i32| {
            let was_sent = self.sent.iter().any(|(n, _)| self.becomes(*n) == Some(number));
            !was_sent && !self.heard(number).is_empty()
        };
        never(
            OTHERS.into_iter().chain([36]).any(unasked),
            "the app receives a signal that was not sent",
        )?;

        // ---- the deadline
        for at in self.heard(ESCALATION) {
            let before = self.schedule.escalate.unwrap_or(0);
            never(at < earliest + ms(kill_after - before), "an escalation comes too early")?;
        }
        let deadline = earliest + ms(kill_after);
        let ends_itself = end.is_some() || self.app_killed.is_some();
        never(!ends_itself && exit < deadline, "SIGKILL comes before the deadline")?;
        let last = self.done_by(latest + ms(kill_after + 100));
        by_then(exit < last, "drain-init has not ended by the deadline")?;
        let own_end =
            self.app_killed.map_or(end, |killed| Some(end.map_or(killed, |end| end.min(killed))));
        if let Some(end) = own_end {
            let rest = if self.schedule.leaves { self.schedule.orphan_grace } else { 0 };
            let due = self.done_by(self.read(end) + ms(rest + 200));
            by_then(exit < due, "drain-init has not ended after the app and its orphans")?;
            let kept = self.schedule.leaves && exit < deadline;
            by_then(
                !kept || exit + self.early() >= end + ms(rest),
                "the orphans have not had their grace period",
            )?;
        }

        // ---- the exit code
        let own = if self.schedule.dies { 168 } else { i32::from(self.schedule.code) };
        let mut codes = vec![];
        if end.is_some() {
            codes.push(own);
            // The app unblocks its pending signals together with the one that it dies of, so any of them may end it first.
            let all = self.sent.iter().filter_map(|(number, _)| self.becomes(*number));
            codes.extend(
                all.chain([TOLD, ESCALATION]).filter(|_| self.schedule.dies).map(|n| 128 + n),
            );
        }
        if self.app_killed.is_some() || end.is_none() || exit >= deadline {
            codes.push(137);
        }
        let after_stop = |at: Instant| first_stop <= at;
        let surely_after = own_end.is_none_or(|end| self.done_by(first_stop) < end);
        let mapped: Vec<i32> = codes
            .iter()
            .flat_map(|code| {
                let always = if *code == 3 { 4 } else { *code };
                let stopped = match code {
                    77 => 78,
                    137 => 99,
                    _ => always,
                };
                match (self.schedule.maps_exit, surely_after, after_stop(exit)) {
                    (false, ..) => vec![*code],
                    (true, true, _) => vec![stopped],
                    (true, false, false) => vec![always],
                    (true, false, true) => vec![always, stopped],
                }
            })
            .collect();
        never(
            !mapped.contains(&self.ended.code),
            &format!("exit code {}, not of {mapped:?}", self.ended.code),
        )?;

        // ---- nothing is lost
        let killed_at = self.app_killed.into_iter().chain([deadline, exit]).min().unwrap_or(exit);
        let by_signal = self.schedule.ends_by.and_then(|n| self.heard(n).first().copied());
        let listens_until = by_signal.unwrap_or(killed_at).min(killed_at);
        // The latest time by which the app has received a signal that is due then.
        let heard_by = |due: Instant| {
            let by = self.done_by(due);
            let paused = self.app_pauses.iter().filter(|(from, _)| *from <= by);
            paused.map(|(_, to)| *to + self.slack).chain([by]).max().unwrap_or(by)
        };
        for (number, at) in &self.sent {
            if let Some(number) =
                self.becomes(*number).filter(|n| !STOPS.contains(n) && *n != DRAIN)
            {
                let is_lost = self.heard(number).is_empty() && heard_by(*at) < listens_until;
                by_then(!is_lost, &format!("signal {number} is lost"))?;
            }
        }
        // The first stop signal is forwarded, and a second one ends the drain. Signals within 1 s of the first are the same request.
        let kill_after = self.schedule.kill_after;
        let longest = match (self.schedule.until_quiet, self.schedule.handler) {
            (true, _) => max_delay + (kill_after - max_delay).min(2000) / 2,
            (false, Some(_)) => max_delay,
            (false, None) => delay,
        };
        let from = if is_hooks { begun } else { first_stop };
        let over = self.read(first_stop).max(self.read(from) + ms(longest));
        let cut = if hook_waits && is_hooks { stops.first() } else { stops.iter().find(is_second) };
        let cut = cut.map(|cut| self.read(*cut));
        let told_by = heard_by(cut.map_or(over, |cut| cut.min(over)));
        let is_late = told.first().map_or(told_by < listens_until, |first| *first > told_by);
        by_then(!is_late, "the app gets the stop signal late, or never")?;
        let asks = |at: &&Instant| **at == first_stop || is_second(at);
        let in_time = |at: &&Instant| heard_by(**at).max(told_by) < listens_until;
        let in_time = stops.iter().filter(asks).filter(in_time).count();
        by_then(told.len() + 1 >= in_time, "a stop signal is lost")?;

        // ---- readiness
        let gone = self.ready.iter().position(|(at, there)| !there && *at > self.started);
        if let Some(gone) = gone {
            let came_back = self.ready[gone..].iter().any(|(_, there)| *there);
            let may = hook.is_some() && !is_hooks;
            never(came_back && !may, "ready again after a stop")?;
            let (at, _) = self.ready[gone];
            let ends = own_end.unwrap_or(exit);
            by_then(at + self.early() >= begun.min(ends), "not ready before a stop was requested")?;
            let unready = ms(self.schedule.unready);
            let ends_early = at + self.early() >= ends || stops.len() > 1 || hook_waits;
            by_then(
                at >= begun + unready || ends_early,
                "not ready before the unready delay is over",
            )?;
            let due = self.done_by(self.read(begun) + unready);
            // After a hook's drain that no stop signal follows, the container is ready again. If the whole hook's drain may have
            // gone unseen, the drain that was seen is the stop signal's.
            let again = expires.filter(|_| begun < first_stop && !is_hooks);
            let is_missed = again.is_some_and(|at| self.read(at) < due);
            let due = if is_missed { self.done_by(self.read(first_stop) + unready) } else { due };
            by_then(at < due || at >= ends, "still ready in the drain")?;
        }
        never(self.ready.last().is_some_and(|(_, there)| *there), "still ready at the end")?;
        never(!self.ended.left.is_empty(), "processes are left")
    }

    fn law(&self, for_sure: bool, holds: bool, what: &str) -> Result<(), Broken> {
        if holds {
            return Ok(());
        }
        let since = |at: Instant| at.saturating_duration_since(self.started).as_millis();
        let mut what = format!("{what}\n");
        let mut say = |line: String| _ = writeln!(what, "    {line}");
        self.sent.iter().for_each(|(n, at)| say(format!("{:5} ms: sent {n}", since(*at))));
        for (name, pauses) in [("paused", &self.pauses), ("app paused", &self.app_pauses)] {
            pauses
                .iter()
                .for_each(|(a, b)| say(format!("{:5} ms: {name} to {}", since(*a), since(*b))));
        }
        self.ready
            .iter()
            .for_each(|(at, is)| say(format!("{:5} ms: ready-file: {is}", since(*at))));
        self.ended.heard.iter().for_each(|l| say(format!("{:5} ms: app: {}", since(l.at), l.text)));
        say(format!(
            "{:5} ms: exit code {}, left {:?}",
            since(self.ended.at),
            self.ended.code,
            self.ended.left
        ));
        self.ended.err.iter().for_each(|line| say(line.clone()));
        Err(Broken { for_sure, what })
    }
}
