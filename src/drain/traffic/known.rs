//! Decides whether a request is in flight on a connection, from its history and its present state.
//!
//! The hard case is a connection that last received and last sent data in the same tick of the
//! kernel's clock, which is normal for a fast server. Either the app has answered, or a new request
//! arrived right after an answer. The request was answered if
//! - nothing was owed before, and since then one segment has come in and data has gone out;
//! - or the peer acknowledged soon afterwards without sending data;
//! - or our kernel's delayed ACK is overdue and no bare ACK was sent, so the ACK went out with the
//!   answer.
//!
//! If the connection was not seen before, or the ACKs may belong to something else, the kernel is
//! asked (Judge::settle).

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::connection::{Connection, Counts, Info};
use crate::clock::Time;

/// Data sent this long after the last data received is more than the beginning of an answer.
const STREAM_AFTER: Duration = Duration::from_millis(200);
/// How long a new connection may wait for its first request.
const OPENING: Duration = Duration::from_millis(200);
/// A later ACK may answer one of our own keep-alive probes (tcp(7)).
const SOON: Duration = Duration::from_secs(1);
/// Bounds of the kernel's delayed-ACK timer: TCP_DELACK_MIN and TCP_DELACK_MAX.
const SHORTEST_HOLD: Duration = Duration::from_millis(40);
const LONGEST_HOLD: Duration = Duration::from_millis(200);
/// Allows for 10 ms ticks, a late timer, and the time between two readings.
const HOLD_SLACK: Duration = Duration::from_millis(30);

/// The history of a connection.
pub struct Known {
    pub seen: Time,
    pub closed: bool,
    counts: Option<Counts>,
    /// The counters of the last sample in which they differed.
    earlier: Option<Counts>,
    /// Everything received up to `counts` has been answered.
    answered: bool,
    /// Data was sent after the last data received: two samples show it, whatever the ages say.
    sent_last: bool,
    changed: Time,
    /// The kernel's answer about this very exchange.
    pub interactive: Option<bool>,
    pub closing: Closing,
}

/// How far the closing of an idle connection has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The number of failed attempts.
    Open(u8),
    /// The app has been shown end of stream, at this time.
    Shut(Time),
    /// It cannot be closed, or the app ignores the end of stream.
    Kept,
}

/// Whether a request is in flight. Only `No` lets a drain end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    Yes,
    No,
    /// A request may be in flight.
    Maybe,
    /// A request may be in flight, and the kernel can be asked.
    Unsettled,
}

impl Known {
    pub fn new(now: Time) -> Self {
        Self {
            seen: now,
            closed: false,
            counts: None,
            earlier: None,
            answered: false,
            sent_last: false,
            changed: now,
            interactive: None,
            closing: Closing::Open(0),
        }
    }

    pub fn update(&mut self, counts: Option<Counts>, now: Time) {
        self.seen = now;
        if counts.is_none() {
            // Without counters, data that came since then would go unnoticed.
            self.answered = false;
        }
        if counts == self.counts {
            return;
        }
        let first = self.counts.is_none();
        self.earlier = std::mem::replace(&mut self.counts, counts);
        self.interactive = None;
        self.changed = now;
        let (came, went) = self.since_earlier();
        self.sent_last = !first && came == 0 && (went > 0 || self.sent_last);
        // Either an answer continues, or the one segment that came in has been answered.
        self.answered &= came == 0 || (came == 1 && went > 0);
    }

    /// Whether anything has moved on it within `time`: it is in use.
    pub fn moved_within(&self, time: Duration, now: Time) -> bool {
        now.saturating_sub(self.changed) < time
    }

    /// Data segments received and sent since `earlier`.
    fn since_earlier(&self) -> (u32, u32) {
        let (now, then) = (self.counts.unwrap_or_default(), self.earlier.unwrap_or_default());
        let came = now.data_in.wrapping_sub(then.data_in);
        (came, now.data_out.wrapping_sub(then.data_out))
    }

    /// Whether our kernel has sent a bare ACK since then, or may have.
    fn bare_since_earlier(&self) -> bool {
        let bare = |counts: Option<Counts>| counts.map(|counts| counts.bare_out);
        self.earlier.is_none() || bare(self.earlier) != bare(self.counts)
    }

    pub fn in_flight(&mut self, connection: &Connection, until_quiet: Duration) -> InFlight {
        if connection.unread > 0 || connection.undelivered > 0 {
            self.answered = false;
            self.sent_last &= connection.unread == 0;
            return InFlight::Yes;
        }
        if !connection.can_be_answered() {
            return InFlight::No;
        }
        let Some(info) = connection.info else {
            return InFlight::Maybe;
        };
        let streams =
            info.sent < until_quiet && info.received.saturating_sub(info.sent) > STREAM_AFTER;
        if streams {
            return InFlight::Yes;
        }
        if !info.any_received {
            let opening = info.received < OPENING;
            return if opening { InFlight::Maybe } else { InFlight::No };
        }
        let owed = self.is_owed(&info);
        self.answered = owed == InFlight::No;
        owed
    }

    fn is_owed(&self, info: &Info) -> InFlight {
        let never_sent = info.counts.is_some_and(|counts| counts.data_out == 0);
        if info.received < info.sent || never_sent {
            return InFlight::Yes;
        }
        if info.sent < info.received || self.sent_last || self.answered {
            return InFlight::No;
        }
        // From here on it is a tie.
        let acknowledged_after = info.received.saturating_sub(info.acknowledged);
        if acknowledged_after > Duration::ZERO && acknowledged_after < SOON {
            return InFlight::No;
        }
        if info.counts.is_none() {
            return InFlight::Maybe;
        }
        let held = info.received <= hold(info.round_trip);
        match self.interactive {
            // A delayed ACK may still be pending.
            _ if held => InFlight::Maybe,
            _ if !self.bare_since_earlier() => InFlight::No,
            None => InFlight::Unsettled,
            Some(false) => InFlight::Maybe,
            Some(true) if self.idle_if_interactive(info) => InFlight::No,
            Some(true) => InFlight::Maybe,
        }
    }

    /// Whether the kernel's interactive flag proves that the connection is idle. It does not after
    /// more than one full segment: the kernel acknowledges that at once, and the connection stays
    /// interactive without an answer.
    pub fn idle_if_interactive(&self, info: &Info) -> bool {
        let (came, went) = self.since_earlier();
        (self.earlier.is_none() && info.one_segment) || came <= went
    }
}

/// The longest the kernel delays an ACK for received data (tcp_send_delayed_ack()).
pub fn hold(round_trip: Duration) -> Duration {
    let held = if round_trip.is_zero() { LONGEST_HOLD } else { round_trip };
    held.clamp(SHORTEST_HOLD, LONGEST_HOLD) + HOLD_SLACK
}

/// Every known connection by its cookie. The kernel numbers cookies and no peer chooses them, so
/// the hash needs no random key and no system call to get one.
pub type AllKnown = HashMap<u64, Known, BuildHasherDefault<DefaultHasher>>;
