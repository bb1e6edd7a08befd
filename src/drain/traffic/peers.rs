//! Names the peer of the last traffic, and whether it comes at regular intervals, as a prober does.
//!
//! For the log alone: it never makes a drain shorter or longer.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Time;
use crate::duration::Short;

/// How many peers are remembered. A prober comes from one address; among more it is not looked for.
const MOST: usize = 64;
/// A connection, its data and its end within this time are one visit.
const VISIT: Duration = Duration::from_millis(150);
/// A peer that comes more often is a client.
const SHORTEST_PERIOD: Duration = Duration::from_millis(500);
/// This many equal pauses in a row make a rhythm.
const PAUSES: u32 = 2;

#[derive(Default)]
pub struct Peers {
    last: Option<Last>,
    /// In order of their first visit.
    visits: Vec<(IpAddr, Visits)>,
}

struct Last {
    at: Time,
    peer: IpAddr,
    port: u16,
}

/// The visits of one peer at regular intervals.
struct Visits {
    first: Time,
    /// The beginning and the end of the last visit.
    began: Time,
    seen: Time,
    pauses: u32,
}

/// The peer of some traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    peer: IpAddr,
    port: u16,
    regular: Option<(IpAddr, Duration)>,
}

impl Peers {
    /// Records traffic from this peer to this port of ours, at a time known to within `slack`.
    pub fn came(&mut self, at: Time, peer: IpAddr, port: u16, slack: Duration) {
        if self.last.as_ref().is_none_or(|last| last.at <= at) {
            self.last = Some(Last { at, peer, port });
        }
        if let Some((_, visits)) = self.visits.iter_mut().find(|(its, _)| *its == peer) {
            visits.came(at, slack);
        } else if self.visits.len() < MOST {
            self.visits.push((peer, Visits { first: at, began: at, seen: at, pauses: 0 }));
        }
    }

    /// The peer of the last traffic since `since`, if known.
    pub fn origin(&self, since: Time) -> Option<Origin> {
        let last = self.last.as_ref().filter(|last| last.at >= since)?;
        let mut regular = self.visits.iter().filter_map(|(peer, it)| Some((*peer, it.period()?)));
        // Prefer the last peer.
        let of_last = regular.clone().find(|(peer, _)| *peer == last.peer);
        let regular = of_last.or_else(|| regular.next());
        Some(Origin { peer: last.peer, port: last.port, regular })
    }
}

impl Visits {
    fn came(&mut self, at: Time, slack: Duration) {
        if at <= self.seen.saturating_add(VISIT) {
            self.seen = self.seen.max(at);
            return;
        }
        let pause = at.saturating_sub(self.began);
        let period = self.mean();
        let off = pause.abs_diff(period);
        let tolerance = (period / 10).max(VISIT).max(slack).min(period / 3);
        // A long visit is a client's.
        let regular = pause >= SHORTEST_PERIOD && self.seen.saturating_sub(self.began) <= VISIT;
        match self.pauses {
            _ if !regular => (self.first, self.pauses) = (at, 0),
            0 => self.pauses = 1,
            _ if off <= tolerance => self.pauses = self.pauses.saturating_add(1),
            _ => (self.first, self.pauses) = (self.began, 1),
        }
        (self.began, self.seen) = (at, at);
    }

    fn mean(&self) -> Duration {
        self.began.saturating_sub(self.first).checked_div(self.pauses).unwrap_or_default()
    }

    fn period(&self) -> Option<Duration> {
        (self.pauses >= PAUSES).then(|| self.mean())
    }
}

/// Follows `last traffic 0.6s ago`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, " from {} on :{}", self.peer, self.port)?;
        let Some((peer, period)) = self.regular else { return Ok(()) };
        let tenths = u64::try_from(period.as_millis()).unwrap_or_default().saturating_add(50) / 100;
        let each = Short(Duration::from_millis(tenths.saturating_mul(100)));
        write!(f, "; {peer} each {each}: a probe? --ignore-peer {peer}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn said(visits: &[(u64, u8)]) -> String {
        let mut peers = Peers::default();
        for (at, peer) in visits {
            peers.came(MS(*at), IpAddr::from([10, 0, 0, *peer]), 8080, MS(100));
        }
        peers.origin(Time::ZERO).map(|origin| origin.to_string()).unwrap_or_default()
    }

    #[test]
    fn names_who_came_last() {
        assert_eq!(said(&[]), "");
        assert_eq!(said(&[(100, 1), (900, 2), (300, 3)]), " from 10.0.0.2 on :8080");
        let mut peers = Peers::default();
        peers.came(MS(100), IpAddr::from([10, 0, 0, 1]), 8080, MS(100));
        assert_eq!(peers.origin(MS(101)), None, "of what came later nobody knows");
    }

    #[test]
    fn a_prober_comes_at_regular_times() {
        let probe = "; 10.0.0.1 each 1s: a probe? --ignore-peer 10.0.0.1";
        let visits = [(30, 1), (1000, 1), (1004, 1), (2080, 1)];
        assert_eq!(said(&visits), format!(" from 10.0.0.1 on :8080{probe}"));
        assert_eq!(said(&visits[..3]), " from 10.0.0.1 on :8080", "twice is no rhythm");
        // Though another came last.
        let mut visits = visits.to_vec();
        visits.push((2500, 2));
        assert_eq!(said(&visits), format!(" from 10.0.0.2 on :8080{probe}"));
        // It begins anywhere, and is no prober any more when it comes in between.
        let late = [(0, 1), (700, 1), (5700, 1), (10_650, 1)];
        assert!(said(&late).ends_with("10.0.0.1 each 5s: a probe? --ignore-peer 10.0.0.1"));
        visits.push((2600, 1));
        visits.push((2900, 1));
        assert_eq!(said(&visits), " from 10.0.0.1 on :8080");
    }

    #[test]
    fn a_client_is_no_prober() {
        let client: Vec<_> = (0..100).map(|turn| (turn * 100, 1)).collect();
        assert_eq!(said(&client), " from 10.0.0.1 on :8080");
        let client: Vec<_> = (0..100).map(|turn| (turn * 300, 1)).collect();
        assert_eq!(said(&client), " from 10.0.0.1 on :8080");
        let random = [(0, 1), (800, 1), (2900, 1), (3500, 1), (6000, 1), (6900, 1)];
        assert_eq!(said(&random), " from 10.0.0.1 on :8080");
    }

    /// Of others no rhythm is kept, and nothing grows.
    #[test]
    fn of_many_peers_nothing_is_kept_but_the_last() {
        let mut peers = Peers::default();
        for number in 0..100_000_u32 {
            peers.came(MS(number.into()), IpAddr::from(number.to_be_bytes()), 1, MS(100));
        }
        assert_eq!(peers.visits.len(), MOST);
        assert_eq!(peers.origin(Time::ZERO).map(|it| it.peer), Some([0, 1, 134, 159].into()));
    }
}
