//! A walk that checks the laws in every history up to a length. Longer than 300 lines because each
//! law has its case here.

#![forbid(unsafe_code)]

use super::*;
use crate::exit_code;
use crate::options::plan::ORPHAN_GRACE;
use crate::pid1::lifecycle::steps::KILLED;

/// The events of one history that the laws refer to.
#[derive(Clone, Copy, Default)]
struct Past {
    now: Time,
    /// The companion that waits for the start is running.
    awaits: bool,
    /// The last step started it.
    just_started: bool,
    started: bool,
    /// Starting the app was tried, and failed.
    not_started: Option<u8>,
    /// The exit code of a stop signal that came before the app was started.
    stopped_before: Option<u8>,
    /// When the exit handlers began.
    told: Option<Time>,
    handlers_run: bool,
    /// By a stop signal or by a hook.
    stop_began: Option<Time>,
    /// When the first stop signal came.
    signalled: Option<Time>,
    /// The present stop signal is another one within a second of the first.
    repeats: bool,
    /// The present stop signal is the first one, in a hook's drain.
    in_hooks_drain: bool,
    /// When the app was last sent another signal, before any drain.
    other: Option<Time>,
    /// When the processes that the app left were signalled, and whether they have been named since.
    orphaned: Option<Time>,
    named: bool,
    app_ended: Option<(Time, u8)>,
    none_left: bool,
    /// Stop signals that the clock sent to the app.
    by_clock: u32,
    draining: bool,
    companion: bool,
    unready: bool,
    killed: bool,
    exits: u32,
}

/// Takes one step, and checks the laws that hold for every step.
fn walk_step(plan: &Plan, state: State, past: &mut Past, event: Event) -> State {
    let (next, actions) = plan.step(state, event, past.now);
    past.just_started = false;
    assert!(past.exits == 0 || actions == Actions::none(), "nothing after exit");
    let kill_at = past.stop_began.map(|began| began + plan.kill_after());
    let overdue = kill_at.is_some_and(|kill_at| past.now >= kill_at);
    let (mut forwarded, mut hinted) = (0, false);
    for action in actions {
        match action {
            Action::AwaitStart(left) => {
                assert!(!past.awaits && !past.started, "one companion waits for one start");
                let timeout = plan.start_timeout.expect("something to wait for");
                assert_eq!(left, timeout - past.now);
                past.awaits = true;
            }
            Action::StartApp => {
                assert!(!past.started, "started once");
                assert!(past.stopped_before.is_none(), "never started after a stop signal");
                assert_eq!(event, Event::Waited(Waited::Ready), "nor before all are ready");
                (past.started, past.just_started, past.unready) = (true, true, false);
            }
            Action::TellExit(left) => {
                assert!(past.told.is_none(), "handlers are told once");
                let ended = past.app_ended.is_some() || past.killed || past.not_started.is_some();
                assert!(ended, "an on-exit handler never before the app's end");
                assert!(past.none_left || past.killed || past.not_started.is_some());
                let end = past.stop_began.map_or(Time::MAX, |began| began + plan.grace);
                assert!(!left.is_zero() && left <= MS(5_000) && past.now + left < end);
                (past.told, past.handlers_run) = (Some(past.now), true);
            }
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
                let hang = past.told.is_some() && event == Event::Wake;
                assert!(deadline || orphans || past.killed || hang, "SIGKILL before its time");
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
                let own = past.not_started.or(past.stopped_before);
                let of_app = || past.app_ended.map_or(KILLED, |(_, code)| code);
                let late = (!past.started).then_some(exit_code::OWN_FAILURE);
                assert_eq!(code, own.or(late).unwrap_or_else(of_app), "the app's code");
                assert!(past.none_left || past.killed || own.or(late).is_some(), "left untold");
                if late.is_some() && own.is_none() {
                    let in_time = plan.start_timeout.is_some_and(|timeout| past.now >= timeout);
                    let said = event == Event::Waited(Waited::NotReady);
                    assert!(in_time || said, "it has the time it was given");
                }
                let end = past.stop_began.map(|began| began + plan.grace);
                let is_told =
                    past.told.is_some() || end.is_some_and(|end| past.now + MS(100) >= end);
                let is_due = plan.has_exit_handlers && past.started;
                assert!(!is_due || is_told, "handlers are told");
                assert!(is_due || past.told.is_none(), "and not where there was no app");
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
        && past.started
        && past.not_started.is_none()
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

/// Advances the clock to `now`, and does everything that is due by then.
fn walk_to(plan: &Plan, mut state: State, past: &mut Past, now: Time) -> State {
    past.now = now;
    for _ in 0..8 {
        match plan.deadline(state) {
            Some(deadline) if deadline <= now => {
                state = walk_step(plan, state, past, Event::Wake);
            }
            _ => {
                let overdue = past.stop_began.is_some_and(|began| now >= began + plan.kill_after());
                let tells = past.told.is_some();
                assert!(
                    !overdue || past.killed || past.exits > 0 || tells,
                    "silent past the deadline"
                );
                let over = past.stop_began.is_some_and(|began| now >= began + plan.grace);
                assert!(
                    !over || past.exits > 0 || !plan.has_exit_handlers || !tells,
                    "handlers hold it"
                );
                let unnamed = past.orphaned.is_some_and(|told| now >= told + MS(1_000));
                assert!(
                    !unnamed || past.named || past.killed || past.exits > 0 || tells,
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
        if !past.started {
            return;
        }
        past.in_hooks_drain = past.signalled.is_none() && past.stop_began.is_some();
        asked(past);
        if past.app_ended.is_none() {
            let first = past.signalled;
            past.repeats = first.is_some_and(|first| past.now < first + MS(1_000));
            past.signalled = first.or(Some(past.now));
        }
    };
    if !past.started {
        for (event, code) in [(sent("TERM"), 143), (by_hand(), 130)] {
            branch(event, &|past| past.stopped_before = Some(code));
        }
        branch(sent("USR1"), &|_| {});
        branch(Event::DrainAsked, &|_| {});
        branch(Event::OthersReaped { left: Left::Companions }, &|_| {});
        if past.awaits {
            for waited in [Waited::Ready, Waited::NotReady, Waited::Failed] {
                branch(Event::Waited(waited), &|past| past.awaits = false);
            }
        }
        return histories + walk_later(plan, state, past, length);
    }
    if past.just_started {
        branch(Event::NotStarted { code: 127 }, &|past| past.not_started = Some(127));
    }
    if past.handlers_run {
        branch(Event::HandlersDone, &|past| past.handlers_run = false);
    }
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
    branch(Event::DrainAsked, &|past| {
        if past.told.is_none() {
            asked(past);
        }
    });
    if past.companion {
        for well in [false, true] {
            branch(Event::CompanionEnded { well }, &|past| past.companion = false);
        }
    }
    let lefts = [Left::Nobody, Left::Orphans, Left::Companions];
    if past.not_started.is_some() {
        branch(Event::OthersReaped { left: Left::Companions }, &|_| {});
    } else if past.app_ended.is_none() {
        branch(Event::AppStopped { by: Signal::TSTP }, &|_| {});
        for left in [Left::Orphans, Left::Companions] {
            branch(Event::OthersReaped { left }, &|_| {});
        }
        for left in lefts {
            branch(ended(7, left), &|past| {
                // Exit handlers ran although a process has not ended on SIGKILL.
                if past.told.is_some() {
                    return;
                }
                past.app_ended = Some((past.now, 7));
                past.none_left = left == Left::Nobody;
            });
        }
    } else {
        for left in lefts {
            // A handler's leftovers are not the app's.
            let mark = |past: &mut Past| {
                past.none_left = left == Left::Nobody || past.told.is_some();
            };
            branch(Event::OthersReaped { left }, &mark);
        }
    }
    histories + walk_later(plan, state, past, length)
}

/// Nothing happens for a while.
fn walk_later(plan: &Plan, state: State, past: Past, length: u32) -> u64 {
    let mut histories = 0;
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
        waiting(),
        Plan { start_timeout: None, ..waiting() },
        Plan { orphan_grace: None, held_by: HeldBy::Traffic, ..waiting() },
    ];
    std::thread::scope(|scope| {
        for plan in &plans {
            scope.spawn(move || {
                let (state, started) = (plan.begin(MS(0)).0, plan.start_timeout.is_none());
                let past = Past { started, awaits: !started, unready: !started, ..Past::default() };
                let histories = walk(plan, state, past, length);
                assert!(histories > 100_000, "only {histories} histories were walked");
                let Plan { delay, held_by, .. } = plan;
                println!("{histories} histories walked, delay {delay:?}, held by {held_by:?}");
            });
        }
    });
}
