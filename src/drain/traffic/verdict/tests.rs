//! Timelines: the events of a connection, and the verdict of each sample. One file, as all of them
//! share the model of a connection.

use super::*;

use std::net::{IpAddr, Ipv4Addr};

use crate::drain::traffic::connection::{Counts, Family};
use crate::drain::traffic::known::hold;

/// The tick of the kernel's clock, in milliseconds.
const TICK: u64 = 4;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A connection with a client, as the kernel would keep it: times in milliseconds.
#[derive(Clone, Copy)]
struct Peer {
    cookie: u64,
    state: u8,
    received: u64,
    sent: u64,
    acknowledged: u64,
    counts: Counts,
    unread: u32,
    undelivered: u32,
    /// All data received fits into one segment.
    small: bool,
}

impl Peer {
    fn connects(cookie: u64, at: u64) -> Self {
        Self {
            cookie,
            state: state::ESTABLISHED,
            received: at,
            sent: at,
            acknowledged: at,
            counts: Counts::default(),
            unread: 0,
            undelivered: 0,
            small: false,
        }
    }

    /// A request of one segment arrives, and acknowledges everything sent.
    fn asks(&mut self, at: u64) -> &mut Self {
        self.counts.data_in += 1;
        (self.received, self.acknowledged) = (at, at);
        self
    }

    fn is_answered(&mut self, at: u64) -> &mut Self {
        self.counts.data_out += 1;
        self.sent = at;
        self
    }

    /// The client's kernel sends a bare ACK.
    fn acknowledges(&mut self, at: u64) -> &mut Self {
        self.acknowledged = at;
        self
    }

    /// Our kernel sends a bare ACK.
    fn is_acknowledged(&mut self) -> &mut Self {
        self.counts.bare_out += 1;
        self
    }

    fn closes(&mut self) -> &mut Self {
        self.state = state::CLOSE_WAIT;
        self
    }

    fn at(&self, now: u64) -> Connection {
        let age = |then: u64| ms((now / TICK).saturating_sub(then / TICK) * TICK);
        Connection {
            cookie: self.cookie,
            inode: self.cookie + 1000,
            state: self.state,
            family: Family::V4,
            local: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            peer_port: 40_000,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            interface: 0,
            uid: 0,
            unread: self.unread,
            undelivered: self.undelivered,
            info: Some(Info {
                sent: age(self.sent),
                received: age(self.received),
                acknowledged: age(self.acknowledged),
                round_trip: ms(1),
                any_received: self.counts.data_in > 0,
                one_segment: self.small,
                counts: Some(self.counts),
            }),
        }
    }
}

fn requests() -> Judge {
    Judge::new(ms(2000), QuietOn::Requests, ms(10_000))
}

fn connections() -> Judge {
    Judge::new(ms(2000), QuietOn::Connections, ms(10_000))
}

fn sample(judge: &mut Judge, now: u64, open: &[Peer]) -> Verdict {
    judge.begin(ms(now));
    for peer in open {
        judge.open(&peer.at(now));
    }
    judge.end(true)
}

fn in_flight(judge: &mut Judge, now: u64, open: &[Peer]) -> u32 {
    sample(judge, now, open).in_flight
}

#[test]
fn the_window_is_over_when_no_traffic_has_come_for_so_long() {
    let mut judge = requests();
    for (now, is_over) in [(10_000, false), (11_999, false), (12_000, true), (12_500, true)] {
        judge.begin(ms(now));
        assert_eq!(judge.window_is_over(), is_over, "{now}");
    }
    judge.open(&Peer::connects(1, 12_500).asks(12_500).at(12_500));
    assert!(!judge.window_is_over());
}

/// Only /proc/net/tcp can be read.
#[test]
fn what_nothing_is_known_of_but_its_state_is_in_flight_if_it_can_be_answered() {
    for (state, in_flight) in
        [(state::ESTABLISHED, 1), (state::CLOSE_WAIT, 1), (state::FIN_WAIT2, 0)]
    {
        let mut judge = requests();
        judge.begin(ms(15_000));
        judge.present(&Connection { state, info: None, ..Peer::connects(1, 3000).at(15_000) });
        assert_eq!(judge.end(true).in_flight, in_flight, "{state}");
    }
}

#[test]
fn without_connections_it_is_quiet_when_the_window_is_over() {
    let mut judge = requests();
    assert_eq!(judge.quiet_at(), ms(12_000));
    assert!(!sample(&mut judge, 10_000, &[]).is_quiet());
    assert!(!sample(&mut judge, 11_999, &[]).is_quiet());
    assert!(sample(&mut judge, 12_000, &[]).is_quiet());
}

/// A loaded machine: ages are relative to the end of the reading, the time is that of its
/// beginning.
#[test]
fn what_a_reading_that_stalls_finds_may_be_as_young_as_its_end() {
    let mut judge = requests();
    sample(&mut judge, 10_000, &[]);
    judge.knows_from(ms(10_300));
    assert_eq!(judge.quiet_at(), ms(12_300), "what came before may have been missed");
    judge.begin(ms(11_000));
    judge.open(&Peer::connects(1, 11_000).at(11_000));
    judge.read_until(ms(11_450));
    assert!(!judge.end(true).is_quiet());
    assert_eq!(judge.quiet_at(), ms(13_450));
    judge.begin(ms(12_000));
    judge.read_until(ms(12_700));
    assert!(!judge.end(true).is_quiet());
    assert_eq!(judge.quiet_at(), ms(13_450), "a stall alone is no traffic");
}

#[test]
fn what_was_there_before_is_no_traffic_and_what_comes_is() {
    for mut judge in [requests(), connections()] {
        let old = Peer::connects(1, 3000);
        sample(&mut judge, 10_000, &[old]);
        assert_eq!(judge.quiet_at(), ms(12_000));
        let new = Peer::connects(2, 11_000);
        let verdict = sample(&mut judge, 11_048, &[old, new]);
        assert_eq!((verdict.new, judge.quiet_at()), (1, ms(13_000)));
        let verdict = sample(&mut judge, 12_996, &[old, new]);
        assert!(!verdict.is_quiet() && verdict.new == 0);
        assert!(sample(&mut judge, 13_000, &[old, new]).is_quiet());
    }
}

#[test]
fn a_request_on_a_kept_connection_is_traffic_on_requests_alone() {
    let ask = |judge: &mut Judge| {
        let mut peer = *Peer::connects(1, 3000).asks(3000).is_answered(3010);
        sample(judge, 10_000, &[peer]);
        peer.asks(11_000).is_answered(11_010).acknowledges(11_040);
        sample(judge, 11_100, &[peer]);
        judge.quiet_at()
    };
    assert_eq!(ask(&mut requests()), ms(13_000));
    assert_eq!(ask(&mut connections()), ms(12_000));
}

#[test]
fn a_connection_that_came_and_went_between_two_samples_is_traffic() {
    for mut judge in [requests(), connections()] {
        sample(&mut judge, 10_000, &[]);
        judge.begin(ms(11_000));
        judge.closed(&Peer::connects(7, 10_950).asks(10_950).at(11_000));
        assert_eq!(judge.end(true).new, 1);
        assert_eq!(judge.quiet_at(), ms(12_948));
    }
}

#[test]
fn the_end_of_a_known_connection_is_none() {
    let peer = *Peer::connects(1, 3000).asks(3000).is_answered(3010);
    for mut judge in [requests(), connections()] {
        sample(&mut judge, 10_000, &[peer]);
        judge.begin(ms(10_100));
        judge.closed(&peer.at(10_100));
        assert_eq!(judge.end(true).new, 0);
        assert_eq!(judge.quiet_at(), ms(12_000));
    }
}

#[test]
fn news_of_a_close_may_come_later_than_the_dump_without_it() {
    let peer = *Peer::connects(1, 3000).asks(3000).is_answered(3010);
    let mut judge = requests();
    sample(&mut judge, 10_000, &[peer]);
    sample(&mut judge, 10_100, &[]);
    sample(&mut judge, 10_500, &[]);
    judge.begin(ms(10_600));
    judge.closed(&peer.at(10_600));
    assert_eq!(judge.end(true).new, 0);
    assert_eq!(judge.quiet_at(), ms(12_000));
}

#[test]
fn a_last_request_that_ended_with_its_connection_is_traffic() {
    let mut peer = *Peer::connects(1, 3000).asks(3000).is_answered(3010);
    let mut judge = requests();
    sample(&mut judge, 10_000, &[peer]);
    peer.asks(10_960).is_answered(10_970);
    judge.begin(ms(11_000));
    judge.closed(&peer.at(11_000));
    judge.end(true);
    assert_eq!(judge.quiet_at(), ms(12_960));
}

#[test]
fn what_was_lost_is_traffic() {
    let mut judge = connections();
    sample(&mut judge, 10_000, &[]);
    judge.begin(ms(11_000));
    judge.unseen_traffic();
    judge.end(true);
    assert_eq!(judge.quiet_at(), ms(13_000));
}

#[test]
fn an_incomplete_sample_is_never_quiet_and_forgets_nobody() {
    let mut judge = connections();
    let peer = *Peer::connects(1, 3000).asks(3000).is_answered(3010);
    sample(&mut judge, 10_000, &[peer]);
    judge.begin(ms(20_000));
    let verdict = judge.end(false);
    assert!(verdict.no_traffic() && !verdict.is_quiet() && !verdict.nothing_in_flight());
    let verdict = sample(&mut judge, 20_010, &[peer]);
    assert!(verdict.is_quiet(), "{verdict}");
}

#[test]
fn a_request_is_in_flight_until_its_answer() {
    let mut judge = requests();
    let mut peer = Peer::connects(1, 10_500);
    sample(&mut judge, 10_000, &[]);
    peer.asks(10_600).is_acknowledged();
    for now in [10_700, 12_700, 15_000] {
        let verdict = sample(&mut judge, now, &[peer]);
        assert!(!verdict.is_quiet() && verdict.in_flight == 1, "{now}");
    }
    // A slow answer may be the beginning of a stream, for as long as the quiet window.
    peer.is_answered(16_600).acknowledges(16_601);
    assert!(!sample(&mut judge, 16_610, &[peer]).is_quiet());
    assert!(sample(&mut judge, 18_610, &[peer]).is_quiet());
}

#[test]
fn what_comes_after_an_answer_is_owed_another() {
    let mut judge = requests();
    let mut peer = *Peer::connects(1, 3000).asks(3000).is_answered(3010).acknowledges(3011);
    assert_eq!(in_flight(&mut judge, 10_000, &[peer]), 0);
    peer.asks(10_100);
    for now in [10_104, 10_500, 14_000] {
        assert_eq!(in_flight(&mut judge, now, &[peer]), 1, "{now}");
    }
}

#[test]
fn a_first_request_that_came_with_its_connection_is_in_flight() {
    let mut judge = requests();
    sample(&mut judge, 10_000, &[]);
    let peer = *Peer::connects(1, 10_501).asks(10_501).is_acknowledged();
    assert_eq!(in_flight(&mut judge, 10_600, &[peer]), 1);
    assert_eq!(in_flight(&mut judge, 14_000, &[peer]), 1);
    assert!(judge.unsettled() == Families::default());
}

#[test]
fn a_new_connection_is_waited_for_a_moment() {
    let mut judge = connections();
    sample(&mut judge, 10_000, &[]);
    let peer = Peer::connects(1, 10_500);
    assert_eq!(in_flight(&mut judge, 10_600, &[peer]), 1);
    assert_eq!(in_flight(&mut judge, 10_800, &[peer]), 0);
}

#[test]
fn what_is_unread_unsent_or_unacknowledged_is_in_flight() {
    let idle = *Peer::connects(1, 3000).asks(3000).is_answered(3010);
    let mut judge = requests();
    assert_eq!(in_flight(&mut judge, 10_000, &[idle]), 0);
    assert_eq!(in_flight(&mut judge, 10_010, &[Peer { unread: 1, ..idle }]), 1);
    assert_eq!(in_flight(&mut judge, 10_020, &[Peer { undelivered: 1, ..idle }]), 1);
    let closed = Peer { state: state::FIN_WAIT1, undelivered: 1, ..idle };
    assert_eq!(in_flight(&mut judge, 10_030, &[closed]), 1);
    assert_eq!(in_flight(&mut judge, 10_040, &[Peer { undelivered: 0, ..closed }]), 0);
}

#[test]
fn a_stream_is_in_flight_as_long_as_it_flows() {
    let mut judge = connections();
    let mut peer = *Peer::connects(1, 9000).asks(9000);
    sample(&mut judge, 10_000, &[peer]);
    for second in 10..20 {
        peer.is_answered(second * 1000).acknowledges(second * 1000);
        let verdict = sample(&mut judge, second * 1000 + 900, &[peer]);
        assert!(!verdict.nothing_in_flight(), "{second}");
    }
    assert!(sample(&mut judge, 21_100, &[peer]).is_quiet());
}

#[test]
fn a_half_closed_request_is_owed_its_answer_and_a_closed_idle_connection_nothing() {
    let mut judge = requests();
    let owed = *Peer::connects(1, 9000).asks(9000).closes();
    let idle = *Peer::connects(2, 9000).asks(9000).is_answered(9010).closes();
    let verdict = sample(&mut judge, 15_000, &[owed, idle]);
    assert_eq!((verdict.in_flight, verdict.idle), (1, 1));
}

#[test]
fn what_the_kernel_says_nothing_of_is_in_flight() {
    let mut judge = requests();
    let mut judged = |state: u8, undelivered: u32| {
        let peer = *Peer::connects(1, 3000).asks(3000).is_answered(3010);
        let connection = Connection { state, undelivered, info: None, ..peer.at(10_000) };
        judge.begin(ms(10_000));
        judge.open(&connection);
        judge.end(true).in_flight
    };
    assert_eq!(judged(state::ESTABLISHED, 0), 1);
    assert_eq!(judged(state::CLOSE_WAIT, 0), 1);
    assert_eq!(judged(state::LAST_ACK, 1), 1);
    assert_eq!(judged(state::LAST_ACK, 0), 0);
    assert_eq!(judged(state::SYN_RECV, 0), 0);
    assert_eq!(judged(state::FIN_WAIT2, 0), 0);
}

#[test]
fn a_handshake_is_the_begin_of_a_connection_and_its_end_is_none() {
    let mut judge = connections();
    let peer = Peer::connects(1, 10_900);
    sample(&mut judge, 10_000, &[]);
    judge.begin(ms(11_000));
    judge.open(&Connection { state: state::SYN_RECV, info: None, ..peer.at(11_000) });
    assert_eq!(judge.end(true).new, 1);
    assert_eq!(sample(&mut judge, 11_100, &[peer]).new, 0);
    // The kernel keeps the rest of it for a while, under the same cookie.
    judge.begin(ms(11_200));
    judge.closed(&peer.at(11_200));
    judge.open(&Connection { state: state::FIN_WAIT2, info: None, ..peer.at(11_200) });
    assert_eq!(judge.end(true).new, 0);
    assert_eq!(judge.quiet_at(), ms(13_000));
}

mod ties {
    use super::*;

    /// Answered within a tick, and acknowledged within it too.
    fn fast() -> Peer {
        let mut peer = Peer::connects(1, 3000);
        *peer.asks(9000).is_acknowledged().is_answered(9001).acknowledges(9001)
    }

    #[test]
    fn a_later_acknowledgement_settles() {
        let mut judge = requests();
        let peer = *fast().acknowledges(9041);
        assert_eq!(in_flight(&mut judge, 10_000, &[peer]), 0);
        assert!(judge.unsettled() == Families::default());
    }

    #[test]
    fn an_acknowledgement_much_later_may_be_that_of_a_probe() {
        let mut judge = requests();
        let peer = *fast().acknowledges(24_001);
        assert_eq!(in_flight(&mut judge, 25_000, &[peer]), 1);
        assert!(judge.unsettled() != Families::default());
    }

    #[test]
    fn the_kernel_is_asked_when_it_must_have_acknowledged_and_its_word_counts_from_the_next_sample()
    {
        for interactive in [true, false] {
            let mut judge = requests();
            let peer = fast();
            assert_eq!(in_flight(&mut judge, 9030, &[peer]), 1);
            assert!(judge.unsettled() == Families::default(), "too early to ask");
            assert_eq!(in_flight(&mut judge, 9200, &[peer]), 1);
            assert!(judge.unsettled() == Families::default(), "it may move again");
            assert_eq!(in_flight(&mut judge, 9600, &[peer]), 1);
            assert!(judge.unsettled() != Families::default() && judge.only_unsettled());
            judge.settle(1001, interactive);
            judge.settle(1002, true);
            let owed = u32::from(!interactive);
            assert_eq!(in_flight(&mut judge, 9610, &[peer]), owed);
            assert_eq!(in_flight(&mut judge, 12_000, &[peer]), owed);
            assert!(judge.unsettled() == Families::default());
        }
    }

    #[test]
    fn a_word_about_what_came_in_between_does_not_count() {
        let mut judge = requests();
        let mut peer = fast();
        sample(&mut judge, 10_000, &[peer]);
        judge.settle(1001, true);
        // The answer and the next request within a tick, twice.
        peer.asks(10_001).is_answered(10_004).asks(10_005).is_acknowledged();
        assert_eq!(in_flight(&mut judge, 10_200, &[peer]), 1);
        assert_eq!(in_flight(&mut judge, 10_600, &[peer]), 1);
        assert!(judge.unsettled() != Families::default());
    }

    /// Neither ages nor ACKs settle it; two samples do.
    #[test]
    fn what_was_sent_between_two_samples_in_which_nothing_came_is_the_answer() {
        let mut judge = connections();
        let mut peer = *fast().is_acknowledged();
        assert_eq!(in_flight(&mut judge, 9010, &[peer]), 1);
        peer.asks(10_040).is_acknowledged();
        assert_eq!(in_flight(&mut judge, 10_041, &[peer]), 1);
        peer.is_answered(10_042).acknowledges(10_042);
        assert_eq!(in_flight(&mut judge, 10_043, &[peer]), 0);
        // The next request comes within the same tick.
        peer.asks(10_043);
        assert_eq!(in_flight(&mut judge, 10_043, &[peer]), 1);
        // Unread data came after the last data sent, or may have.
        peer.is_answered(10_043);
        assert_eq!(in_flight(&mut judge, 10_043, &[Peer { unread: 1, ..peer }]), 1);
        assert_eq!(in_flight(&mut judge, 10_043, &[peer]), 1);
    }

    /// Two samples alone see two requests and two answers, in either order.
    #[test]
    fn looks_between_two_samples_follow_each_exchange() {
        for looks in [true, false] {
            let mut judge = connections();
            let mut peer = *fast().acknowledges(9041);
            assert_eq!(in_flight(&mut judge, 10_000, &[peer]), 0);
            assert_eq!(judge.to_look_at().len(), 1);
            for at in [10_048, 10_098] {
                peer.asks(at).is_acknowledged().is_answered(at + 1).acknowledges(at + 1);
                if looks {
                    assert!(!judge.look(ms(at + 2), &peer.at(at + 2)));
                }
            }
            assert_eq!(in_flight(&mut judge, 10_110, &[peer]), u32::from(!looks));
            // A look also sees a request.
            peer.asks(10_120);
            assert!(judge.look(ms(10_121), &peer.at(10_121)));
        }
    }

    #[test]
    fn a_connection_that_nobody_uses_and_owes_nothing_is_not_looked_at() {
        let mut judge = connections();
        let mut idle = *fast().acknowledges(9041);
        sample(&mut judge, 10_000, &[idle]);
        assert_eq!(judge.to_look_at().len(), 1, "it may be in use");
        sample(&mut judge, 12_000, &[idle]);
        assert!(judge.to_look_at().is_empty());
        idle.asks(12_010);
        sample(&mut judge, 12_100, &[idle]);
        assert_eq!(judge.to_look_at().len(), 1);
        // If there are many, none is looked at: that would cost more than samples.
        let many = |count| (1..=count).map(|cookie| Peer { cookie, ..idle }).collect::<Vec<_>>();
        sample(&mut judge, 12_200, &many(200));
        assert_eq!(judge.to_look_at().len(), 200);
        sample(&mut judge, 12_300, &many(201));
        assert!(judge.to_look_at().is_empty());
    }

    #[test]
    fn a_request_that_a_look_sees_is_traffic_on_requests_alone() {
        for (mut judge, quiet_at) in [(requests(), 13_496), (connections(), 12_000)] {
            let mut peer = *fast().acknowledges(9041);
            sample(&mut judge, 10_000, &[peer]);
            peer.asks(11_500).is_answered(11_501);
            judge.look(ms(11_600), &peer.at(11_600));
            assert!((quiet_at..quiet_at + 8).contains(&(judge.quiet_at().as_millis() as u64)));
        }
    }

    #[test]
    fn one_segment_that_was_answered_leaves_nothing_owed() {
        let mut judge = connections();
        let mut peer = *fast().acknowledges(9041);
        assert_eq!(in_flight(&mut judge, 10_000, &[peer]), 0);
        for request in 1..10 {
            let at = 10_000 + request * 100;
            peer.asks(at).is_answered(at + 1).acknowledges(at + 1);
            assert_eq!(in_flight(&mut judge, at + 2, &[peer]), 0, "{request}");
        }
    }

    /// The client sends too many requests for a single segment between two samples.
    #[test]
    fn without_an_acknowledgement_of_ours_all_was_answered() {
        let mut judge = connections();
        let mut peer = *fast().acknowledges(9041);
        assert_eq!(in_flight(&mut judge, 10_000, &[peer]), 0);
        for at in [10_050, 10_100, 10_150] {
            peer.asks(at).is_answered(at + 1).acknowledges(at + 1);
        }
        assert_eq!(in_flight(&mut judge, 10_160, &[peer]), 1, "it may still come");
        assert_eq!(in_flight(&mut judge, 10_240, &[peer]), 0);
        assert!(judge.unsettled() == Families::default());
    }

    #[test]
    fn a_request_right_after_an_answer_is_owed_one() {
        let mut judge = requests();
        let mut peer = *fast().acknowledges(9041);
        assert_eq!(in_flight(&mut judge, 10_000, &[peer]), 0);
        peer.asks(10_040).is_answered(10_041).asks(10_042);
        assert_eq!(in_flight(&mut judge, 10_050, &[peer]), 1);
        peer.is_acknowledged();
        assert_eq!(in_flight(&mut judge, 10_100, &[peer]), 1);
        judge.settle(1001, false);
        assert_eq!(in_flight(&mut judge, 15_000, &[peer]), 1);
    }

    #[test]
    fn so_it_is_after_an_answer_that_was_owed_at_the_last_sample() {
        let mut judge = requests();
        let mut peer = *fast().acknowledges(9041);
        sample(&mut judge, 10_000, &[peer]);
        peer.asks(10_005).is_acknowledged();
        assert_eq!(in_flight(&mut judge, 10_010, &[peer]), 1);
        // One segment came in and one went out, but the latter answered an earlier request.
        peer.is_answered(10_105).asks(10_106);
        assert_eq!(in_flight(&mut judge, 10_110, &[peer]), 1);
    }

    #[test]
    fn a_request_of_several_segments_that_was_acknowledged_at_once_is_owed_an_answer() {
        let mut judge = requests();
        let mut peer = *fast().acknowledges(9041);
        sample(&mut judge, 10_000, &[peer]);
        peer.asks(10_040).is_answered(10_041).asks(10_042).asks(10_042).is_acknowledged();
        sample(&mut judge, 10_200, &[peer]);
        // Nothing was left to acknowledge, so the connection has stayed interactive.
        judge.settle(1001, true);
        assert_eq!(in_flight(&mut judge, 15_000, &[peer]), 1);
    }

    /// Its data is too small to have been acknowledged at once.
    #[test]
    fn a_small_request_of_two_segments_on_a_new_connection_was_answered_if_the_kernel_says_so() {
        for (interactive, small, owed) in [(true, true, 0), (true, false, 1), (false, true, 1)] {
            let mut judge = requests();
            let mut peer = Peer { small, ..Peer::connects(1, 3000) };
            peer.asks(9000).is_acknowledged().asks(9000).is_acknowledged();
            peer.is_answered(9001).acknowledges(9001);
            assert_eq!(in_flight(&mut judge, 9200, &[peer]), 1);
            judge.settle(1001, interactive);
            assert_eq!(in_flight(&mut judge, 9210, &[peer]), owed);
        }
    }

    /// The sample in between saw nothing owed.
    #[test]
    fn a_request_within_the_tick_of_the_answer_that_was_seen_is_owed_one() {
        let mut judge = requests();
        let mut peer = *fast().acknowledges(9041);
        assert_eq!(in_flight(&mut judge, 10_000, &[peer]), 0);
        peer.asks(10_040).is_answered(10_041);
        assert_eq!(in_flight(&mut judge, 10_042, &[peer]), 0);
        peer.asks(10_043);
        assert_eq!(in_flight(&mut judge, 10_044, &[peer]), 1);
    }

    /// A sample in the middle of an answer has not seen its end.
    #[test]
    fn an_answer_under_way_is_none_yet() {
        let mut judge = requests();
        let mut peer = *fast().acknowledges(9041);
        assert_eq!(in_flight(&mut judge, 10_000, &[peer]), 0);
        peer.asks(10_010).is_answered(10_011);
        assert_eq!(in_flight(&mut judge, 10_012, &[Peer { undelivered: 9, ..peer }]), 1);
        peer.is_answered(10_020).asks(10_021);
        assert_eq!(in_flight(&mut judge, 10_030, &[peer]), 1);
    }

    #[test]
    fn unread_data_is_a_further_request() {
        let mut judge = requests();
        let mut peer = *fast().acknowledges(9041);
        sample(&mut judge, 10_000, &[peer]);
        peer.asks(10_041).is_answered(10_042);
        assert_eq!(in_flight(&mut judge, 10_050, &[Peer { unread: 9, ..peer }]), 1);
        assert_eq!(in_flight(&mut judge, 10_060, &[peer]), 1);
    }

    #[test]
    fn a_socket_that_nobody_has_cannot_be_asked_about() {
        let mut judge = requests();
        judge.begin(ms(10_000));
        judge.open(&Connection { inode: 0, ..fast().at(10_000) });
        assert_eq!(judge.end(true).in_flight, 1);
        assert!(!judge.only_unsettled() && judge.unsettled() == Families::default());
    }

    #[test]
    fn without_counts_a_tie_is_owed_an_answer() {
        let mut judge = requests();
        let connection = fast().at(15_000);
        let info = connection.info.map(|info| Info { counts: None, ..info });
        for now in [15_000, 15_100] {
            judge.begin(ms(now));
            judge.open(&Connection { info, ..connection });
            assert_eq!(judge.end(true).in_flight, 1);
        }
        // Nor is a request after an answer that was seen.
        let [answered, next] = [(9000, 9041), (17_000, 17_001)].map(|(asked, answered)| {
            let mut peer = Peer::connects(1, 3000);
            let info = peer.asks(asked).is_answered(answered).at(answered).info;
            info.map(|info| Info { counts: None, ..info })
        });
        for (now, info, owed) in [(9041, answered, 0), (17_001, next, 1)] {
            judge.begin(ms(now));
            judge.open(&Connection { info, ..connection });
            assert_eq!(judge.end(true).in_flight, owed, "{now}");
        }
    }

    #[test]
    fn on_a_long_way_the_kernel_holds_its_acknowledgement_back_for_longer() {
        assert_eq!(hold(ms(1)), ms(70));
        assert_eq!(hold(ms(100)), ms(130));
        assert_eq!(hold(ms(900)), ms(230));
        assert_eq!(hold(Duration::ZERO), ms(230));
    }
}

#[test]
fn says_what_there_is() {
    let mut judge = requests();
    assert_eq!(sample(&mut judge, 11_000, &[]).to_string(), "last traffic 1.0s ago");
    assert_eq!(sample(&mut judge, 12_000, &[]).to_string(), "quiet for 2s");
    let idle = *Peer::connects(1, 3000).asks(3000).is_answered(3010);
    let text = "quiet for 2s (1 idle keep-alive connection left)";
    let mut judge = requests();
    sample(&mut judge, 10_000, &[idle]);
    assert_eq!(sample(&mut judge, 12_000, &[idle]).to_string(), text);
    let other = Peer { cookie: 2, ..idle };
    let text = "quiet for 2s (2 idle keep-alive connections left)";
    let mut judge = requests();
    sample(&mut judge, 10_000, &[idle, other]);
    assert_eq!(sample(&mut judge, 12_000, &[idle, other]).to_string(), text);
    let owed = *Peer::connects(3, 3000).asks(3000);
    let verdict = sample(&mut judge, 12_000, &[idle, owed]);
    assert_eq!(verdict.to_string(), "1 request in flight on :8080");
    // An unknown peer is not named.
    let unknown = |cookie| Connection { cookie, info: None, ..idle.at(12_000) };
    let mut judge = requests();
    judge.begin(ms(12_000));
    judge.open(&unknown(5));
    let text = "1 connection that may be owed an answer on :8080";
    assert_eq!(judge.end(true).to_string(), text);
    judge.begin(ms(12_000));
    judge.open(&unknown(5));
    judge.open(&unknown(6));
    judge.open(&owed.at(12_000));
    let text = "1 request in flight and 2 connections that may be owed an answer on :8080";
    assert_eq!(judge.end(true).to_string(), text);
    let mut judge = requests();
    judge.begin(ms(12_000));
    judge.open(&owed.at(12_000));
    judge.open(&Connection { cookie: 4, port: 9090, ..owed.at(12_000) });
    assert_eq!(judge.end(true).to_string(), "2 requests in flight on :8080, :9090");
    judge.begin(ms(12_000));
    assert_eq!(judge.end(false).to_string(), "the connections could not be read");
}

/// For any input, an incomplete sample is never quiet, and new connections are never forgotten.
#[test]
fn random_connections_bring_nothing_down() {
    let mut random = crate::drain::traffic::tests::Random(7);
    let mut judge = requests();
    for round in 0..300 {
        judge.begin(ms(10_000 + round * 50));
        for _ in 0..20 {
            let mut word = || random.next();
            let any = |word: u64| Duration::from_millis(word % [1, 10, 1 << 32][word as usize % 3]);
            let connection = Connection {
                cookie: word() % 64,
                inode: word() % 64,
                state: (word() % 13) as u8,
                family: Family::V6,
                local: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: word() as u16,
                peer_port: 1,
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                interface: 0,
                uid: 0,
                unread: (word() % 2) as u32,
                undelivered: (word() % 2) as u32,
                info: (word() % 4 > 0).then(|| Info {
                    sent: any(word()),
                    received: any(word()),
                    acknowledged: any(word()),
                    round_trip: any(word()),
                    any_received: word() % 2 > 0,
                    one_segment: word() % 2 > 0,
                    counts: (word() % 4 > 0).then(|| Counts {
                        data_in: word() as u32,
                        data_out: word() as u32,
                        bare_out: word() as u32,
                    }),
                }),
            };
            match word() % 4 {
                0 => judge.closed(&connection),
                1 => drop(judge.look(ms(10_000 + round * 50), &connection)),
                _ => judge.open(&connection),
            }
        }
        assert!(!judge.end(round % 2 > 0).is_quiet());
        for _ in 0..10 {
            judge.settle(random.next() % 64, round % 4 > 1);
        }
    }
}

// ---- idle connections that are closed for the app

fn closing(after: u64) -> Judge {
    let mut judge = requests();
    judge.close_idle(Some(CloseIdle { after: ms(after), anyway: false }));
    judge
}

/// Requests are not traffic if their connections can be closed, which happens once no new
/// connection has come for long enough.
#[test]
fn idle_connections_are_to_be_closed_when_no_new_one_has_come_for_long_enough() {
    let mut judge = closing(100);
    let (mut busy, mut idle) = (Peer::connects(1, 9000), Peer::connects(2, 9000));
    idle.asks(9500).is_answered(9510).acknowledges(9520);
    sample(&mut judge, 10_000, &[busy, idle]);
    for now in (10_100..11_900).step_by(300) {
        busy.asks(now).is_answered(now + 10).acknowledges(now + 20);
        sample(&mut judge, now + 200, &[busy, idle]);
        assert!(judge.take_idle(9).is_empty(), "{now}");
    }
    busy.asks(12_000);
    let verdict = sample(&mut judge, 12_050, &[busy, idle]);
    let found: Vec<u64> = judge.take_idle(9).iter().map(|idle| idle.cookie).collect();
    assert_eq!((found, verdict.is_quiet()), (vec![2], false));
    busy.is_answered(12_060).acknowledges(12_070);
    sample(&mut judge, 12_100, &[busy, idle]);
    let found = judge.take_idle(1);
    assert_eq!(found.len(), 1, "no more than asked for, and one that has just moved is not");
    assert_eq!(found[0].cookie, 2);
    sample(&mut judge, 12_200, &[busy, idle]);
    assert_eq!(judge.take_idle(9).len(), 2);
}

/// The last client that was closed may be about to come back. If new connections came steadily
/// before, their absence is proof enough.
#[test]
fn who_was_closed_has_as_long_to_come_back_unless_new_ones_came_often() {
    for often in [false, true] {
        let mut judge = closing(100);
        let mut peer = Peer::connects(1, 9000);
        sample(&mut judge, 10_000, &[peer]);
        judge.knows_from(ms(10_000));
        let mut cookie = 100;
        for now in (10_100..12_000).step_by(100) {
            cookie += u64::from(often || now == 11_900);
            let new = Peer::connects(cookie, now - 50);
            sample(&mut judge, now, &[peer, new]);
        }
        peer.asks(13_700).is_answered(13_710).acknowledges(13_720);
        assert!(!sample(&mut judge, 13_900, &[peer]).is_quiet());
        let found = judge.take_idle(9);
        assert_eq!(found.len(), 1, "{often}");
        judge.was_shut(&found[0], ms(13_900));
        assert!(!sample(&mut judge, 13_910, &[peer]).is_quiet(), "it is there still");
        assert_eq!(sample(&mut judge, 13_920, &[]).is_quiet(), often);
        let verdict = sample(&mut judge, 15_720, &[]);
        assert!(verdict.is_quiet(), "{often}: {verdict}");
        assert_eq!(verdict.to_string(), "quiet for 2s, closed 1 of 1 kept connection");
    }
}

/// On connections that cannot be closed requests are traffic, and attempts to close one do not go
/// on for ever.
#[test]
fn what_cannot_be_closed_counts_as_it_would_without() {
    let mut judge = closing(100);
    let mut peer = Peer::connects(1, 9000);
    peer.asks(9000).is_answered(9010).acknowledges(9020);
    sample(&mut judge, 10_000, &[peer]);
    for (tries, now) in [(1, 12_000), (2, 12_010), (3, 12_020)] {
        let verdict = sample(&mut judge, now, &[peer]);
        assert!(!verdict.is_quiet(), "it may be closed yet");
        let found = judge.take_idle(9);
        assert_eq!(found.len(), 1);
        assert_eq!(judge.was_not_shut(1, false), tries == 3);
    }
    assert!(sample(&mut judge, 12_030, &[peer]).is_quiet(), "it is idle, and that is all");
    assert!(judge.take_idle(9).is_empty());
    peer.asks(12_100).is_answered(12_110).acknowledges(12_120);
    assert!(!sample(&mut judge, 12_200, &[peer]).is_quiet());
    assert!(!sample(&mut judge, 14_000, &[peer]).is_quiet());
    assert!(sample(&mut judge, 14_104, &[peer]).is_quiet());
}

#[test]
fn an_app_that_takes_no_notice_keeps_its_connection() {
    let mut judge = closing(100);
    let mut peer = Peer::connects(1, 9000);
    peer.asks(9000).is_answered(9010).acknowledges(9020);
    sample(&mut judge, 12_000, &[peer]);
    let found = judge.take_idle(9);
    judge.was_shut(&found[0], ms(12_000));
    for now in [12_100, 12_990] {
        assert!(!sample(&mut judge, now, &[peer]).is_quiet(), "{now}");
        assert!(judge.take_idle(9).is_empty(), "once is enough");
    }
    let verdict = sample(&mut judge, 13_000, &[peer]);
    assert!(verdict.is_quiet());
    assert_eq!(verdict.to_string(), "quiet for 2s, closed 0 of 1 kept connection");
}

/// A stream that has paused for that long is closed; one that has not is in flight.
#[test]
fn a_stream_is_idle_after_a_pause_that_long() {
    let mut judge = closing(200);
    let mut peer = Peer::connects(1, 9000);
    peer.asks(9000);
    for sent in (9010..12_000).step_by(1000) {
        peer.is_answered(sent).acknowledges(sent + 1);
        sample(&mut judge, sent + 150, &[peer]);
    }
    // The last event was sent at 11,010.
    let verdict = sample(&mut judge, 11_180, &[peer]);
    assert_eq!((verdict.in_flight, verdict.closable), (1, 0));
    let verdict = sample(&mut judge, 12_004, &[peer]);
    assert_eq!((verdict.in_flight, verdict.closable, judge.take_idle(9).len()), (0, 1, 1));
}

#[test]
fn near_the_end_they_are_closed_whether_or_not_new_ones_come() {
    let mut judge = closing(100);
    let mut peer = Peer::connects(1, 9000);
    peer.asks(9000).is_answered(9010).acknowledges(9020);
    sample(&mut judge, 10_000, &[peer]);
    sample(&mut judge, 11_000, &[peer, Peer::connects(2, 10_950)]);
    assert!(judge.take_idle(9).is_empty());
    judge.close_idle(Some(CloseIdle { after: ms(0), anyway: true }));
    sample(&mut judge, 11_500, &[peer]);
    assert_eq!(judge.take_idle(9).len(), 1);
}

/// The samples wait for the app to close them.
#[test]
fn where_the_app_finishes_only_new_connections_hold_it() {
    let mut judge = connections();
    judge.leave_requests_to_the_app();
    let mut peer = Peer::connects(1, 9000);
    sample(&mut judge, 10_000, &[peer]);
    peer.asks(11_500);
    let verdict = sample(&mut judge, 11_900, &[peer]);
    assert!(!verdict.is_quiet());
    let verdict = sample(&mut judge, 12_000, &[peer]);
    assert!(verdict.is_quiet());
    assert_eq!(verdict.to_string(), "quiet for 2s, 1 in flight for the app to finish");
    // An unread connection may be a new one.
    judge.begin(ms(12_100));
    assert!(!judge.end(false).is_quiet());
}

/// A proxy with a pool sends its requests over old connections.
#[test]
fn where_the_app_finishes_requests_hold_it_if_they_are_to_count() {
    let mut judge = requests();
    judge.leave_requests_to_the_app();
    let mut peer = Peer::connects(1, 9000);
    sample(&mut judge, 10_000, &[peer]);
    peer.asks(11_500);
    assert!(!sample(&mut judge, 12_000, &[peer]).is_quiet());
    assert!(sample(&mut judge, 13_500, &[peer]).is_quiet());
}

/// Its answers are only acknowledged by its next request, so it never looks idle before the very
/// last.
#[test]
fn a_hot_connection_is_closed_at_the_very_last_between_an_answer_and_the_next_request() {
    let mut judge = closing(100);
    let mut peer = Peer::connects(1, 9000);
    let mut at = |peer: Peer, now, after| {
        judge.close_idle(Some(CloseIdle { after: ms(after), anyway: true }));
        sample(&mut judge, now, &[peer]);
        judge.take_idle(9).len()
    };
    peer.asks(12_000);
    assert_eq!(at(peer, 12_050, 0), 0, "it is owed an answer");
    peer.is_answered(12_100).undelivered = 100;
    assert_eq!(at(peer, 12_108, 10), 0, "not before");
    assert_eq!(at(peer, 12_108, 0), 1);
    peer.unread = 10;
    assert_eq!(at(peer, 12_109, 0), 0, "its next request");
    peer.unread = 0;
    peer.undelivered = 1 << 20;
    assert_eq!(at(peer, 12_109, 0), 0, "a long answer");
}
