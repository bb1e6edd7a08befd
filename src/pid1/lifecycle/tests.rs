//! Timelines, and a walk that checks the laws in every history up to a length. One file, as all of
//! them share a plan.

mod walk;

use super::note::{Cut, WhyCut};
use super::steps::code;
use super::*;
use crate::options::plan::{Escalation, ExitCodes};
use crate::signal::{SignalMap, SignalSet};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn signal(name: &str) -> Signal {
    Signal::parse(name).expect(name)
}

/// Delay 2 s, grace 6 s: SIGKILL at 5.5 s.
fn plan() -> Plan {
    Plan {
        delay: MS(2_000),
        max_delay: MS(3_000),
        held_by: HeldBy::Nothing,
        unready_delay: Duration::ZERO,
        grace: MS(6_000),
        kill_margin: MS(500),
        orphan_grace: Some(MS(1_000)),
        stop_on: SignalSet::from_iter([Signal::TERM, Signal::INT]),
        stop_signal: None,
        escalate: vec![Escalation { signal: signal("QUIT"), before_kill: MS(1_000) }],
        map_signal: SignalMap::default(),
        exit_codes: ExitCodes::default(),
        start_timeout: None,
        has_exit_handlers: false,
    }
}

fn sent(name: &str) -> Event {
    Event::Signal { signal: signal(name), came: Came::Sent }
}

/// While the hook that asked still waits.
fn sent_in_hook(name: &str) -> Event {
    Event::Signal { signal: signal(name), came: Came::WhileHookWaits }
}

fn by_hand() -> Event {
    Event::Signal { signal: Signal::INT, came: Came::ByHand }
}

fn ended(code: u8, left: Left) -> Event {
    Event::AppEnded { status: Status::Exited(code), left }
}

/// Runs a plan: before each event, every wake that is due.
struct Life {
    plan: Plan,
    state: State,
}

impl Life {
    fn new(plan: Plan) -> Self {
        let (state, _) = plan.begin(Duration::ZERO);
        Self { plan, state }
    }

    /// The log lines of the event.
    fn says(&mut self, millis: u64, event: Event) -> Vec<String> {
        let (state, actions) = self.plan.step(self.state, event, MS(millis));
        self.state = state;
        let notes = actions.into_iter().filter_map(|action| match action {
            Action::Say(note) => Some(Told { note, why: "", is_unsent: false }.to_string()),
            _ => None,
        });
        notes.collect()
    }

    /// Advances the time to `millis`, and then takes `event`. Returns a line for each action except
    /// log lines.
    fn at(&mut self, millis: u64, event: Option<Event>) -> Vec<String> {
        let now = MS(millis);
        let mut lines = Vec::new();
        while self.plan.deadline(self.state).is_some_and(|deadline| deadline <= now) {
            lines.extend(self.step(Event::Wake, now));
        }
        lines.extend(event.into_iter().flat_map(|event| self.step(event, now)));
        lines
    }

    fn step(&mut self, event: Event, now: Time) -> Vec<String> {
        let (state, actions) = self.plan.step(self.state, event, now);
        self.state = state;
        let spoken = actions.into_iter().filter_map(|action| match action {
            Action::Say(_) => None,
            Action::Forward(signal) => Some(signal.to_string()),
            other => Some(format!("{other:?}")),
        });
        spoken.collect()
    }
}

#[test]
fn a_stop_in_full_for_an_app_that_does_not_listen() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(10_000, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert!(life.at(11_999, None).is_empty());
    assert_eq!(life.at(12_000, None), ["SIGTERM"]);
    assert!(life.at(14_499, None).is_empty());
    assert_eq!(life.at(14_500, None), ["SIGQUIT"]);
    assert!(life.at(15_499, None).is_empty());
    assert_eq!(life.at(15_500, None), ["KillRest"]);
    assert_eq!(life.at(15_600, None), ["Exit(137)"]);
    assert!(life.at(99_000, Some(sent("TERM"))).is_empty());
}

#[test]
fn the_app_that_ends_in_the_drain_ends_it() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert_eq!(life.at(1_000, Some(ended(3, Left::Nobody))), ["Unready", "Exit(3)"]);
}

#[test]
fn the_second_stop_signal_ends_the_drain_and_the_third_goes_straight_on() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert_eq!(life.at(1_000, Some(sent("INT"))), ["SIGTERM"]);
    assert_eq!(life.at(1_000, Some(sent("INT"))), ["SIGINT"]);
    assert!(life.at(2_500, None).is_empty(), "the clock forwards no second one");
    assert_eq!(life.at(5_500, None), ["SIGQUIT", "KillRest"], "the deadline is the first one's");
}

#[test]
fn no_delay_and_a_person_at_the_terminal_forward_at_once() {
    let mut life = Life::new(Plan { delay: Duration::ZERO, ..plan() });
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain", "SIGTERM"]);
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(by_hand())), ["Unready", "BeginDrain", "SIGINT"]);
}

#[test]
fn a_drain_that_may_last_almost_to_the_deadline_leaves_the_app_a_part_of_the_rest() {
    let plan = Plan { max_delay: MS(5_300), held_by: HeldBy::Traffic, escalate: vec![], ..plan() };
    assert_eq!((plan.told_after(), plan.looked_for()), (MS(5_400), MS(90)));
    let mut life = Life::new(plan);
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain", "StartCompanion(0ns)"]);
    assert!(life.at(5_399, None).is_empty());
    assert_eq!(life.at(5_400, None)[..2], ["EndCompanion", "SIGTERM"]);
}

#[test]
fn what_was_missed_while_stopped_is_done_once_and_in_order() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert_eq!(life.at(60_000, None), ["SIGTERM", "SIGQUIT", "KillRest"]);
    assert_eq!(life.at(60_099, Some(ended(0, Left::Nobody))), ["Exit(0)"]);
}

#[test]
fn orphans_are_told_and_killed_after_their_grace() {
    let mut life = Life::new(plan());
    assert_eq!(
        life.at(0, Some(ended(4, Left::Orphans))),
        ["Unready", "EndCompanions", "TerminateRest"]
    );
    assert!(life.at(999, Some(Event::OthersReaped { left: Left::Orphans })).is_empty());
    assert_eq!(life.at(1_000, None), ["KillRest"]);
    assert_eq!(life.at(1_001, Some(Event::OthersReaped { left: Left::Nobody })), ["Exit(4)"]);
}

#[test]
fn orphans_get_nothing_past_the_deadline() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert_eq!(
        life.at(4_400, Some(ended(0, Left::Orphans))),
        ["SIGTERM", "Unready", "EndCompanions", "TerminateRest"]
    );
    assert_eq!(life.at(5_400, None), ["KillRest"]);
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    let lines = life.at(5_000, Some(ended(0, Left::Orphans)));
    assert_eq!(lines, ["SIGTERM", "SIGQUIT", "Unready", "EndCompanions", "TerminateRest"]);
    assert!(life.at(5_499, None).is_empty());
    assert_eq!(life.at(5_500, None), ["KillRest"]);
}

/// A process that was forked while the others were killed.
#[test]
fn who_is_left_after_the_sigkill_is_killed_again() {
    let reaped = |left| Some(Event::OthersReaped { left });
    let mut life = Life::new(Plan { escalate: vec![], ..plan() });
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert_eq!(life.at(5_500, None), ["SIGTERM", "KillRest"]);
    assert_eq!(life.at(5_510, reaped(Left::Orphans)), ["KillRest"]);
    assert_eq!(life.at(5_520, Some(ended(0, Left::Orphans))), ["KillRest"]);
    assert_eq!(life.at(5_530, reaped(Left::Orphans)), ["KillRest"]);
    assert_eq!(life.at(5_540, reaped(Left::Nobody)), ["Exit(0)"]);
}

/// timeout(1) signals its child and its own group; people and runtimes repeat themselves.
#[test]
fn within_a_second_of_the_first_every_stop_signal_is_the_same_request() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(500, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    for (at, signal) in [(500, "TERM"), (800, "INT"), (1_499, "TERM")] {
        assert!(life.at(at, Some(sent(signal))).is_empty(), "{signal} at {at}");
    }
    assert_eq!(life.at(2_500, None), ["SIGTERM"]);
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 2);
    assert_eq!(
        life.says(300, sent("INT")),
        ["SIGINT 0.3s after the SIGTERM: the same request, not forwarded"]
    );
    assert_eq!(life.at(400, Some(by_hand())), ["SIGTERM"], "a person has seen the first one");
    // Signalled already: the app gets one SIGTERM too.
    let mut life = Life::new(Plan { delay: Duration::ZERO, ..plan() });
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain", "SIGTERM"]);
    assert!(life.at(999, Some(sent("TERM"))).is_empty());
    assert_eq!(life.at(1_000, Some(sent("TERM"))), ["SIGTERM"]);
}

#[test]
fn what_ended_a_drain_before_its_time_is_said_as_it_was() {
    let cut = |first: &[Event], last: Event| {
        let mut life = Life::new(plan());
        for event in first {
            life.at(0, Some(*event));
        }
        let says = life.says(1_200, last);
        says.first().map(|line| line.split(": drain over").next().expect("a part").to_owned())
    };
    let is = |text: &str| Some(text.to_owned());
    assert_eq!(cut(&[sent("TERM")], sent("TERM")), is("SIGTERM again"));
    assert_eq!(cut(&[sent("INT")], sent("TERM")), is("SIGTERM"));
    assert_eq!(cut(&[sent("INT")], by_hand()), is("SIGINT again"));
    assert_eq!(cut(&[Event::DrainAsked], by_hand()), is("SIGINT"));
    assert_eq!(cut(&[Event::DrainAsked, sent("TERM")], sent("TERM")), is("SIGTERM again"));
    assert_eq!(
        cut(&[Event::DrainAsked], sent_in_hook("TERM")),
        is("SIGTERM while prestop still waits, so the kubelet's grace period is over")
    );
}

/// The kubelet's grace period is over: 2 s are left.
#[test]
fn a_stop_signal_while_the_hook_waits_tells_the_app_at_once() {
    let mut life = Life::new(held());
    assert_eq!(life.at(0, Some(Event::DrainAsked)).len(), 3);
    assert_eq!(life.at(1_500, Some(sent_in_hook("TERM"))), ["EndCompanion", "SIGTERM"]);
    // A hook that waits for a drain that a stop signal began proves nothing about the time.
    let mut life = Life::new(held());
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 3);
    assert!(life.at(100, Some(Event::DrainAsked)).is_empty());
    assert!(life.at(200, Some(sent_in_hook("TERM"))).is_empty(), "the same request");
    // Nor does one that has nothing left to wait for.
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(sent_in_hook("TERM"))), ["Unready", "BeginDrain"]);
}

/// `npm start`, `sh -c 'setup; server'`: the server is left.
#[test]
fn after_a_requested_stop_those_that_are_left_have_the_rest_of_the_grace_period() {
    let plan = Plan { orphan_grace: None, escalate: vec![], ..plan() };
    let mut life = Life::new(plan.clone());
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 2);
    let told = ["SIGTERM", "Unready", "EndCompanions", "TerminateRest"];
    assert_eq!(life.at(2_000, Some(ended(0, Left::Orphans))), told);
    assert!(life.at(2_999, None).is_empty());
    assert_eq!(life.at(3_000, None), ["NameRest { kill_in: 2.5s }"]);
    assert!(life.at(5_499, None).is_empty());
    assert_eq!(life.at(5_500, None), ["KillRest"]);
    let mut life = Life::new(plan);
    assert_eq!(life.at(0, Some(ended(0, Left::Orphans))).len(), 3, "out of the blue");
    assert_eq!(life.at(1_000, None), ["NameRest { kill_in: 2s }"]);
    assert!(life.at(2_999, None).is_empty());
    assert_eq!(life.at(3_000, None), ["KillRest"]);
}

#[test]
fn a_signal_that_may_have_been_the_images_stop_signal_is_said_when_the_app_has_ended() {
    let hint = |signal: &str, at: u64, status: Status| {
        let mut life = Life::new(plan());
        life.at(0, Some(sent(signal)));
        let said = life.says(at, Event::AppEnded { status, left: Left::Nobody });
        said.into_iter().find(|line| line.contains("--stop-on"))
    };
    let exited = Status::Exited(0);
    assert_eq!(
        hint("WINCH", 300, exited).as_deref(),
        Some(
            "SIGWINCH was forwarded and the app ended 0.3s later: if it is the image's stop \
             signal, --stop-on WINCH drains first"
        )
    );
    assert!(hint("RTMIN+3", 300, exited).is_some_and(|it| it.ends_with("RTMIN+3 drains first")));
    assert!(hint("QUIT", 300, Status::Killed(signal("QUIT"))).is_some());
    assert_eq!(hint("QUIT", 300, Status::Killed(Signal::KILL)), None, "that was another one");
    assert_eq!(hint("QUIT", 6_000, exited), None, "whoever stops it would have killed it");
    assert_eq!(hint("CONT", 300, exited), None);
    assert_eq!(hint("TERM", 300, exited), None, "it is one");
}

/// A plan whose drain is held by a companion.
fn held() -> Plan {
    Plan { held_by: HeldBy::Handlers, ..plan() }
}

#[test]
fn a_companion_holds_the_drain_past_the_delay_until_it_ends() {
    let mut life = Life::new(held());
    let begun = ["Unready", "BeginDrain", "StartCompanion(0ns)"];
    assert_eq!(life.at(0, Some(sent("TERM"))), begun);
    assert!(life.at(2_400, None).is_empty());
    assert!(life.at(2_500, Some(Event::CompanionEnded { well: true })).is_empty());
    assert_eq!(life.at(2_500, None), ["SIGTERM"], "at once");
}

#[test]
fn a_companion_that_ends_early_shortens_nothing() {
    let mut life = Life::new(held());
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 3);
    assert!(life.at(10, Some(Event::CompanionEnded { well: true })).is_empty());
    assert!(life.at(1_999, None).is_empty());
    assert_eq!(life.at(2_000, None), ["SIGTERM"]);
}

#[test]
fn a_companion_that_hangs_is_ended_soon_after_its_longest_time() {
    let mut life = Life::new(held());
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 3);
    assert!(life.at(3_999, None).is_empty());
    assert_eq!(life.at(4_000, None), ["EndCompanion", "SIGTERM"]);
}

#[test]
fn where_nobody_sees_the_traffic_end_the_drain_lasts_its_longest() {
    let mut life = Life::new(Plan { held_by: HeldBy::Traffic, ..plan() });
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 3);
    assert!(life.at(10, Some(Event::CompanionEnded { well: false })).is_empty());
    assert!(life.at(2_999, None).is_empty());
    assert_eq!(life.at(3_000, None), ["SIGTERM"]);
}

#[test]
fn where_the_traffic_was_seen_to_end_the_delay_is_what_is_left() {
    let mut life = Life::new(Plan { held_by: HeldBy::Traffic, ..plan() });
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 3);
    assert!(life.at(1_000, Some(Event::CompanionEnded { well: true })).is_empty());
    assert!(life.at(1_999, None).is_empty());
    assert_eq!(life.at(2_000, None), ["SIGTERM"]);
}

#[test]
fn without_a_delay_a_companion_still_holds_the_drain() {
    let mut life = Life::new(Plan { delay: Duration::ZERO, ..held() });
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 3);
    assert!(life.at(300, Some(Event::CompanionEnded { well: true })).is_empty());
    assert_eq!(life.at(300, None), ["SIGTERM"]);
}

#[test]
fn a_hook_drains_and_the_stop_signal_after_it_is_forwarded_at_once() {
    let mut life = Life::new(plan());
    let begun = ["Unready", "BeginDrain", "StartCompanion(0ns)"];
    assert_eq!(life.at(0, Some(Event::DrainAsked)), begun);
    assert!(life.at(2_000, Some(Event::CompanionEnded { well: true })).is_empty());
    assert!(life.at(2_100, Some(Event::DrainAsked)).is_empty(), "a second hook");
    assert_eq!(life.at(2_200, Some(sent("TERM"))), ["SIGTERM"]);
    assert_eq!(life.at(5_499, None), ["SIGQUIT"]);
    assert_eq!(life.at(5_500, None), ["KillRest"], "counted from the hook");
}

/// A hook alone requests no stop: the app has ended by itself.
#[test]
fn the_stop_signal_after_a_hook_makes_it_a_stop() {
    let exit_codes = ExitCodes { always: vec![], after_stop: vec![(3, 0)] };
    let plan = Plan { exit_codes, ..plan() };
    for (signal_comes, code) in [(false, "Exit(3)"), (true, "Exit(0)")] {
        let mut life = Life::new(plan.clone());
        assert_eq!(life.at(0, Some(Event::DrainAsked)).len(), 3);
        assert!(life.at(2_000, Some(Event::CompanionEnded { well: true })).is_empty());
        if signal_comes {
            assert_eq!(life.at(2_200, Some(sent("TERM"))), ["SIGTERM"]);
        }
        assert_eq!(
            life.at(2_300, Some(ended(3, Left::Nobody))).last().map(String::as_str),
            Some(code)
        );
    }
}

#[test]
fn a_stop_signal_in_a_hooks_drain_waits_for_its_end() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(Event::DrainAsked)).len(), 3);
    assert!(life.at(1_000, Some(sent("TERM"))).is_empty());
    assert!(life.at(2_000, Some(Event::CompanionEnded { well: true })).is_empty());
    assert_eq!(life.at(2_001, None), ["SIGTERM"]);
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(Event::DrainAsked)).len(), 3);
    assert!(life.at(1_000, Some(sent("TERM"))).is_empty());
    assert!(life.at(1_999, Some(sent("TERM"))).is_empty(), "the same request");
    let cut = life.at(2_000, Some(sent("TERM")));
    assert_eq!(cut, ["EndCompanion", "SIGTERM"], "a second one ends it");
}

#[test]
fn a_hook_without_a_stop_signal_ends_in_running_and_ready() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(Event::DrainAsked)).len(), 3);
    assert!(life.at(2_000, Some(Event::CompanionEnded { well: true })).is_empty());
    assert!(life.at(5_499, None).is_empty());
    assert_eq!(life.at(5_500, None), ["Ready"]);
    assert_eq!(life.at(9_000, Some(sent("TERM"))), ["Unready", "BeginDrain"], "as if new");
    assert_eq!(life.at(11_000, None), ["SIGTERM"]);
}

#[test]
fn a_hook_in_a_drain_gets_a_companion_for_what_is_left() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert_eq!(life.at(700, Some(Event::DrainAsked)), ["StartCompanion(700ms)"]);
    assert!(life.at(800, Some(Event::DrainAsked)).is_empty());
    let mut life = Life::new(held());
    assert_eq!(life.at(0, Some(sent("TERM"))).len(), 3);
    assert!(life.at(100, Some(Event::DrainAsked)).is_empty(), "it has one");
    assert!(life.at(200, Some(Event::CompanionEnded { well: true })).is_empty());
    assert!(life.at(300, Some(Event::DrainAsked)).is_empty(), "handlers run once");
}

#[test]
fn readiness_stays_for_its_delay_and_no_longer_than_the_drain() {
    let plan = Plan { unready_delay: MS(1_500), ..plan() };
    let mut life = Life::new(plan.clone());
    assert_eq!(life.at(0, Some(sent("TERM"))), ["BeginDrain"]);
    assert!(life.at(1_499, None).is_empty());
    assert_eq!(life.at(1_500, None), ["Unready"]);
    assert_eq!(life.at(2_000, None), ["SIGTERM"]);
    let mut life = Life::new(plan);
    assert_eq!(life.at(0, Some(sent("TERM"))), ["BeginDrain"]);
    assert_eq!(life.at(1_000, Some(sent("TERM"))), ["Unready", "SIGTERM"]);
}

#[test]
fn companions_are_no_orphans() {
    let mut life = Life::new(plan());
    let lines = life.at(0, Some(ended(3, Left::Companions)));
    assert_eq!(lines, ["Unready", "EndCompanions"]);
    let still = Event::OthersReaped { left: Left::Companions };
    assert!(life.at(1, Some(still)).is_empty());
    let mut other = Life { plan: plan(), state: life.state };
    assert_eq!(life.at(2, Some(Event::OthersReaped { left: Left::Nobody })), ["Exit(3)"]);
    let lines = other.at(2, Some(Event::OthersReaped { left: Left::Orphans }));
    assert_eq!(lines, ["TerminateRest"]);
    assert_eq!(other.at(1_002, None), ["KillRest"]);
}

#[test]
fn a_companion_that_does_not_end_is_waited_for_no_longer_than_a_status() {
    let mut life = Life::new(plan());
    assert_eq!(life.at(0, Some(ended(3, Left::Companions))).len(), 2);
    assert_eq!(life.at(100, None), ["TerminateRest"]);
    assert_eq!(life.at(1_100, None), ["KillRest"]);
    assert_eq!(life.at(1_200, None), ["Exit(3)"]);
}

#[test]
fn the_stop_signal_is_replaced_and_others_are_rewritten() {
    let mut map_signal = SignalMap::default();
    map_signal.set(signal("HUP"), Some(signal("USR1")));
    map_signal.set(signal("USR2"), None);
    map_signal.set(signal("PWR"), Some(Signal::TERM));
    let plan = Plan { map_signal, stop_signal: Some(signal("WINCH")), ..plan() };
    let mut life = Life::new(plan);
    assert_eq!(life.at(0, Some(sent("HUP"))), ["SIGUSR1"]);
    assert!(life.at(0, Some(sent("USR2"))).is_empty());
    assert_eq!(life.at(0, Some(sent("PWR"))), ["Unready", "BeginDrain"]);
    assert_eq!(life.at(2_000, None), ["SIGWINCH"]);
}

#[test]
fn exit_codes_are_rewritten_once() {
    let codes = ExitCodes { always: vec![(3, 4), (4, 5)], after_stop: vec![(143, 0), (3, 9)] };
    assert_eq!(codes.pass_on(3, false), 4);
    assert_eq!(codes.pass_on(3, true), 9);
    assert_eq!(codes.pass_on(143, false), 143);
    assert_eq!(codes.pass_on(143, true), 0);
    assert_eq!(code(Status::Killed(signal("SIGRTMAX"))), 192);
}

#[test]
fn the_line_of_a_drain_says_how_long_it_may_last() {
    let said = |at_most| {
        let note = Note::Draining {
            by: Some(Signal::TERM),
            lasts: MS(2_000),
            at_most: MS(at_most),
            kill_in: MS(5_500),
        };
        Told { note, why: "", is_unsent: false }.to_string()
    };
    assert_eq!(said(2_000), "SIGTERM: draining for 2s, SIGKILL at 5.5s");
    assert_eq!(said(3_000), "SIGTERM: draining for 2s to 3s, SIGKILL at 5.5s");
}

#[test]
fn the_line_of_a_drains_end_says_why_and_what_follows() {
    let note =
        Note::DrainOver { after: MS(5_100), cut: None, forward: Signal::TERM, kill_in: MS(900) };
    let told = |note, why| Told { note, why, is_unsent: false }.to_string();
    let follows = "SIGTERM to the app, SIGKILL in 0.9s";
    assert_eq!(told(note, ""), format!("drain over after 5.1s: {follows}"));
    assert_eq!(
        told(note, "quiet for 2s"),
        format!("drain over after 5.1s (quiet for 2s): {follows}")
    );
    let note = Note::Drained { after: MS(5_100), waits: MS(900) };
    let follows = "ready again in 0.9s if no stop signal comes";
    assert_eq!(
        told(note, "quiet for 2s"),
        format!("drain over after 5.1s (quiet for 2s): {follows}")
    );
    let cut = Some(Cut { by: Signal::TERM, why: WhyCut::Again });
    let note = Note::DrainOver { after: MS(5_100), cut, forward: Signal::INT, kill_in: MS(900) };
    assert_eq!(
        told(note, ""),
        "SIGTERM again: drain over after 5.1s: SIGINT to the app, SIGKILL in 0.9s"
    );
}

/// Waits 3 s for its targets.
fn waiting() -> Plan {
    Plan { start_timeout: Some(MS(3_000)), has_exit_handlers: true, ..plan() }
}

#[test]
fn the_app_is_started_when_all_targets_are_ready() {
    let (state, actions) = waiting().begin(MS(0));
    assert_eq!(actions, Actions::of(&[Action::AwaitStart(MS(3_000))]));
    let mut life = Life { plan: waiting(), state };
    assert!(life.at(1_000, Some(Event::DrainAsked)).is_empty());
    assert!(life.at(1_100, Some(sent("USR1"))).is_empty());
    assert!(life.at(1_200, Some(Event::OthersReaped { left: Left::Companions })).is_empty());
    assert_eq!(life.at(1_500, Some(Event::Waited(Waited::Ready))), ["StartApp"]);
    assert_eq!(
        life.at(2_000, Some(sent("TERM"))),
        ["Unready", "BeginDrain"],
        "as if there were none"
    );
    let (_, actions) = plan().begin(MS(0));
    assert_eq!(actions, Actions::of(&[Action::StartApp]));
}

#[test]
fn a_stop_signal_before_the_start_ends_it_at_once() {
    for (event, code) in [(sent("TERM"), 143), (sent_in_hook("TERM"), 143), (by_hand(), 130)] {
        let mut life = Life::new(waiting());
        assert_eq!(life.at(1_000, Some(event)), ["EndCompanions".into(), format!("Exit({code})")]);
        assert!(life.at(1_000, Some(Event::Waited(Waited::Ready))).is_empty(), "never started");
        assert!(life.at(60_000, None).is_empty());
    }
    let mut life = Life::new(waiting());
    assert_eq!(
        life.says(1_000, sent("TERM")),
        ["SIGTERM after waiting 1.0s for targets: app not started"]
    );
}

#[test]
fn targets_that_are_not_ready_in_time_end_it_with_125() {
    let mut life = Life::new(waiting());
    let not_ready = Some(Event::Waited(Waited::NotReady));
    assert_eq!(life.at(3_000, not_ready), ["EndCompanions", "Exit(125)"]);
    // Nor does a companion that hangs hold it for ever.
    let mut life = Life::new(waiting());
    assert!(life.at(3_999, None).is_empty());
    assert_eq!(life.at(4_000, None), ["EndCompanions", "Exit(125)"]);
}

#[test]
fn a_start_companion_that_fails_is_started_again_for_what_is_left() {
    let mut life = Life::new(waiting());
    assert!(life.at(500, Some(Event::Waited(Waited::Failed))).is_empty());
    assert!(life.at(1_499, None).is_empty());
    assert_eq!(life.at(1_500, None), ["AwaitStart(1.5s)"]);
    assert!(life.at(2_500, Some(Event::Waited(Waited::Failed))).is_empty());
    assert_eq!(life.at(3_000, None), ["EndCompanions", "Exit(125)"]);
}

fn telling() -> Plan {
    Plan { has_exit_handlers: true, escalate: vec![], ..plan() }
}

#[test]
fn handlers_are_told_when_the_app_and_what_it_left_have_ended() {
    let mut life = Life::new(telling());
    assert_eq!(life.at(0, Some(ended(7, Left::Nobody))), ["Unready", "TellExit(5s)"]);
    assert_eq!(life.at(1_000, Some(Event::HandlersDone)), ["Exit(7)"]);
    let mut life = Life::new(telling());
    assert_eq!(life.at(0, Some(ended(7, Left::Orphans))).len(), 3);
    let gone = Event::OthersReaped { left: Left::Nobody };
    assert_eq!(life.at(500, Some(gone)), ["TellExit(5s)"]);
    assert!(life.at(5_549, None).is_empty());
    assert_eq!(life.at(5_550, None), ["KillRest", "Exit(7)"], "one that hangs");
}

#[test]
fn handlers_have_what_the_grace_period_leaves() {
    let code = Some(Event::HandlersDone);
    // Not past the SIGKILL, but at least as long as the margin allows.
    for (ended_at, has) in [(3_000, "2.5s"), (5_000, "500ms"), (5_400, "400ms")] {
        let mut life = Life::new(telling());
        assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
        let lines = life.at(ended_at, Some(ended(0, Left::Nobody)));
        assert_eq!(lines.last(), Some(&format!("TellExit({has})")), "at {ended_at}");
        assert_eq!(life.at(ended_at + 10, code), ["Exit(0)"]);
    }
    // Killed at 5.5 s, reaped at 5.51 s: handlers run until 5.9 s, and it exits at 5.95 s.
    let mut life = Life::new(telling());
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert_eq!(life.at(5_500, None), ["SIGTERM", "KillRest"]);
    assert_eq!(life.at(5_510, Some(ended(0, Left::Nobody))), ["TellExit(390ms)"]);
    assert!(life.at(5_949, None).is_empty());
    assert_eq!(life.at(5_950, None), ["KillRest", "Exit(0)"]);
    // Without a margin there is no time.
    let mut life = Life::new(Plan { kill_margin: Duration::ZERO, ..telling() });
    assert_eq!(life.at(0, Some(sent("TERM"))), ["Unready", "BeginDrain"]);
    assert_eq!(life.at(6_000, None), ["SIGTERM", "KillRest"]);
    assert_eq!(life.at(6_010, Some(ended(0, Left::Nobody))), ["Exit(0)"]);
}

#[test]
fn a_stop_signal_while_handlers_are_told_gives_them_no_more_than_the_grace_period() {
    let mut life = Life::new(Plan { grace: MS(3_000), delay: MS(1_000), ..telling() });
    assert_eq!(life.at(0, Some(ended(7, Left::Nobody))), ["Unready", "TellExit(5s)"]);
    assert!(life.at(1_000, Some(sent("TERM"))).is_empty());
    assert!(life.at(1_500, Some(sent("TERM"))).is_empty());
    assert!(life.at(3_499, None).is_empty());
    assert_eq!(life.at(3_500, None), ["KillRest", "Exit(7)"]);
}

#[test]
fn where_command_cannot_be_executed_handlers_are_told() {
    let mut life = Life::new(telling());
    let lines = life.at(0, Some(Event::NotStarted { code: 127 }));
    assert_eq!(lines, ["Unready", "EndCompanions", "TellExit(5s)"]);
    assert_eq!(life.at(10, Some(Event::HandlersDone)), ["Exit(127)"]);
    let mut life = Life::new(plan());
    let lines = life.at(0, Some(Event::NotStarted { code: 126 }));
    assert_eq!(lines, ["Unready", "EndCompanions", "Exit(126)"]);
}

/// The diagram in docs/design.md shows exactly the transitions that exist.
#[test]
fn the_design_draws_each_way_between_states() {
    let name = |state: State| {
        let debug = format!("{state:?}");
        debug.split([' ', '(']).next().expect("a name").to_owned()
    };
    let mut seen = std::collections::BTreeSet::new();
    let status = Status::Exited(7);
    for plan in [
        plan(),
        Plan { delay: Duration::ZERO, ..plan() },
        Plan { held_by: HeldBy::Traffic, ..plan() },
        waiting(),
        Plan { delay: Duration::ZERO, ..waiting() },
    ] {
        let mut states = vec![(plan.begin(Duration::ZERO).0, Duration::ZERO)];
        for _ in 0..7 {
            let mut next_states: Vec<(State, Time)> = vec![];
            for (state, now) in states {
                let lefts = [Left::Nobody, Left::Orphans, Left::Companions];
                let events = [
                    sent("TERM"),
                    sent_in_hook("TERM"),
                    by_hand(),
                    sent("USR1"),
                    Event::DrainAsked,
                    Event::CompanionEnded { well: false },
                    Event::AppStopped { by: Signal::TSTP },
                    Event::Waited(Waited::Ready),
                    Event::Waited(Waited::NotReady),
                    Event::Waited(Waited::Failed),
                    Event::NotStarted { code: 127 },
                    Event::HandlersDone,
                ]
                .into_iter()
                .chain(lefts.map(|left| Event::AppEnded { status, left }))
                .chain(lefts.map(|left| Event::OthersReaped { left }))
                .map(|event| (event, now))
                .chain(plan.deadline(state).map(|deadline| (Event::Wake, deadline)));
                for (event, now) in events {
                    let (next, _) = plan.step(state, event, now);
                    if name(state) != name(next) {
                        seen.insert((name(state), name(next)));
                    }
                    if !next_states.iter().any(|(s, _)| *s == next) {
                        next_states.push((next, now));
                    }
                }
            }
            states = next_states;
        }
    }
    let design = include_str!("../../../docs/design.md");
    let diagram = design.split("```mermaid").nth(1).and_then(|rest| rest.split("```").next());
    let edges =
        diagram.expect("the diagram").lines().filter_map(|line| line.trim().split_once(" --> "));
    let drawn = edges
        .map(|(from, to)| (from.to_owned(), to.split(':').next().expect("a state").to_owned()))
        .filter(|(from, to)| from != "[*]" && to != "[*]")
        .collect();
    assert_eq!(seen, drawn);
}
