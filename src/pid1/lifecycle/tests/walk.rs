//! A walk through every history up to a length that checks the laws.

#![forbid(unsafe_code)]

use super::*;
use crate::options::plan::ORPHAN_GRACE;
use crate::pid1::lifecycle::steps::KILLED;

/// What has happened in one history, for the laws to be checked against.
#[derive(Clone, Copy, Default)]
struct Past {
    now: Time,
    /// By a stop signal or by a hook.
    stop_began: Option<Time>,
    /// When the first stop signal has come.
    signalled: Option<Time>,
    /// The stop signal that comes now is one more within a second of the first.
    repeats: bool,
    /// The stop signal that comes now is the first one, in a hook's drain.
    in_hooks_drain: bool,
    /// When the app was last sent another signal, before any drain.
    other: Option<Time>,
    /// When those that the app left were told, and whether they were named since.
    orphaned: Option<Time>,
    named: bool,
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
    let (mut forwarded, mut hinted) = (0, false);
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
                    assert!(past.signalled.is_some(), "nothing is forwarded that has not come");
                }
            }
            Action::KillRest => {
                let had_their_time = |(ended, _)| match (plan.orphan_grace, past.signalled) {
                    (Some(given), _) => past.now >= ended + given,
                    (None, None) => past.now >= ended + ORPHAN_GRACE,
                    (None, Some(_)) => false,
                };
                let orphans = past.app_ended.is_some_and(|end| had_their_time(end) || overdue);
                let deadline = overdue && past.signalled.is_some();
                assert!(deadline || orphans || past.killed, "SIGKILL before its time");
                past.killed = true;
            }
            Action::TerminateRest => {
                assert!(past.app_ended.is_some() && !past.killed);
                past.orphaned = Some(past.now);
            }
            Action::NameRest { .. } => {
                let told = past.orphaned.expect("they have been told");
                assert!(past.now >= told + MS(1_000) && !past.named && !past.killed);
                past.named = true;
            }
            Action::Unready => past.unready = true,
            Action::Ready => {
                assert!(
                    past.signalled.is_none() && overdue,
                    "ready again only where nobody stopped it"
                );
                assert!(past.app_ended.is_none(), "the app is there");
                (past.stop_began, past.draining, past.unready) = (None, false, false);
                past.other = None;
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
            Action::Say(Note::MayBeStopSignal { after, .. }) => {
                hinted = true;
                assert_eq!(past.other.map(|at| past.now - at), Some(after));
            }
            Action::Say(_) => {}
            Action::Suspend { .. } => assert!(past.stop_began.is_none(), "a stop is not stopped"),
        }
    }
    assert!(past.by_clock <= 1, "the clock forwards the stop signal once");
    if let Event::Signal { signal, came } = event
        && past.app_ended.is_none()
        && !past.killed
    {
        let asks = plan.stop_on.contains(signal);
        if asks && past.repeats && came != Came::ByHand {
            assert_eq!((forwarded, next), (0, state), "the same request changes nothing");
        } else {
            let held = asks && matches!(next, State::Draining(_));
            assert_eq!(forwarded, u32::from(!held), "it is forwarded at once, or drains first");
            let in_haste = came == Came::ByHand || (came != Came::Sent && past.in_hooks_drain);
            assert!(!(asks && held && in_haste), "nobody waits who has no time");
        }
    }
    if let Event::AppEnded { .. } = event {
        let other = past.other.filter(|at| past.now < *at + plan.grace);
        assert_eq!(
            hinted,
            past.stop_began.is_none() && other.is_some(),
            "the hint, where it may help"
        );
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
                let unnamed = past.orphaned.is_some_and(|told| now >= told + MS(1_000));
                assert!(
                    !unnamed || past.named || past.killed || past.exits > 0,
                    "nobody says who is waited for"
                );
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
        past.in_hooks_drain = past.signalled.is_none() && past.stop_began.is_some();
        asked(past);
        if past.app_ended.is_none() {
            let first = past.signalled;
            past.repeats = first.is_some_and(|first| past.now < first + MS(1_000));
            past.signalled = first.or(Some(past.now));
        }
    };
    branch(sent("TERM"), &stop);
    branch(by_hand(), &stop);
    if matches!(state, State::Draining(_)) {
        branch(sent_in_hook("TERM"), &stop);
    }
    branch(sent("USR1"), &|past| {
        if past.app_ended.is_none() && past.stop_began.is_none() {
            past.other = Some(past.now);
        }
    });
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
        Plan { delay: Duration::ZERO, orphan_grace: None, ..plan() },
        Plan { held_by: HeldBy::Traffic, ..plan() },
        Plan { held_by: HeldBy::Handlers, unready_delay: MS(1_000), ..plan() },
        Plan { delay: Duration::ZERO, unready_delay: MS(1_000), ..held() },
    ];
    std::thread::scope(|scope| {
        for plan in &plans {
            scope.spawn(move || {
                let histories = walk(plan, State::Running(None), Past::default(), length);
                assert!(histories > 100_000, "only {histories} histories were walked");
                let Plan { delay, held_by, .. } = plan;
                println!("{histories} histories walked, delay {delay:?}, held by {held_by:?}");
            });
        }
    });
}
