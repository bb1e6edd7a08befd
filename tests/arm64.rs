//! The arm64 build as far as an emulator goes: exit codes, signals, the fixed delay. The rest is held on the machine's own build.
//!
//! qemu's user mode keeps the host's libc's two signals, 32 and 33, from the emulated program, which has the real-time signals
//! from 32 on for the host's from 34 on, and so 62 signals in all. The app is the machine's own witness. 126 can't be told:
//! the memory that drain-init lends to its child (CLONE_VM) is copied instead.

mod support;

use support::{ARM64_EMULATOR, Init, Kind, arm64_init, assert_after, ms};

const INT: i32 = 2;
const TERM: i32 = 15;

/// Signals that the emulated drain-init does not forward or never sees: fault signals, SIGKILL,
/// SIGCHLD, SIGSTOP, the libc's own.
const EXCEPTED: [i32; 12] = [4, 5, 6, 7, 8, 9, 11, 17, 19, 31, 32, 33];

fn emulated() -> Option<impl Fn() -> Init> {
    let program = arm64_init()?;
    Some(move || Init::new(Kind::DrainInit, program.clone()).under([ARM64_EMULATOR]))
}

/// The machine's number for a signal that the emulated program knows by this one.
fn outside(number: i32) -> i32 {
    if number < 32 { number } else { number + 2 }
}

#[test]
fn exit_codes_and_refusals_are_the_same_on_arm64() {
    let Some(emulated) = emulated() else {
        return;
    };
    for code in 0..=255 {
        assert_eq!(emulated().app([&format!("exit:{code}")]).ended().code, code);
    }
    assert_eq!(emulated().command(["/no/such/command"]).ended().code, 127);
    let ended = emulated().args("--delay 30s --grace 30s").app(["print:started"]).ended();
    assert_eq!((ended.code, ended.out.len(), ended.err.len()), (125, 0, 1), "{ended:?}");
}

/// Not the job control signals, nor what is ignored by default: no app dies of those.
#[test]
fn death_by_a_signal_is_128_plus_its_number_on_arm64() {
    let Some(emulated) = emulated() else {
        return;
    };
    for number in (1..=62).filter(|n| !matches!(n, 17..=23 | 28)) {
        let ended = emulated().app([&format!("die:{}", outside(number))]).ended();
        assert_eq!(ended.code, 128 + number, "{ended:?}");
    }
}

/// Before the stop, in the drain and after it.
#[test]
fn signals_reach_the_app_as_themselves_on_arm64() {
    let Some(emulated) = emulated() else {
        return;
    };
    let forwarded: Vec<i32> = (1..=62)
        .filter(|n| !EXCEPTED.contains(n) && ![INT, TERM].contains(n))
        .map(outside)
        .collect();
    let mut run = emulated().args("--delay 15s --grace 60s").app(["ready", "trap"]).start();
    run.line("ready");
    for before in [None, Some("draining"), Some("drain over")] {
        if let Some(state) = before {
            run.signal(TERM);
            run.log(state);
        }
        for &number in &forwarded {
            run.signal(number);
            run.line(&format!("signal {number}"));
        }
    }
    for number in [INT, TERM] {
        run.signal(number);
        run.line(&format!("signal {number}"));
    }
    let seen = run.killed();
    let expected = 1 + 3 * forwarded.len() + [TERM, INT, TERM].len();
    assert_eq!(seen.len(), expected, "each of them once, and nothing else: {seen:?}");
}

/// Also what the drain is for: the app is not told before it is over, then killed if it doesn't end.
#[test]
fn the_fixed_delay_and_the_deadline_are_kept_on_arm64() {
    let Some(emulated) = emulated() else {
        return;
    };
    for (app, code, ends) in [("until:15", 3, 1000), ("trap", 137, 3500)] {
        let options = "--delay 1s --grace 4s --kill-margin 500ms";
        let mut run = emulated().args(options).app(["ready", app, "exit:3"]).start();
        run.line("ready");
        let asked = run.signal(TERM);
        run.log("draining");
        assert_after("SIGTERM to the app", run.line("signal 15") - asked, ms(1000));
        let ended = run.ended();
        assert_after("exit", ended.at - asked, ms(ends));
        assert_eq!((ended.code, ended.left.len()), (code, 0), "{ended:?}");
    }
}
