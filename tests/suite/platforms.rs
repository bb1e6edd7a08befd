//! The builds for other machines as far as an emulator goes: exit codes, signals, the fixed delay, and
//! the other verbs. The rest is held on the machine's own build.
//!
//! qemu's user mode keeps the host's libc's two signals, 32 and 33, from the emulated program, which
//! has the real-time signals from 32 on for the host's from 34 on, and so 62 signals in all. The app
//! is the machine's own witness. 126 can't be told: the memory that drain-init lends to its child
//! (CLONE_VM) is copied instead.

use std::net::TcpListener;

use crate::support::{Folder, Platform, assert_after, ms};

const INT: i32 = 2;
const TERM: i32 = 15;

/// Signals that the emulated drain-init does not forward or never sees: fault signals, SIGKILL,
/// SIGCHLD, SIGSTOP, the libc's own.
const EXCEPTED: [i32; 12] = [4, 5, 6, 7, 8, 9, 11, 17, 19, 31, 32, 33];

/// The machine's number for a signal that the emulated program knows by this one.
fn outside(number: i32) -> i32 {
    if number < 32 { number } else { number + 2 }
}

/// The tests of one platform. The first one builds it.
macro_rules! platform {
    ($name:ident, $platform:expr) => {
        mod $name {
            use super::*;

            const PLATFORM: Platform = $platform;

            #[test]
            fn exit_codes_and_refusals_are_the_same() {
                exit_codes_and_refusals(&PLATFORM);
            }

            #[test]
            fn death_by_a_signal_is_128_plus_its_number() {
                deaths_by_signals(&PLATFORM);
            }

            #[test]
            fn signals_reach_the_app_as_themselves() {
                signals(&PLATFORM);
            }

            #[test]
            fn the_fixed_delay_and_the_deadline_are_kept() {
                delay_and_deadline(&PLATFORM);
            }

            #[test]
            fn explain_probe_and_wait_answer() {
                verbs(&PLATFORM);
            }
        }
    };
}

platform!(
    arm64,
    Platform { target: "aarch64-unknown-linux-musl", emulator: "qemu-aarch64-static", libc: None }
);
platform!(
    i386,
    Platform { target: "i686-unknown-linux-musl", emulator: "qemu-i386-static", libc: None }
);
platform!(
    arm_v7,
    Platform {
        target: "armv7-unknown-linux-gnueabihf",
        emulator: "qemu-arm-static",
        libc: Some("/usr/arm-linux-gnueabihf"),
    }
);
platform!(
    ppc64le,
    Platform {
        target: "powerpc64le-unknown-linux-gnu",
        emulator: "qemu-ppc64le-static",
        libc: Some("/usr/powerpc64le-linux-gnu"),
    }
);
platform!(
    riscv64,
    Platform {
        target: "riscv64gc-unknown-linux-gnu",
        emulator: "qemu-riscv64-static",
        libc: Some("/usr/riscv64-linux-gnu"),
    }
);
platform!(
    s390x,
    Platform {
        target: "s390x-unknown-linux-gnu",
        emulator: "qemu-s390x-static",
        libc: Some("/usr/s390x-linux-gnu"),
    }
);

fn exit_codes_and_refusals(platform: &Platform) {
    if platform.init().is_none() {
        return;
    }
    let emulated = || platform.init().expect("it is there");
    for code in [0, 1, 2, 42, 77, 125, 126, 127, 128, 129, 143, 200, 254, 255] {
        assert_eq!(emulated().app([&format!("exit:{code}")]).ended().code, code);
    }
    assert_eq!(emulated().command(["/no/such/command"]).ended().code, 127);
    let ended = emulated().args("--delay 30s --grace 30s").app(["print:started"]).ended();
    assert_eq!((ended.code, ended.out.len(), ended.err.len()), (125, 0, 1), "{ended:?}");
}

/// Of each kind: a stop, a fault, a limit, a real-time signal.
fn deaths_by_signals(platform: &Platform) {
    for number in [1, 2, 3, 6, 9, 11, 14, 15, 24, 31, 34, 50, 62] {
        let Some(emulated) = platform.init() else {
            return;
        };
        let ended = emulated.app([&format!("die:{}", outside(number))]).ended();
        assert_eq!(ended.code, 128 + number, "{ended:?}");
    }
}

/// Before the stop, in the drain and after it.
fn signals(platform: &Platform) {
    let Some(emulated) = platform.init() else {
        return;
    };
    let forwarded: Vec<i32> = (1..=62)
        .filter(|n| !EXCEPTED.contains(n) && ![INT, TERM].contains(n))
        .map(outside)
        .collect();
    let mut run = emulated.args("--delay 15s --grace 60s").app(["ready", "trap"]).start();
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
fn delay_and_deadline(platform: &Platform) {
    for (app, code, ends) in [("until:15", 3, 1000), ("trap", 137, 3500)] {
        let Some(emulated) = platform.init() else {
            return;
        };
        let options = "--delay 1s --grace 4s --kill-margin 500ms";
        let mut run = emulated.args(options).app(["ready", app, "exit:3"]).start();
        run.line("ready");
        let asked = run.signal(TERM);
        run.log("draining");
        assert_after("SIGTERM to the app", run.line("signal 15") - asked, ms(1000));
        let ended = run.ended();
        assert_after("exit", ended.at - asked, ms(ends));
        assert_eq!((ended.code, ended.left.len()), (code, 0), "{ended:?}");
    }
}

fn verbs(platform: &Platform) {
    let verb = |words: &str| platform.init().map(|init| init.args(words).ended());
    let Some(explained) = verb("explain --delay 5s --until-quiet 2s --grace 30s") else {
        return;
    };
    let verb = |words: &str| verb(words).expect("it is there");
    assert_eq!(explained.code, 0, "{explained:?}");
    assert!(explained.out.iter().any(|line| line.contains("SIGKILL")), "{explained:?}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let (folder, closed) = (Folder::new(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let nobody = closed.local_addr().expect("its address").port();
    drop(closed);
    let file = folder.path("ready");
    assert_eq!(verb(&format!("probe tcp://127.0.0.1:{port}")).code, 0);
    assert_eq!(verb(&format!("probe tcp://127.0.0.1:{nobody}")).code, 1);
    assert_eq!(verb(&format!("probe file:{}", file.display())).code, 1);
    std::fs::write(&file, "").expect("a file");
    let all = format!("wait --timeout 60s file:{} tcp://localhost:{port}", file.display());
    assert_eq!(verb(&all).code, 0);
}
