//! Whether the traffic has ended, as a pure function of what was seen and when.
//!
//! Samples of the connections go in, one after the other; a verdict comes out of each. Knows no
//! socket and no clock. Where it cannot tell it takes a request to be in flight: a drain may be too
//! long, never too short.

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
    close_idle: Option<CloseIdle>,
    /// Connections that were closed for the app.
    closed: u32,
    /// The last request on any connection that is not there any more.
    last_request: Time,
    /// When the drain began, and in how many samples since then new connections were seen.
    began: Time,
    came_in: u32,
    /// Requests in flight are the app's to finish.
    app_finishes: bool,
    sample: Sample,
}

/// Idle connections are closed for the app.
#[derive(Clone, Copy, Debug)]
pub struct CloseIdle {
    /// When nothing has moved on them for so long.
    pub after: Duration,
    /// Whether or not new connections come.
    pub anyway: bool,
}

/// A connection that is to be closed, as it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    pub cookie: u64,
    pub inode: u64,
    pub counts: Option<Counts>,
    /// Only the kernel can say whether it is idle: if it takes it for interactive, and this is so.
    pub unsettled: Option<bool>,
    /// What was sent last may be on its way still.
    pub undelivered: bool,
    received: Time,
}

#[cfg(test)]
impl Idle {
    pub fn of(cookie: u64, counts: Option<Counts>) -> Self {
        Self { cookie, inode: 0, counts, unsettled: None, undelivered: false, received: Time::ZERO }
    }
}

/// New connections that came this much more often than once in the time in which now none has come:
/// by chance one such gap in 20000 is that long.
const OFTEN: u32 = 10;
/// An app has so long to close what has been shut down for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// A connection that cannot be borrowed is tried so often.
const TRIES: u8 = 3;

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
    /// Idle connections that can be closed, or have been and are there still.
    closable: u32,
    to_close: Vec<Idle>,
    /// Any connection that can be borrowed.
    any: Option<Idle>,
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
    /// Of these and those that are unsure, the ones whose end is waited for.
    pub closable: u32,
    /// Those that were closed for the app so far; none where that is not done.
    pub closed: Option<u32>,
    /// Requests in flight are the app's to finish.
    pub app_finishes: bool,
    /// Whether everything was seen.
    pub complete: bool,
}

impl Verdict {
    /// The traffic has ended.
    pub fn is_quiet(&self) -> bool {
        self.no_traffic() && self.nothing_to_wait_for() && self.closable == 0
    }

    /// Whatever is in flight, the drain need not wait for it.
    pub fn nothing_to_wait_for(&self) -> bool {
        self.nothing_in_flight() || (self.complete && self.app_finishes)
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
            close_idle: None,
            closed: 0,
            last_request: now,
            began: now,
            came_in: 0,
            app_finishes: false,
            sample: Sample::default(),
        }
    }

    /// From now on the app finishes what is in flight, and only new connections are traffic.
    pub fn leave_requests_to_the_app(&mut self) {
        self.app_finishes = true;
    }

    /// Whether idle connections are closed, from the next sample on. Where they are, requests on
    /// them are no traffic: closing shows whether a client still comes here.
    pub fn close_idle(&mut self, how: Option<CloseIdle>) {
        self.close_idle = how;
    }

    /// What was found idle, if it is to be closed now: so many at the most.
    pub fn take_idle(&mut self, most: usize) -> Vec<Idle> {
        let mut idle = std::mem::take(&mut self.sample.to_close);
        let due = self.is_in_a_hurry() || self.window_is_over();
        idle.truncate(if due { most } else { 0 });
        idle
    }

    /// Whether there are any that can be closed, or have been and are there still.
    pub fn any_closable(&self) -> bool {
        self.sample.closable > 0
    }

    /// Whether connections are closed while new ones come.
    pub fn is_in_a_hurry(&self) -> bool {
        self.close_idle.is_some_and(|how| how.anyway)
    }

    /// A connection of the last sample that could be closed, idle or not.
    pub fn any_connection(&self) -> Option<Idle> {
        self.sample.any
    }

    /// It was shut down for the app, which is to close it.
    pub fn was_shut(&mut self, idle: &Idle, now: Time) {
        if let Some(known) = self.known.get_mut(&idle.cookie) {
            known.closing = Closing::Shut(now);
            self.closed = self.closed.saturating_add(1);
            self.last_request = self.last_request.max(idle.received);
        }
    }

    /// It could not be. Whether it is to be tried no more, because it is hopeless or as it was tried
    /// often enough.
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

    /// When no traffic will have come for long enough, if none comes; or when connections will be
    /// closed, while there are any.
    pub fn quiet_at(&self) -> Time {
        let last = if self.any_closable() { self.last_traffic } else { self.last_heard() };
        last.saturating_add(self.until_quiet)
    }

    /// Whether it is so in the sample that is being taken.
    pub fn window_is_over(&self) -> bool {
        self.last_traffic.saturating_add(self.until_quiet) <= self.sample.now
    }

    /// When a client was last heard of. Those whose connections were closed have as long to come
    /// back, unless new connections came so often before that their absence tells enough.
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
        (self.began, self.came_in) = (now, 0);
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
                self.data_received(connection, self.sample.now);
                if let Some(info) = connection.info {
                    let received = self.sample.now.saturating_sub(info.received);
                    self.last_request = self.last_request.max(received);
                }
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
        if let Closing::Shut(at) = known.closing
            && now.saturating_sub(at) >= PATIENCE
            && connection.state == state::ESTABLISHED
        {
            // The app takes no notice.
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
            // One that is new may be gone by the time that it is looked for.
            self.sample.any = self.sample.any.or((!is_new).then_some(idle));
        }
        if is_new {
            self.new_connection(connection);
        } else {
            self.data_received(connection, now);
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

    /// Looks begin anew.
    pub fn begin_looks(&mut self) {
        self.sample.to_close.clear();
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
        self.data_received(connection, self.sample.now);
    }

    /// Where connections are closed, only what cannot be closed is asked by its requests.
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

    /// Notes whose traffic it was, if it is new.
    fn came(&mut self, at: Time, connection: &Connection) {
        if at > self.sample.traffic_before {
            self.peers.came(at, connection.peer, connection.port, self.sample.gap);
        }
    }
}

/// How long nothing has moved on the connection when it is closed, if it is to be.
fn close_after(close_idle: Option<CloseIdle>, known: &Known) -> Option<Duration> {
    close_idle.filter(|_| known.closing != Closing::Kept).map(|how| how.after)
}

/// One that is accepted, and that neither end has closed.
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
