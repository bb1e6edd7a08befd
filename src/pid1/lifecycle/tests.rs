//! Timelines, and a walk through every history up to a length that checks the laws.

use super::steps::{KILLED, code};
use super::*;
use crate::options::plan::{Escalation, ExitCodes};
use crate::signal::{SignalMap, SignalSet};

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
        orphan_grace: MS(1_000),
        stop_on: SignalSet::from_iter([Signal::TERM, Signal::INT]),
        stop_signal: None,
        escalate: vec![Escalation { signal: signal("QUIT"), before_kill: MS(1_000) }],
        map_signal: SignalMap::default(),
        exit_codes: ExitCodes::default(),
    }
}

fn sent(name: &str) -> Event {
    Event::Signal { signal: signal(name), by_hand: false }
}

fn by_hand() -> Event {
    Event::Signal { signal: Signal::INT, by_hand: true }
}

fn ended(code: u8, left: Left) -> Event {
    Event::AppEnded { status: Status::Exited(code), left }
}

/// A plan as it is lived through: every wake that is due comes before what happens then.
struct Life {
    plan: Plan,
    state: State,
}

impl Life {
    fn new(plan: Plan) -> Self {
        Self { plan, state: State::Running }
    }

    /// Time goes on to `millis`, and `event` happens then; a line for each action but the log's.
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
    assert_eq!(life.at(1_100, Some(sent("INT"))), ["SIGINT"]);
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

/// Whoever was forked while the others were killed.
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
/// A plan whose drain a companion holds.
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

/// With a hook alone none was asked for: the app has ended by itself.
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
    let cut = life.at(1_500, Some(sent("TERM")));
    assert_eq!(cut, ["EndCompanion", "SIGTERM"], "the second one ends it");
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

/// What has happened in one history, for the laws to be checked against.
#[derive(Clone, Copy, Default)]
struct Past {
    now: Time,
    /// By a stop signal or by a hook.
    stop_began: Option<Time>,
    /// A stop signal has come.
    signalled: bool,
    app_ended: Option<(Time, u8)>,
    none_left: bool,
    /// Stop signals sent to the app by the clock.
    by_clock: u32,
    draining: bool,
    companion: bool,
    unready: bool,
    killed: bool,
    exits: u32,
}

/// Performs one step and checks what holds for every one.
fn walk_step(plan: &Plan, state: State, past: &mut Past, event: Event) -> State {
    let (next, actions) = plan.step(state, event, past.now);
    assert!(past.exits == 0 || actions == Actions::none(), "nothing after exit");
    let kill_at = past.stop_began.map(|began| began + plan.kill_after());
    let overdue = kill_at.is_some_and(|kill_at| past.now >= kill_at);
    let mut forwarded = 0;
    for action in actions {
        match action {
            Action::Forward(signal) => {
                forwarded += 1;
                assert!(past.app_ended.is_none(), "nothing is forwarded to an app that ended");
                assert!(!past.killed, "nothing is forwarded after SIGKILL");
                if event == Event::Wake && plan.stop_on.contains(signal) {
                    past.by_clock += 1;
                    let began = past.stop_began.expect("only a stop signal starts the clock");
                    assert!(past.now >= began + plan.delay, "the drain is never cut by the clock");
                    assert!(past.signalled, "nothing is forwarded that has not come");
                }
            }
            Action::KillRest => {
                let orphans = past
                    .app_ended
                    .is_some_and(|(ended, _)| past.now >= ended + plan.orphan_grace || overdue);
                let deadline = overdue && past.signalled;
                assert!(deadline || orphans || past.killed, "SIGKILL before its time");
                past.killed = true;
            }
            Action::TerminateRest => assert!(past.app_ended.is_some() && !past.killed),
            Action::Unready => past.unready = true,
            Action::Ready => {
                assert!(!past.signalled && overdue, "ready again only where nobody stopped it");
                assert!(past.app_ended.is_none(), "the app is there");
                (past.stop_began, past.draining, past.unready) = (None, false, false);
            }
            Action::BeginDrain => {
                assert!(!past.draining, "one drain a stop");
                past.draining = true;
            }
            Action::StartCompanion(after) => {
                assert!(!past.companion, "one companion a drain");
                let began = past.stop_began.expect("a drain has begun");
                assert_eq!(after, past.now - began);
                past.companion = true;
            }
            Action::EndCompanion | Action::EndCompanions => past.companion = false,
            Action::Exit(code) => {
                past.exits += 1;
                assert!(past.unready, "never ready past the end");
                assert_eq!(code, past.app_ended.map_or(KILLED, |(_, code)| code), "the app's code");
                assert!(past.none_left || past.killed, "nobody is left behind untold");
            }
            Action::Say(_) => {}
            Action::Suspend { .. } => assert!(past.stop_began.is_none(), "a stop is not stopped"),
        }
    }
    assert!(past.by_clock <= 1, "the clock forwards the stop signal once");
    if let Event::Signal { signal, .. } = event
        && past.app_ended.is_none()
        && !past.killed
    {
        let held = plan.stop_on.contains(signal) && matches!(next, State::Draining(_));
        assert_eq!(forwarded, u32::from(!held), "a signal is forwarded at once, or drains first");
    }
    if past.stop_began.is_some_and(|began| past.now >= began + plan.unready_delay) {
        let due = plan.deadline(next).is_some_and(|deadline| deadline <= past.now);
        assert!(past.unready || due, "not ready from then on");
    }
    next
}

/// The clock goes to `now`, and everything that is due by then is done.
fn walk_to(plan: &Plan, mut state: State, past: &mut Past, now: Time) -> State {
    past.now = now;
    for _ in 0..8 {
        match plan.deadline(state) {
            Some(deadline) if deadline <= now => {
                state = walk_step(plan, state, past, Event::Wake);
            }
            _ => {
                let overdue = past.stop_began.is_some_and(|began| now >= began + plan.kill_after());
                assert!(!overdue || past.killed || past.exits > 0, "silent past the deadline");
                return state;
            }
        }
    }
    panic!("the deadline does not move: {state:?}");
}

fn walk(plan: &Plan, state: State, past: Past, length: u32) -> u64 {
    if length == 0 || past.exits > 0 {
        return 1;
    }
    let mut histories = 0;
    let mut branch = |event: Event, mark: &dyn Fn(&mut Past)| {
        let mut past = past;
        let now = past.now;
        let state = walk_to(plan, state, &mut past, now);
        if past.exits == 0 {
            mark(&mut past);
            let state = walk_step(plan, state, &mut past, event);
            histories += walk(plan, state, past, length - 1);
        }
    };
    let asked = |past: &mut Past| {
        if past.app_ended.is_none() {
            past.stop_began.get_or_insert(past.now);
        }
    };
    let stop = |past: &mut Past| {
        asked(past);
        past.signalled = true;
    };
    branch(sent("TERM"), &stop);
    branch(by_hand(), &stop);
    branch(sent("USR1"), &|_| {});
    branch(Event::DrainAsked, &asked);
    if past.companion {
        for well in [false, true] {
            branch(Event::CompanionEnded { well }, &|past| past.companion = false);
        }
    }
    let lefts = [Left::Nobody, Left::Orphans, Left::Companions];
    if past.app_ended.is_none() {
        branch(Event::AppStopped { by: Signal::TSTP }, &|_| {});
        for left in [Left::Orphans, Left::Companions] {
            branch(Event::OthersReaped { left }, &|_| {});
        }
        for left in lefts {
            branch(ended(7, left), &|past| {
                past.app_ended = Some((past.now, 7));
                past.none_left = left == Left::Nobody;
            });
        }
    } else {
        for left in lefts {
            let mark = |past: &mut Past| past.none_left = left == Left::Nobody;
            branch(Event::OthersReaped { left }, &mark);
        }
    }
    let to_deadline = plan.deadline(state);
    let later = [Some(past.now + MS(700)), to_deadline, Some(past.now + MS(100_000))];
    for now in later.into_iter().flatten() {
        let mut past = past;
        let now = now.max(past.now);
        let state = walk_to(plan, state, &mut past, now);
        histories += walk(plan, state, past, length - 1);
    }
    histories
}

/// `WALK=8 cargo test --release every_history` walks further: a billion histories, in a minute or two.
#[test]
fn the_laws_hold_in_every_history() {
    let length = std::env::var("WALK").map_or(6, |text| text.parse().expect("WALK: a length"));
    let plans = [
        plan(),
        Plan { delay: Duration::ZERO, ..plan() },
        Plan { held_by: HeldBy::Traffic, ..plan() },
        Plan { held_by: HeldBy::Handlers, unready_delay: MS(1_000), ..plan() },
        Plan { delay: Duration::ZERO, unready_delay: MS(1_000), ..held() },
    ];
    std::thread::scope(|scope| {
        for plan in &plans {
            scope.spawn(move || {
                let histories = walk(plan, State::Running, Past::default(), length);
                assert!(histories > 100_000, "only {histories} histories were walked");
                let Plan { delay, held_by, .. } = plan;
                println!("{histories} histories walked, delay {delay:?}, held by {held_by:?}");
            });
        }
    });
}

#[test]
fn the_line_of_a_drain_says_how_long_it_may_last() {
    let note = |at_most| Note::Draining {
        by: Some(Signal::TERM),
        lasts: MS(2_000),
        at_most: MS(at_most),
        kill_in: MS(5_500),
    };
    assert_eq!(note(2_000).to_string(), "SIGTERM: draining for 2s, SIGKILL at 5.5s");
    assert_eq!(note(3_000).to_string(), "SIGTERM: draining for 2s to 3s, SIGKILL at 5.5s");
}

/// The diagram in docs/design.md has each way from one state to another, and no other.
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
    ] {
        let mut states = vec![(State::Running, Duration::ZERO)];
        for _ in 0..7 {
            let mut next_states: Vec<(State, Time)> = vec![];
            for (state, now) in states {
                let lefts = [Left::Nobody, Left::Orphans, Left::Companions];
                let events = [
                    sent("TERM"),
                    by_hand(),
                    sent("USR1"),
                    Event::DrainAsked,
                    Event::CompanionEnded { well: false },
                    Event::AppStopped { by: Signal::TSTP },
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
