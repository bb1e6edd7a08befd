//! Whether the traffic has ended, as a pure function of what was seen and when.
//!
//! Samples of the connections go in, one after the other; a verdict comes out of each. Knows no
//! socket and no clock. Where it cannot tell it takes a request to be in flight: a drain may be too
//! long, never too short.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::connection::{Connection, Families, Info, state};
use super::known::{AllKnown, InFlight, Known};
use super::peers::{Origin, Peers};
use super::ports::{self, List};
use crate::clock::Time;
use crate::duration::{Rounded, Short};
use crate::options::watched::QuietOn;

/// The news that a connection has closed may come later than the dump that it is missing from.
const REMEMBERED: Duration = Duration::from_secs(2);

/// The time of traffic is the latest that it can have been, see `read_until`; so late at the most is
/// what is known of who it was.
const LATELY: Duration = Duration::from_millis(500);
/// Nothing has moved for so long: what the kernel's table says of a connection will still be true when
/// it counts. For the sake of one that moves more often it is not read: such a one is looked at.
const STILL: Duration = Duration::from_millis(500);
/// A connection that was used within this time is looked at between two samples.
const IN_USE: Duration = Duration::from_secs(2);
/// More of them are left to the samples, which then cost less.
const MOST_LOOKED_AT: usize = 200;

/// Connections, sample by sample.
pub struct Judge {
    until_quiet: Duration,
    quiet_on: QuietOn,
    known: AllKnown,
    last_traffic: Time,
    peers: Peers,
    sample: Sample,
}

/// The sample that is being taken.
#[derive(Default)]
struct Sample {
    now: Time,
    /// Since the last one.
    gap: Duration,
    /// The last traffic that was known before.
    traffic_before: Time,
    new: u32,
    in_flight: u32,
    unsure: u32,
    busy_ports: Vec<u16>,
    idle: u32,
    /// A request is in flight, whatever the kernel would say.
    certain: bool,
    /// Those that are in use, or whose state is not known.
    lively: Vec<Connection>,
    /// Inode and cookie of those that are until the kernel has been asked.
    unsettled: Vec<(u64, u64)>,
    families: Families,
}

/// What a sample showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    until_quiet: Duration,
    /// Since the last traffic, or since the drain began.
    pub quiet_for: Duration,
    /// New connections since the last sample; in the first one, all.
    pub new: u32,
    /// Requests, and connections that may be owed an answer.
    pub in_flight: u32,
    /// How many of these are the latter.
    pub unsure: u32,
    /// The ports on our side that they came to.
    pub busy_ports: Vec<u16>,
    /// Connections on which nothing is in flight.
    pub idle: u32,
    /// Whose the last traffic was, where that is known.
    origin: Option<Origin>,
    /// Whether everything was seen.
    pub complete: bool,
}

impl Verdict {
    /// The traffic has ended.
    pub fn is_quiet(&self) -> bool {
        self.no_traffic() && self.nothing_in_flight()
    }

    /// No traffic has come for the time that was asked for; requests may be in flight still.
    pub fn no_traffic(&self) -> bool {
        self.quiet_for >= self.until_quiet
    }

    /// If the app were told to stop at this instant, no request would be cut.
    pub fn nothing_in_flight(&self) -> bool {
        self.complete && self.in_flight == 0
    }
}

impl Judge {
    pub fn new(until_quiet: Duration, quiet_on: QuietOn, now: Time) -> Self {
        Self {
            until_quiet,
            quiet_on,
            known: AllKnown::default(),
            last_traffic: now,
            peers: Peers::default(),
            sample: Sample::default(),
        }
    }

    /// When no traffic will have come for long enough, if none comes.
    pub fn quiet_at(&self) -> Time {
        self.last_traffic.saturating_add(self.until_quiet)
    }

    /// Whether it is so in the sample that is being taken.
    pub fn window_is_over(&self) -> bool {
        self.quiet_at() <= self.sample.now
    }

    /// A sample begins. What has closed comes first, then what is there, then `end`.
    pub fn begin(&mut self, now: Time) {
        let gap = now.saturating_sub(self.sample.now);
        self.sample = Sample { now, gap, traffic_before: self.last_traffic, ..Sample::default() };
    }

    /// The reading went on until `after`: what it found may be younger by so much than its age says
    /// that was taken for one at the beginning.
    pub fn read_until(&mut self, after: Time) {
        let took = after.saturating_sub(self.sample.now);
        if self.last_traffic != self.sample.traffic_before {
            self.last_traffic = self.last_traffic.saturating_add(took).min(after);
        }
    }

    /// What was there is known from now on: what came before may have been missed.
    pub fn knows_from(&mut self, now: Time) {
        self.last_traffic = self.last_traffic.max(now);
    }

    /// There was traffic of which nothing more is known.
    pub fn unseen_traffic(&mut self) {
        self.traffic_at(self.sample.now);
    }

    /// The connection has closed since the last sample.
    pub fn closed(&mut self, connection: &Connection) {
        match self.known.get_mut(&connection.cookie) {
            None => self.new_connection(connection),
            Some(known) => {
                known.closed = true;
                self.data_received(connection);
            }
        }
    }

    /// The connection is there.
    pub fn open(&mut self, connection: &Connection) {
        // What is left of a closed connection while its peer may still send.
        if connection.state == state::FIN_WAIT2 && connection.info.is_none() {
            return;
        }
        let now = self.sample.now;
        let mut is_new = false;
        let known = self.known.entry(connection.cookie).or_insert_with(|| {
            is_new = true;
            Known::new(now)
        });
        known.update(connection.info.and_then(|info| info.counts), now);
        let in_flight = known.in_flight(connection, self.until_quiet);
        let lively = in_flight != InFlight::No || known.moved_within(IN_USE, now);
        self.sample.count(connection, in_flight);
        if lively && connection.can_be_answered() && self.sample.lively.len() <= MOST_LOOKED_AT {
            self.sample.lively.push(*connection);
        }
        if is_new {
            self.new_connection(connection);
        } else {
            self.data_received(connection);
        }
    }

    /// The connection is there, and nothing is known of it but its state.
    pub fn present(&mut self, connection: &Connection) {
        let mut known = Known::new(self.sample.now);
        let in_flight = known.in_flight(connection, self.until_quiet);
        self.sample.count(connection, in_flight);
    }

    /// The sample is over; not `complete` if part of it could not be read.
    pub fn end(&mut self, complete: bool) -> Verdict {
        let Sample { now, new, in_flight, unsure, idle, .. } = self.sample;
        let forgotten = |known: &Known| now.saturating_sub(known.seen) >= REMEMBERED;
        self.known.retain(|_, known| !(known.closed || complete && forgotten(known)));
        self.sample.unsettled.sort_unstable();
        Verdict {
            until_quiet: self.until_quiet,
            quiet_for: now.saturating_sub(self.last_traffic),
            new,
            in_flight,
            unsure,
            busy_ports: std::mem::take(&mut self.sample.busy_ports),
            idle,
            origin: self.peers.origin(self.last_traffic.saturating_sub(LATELY)),
            complete,
        }
    }

    /// The connections to look at until the next sample, if there are any and they are few. Seen that
    /// often, a connection shows one thing after the other: what came, and then what went.
    pub fn to_look_at(&self) -> &[Connection] {
        let lively = self.sample.lively.as_slice();
        if lively.len() > MOST_LOOKED_AT { &[] } else { lively }
    }

    /// Between two samples the connection is like this. Whether a request may be in flight.
    pub fn look(&mut self, now: Time, connection: &Connection) -> bool {
        let Some(known) = self.known.get_mut(&connection.cookie) else {
            return true;
        };
        known.update(connection.info.and_then(|info| info.counts), now);
        let in_flight = known.in_flight(connection, self.until_quiet);
        if let (QuietOn::Requests, Some(info)) = (self.quiet_on, connection.info) {
            let received = now.saturating_sub(info.received);
            self.last_traffic = self.last_traffic.max(received);
            self.came(received, connection);
        }
        in_flight != InFlight::No
    }

    /// The sockets that stand still, and of which the kernel's own opinion would be of use, are of
    /// these families.
    pub fn unsettled(&self) -> Families {
        self.sample.families
    }

    /// Whether they alone keep the sample from showing that nothing is in flight.
    pub fn only_unsettled(&self) -> bool {
        !self.sample.certain
    }

    /// The kernel's opinion of the socket with this inode, read after the sample. It counts from
    /// the next one on, if the connection is then the same: it may be about what came in between.
    pub fn settle(&mut self, inode: u64, interactive: bool) {
        let unsettled = &self.sample.unsettled;
        let found = unsettled.binary_search_by_key(&inode, |(inode, _)| *inode).ok();
        let cookie = found.and_then(|index| unsettled.get(index)).map(|(_, cookie)| cookie);
        if let Some(known) = cookie.and_then(|cookie| self.known.get_mut(cookie)) {
            known.interactive = Some(interactive);
        }
    }

    fn traffic_at(&mut self, at: Time) {
        self.sample.new = self.sample.new.saturating_add(1);
        self.last_traffic = self.last_traffic.max(at);
    }

    /// It was made before the oldest thing that is known of it: so those that the first sample finds
    /// are from before the drain, and no traffic in it.
    fn new_connection(&mut self, connection: &Connection) {
        let oldest = |info: Info| info.sent.max(info.received).max(info.acknowledged);
        let age = connection.info.map_or(Duration::ZERO, oldest);
        let at = self.sample.now.saturating_sub(age);
        self.traffic_at(at);
        self.came(at, connection);
        self.data_received(connection);
    }

    fn data_received(&mut self, connection: &Connection) {
        if let (QuietOn::Requests, Some(info)) = (self.quiet_on, connection.info) {
            let received = self.sample.now.saturating_sub(info.received);
            self.last_traffic = self.last_traffic.max(received);
            self.came(received, connection);
        }
    }

    /// Notes whose traffic it was, if it is new.
    fn came(&mut self, at: Time, connection: &Connection) {
        if at > self.sample.traffic_before {
            self.peers.came(at, connection.peer, connection.port, self.sample.gap);
        }
    }
}

impl Sample {
    fn count(&mut self, connection: &Connection, in_flight: InFlight) {
        if in_flight != InFlight::No {
            self.in_flight = self.in_flight.saturating_add(1);
            ports::insert(&mut self.busy_ports, connection.port);
        } else if connection.can_be_answered() {
            self.idle = self.idle.saturating_add(1);
        }
        if matches!(in_flight, InFlight::Maybe | InFlight::Unsettled) {
            self.unsure = self.unsure.saturating_add(1);
        }
        match in_flight {
            InFlight::No => {}
            InFlight::Yes | InFlight::Maybe => self.certain = true,
            // Nobody could say which it is.
            InFlight::Unsettled if connection.inode == 0 => self.certain = true,
            InFlight::Unsettled => {
                self.unsettled.push((connection.inode, connection.cookie));
                if connection.info.is_some_and(|info| info.received >= STILL) {
                    self.families.add(connection.family);
                } else {
                    self.certain = true;
                }
            }
        }
    }
}

impl Verdict {
    fn say_in_flight(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let requests = self.in_flight.saturating_sub(self.unsure);
        if requests > 0 {
            write!(f, "{requests} request{} in flight", plural(requests))?;
        }
        if self.unsure > 0 {
            let and = if requests > 0 { " and " } else { "" };
            let plural = plural(self.unsure);
            write!(f, "{and}{} connection{plural} that may be owed an answer", self.unsure)?;
        }
        write!(f, " on {}", List(&self.busy_ports))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.in_flight > 0 {
            return self.say_in_flight(f);
        }
        if !self.complete {
            return f.write_str("the connections could not be read");
        }
        if self.no_traffic() {
            write!(f, "quiet for {}", Short(self.until_quiet))?;
        } else {
            write!(f, "last traffic {} ago", Rounded(self.quiet_for))?;
            if let Some(origin) = &self.origin {
                origin.fmt(f)?;
            }
        }
        match self.idle {
            0 => Ok(()),
            1 => f.write_str(" (1 idle keep-alive connection left)"),
            idle => write!(f, " ({idle} idle keep-alive connections left)"),
        }
    }
}

#[cfg(test)]
mod tests;
