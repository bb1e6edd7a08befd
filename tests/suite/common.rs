//! Checks the duties of every init: it returns the app's exit code, forwards signals, reaps orphans, and passes on the arguments
//! and the signal mask. The same tests run against the peers: `INIT_UNDER_TEST=/usr/bin/tini cargo test --test suite common::`. The table
//! below names the tests that each peer fails. They must fail, as the table is a claim that is tested like any other.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::Duration;

use crate::support::{
    Folder, Init, Kind, Running, any_init as init, at_both_levels_of, init_under_test,
    needs_namespaces, say, slack, without_glibcs_own, witness,
};

/// The tests that each peer fails, in the version that Debian 12 packages.
const PEERS_FAIL: &[(Kind, &[&str])] = &[
    (Kind::Tini, &["terminal_stop_signals_reach_the_app_as_themselves"]),
    (
        Kind::DumbInit,
        &[
            "a_command_that_is_not_found_is_127",
            "a_command_that_cannot_be_executed_is_126",
            "a_thousand_orphans_leave_no_zombie_under_a_subreaper",
            "terminal_stop_signals_reach_the_app_as_themselves",
            "the_app_has_the_signal_mask_that_the_init_was_started_with",
            "the_app_ignores_what_was_ignored_when_the_init_was_started",
        ],
    ),
    (
        Kind::Catatonit,
        &[
            "a_command_that_is_not_found_is_127",
            "a_command_that_cannot_be_executed_is_126",
            "terminal_stop_signals_reach_the_app_as_themselves",
            "the_app_has_the_signal_mask_that_the_init_was_started_with",
        ],
    ),
];

/// Runs the test, which has to fail where the table says so.
fn common<F: Fn()>(test: F) {
    let name = std::any::type_name::<F>().trim_end_matches("::{{closure}}"); // of the function that the closure stands in
    let name = name.rsplit("::").next().unwrap_or(name);
    let (kind, _) = init_under_test();
    let result = catch_unwind(AssertUnwindSafe(test));
    if PEERS_FAIL.iter().any(|(peer, names)| *peer == kind && names.contains(&name)) {
        assert!(
            result.is_err(),
            "{kind:?} passes {name}: take it off the table of what peers fail"
        );
        say(&format!("FAILS AS KNOWN: {kind:?}: {name}"));
    } else if let Err(panic) = result {
        resume_unwind(panic);
    }
}

/// A name in the table that is no test's would excuse nobody, and be a claim that nothing holds true.
#[test]
fn the_table_of_what_peers_fail_names_tests() {
    for (peer, names) in PEERS_FAIL {
        for name in *names {
            assert!(
                include_str!("common.rs").contains(&format!("fn {name}()")),
                "{peer:?}: {name}"
            );
        }
        // docs/comparison.md has the same list.
        let called = match peer {
            Kind::Tini => "tini",
            Kind::DumbInit => "dumb-init",
            Kind::Catatonit => "catatonit",
            _ => panic!("{peer:?} is not in the comparison"),
        };
        let row = format!("| {called} | `{}` |\n", names.join("`, `"));
        assert!(include_str!("../../docs/comparison.md").contains(&row), "no row {row}");
    }
}

fn at_both_levels(test: impl Fn(&dyn Fn() -> Init)) {
    at_both_levels_of(init, test);
}

/// The init as one would use it to have signals at once: drain-init without its drain.
fn at_once(init: Init) -> Init {
    if init_under_test().0 == Kind::DrainInit { init.args("--delay 0") } else { init }
}

// ---- exit codes

#[test]
fn every_exit_code_passes_through() {
    common(|| {
        at_both_levels(|init| {
            for code in 0..=255 {
                assert_eq!(init().app([&format!("exit:{code}")]).ended().code, code);
            }
        });
    });
}

/// Not SIGSTOP and its like, nor what is ignored by default: no app dies of those.
#[test]
fn death_by_a_signal_is_128_plus_its_number() {
    common(|| {
        at_both_levels(|init| {
            for number in (1..=31).filter(|n| !matches!(n, 17..=23 | 28)) {
                assert_eq!(init().app([&format!("die:{number}")]).ended().code, 128 + number);
            }
        });
    });
}

/// An init whose signals are an enum without real-time ones reaps the app and doesn't understand what it got.
#[test]
fn death_by_a_realtime_signal_is_128_plus_its_number() {
    common(|| {
        at_both_levels(|init| {
            for number in 32..=64 {
                assert_eq!(init().app([&format!("die:{number}")]).ended().code, 128 + number);
            }
        });
    });
}

#[test]
fn a_command_that_is_not_found_is_127() {
    common(|| {
        at_both_levels(|init| {
            for command in ["/no/such/command", "no-such-command-in-path", "/no/such/folder/x"] {
                assert_eq!(init().command([command]).ended().code, 127, "{command}");
            }
        });
    });
}

fn file(folder: &Folder, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = folder.path(name);
    std::fs::write(&path, content).expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("its mode");
    path
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    common(|| {
        let folder = Folder::new();
        let commands =
            [file(&folder, "not-executable", "#!/bin/sh\nexit 3\n", 0o644), folder.path("")];
        at_both_levels(|init| {
            for command in &commands {
                assert_eq!(init().command([command]).ended().code, 126, "{}", command.display());
            }
        });
    });
}

/// As execvp(3) runs it.
#[test]
fn a_script_that_names_no_interpreter_is_run_by_the_shell() {
    common(|| {
        let folder = Folder::new();
        let script = file(&folder, "script-without-an-interpreter", "exit 3\n", 0o755);
        at_both_levels(|init| assert_eq!(init().command([&script]).ended().code, 3));
    });
}

// ---- forwarding

/// Sends each and waits for the app to see it, as itself, before the next one is sent.
fn forwards(run: &mut Running, signals: impl IntoIterator<Item = i32>) {
    for number in signals {
        run.signal(number);
        run.line(&format!("signal {number}"));
    }
}

fn are_forwarded(signals: &[i32]) {
    at_both_levels(|init| {
        let mut run = at_once(init()).app(["ready", "trap"]).start();
        run.line("ready");
        forwards(&mut run, signals.iter().copied());
        let seen = run.killed();
        assert_eq!(
            seen.len(),
            1 + signals.len(),
            "the app sees each of them once, and nothing else: {seen:?}"
        );
    });
}

/// Save SIGKILL and SIGSTOP, the fault signals, SIGCHLD, and those of the next test.
#[test]
fn every_standard_signal_reaches_the_app_as_itself() {
    common(|| {
        are_forwarded(&[1, 3, 10, 12, 13, 14, 16, 18, 23, 24, 25, 26, 27, 28, 29, 30, 2]);
        // A run of its own: two stop signals within a second are one request to drain-init.
        are_forwarded(&[15]);
    });
}

/// From another process, not from the terminal: it is the app that knows what to do.
#[test]
fn terminal_stop_signals_reach_the_app_as_themselves() {
    common(|| are_forwarded(&[20, 21, 22]));
}

/// SIGRTMAX, 64, is drain-init's own.
#[test]
fn every_realtime_signal_reaches_the_app_as_itself() {
    common(|| {
        are_forwarded(&(34..=63).collect::<Vec<_>>());
    });
}

/// A real-time signal is queued, and so comes as often as it was sent: an init that reads one a wake-up loses none either.
#[test]
fn a_burst_of_realtime_signals_reaches_the_app_whole() {
    common(|| {
        at_both_levels(|init| {
            let mut run = at_once(init()).app(["ready", "trap"]).start();
            run.line("ready");
            for i in 0..100 {
                run.signal(34 + i % 10);
            }
            run.signal(50); // of those that wait the kernel gives the lowest first
            run.line("signal 50");
            let seen = run.killed();
            for number in 34..44 {
                let line = format!("signal {number}");
                assert_eq!(seen.iter().filter(|l| **l == line).count(), 10, "{line}");
            }
        });
    });
}

// ---- reaping

/// How long a thousand orphans that die together, 200 of them of a real-time signal, stay as zombies, in microseconds.
fn time_to_reap_a_thousand(init: Init, reaped: &str) -> Result<u64, String> {
    let mut run = init.app(["orphans:1000", "release", reaped, "exit:42"]).start();
    run.line("orphans 1000");
    let line = run.line_with("reaped").text;
    let time = line
        .strip_prefix("reaped in ")
        .and_then(|rest| rest.strip_suffix(" us"))
        .ok_or(line.clone())?;
    assert_eq!(run.ended().code, 42, "the app's own status is not lost among the orphans'");
    Ok(time.parse().expect("microseconds"))
}

/// As PID 1, which gets orphans without asking for them.
#[test]
fn a_thousand_orphans_leave_no_zombie() {
    common(|| {
        if !needs_namespaces() {
            return;
        }
        let mut times: Vec<u64> = (0..5)
            .map(|_| time_to_reap_a_thousand(init().pid1(), "reaped").expect("all reaped"))
            .collect();
        times.sort_unstable();
        println!("1,000 orphans reaped in {times:?} us, median {} us", times[2]);
        assert!(Duration::from_micros(times[2]) < slack(), "{times:?}, not {:?}", slack());
    });
}

/// Orphans come to the init though it isn't PID 1: it makes itself a subreaper (tini is asked to, by -s).
#[test]
fn a_thousand_orphans_leave_no_zombie_under_a_subreaper() {
    common(|| {
        let mut run = init().app(["orphan:ids,until:1", "trap"]).start();
        let ids = run.line_with("pid ").text;
        let parent = ids.split(' ').nth(3).expect("pid N parent N");
        assert_eq!(parent, run.pid.to_string(), "the orphan's parent is the init: {ids}");
        time_to_reap_a_thousand(init(), "reaped").expect("all reaped");
    });
}

/// The negative control: the test above can tell an init that reaps from one that doesn't.
#[test]
fn an_init_that_reaps_nobody_is_found_out() {
    if !needs_namespaces() {
        return;
    }
    let result =
        time_to_reap_a_thousand(Init::new(Kind::NeverReaps, witness()).pid1(), "reaped:1000");
    assert_eq!(result, Err("not reaped: 1000".to_owned()));
}

/// One at a time, so that the init sees each by itself; then it still knows its app's end.
#[test]
fn an_orphan_that_dies_of_a_realtime_signal_is_reaped_like_any_other() {
    common(|| {
        if !needs_namespaces() {
            return;
        }
        for number in [32, 33, 34, 35, 50, 63, 64] {
            let die = format!("orphan:die:{number}");
            let run = init().pid1().app([&die, "orphans:1", "release", "reaped", "exit:7"]).start();
            let ended = run.ended();
            assert_eq!(ended.code, 7, "an orphan died of {number}");
            assert!(ended.out.iter().any(|line| line.starts_with("reaped in ")), "{ended:?}");
        }
    });
}

/// The app's end is reported by the same SIGCHLD as its orphans', which the kernel does not queue.
#[test]
fn the_apps_status_is_not_lost_among_orphans_that_die_with_it() {
    common(|| {
        at_both_levels(|init| {
            for round in 0..20 {
                let ended = init().app(["orphans:30", "release", "exit:42"]).ended();
                assert_eq!(ended.code, 42, "round {round}");
                let ended = init().app(["orphans:30", "release", "die:35"]).ended();
                assert_eq!(ended.code, 163, "round {round}");
            }
        });
    });
}

// ---- what the app is started with

/// An init that blocks signals to wait for them has to take that back, and not to more than it found.
#[test]
fn the_app_has_the_signal_mask_that_the_init_was_started_with() {
    common(|| {
        at_both_levels(|init| {
            for (blocked, expected) in
                [(&[][..], 0), (&[1, 10, 15, 17, 40, 64], 0x8000_0080_0001_4201_u64)]
            {
                let ended = init().blocked(blocked.iter().copied()).app(["masks"]).ended();
                let line = &ended.out[0];
                assert!(
                    line.starts_with(&format!("blocked {expected:016x} ")),
                    "started with {expected:016x}: {line}"
                );
            }
        });
    });
}

/// Not SIGCHLD: tests/suite/start.rs has that.
#[test]
fn the_app_ignores_what_was_ignored_when_the_init_was_started() {
    common(|| {
        let (kind, path) = init_under_test();
        at_both_levels(|init| {
            for (ignored, expected) in
                [(&[][..], 0), (&[1, 2, 3, 13, 15, 20, 21, 22, 40], 0x0000_0080_0038_5007_u64)]
            {
                let ended = init().ignored(ignored.iter().copied()).app(["masks"]).ended();
                let mut line = ended.out[0].clone();
                if kind == Kind::DrainInit {
                    line = without_glibcs_own(&path, &line);
                }
                assert!(
                    line.ends_with(&format!("ignored {expected:016x}")),
                    "started with {expected:016x}: {line}"
                );
            }
        });
    });
}

#[test]
fn arguments_reach_the_app_byte_for_byte() {
    common(|| {
        let words: [&[u8]; 9] =
            [b"\xff\xfe", b"caf\xe9", b"", b" ", b"--", b"--delay", b"-g", b"a\nb", b"\x80=\xc0"];
        let hex =
            words.map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let mut command: Vec<OsString> = vec![witness().into(), "argv".into()];
        command.extend(words.map(|word| OsString::from_vec(word.to_vec())));
        at_both_levels(|init| {
            let ended = init().command(&command).ended();
            assert_eq!(ended.out, [format!("argv {}", hex.join(" "))]);
            assert_eq!(ended.code, 0);
        });
    });
}
