//! Decides whether the traffic has ended: a pure function of observations and their times.
//!
//! Samples of the connections go in one by one, and each yields a verdict. Knows no socket and no
//! clock. In doubt a request counts as in flight: a drain may be too long, never too short.
//!
//! Longer than 300 lines because it is one state machine, whose rules only make sense together.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::connection::{Connection, Counts, Families, Info, state};
use super::known::{AllKnown, Closing, InFlight, Known};
use super::peers::{Origin, Peers};
use super::ports::{self, List};
use crate::clock::Time;
use crate::duration::{Rounded, Short};
use crate::options::watched::QuietOn;

/// A notification of a closed connection may arrive later than the dump that lacks it.
const REMEMBERED: Duration = Duration::from_secs(2);

/// The time of traffic is the latest possible one, see `read_until`. This is how far it may exceed
/// the time at which its peer is known.
const LATELY: Duration = Duration::from_millis(500);
/// If nothing has moved on a connection for this long, the kernel's table will still be right when
/// it counts. A connection that moves more often is looked at instead.
const STILL: Duration = Duration::from_millis(500);
/// A connection that was used within this time is looked at between two samples.
const IN_USE: Duration = Duration::from_secs(2);
/// If more are in use they are left to the samples, which then cost less.
const MOST_LOOKED_AT: usize = 200;

/// Judges connections sample by sample.
pub struct Judge {
    until_quiet: Duration,
    quiet_on: QuietOn,
    known: AllKnown,
    last_traffic: Time,
    peers: Peers,
    close_idle: Option<CloseIdle>,
    /// Connections closed for the app so far.
    closed: u32,
    /// The last request on any connection that no longer exists.
    last_request: Time,
    /// When the drain began, and how many samples since then saw new connections.
    began: Time,
    came_in: u32,
    /// The app finishes requests in flight itself.
    app_finishes: bool,
    sample: Sample,
}

/// How idle connections are closed for the app.
#[derive(Clone, Copy, Debug)]
pub struct CloseIdle {
    /// How long nothing must have moved on them.
    pub after: Duration,
    /// Whether to close them even while new connections come.
    pub anyway: bool,
}

/// A connection to be closed, as it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    pub cookie: u64,
    pub inode: u64,
    pub counts: Option<Counts>,
    /// Set if only the kernel can tell whether the connection is idle: it is if the kernel calls it
    /// interactive and this is true.
    pub unsettled: Option<bool>,
    /// The last data sent may still be on its way.
    pub undelivered: bool,
    received: Time,
}

#[cfg(test)]
impl Idle {
    pub fn of(cookie: u64, counts: Option<Counts>) -> Self {
        Self { cookie, inode: 0, counts, unsettled: None, undelivered: false, received: Time::ZERO }
    }
}

/// How many times more often than once per quiet window new connections must have come. By chance,
/// one gap in 20000 would then be as long as the window.
const OFTEN: u32 = 10;
/// How long an app has to close a connection that was shut down for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many times a connection that cannot be borrowed is tried.
const TRIES: u8 = 3;

/// The sample being taken.
#[derive(Default)]
struct Sample {
    now: Time,
    /// Since the last sample.
    gap: Duration,
    /// The last traffic known before this sample.
    traffic_before: Time,
    new: u32,
    in_flight: u32,
    unsure: u32,
    busy_ports: Vec<u16>,
    idle: u32,
    /// A request is in flight, whatever the kernel would say.
    certain: bool,
    /// Idle connections that can be closed, or were shut down and still exist.
    closable: u32,
    to_close: Vec<Idle>,
    /// Any connection that can be borrowed.
    any: Option<Idle>,
    /// Connections in use, or in an unknown state.
    lively: Vec<Connection>,
    /// Inode and cookie of each connection that is unsettled until the kernel is asked.
    unsettled: Vec<(u64, u64)>,
    families: Families,
}

/// The result of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    until_quiet: Duration,
    /// Since the last traffic, or since the drain began.
    pub quiet_for: Duration,
    /// New connections since the last sample; in the first sample, all.
    pub new: u32,
    /// Requests in flight, and connections that may be owed an answer.
    pub in_flight: u32,
    /// The number of connections that may be owed an answer.
    pub unsure: u32,
    /// The local ports of the requests in flight.
    pub busy_ports: Vec<u16>,
    /// Connections with nothing in flight.
    pub idle: u32,
    /// The peer of the last traffic, if known.
    origin: Option<Origin>,
    /// Idle or unsure connections that the drain waits to see closed.
    pub closable: u32,
    /// Connections closed for the app so far; None if the drain does not close any.
    pub closed: Option<u32>,
    /// The app finishes requests in flight itself.
    pub app_finishes: bool,
    /// Whether everything was seen.
    pub complete: bool,
}

impl Verdict {
    /// Whether the traffic has ended.
    pub fn is_quiet(&self) -> bool {
        self.no_traffic() && self.nothing_to_wait_for() && self.closable == 0
    }

    /// Whether the drain need not wait for the requests in flight, if any.
    pub fn nothing_to_wait_for(&self) -> bool {
        self.nothing_in_flight() || (self.complete && self.app_finishes)
    }

    /// Whether no traffic has come for the requested time. Requests may still be in flight.
    pub fn no_traffic(&self) -> bool {
        self.quiet_for >= self.until_quiet
    }

    /// Whether stopping the app at this instant would cut off no request.
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
            close_idle: None,
            closed: 0,
            last_request: now,
            began: now,
            came_in: 0,
            app_finishes: false,
            sample: Sample::default(),
        }
    }

    /// From now on the app finishes requests in flight itself, and only new connections are
    /// traffic.
    pub fn leave_requests_to_the_app(&mut self) {
        self.app_finishes = true;
    }

    /// Sets whether idle connections are closed, from the next sample on. If so, requests on them
    /// are not traffic: closing them shows whether the client still comes here.
    pub fn close_idle(&mut self, how: Option<CloseIdle>) {
        self.close_idle = how;
    }

    /// Takes the idle connections to close now, `most` of them at most.
    pub fn take_idle(&mut self, most: usize) -> Vec<Idle> {
        let mut idle = std::mem::take(&mut self.sample.to_close);
        let due = self.is_in_a_hurry() || self.window_is_over();
        idle.truncate(if due { most } else { 0 });
        idle
    }

    /// Whether any connection can be closed, or was shut down and still exists.
    pub fn any_closable(&self) -> bool {
        self.sample.closable > 0
    }

    /// Whether connections are closed even while new ones come.
    pub fn is_in_a_hurry(&self) -> bool {
        self.close_idle.is_some_and(|how| how.anyway)
    }

    /// A connection of the last sample that could be borrowed, idle or not.
    pub fn any_connection(&self) -> Option<Idle> {
        self.sample.any
    }

    /// Records that the connection was shut down for the app, which has to close it.
    pub fn was_shut(&mut self, idle: &Idle, now: Time) {
        if let Some(known) = self.known.get_mut(&idle.cookie) {
            known.closing = Closing::Shut(now);
            self.closed = self.closed.saturating_add(1);
            self.last_request = self.last_request.max(idle.received);
        }
    }

    /// Records that the connection could not be shut down. Returns whether to give it up: it is
    /// hopeless, or was tried often enough.
    pub fn was_not_shut(&mut self, cookie: u64, hopeless: bool) -> bool {
        let Some(known) = self.known.get_mut(&cookie) else {
            return false;
        };
        if let Closing::Open(tries) = known.closing {
            let tries = tries.saturating_add(1);
            let last = hopeless || tries >= TRIES;
            known.closing = if last { Closing::Kept } else { Closing::Open(tries) };
        }
        known.closing == Closing::Kept
    }

    /// When the quiet window ends if no traffic comes. While connections can be closed, when
    /// closing begins.
    pub fn quiet_at(&self) -> Time {
        let last = if self.any_closable() { self.last_traffic } else { self.last_heard() };
        last.saturating_add(self.until_quiet)
    }

    /// Whether the quiet window has ended in the sample being taken.
    pub fn window_is_over(&self) -> bool {
        self.last_traffic.saturating_add(self.until_quiet) <= self.sample.now
    }

    /// When a client was last heard from. Clients whose connections were closed get a full window
    /// to come back, unless new connections came so often before that their absence is proof
    /// enough.
    fn last_heard(&self) -> Time {
        let lasted = self.last_traffic.saturating_sub(self.began);
        let often = self.came_in >= OFTEN && lasted / self.came_in <= self.until_quiet / OFTEN;
        let requests = self.close_idle.is_some() && self.quiet_on == QuietOn::Requests;
        if requests && !often {
            self.last_traffic.max(self.last_request)
        } else {
            self.last_traffic
        }
    }

    /// Begins a sample. Closed connections come first, then open ones, then `end`.
    pub fn begin(&mut self, now: Time) {
        let gap = now.saturating_sub(self.sample.now);
        self.sample = Sample { now, gap, traffic_before: self.last_traffic, ..Sample::default() };
    }

    /// The sample was read until `after`. Ages were taken relative to its beginning, so its traffic
    /// may be later by that much.
    pub fn read_until(&mut self, after: Time) {
        let took = after.saturating_sub(self.sample.now);
        if self.last_traffic != self.sample.traffic_before {
            self.last_traffic = self.last_traffic.saturating_add(took).min(after);
        }
    }

    /// Everything is known from now on; earlier traffic may have been missed.
    pub fn knows_from(&mut self, now: Time) {
        self.last_traffic = self.last_traffic.max(now);
        (self.began, self.came_in) = (now, 0);
    }

    /// Records traffic of which nothing else is known.
    pub fn unseen_traffic(&mut self) {
        self.traffic_at(self.sample.now);
    }

    /// Records a connection that has closed since the last sample.
    pub fn closed(&mut self, connection: &Connection) {
        match self.known.get_mut(&connection.cookie) {
            None => self.new_connection(connection),
            Some(known) => {
                known.closed = true;
                self.data_received(connection, self.sample.now);
                if let Some(info) = connection.info {
                    let received = self.sample.now.saturating_sub(info.received);
                    self.last_request = self.last_request.max(received);
                }
            }
        }
    }

    /// Records an open connection.
    pub fn open(&mut self, connection: &Connection) {
        // The rest of a closed connection whose peer may still send.
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
        if let Closing::Shut(at) = known.closing
            && now.saturating_sub(at) >= PATIENCE
            && connection.state == state::ESTABLISHED
        {
            // The app ignores the end of stream.
            known.closing = Closing::Kept;
            self.closed = self.closed.saturating_sub(1);
        }
        let close_after = close_after(self.close_idle, known);
        let in_flight = known.in_flight(connection, close_after.unwrap_or(self.until_quiet));
        let lively = in_flight != InFlight::No || known.moved_within(IN_USE, now);
        self.sample.count(connection, in_flight);
        if lively && connection.can_be_answered() && self.sample.lively.len() <= MOST_LOOKED_AT {
            self.sample.lively.push(*connection);
        }
        if let Some(still) = close_after
            && let Some(idle) = idle(known, connection, in_flight, now)
        {
            self.sample.closable(known, connection, idle, in_flight, still);
            // A new connection may be gone by the time it is looked up.
            self.sample.any = self.sample.any.or((!is_new).then_some(idle));
        }
        if is_new {
            self.new_connection(connection);
        } else {
            self.data_received(connection, now);
        }
    }

    /// Records a connection of which only the state is known.
    pub fn present(&mut self, connection: &Connection) {
        let mut known = Known::new(self.sample.now);
        let in_flight = known.in_flight(connection, self.until_quiet);
        self.sample.count(connection, in_flight);
    }

    /// Ends the sample. `complete` is false if part of it could not be read.
    pub fn end(&mut self, complete: bool) -> Verdict {
        let Sample { now, new, in_flight, unsure, idle, .. } = self.sample;
        let forgotten = |known: &Known| now.saturating_sub(known.seen) >= REMEMBERED;
        self.known.retain(|_, known| !(known.closed || complete && forgotten(known)));
        self.sample.unsettled.sort_unstable();
        self.came_in = self.came_in.saturating_add(u32::from(new > 0));
        Verdict {
            until_quiet: self.until_quiet,
            quiet_for: now.saturating_sub(self.last_heard()),
            new,
            in_flight,
            unsure,
            busy_ports: std::mem::take(&mut self.sample.busy_ports),
            idle,
            origin: self.peers.origin(self.last_traffic.saturating_sub(LATELY)),
            closable: self.sample.closable,
            closed: self.close_idle.map(|_| self.closed),
            app_finishes: self.app_finishes,
            complete,
        }
    }

    /// The connections to look at before the next sample; none if there are too many. Seen that
    /// often, a connection shows request and answer one after the other.
    pub fn to_look_at(&self) -> &[Connection] {
        let lively = self.sample.lively.as_slice();
        if lively.len() > MOST_LOOKED_AT { &[] } else { lively }
    }

    /// Updates a connection between two samples. Returns whether a request may be in flight.
    pub fn look(&mut self, now: Time, connection: &Connection) -> bool {
        let Some(known) = self.known.get_mut(&connection.cookie) else {
            return true;
        };
        known.update(connection.info.and_then(|info| info.counts), now);
        let close_after = close_after(self.close_idle, known);
        let in_flight = known.in_flight(connection, close_after.unwrap_or(self.until_quiet));
        if let Some(still) = close_after
            && let Some(idle) = idle(known, connection, in_flight, now)
            && is_due(known, connection, in_flight, still)
        {
            self.sample.to_close.push(idle);
        }
        self.data_received(connection, now);
        in_flight != InFlight::No
    }

    /// Begins a round of looks.
    pub fn begin_looks(&mut self) {
        self.sample.to_close.clear();
    }

    /// The families of the unsettled connections, for which the kernel has to be asked.
    pub fn unsettled(&self) -> Families {
        self.sample.families
    }

    /// Whether only unsettled connections may have a request in flight.
    pub fn only_unsettled(&self) -> bool {
        !self.sample.certain
    }

    /// Records the kernel's opinion of the socket with this inode, read after the sample. It counts
    /// from the next sample on if the connection has not changed by then: it may describe something
    /// later.
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

    /// Records a new connection. It was made before the oldest age it shows, so connections found
    /// by the first sample date from before the drain and are not traffic.
    fn new_connection(&mut self, connection: &Connection) {
        let oldest = |info: Info| info.sent.max(info.received).max(info.acknowledged);
        let age = connection.info.map_or(Duration::ZERO, oldest);
        let at = self.sample.now.saturating_sub(age);
        self.traffic_at(at);
        self.came(at, connection);
        self.data_received(connection, self.sample.now);
    }

    /// Where idle connections are closed, requests count only on those that cannot be closed.
    fn data_received(&mut self, connection: &Connection, now: Time) {
        let known = self.known.get(&connection.cookie);
        if known.is_some_and(|known| close_after(self.close_idle, known).is_some()) {
            return;
        }
        if let (QuietOn::Requests, Some(info)) = (self.quiet_on, connection.info) {
            let received = now.saturating_sub(info.received);
            self.last_traffic = self.last_traffic.max(received);
            self.came(received, connection);
        }
    }

    /// Records the peer of new traffic.
    fn came(&mut self, at: Time, connection: &Connection) {
        if at > self.sample.traffic_before {
            self.peers.came(at, connection.peer, connection.port, self.sample.gap);
        }
    }
}

/// How long nothing must have moved on the connection before it is closed; None if it stays.
fn close_after(close_idle: Option<CloseIdle>, known: &Known) -> Option<Duration> {
    close_idle.filter(|_| known.closing != Closing::Kept).map(|how| how.after)
}

/// The connection as a candidate for closing: accepted, and closed by neither end.
fn idle(known: &Known, connection: &Connection, in_flight: InFlight, now: Time) -> Option<Idle> {
    let info = connection.info?;
    let is_there = connection.state == state::ESTABLISHED && connection.inode != 0;
    is_there.then(|| Idle {
        cookie: connection.cookie,
        inode: connection.inode,
        counts: info.counts,
        unsettled: (in_flight == InFlight::Unsettled).then(|| known.idle_if_interactive(&info)),
        undelivered: connection.undelivered > 0,
        received: now.saturating_sub(info.received),
    })
}

/// Whether it is to be closed now.
fn is_due(known: &Known, connection: &Connection, in_flight: InFlight, still: Duration) -> bool {
    let Some(info) = connection.info else {
        return false;
    };
    let is_idle = match in_flight {
        InFlight::No | InFlight::Unsettled => info.sent >= still && info.received >= still,
        InFlight::Yes => still.is_zero() && is_answered(connection, &info),
        InFlight::Maybe => false,
    };
    is_idle && matches!(known.closing, Closing::Open(_))
}

/// A client that sends its next request before its kernel would acknowledge an answer by itself, some
/// 40 ms later, always has one that is on its way. At the very last that is no reason to let its next
/// request be cut: what has been sent arrives after a close, too. Whether all of a long answer has been
/// sent cannot be known.
fn is_answered(connection: &Connection, info: &Info) -> bool {
    const LITTLE: u32 = 16 * 1024;
    connection.unread == 0 && connection.undelivered <= LITTLE && info.sent < info.received
}

impl Sample {
    fn closable(
        &mut self,
        known: &Known,
        connection: &Connection,
        idle: Idle,
        in_flight: InFlight,
        still: Duration,
    ) {
        if matches!(in_flight, InFlight::No | InFlight::Unsettled) {
            self.closable = self.closable.saturating_add(1);
        }
        if is_due(known, connection, in_flight, still) {
            self.to_close.push(idle);
        }
    }

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
            // Without an inode the kernel's opinion cannot be found.
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

    fn say_closed(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Some(closed) = self.closed else {
            return Ok(());
        };
        let all = closed.saturating_add(self.idle).saturating_add(self.in_flight);
        let plural = if all == 1 { "" } else { "s" };
        write!(f, ", closed {closed} of {all} kept connection{plural}")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.in_flight > 0 && !(self.app_finishes && self.no_traffic()) {
            self.say_in_flight(f)?;
            return self.say_closed(f);
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
            _ if self.app_finishes && self.in_flight > 0 => {
                write!(f, ", {} in flight for the app to finish", self.in_flight)
            }
            _ if self.closed.is_some() => self.say_closed(f),
            0 => Ok(()),
            1 => f.write_str(" (1 idle keep-alive connection left)"),
            idle => write!(f, " ({idle} idle keep-alive connections left)"),
        }
    }
}

#[cfg(test)]
mod tests;
