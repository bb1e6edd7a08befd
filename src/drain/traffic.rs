//! Watches the app's connections and reports when the traffic has ended.
//!
//! `Watch` combines the readers of the kernel's tables (`netlink`, or `proc_net` where netlink is
//! denied), the search for the app's ports, and the judge. It runs in the drain companion. The
//! caller owns the clock, waits between samples, and acts on the verdict. In doubt a drain lasts
//! longer: a connection that cannot be seen counts as traffic.
//!
//! Longer than 300 lines because sampling, looking and closing share one budget of processor time.

#![forbid(unsafe_code)]

pub mod connection;
pub mod diag;
mod known;
pub mod netlink;
mod peers;
pub mod ports;
pub mod proc_net;
pub mod source;
pub mod verdict;

use std::num::TryFromIntError;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::closing::{Closer, Lender};
use crate::clock::Time;
use crate::lending::AT_ONCE;
use crate::log::{Level, Log};
use crate::options::watched::{InFlight, Watched};
use connection::{Connection, Families};
use ports::{List, Owners};
use source::{Look, Source};
use verdict::Judge;

pub use verdict::Verdict;

/// The interval between samples while the drain cannot end yet, and while it can end at any moment.
const CADENCE: Duration = Duration::from_millis(100);
const QUICK_CADENCE: Duration = Duration::from_millis(10);
/// Samples may take 1/SHARE of the time: 2% of one core over the drain.
const SHARE: u32 = 50;
/// The longest pause that pays for earlier samples. One expensive sample can make it longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// How long before the end the kernel is asked about connections that samples do not settle.
const SETTLE_BEFORE: Duration = Duration::from_secs(1);
/// How long before the end each connection in use is looked at by itself.
const LOOK_BEFORE: Duration = Duration::from_millis(500);
/// How long a sample that may end the drain waits for a look that finds nothing in flight.
const WAIT_FOR_INSTANT: Duration = Duration::from_millis(200);
/// The processor time that closing one connection takes, here and in PID 1.
const CLOSING: Duration = Duration::from_micros(50);
/// Closing is done once, and everybody waits for it: it may take more of the time than samples may.
/// 10% of one core closes some 2,000 connections in a second.
const CLOSING_SHARE: u32 = 10;
/// After a sample, closing may take at least this many times the sample's cost.
const CLOSING_TO_SAMPLE: u32 = 6;
/// Traffic counts as recent for this long in the log, so that steady traffic is one line.
const LOG_WINDOW: Duration = Duration::from_secs(1);

/// The app's connections, from the beginning of a drain on.
pub struct Watch {
    watched: Watched,
    log: Log,
    source: Source,
    judge: Judge,
    /// The app's ports have been found, or were given.
    ports_known: bool,
    /// The app listens in another network namespace, which cannot be seen from here.
    blind: bool,
    /// Samples come quickly from now on, whatever the traffic.
    hurried: bool,
    began: Time,
    /// Processor time used so far.
    spent: Duration,
    /// The kernel has been asked about connections that samples do not settle.
    asked: bool,
    /// The kernel has to be asked again.
    unsettled: bool,
    /// When the next sample is due, and when it is taken: it may wait for a good moment.
    due: Time,
    next: Time,
    next_look: Time,
    /// Whether the source can look at single connections.
    can_look: bool,
    last: Phase,
    closer: Option<Closer>,
}

/// The state whose changes are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Beginning,
    Traffic,
    InFlight,
    Idle,
}

impl Watch {
    /// Also takes the first sample, to know the connections that existed before.
    pub fn begin(mut watched: Watched, log: Log, clock: &dyn Fn() -> Time) -> Self {
        let (now, before) = (clock(), cpu_time());
        let mut source = Source::find(log);
        watched.ports = ports::in_order(&watched.ports);
        source.subscribe(&watched.ports, log);
        let mut watch = Self {
            judge: Judge::new(watched.until_quiet, watched.quiet_on, now),
            ports_known: !watched.ports.is_empty(),
            watched,
            log,
            source,
            blind: false,
            hurried: false,
            began: now,
            spent: Duration::ZERO,
            asked: false,
            unsettled: false,
            due: now,
            next: now,
            next_look: now,
            can_look: true,
            last: Phase::Beginning,
            closer: None,
        };
        watch.find_blind_spots();
        if watch.watched.in_flight == InFlight::App {
            watch.judge.leave_requests_to_the_app();
        }
        watch.take_sample(now, clock);
        watch.judge.knows_from(clock());
        watch.spent = cpu_time().saturating_sub(before);
        watch.plan(now, Duration::ZERO);
        watch
    }

    /// Closes idle connections for the app from now on, with what `lender` lends. `longest` is when
    /// the drain ends.
    pub fn close_idle(&mut self, after: Duration, longest: Time, lender: Lender) {
        if matches!(self.source, Source::Netlink { .. }) {
            self.source.expect_losses();
            self.closer = Some(Closer::new(after, longest, lender, self.log));
        }
    }

    /// Takes a sample and judges it.
    pub fn sample(&mut self, clock: &dyn Fn() -> Time) -> Verdict {
        let (now, before) = (clock(), cpu_time());
        self.judge.close_idle(self.closer.as_ref().map(|closer| closer.how(now)));
        let verdict = self.take_sample(now, clock);
        let cost = cpu_time().saturating_sub(before);
        self.spent = self.spent.saturating_add(cost);
        let closing = self.close(now, cost, clock);
        let before = cpu_time();
        self.settle(now);
        self.spent = self.spent.saturating_add(cpu_time().saturating_sub(before));
        self.plan(now, cost.saturating_add(closing));
        self.tell(&verdict);
        verdict
    }

    /// When to call `look` again.
    pub fn next(&self) -> Time {
        if self.looks() { self.next.min(self.next_look) } else { self.next }
    }

    /// Takes a sample if one is due. Between samples, as the end comes near, it looks at the
    /// connections in use one by one. The cost of a look does not depend on the other sockets of
    /// the machine; a sample walks the kernel's whole table.
    pub fn look(&mut self, clock: &dyn Fn() -> Time) -> Option<Verdict> {
        let now = clock();
        if !self.looks() || now < self.judge.quiet_at().saturating_sub(LOOK_BEFORE) && !self.hurried
        {
            return (self.next <= now).then(|| self.sample(clock));
        }
        let before = cpu_time();
        let idle = self.look_at_each(clock);
        let cost = cpu_time().saturating_sub(before);
        self.spent = self.spent.saturating_add(cost);
        self.close(now, cost, clock);
        // Half of the share; samples get the other half.
        self.next_look = now.saturating_add(QUICK_CADENCE.max(cost.saturating_mul(2 * SHARE)));
        let may_end = self.hurried || self.judge.quiet_at() <= now;
        let instant = idle && may_end && self.paid_for() <= now;
        let due = self.next <= now;
        if due && !instant && may_end && now < self.due.saturating_add(WAIT_FOR_INSTANT) {
            self.next = self.next_look;
            return None;
        }
        (due || instant).then(|| self.sample(clock))
    }

    /// From now on the drain only waits for an instant with nothing in flight.
    pub fn hurry(&mut self) {
        self.hurried = true;
        self.next = self.next.min(self.paid_for());
        self.next_look = self.began;
    }

    fn looks(&self) -> bool {
        self.can_look && !self.judge.to_look_at().is_empty()
    }

    /// Whether nothing is in flight on any of these connections.
    fn look_at_each(&mut self, clock: &dyn Fn() -> Time) -> bool {
        let mut idle = true;
        self.judge.begin_looks();
        for connection in self.judge.to_look_at().to_vec() {
            match self.source.look_at(&connection) {
                // Another connection may have taken its place; the next sample shows that.
                Some(Look::Gone) => {}
                Some(Look::There(connection)) => idle &= !self.judge.look(clock(), &connection),
                None => {
                    self.can_look = false;
                    return false;
                }
            }
        }
        idle
    }

    fn take_sample(&mut self, now: Time, clock: &dyn Fn() -> Time) -> Verdict {
        if self.watched.ports.is_empty() {
            self.find_ports();
        }
        self.judge.begin(now);
        let read = self.source.read(&self.watched, &mut self.judge, self.hurried);
        self.judge.read_until(clock());
        if self.blind {
            self.judge.unseen_traffic();
        }
        self.judge.end(read && self.ports_known && !self.blind)
    }

    /// A socket is listed in the network namespace it was created in, even if a process elsewhere
    /// inherited it.
    fn find_blind_spots(&mut self) {
        let named = &self.watched.ports;
        let counts = |port: &u16| named.is_empty() || named.contains(port);
        let mut given = self.watched.given.clone();
        given.retain(|(port, _)| counts(port));
        if given.is_empty() {
            return;
        }
        // If no socket can be read at all, that has been logged already.
        let Some(listeners) = self.source.listeners() else {
            return;
        };
        given.retain(|(_, inode)| !listeners.iter().any(|listener| listener.inode == *inode));
        if given.is_empty() {
            return;
        }
        self.blind = true;
        let unseen: Vec<u16> = given.iter().map(|(port, _)| *port).collect();
        let message = format_args!(
            "the app was given a listening socket of another network namespace, {}: its \
             connections cannot be seen, so the drain goes on to its longest",
            List(&ports::in_order(&unseen))
        );
        self.log.line(Level::Info, "traffic", message);
    }

    /// Closes idle connections as far as the budget allows, and at least in proportion to the
    /// sample's cost. Returns the processor time spent, scaled from its own share to that of samples.
    fn close(&mut self, now: Time, cost: Duration, clock: &dyn Fn() -> Time) -> Duration {
        let Some(closer) = &mut self.closer else {
            return Duration::ZERO;
        };
        let most = match affordable(now.saturating_sub(self.began), self.spent, cost) {
            Ok(most) if !self.judge.is_in_a_hurry() => most.max(AT_ONCE),
            _ => usize::MAX,
        };
        let before = cpu_time();
        let mut goes_on = closer.try_one(&mut self.judge, clock);
        for some in self.judge.take_idle(most).chunks(AT_ONCE) {
            goes_on = goes_on && closer.close(some, &mut self.judge, clock);
            self.source.read_closed(&self.watched, &mut self.judge);
        }
        if !goes_on {
            self.judge.close_idle(None);
            self.closer = None;
        }
        // PID 1 spends another three quarters of that.
        let took = cpu_time().saturating_sub(before).saturating_mul(7) / 4;
        let took = took.saturating_mul(CLOSING_SHARE) / SHARE;
        self.spent = self.spent.saturating_add(took);
        took
    }

    /// Asks the kernel about quiet connections that the samples do not settle: once when there are
    /// any, since most of them stay as they are, and again when only they delay the end. It may
    /// cost as much as a hundred samples where the kernel's table is full of closed connections.
    /// Only the first time may exceed the budget.
    fn settle(&mut self, now: Time) {
        // The closer asks a borrowed connection itself.
        if self.closer.as_ref().is_some_and(Closer::works) && self.judge.any_closable() {
            return;
        }
        let families = self.judge.unsettled();
        let any = families != Families::default();
        self.unsettled = any && self.judge.only_unsettled();
        let soon = self.hurried || self.judge.quiet_at() <= now.saturating_add(SETTLE_BEFORE);
        let due = self.unsettled && soon && self.paid_for() <= now;
        if due || any && !self.asked {
            self.asked = true;
            self.unsettled = false;
            self.source.settle(&mut self.judge, families);
        }
    }

    /// Finds the ports that the app listens on. An app that is still starting opens them later.
    fn find_ports(&mut self) {
        let Some(listeners) = self.source.listeners() else {
            return;
        };
        let first = !std::mem::replace(&mut self.ports_known, true);
        let found = match listeners.is_empty() {
            true => ports::Ports::default(),
            false => ports::of_app(&listeners, &Owners::read(&listeners)),
        };
        let list = List(&found.ports);
        if found.guessed {
            let message = format_args!(
                "not every process can be read: watching {list}, the ports that the app listens on \
                 or may listen on; --watch-port names the app's"
            );
            self.log.line(Level::Info, "traffic", message);
        } else if !found.ports.is_empty() {
            self.log.debug("traffic", format_args!("watching {list}"));
        } else if first {
            let message =
                format_args!("the app listens on no TCP port: there is no traffic to see");
            self.log.line(Level::Info, "traffic", message);
        }
        self.source.filter(&found.ports);
        self.watched.ports = found.ports;
    }

    /// When the time spent so far is within its share.
    fn paid_for(&self) -> Time {
        self.began.saturating_add(self.spent.saturating_mul(SHARE))
    }

    /// Plans the next sample: as soon as something may have changed, and as cost allows. The cost
    /// of all samples so far delays it by LONGEST_PAUSE at most; the cost of the last one always
    /// counts.
    fn plan(&mut self, now: Time, cost: Duration) {
        let quiet_at = self.judge.quiet_at();
        let wanted = if self.hurried || quiet_at <= now {
            now.saturating_add(QUICK_CADENCE)
        } else {
            // Half of the share, so that the end is paid for when it comes. Nothing is missed in
            // between: the kernel keeps the ages and queues the closed connections.
            let cadence = CADENCE.max(cost.saturating_mul(2 * SHARE));
            let settle_at = quiet_at.saturating_sub(SETTLE_BEFORE);
            let next_event = if self.unsettled && settle_at > now { settle_at } else { quiet_at };
            now.saturating_add(cadence).min(next_event)
        };
        let pause = LONGEST_PAUSE.max(cost.saturating_mul(SHARE));
        self.due = wanted.max(self.paid_for().min(now.saturating_add(pause)));
        self.next = self.due;
        let from = if self.hurried { now } else { quiet_at.saturating_sub(LOOK_BEFORE) };
        self.next_look = from.max(now.saturating_add(QUICK_CADENCE));
    }

    fn tell(&mut self, verdict: &Verdict) {
        let phase = if verdict.quiet_for < self.watched.until_quiet.min(LOG_WINDOW) {
            Phase::Traffic
        } else if verdict.nothing_in_flight() {
            Phase::Idle
        } else {
            Phase::InFlight
        };
        if phase == std::mem::replace(&mut self.last, phase) {
            return;
        }
        let new = verdict.new;
        match phase {
            Phase::Traffic if new > 0 => {
                self.log.debug("traffic", format_args!("{new} new connections: {verdict}"));
            }
            Phase::Idle => self.log.debug("traffic", format_args!("idle: {verdict}")),
            _ => self.log.debug("traffic", format_args!("{verdict}")),
        }
    }
}

impl Watched {
    /// Whether the drain watches this connection.
    fn counts(&self, connection: &Connection) -> bool {
        self.ports.binary_search(&connection.port).is_ok()
            && connection.peer_port != 0
            && !self.ignored_peers.iter().any(|network| network.contains(connection.peer))
    }

    fn port_range(&self) -> Option<(u16, u16)> {
        Some((*self.ports.first()?, *self.ports.last()?))
    }
}

/// The number of connections that may be closed now: after that time, of which that much was spent, and
/// a sample of that cost.
fn affordable(lasted: Duration, spent: Duration, cost: Duration) -> Result<usize, TryFromIntError> {
    let unspent = (lasted / SHARE).saturating_sub(spent);
    let unspent = unspent.saturating_mul(SHARE) / CLOSING_SHARE;
    let budget = unspent.max(cost.saturating_mul(CLOSING_TO_SAMPLE));
    usize::try_from(budget.as_nanos() / CLOSING.as_nanos())
}

/// The processor time of this thread, to measure what a sample costs; not a clock to wait by.
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
pub mod tests;
