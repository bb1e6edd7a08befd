//! Whether a request is in flight on a connection: what is remembered of it, and what it shows now.
//!
//! What takes thought is a connection that last received and last sent data at the same tick of the
//! kernel's clock, which is the rule with a fast server. Either the app answered what it received,
//! or something was received right after an answer and is owed one. It was answered if
//! - it owed nothing before, and since then a single segment has come, and data has gone;
//! - or the peer acknowledged soon after, without sending data;
//! - or our kernel's own acknowledgement of what came must have gone by now and was none without
//!   data: it went with the answer. Where the connection was not seen before, or acknowledgements
//!   may have been of something else, the kernel is asked (Judge::settle).

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::connection::{Connection, Counts, Info};
use crate::clock::Time;

/// Data that is sent this long after the last that was received is more than an answer's begin.
const STREAM_AFTER: Duration = Duration::from_millis(200);
/// The first request on a new connection is on its way for so long.
const OPENING: Duration = Duration::from_millis(200);
/// An acknowledgement later than this may be that of a keep-alive probe (tcp(7)) of our own.
const SOON: Duration = Duration::from_secs(1);
/// Bounds of how long the kernel holds back an acknowledgement: TCP_DELACK_MIN, TCP_DELACK_MAX.
const SHORTEST_HOLD: Duration = Duration::from_millis(40);
const LONGEST_HOLD: Duration = Duration::from_millis(200);
/// Ticks of 10 ms, a timer that is late, and the time between two readings.
const HOLD_SLACK: Duration = Duration::from_millis(30);

/// What is remembered of a connection.
pub struct Known {
    pub seen: Time,
    pub closed: bool,
    counts: Option<Counts>,
    /// At the last sample in which they were others.
    earlier: Option<Counts>,
    /// All that was received by `counts` has been answered.
    answered: bool,
    /// Data was sent after the last that was received: seen in two samples, whatever the ages say.
    sent_last: bool,
    changed: Time,
    /// What the kernel said of this very exchange.
    pub interactive: Option<bool>,
    pub closing: Closing,
}

/// How far the closing of an idle connection has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It was tried so often, in vain.
    Open(u8),
    /// The app has been shown the end of the stream, at that time.
    Shut(Time),
    /// It cannot be closed, or the app takes no notice.
    Kept,
}

/// Whether a request is in flight. Only `No` lets a drain end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    Yes,
    No,
    /// It may be.
    Maybe,
    /// It may be, and the kernel can be asked.
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
            // Whether anything has come since is not told.
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
        // An answer goes on, or the single segment that came was the one that is answered.
        self.answered &= came == 0 || (came == 1 && went > 0);
    }

    /// Whether it is in use: something has moved on it within that time.
    pub fn moved_within(&self, time: Duration, now: Time) -> bool {
        now.saturating_sub(self.changed) < time
    }

    /// Segments with data, in and out.
    fn since_earlier(&self) -> (u32, u32) {
        let (now, then) = (self.counts.unwrap_or_default(), self.earlier.unwrap_or_default());
        let came = now.data_in.wrapping_sub(then.data_in);
        (came, now.data_out.wrapping_sub(then.data_out))
    }

    /// Whether our kernel has acknowledged anything without data, or may have.
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
        // A tie, from here on.
        let acknowledged_after = info.received.saturating_sub(info.acknowledged);
        if acknowledged_after > Duration::ZERO && acknowledged_after < SOON {
            return InFlight::No;
        }
        if info.counts.is_none() {
            return InFlight::Maybe;
        }
        let held = info.received <= hold(info.round_trip);
        match self.interactive {
            // It says nothing yet.
            _ if held => InFlight::Maybe,
            _ if !self.bare_since_earlier() => InFlight::No,
            None => InFlight::Unsettled,
            Some(false) => InFlight::Maybe,
            Some(true) if self.idle_if_interactive(info) => InFlight::No,
            Some(true) => InFlight::Maybe,
        }
    }

    /// The kernel acknowledges more than a full segment at once, and the connection stays interactive
    /// with nothing answered.
    pub fn idle_if_interactive(&self, info: &Info) -> bool {
        let (came, went) = self.since_earlier();
        (self.earlier.is_none() && info.one_segment) || came <= went
    }
}

/// How long after data came the kernel has acknowledged it at the latest (tcp_send_delayed_ack()).
pub fn hold(round_trip: Duration) -> Duration {
    let held = if round_trip.is_zero() { LONGEST_HOLD } else { round_trip };
    held.clamp(SHORTEST_HOLD, LONGEST_HOLD) + HOLD_SLACK
}

/// Every connection that is known, by its cookie. The kernel counts cookies up and no peer chooses
/// them, so the hash needs no random key, and no system call to get one.
pub type AllKnown = HashMap<u64, Known, BuildHasherDefault<DefaultHasher>>;
