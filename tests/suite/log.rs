//! The log: what is in it, and that one that can't be written delays nothing.

use std::collections::BTreeMap;
use std::fs::File;

use crate::support::system::{self, stuck_pipe, stuck_terminal};
use crate::support::{Init, assert_after, at_both_levels, init, ms};

const HUP: i32 = 1;
const USR1: i32 = 10;
const USR2: i32 = 12;
const TERM: i32 = 15;

// ---- what is in it

/// Nothing at all while all is well.
#[test]
fn an_app_that_ends_well_by_itself_leaves_no_log() {
    at_both_levels(|init| {
        for code in [0, 3] {
            let ended =
                init().app(["orphans:3", "release", "reaped", &format!("exit:{code}")]).ended();
            assert_eq!((ended.code, ended.err), (code, vec![]));
        }
    });
}

fn log_of_a_stop(options: &str) -> Vec<String> {
    let mut run = init()
        .args("--delay 200ms --grace 800ms --kill-margin 100ms")
        .args(options)
        .app(["ready", "trap"])
        .start();
    run.line("ready");
    run.signal(USR1);
    run.line("signal 10");
    run.signal(TERM);
    run.ended().err
}

#[test]
fn the_log_is_one_line_an_event_and_says_what_follows_until_when() {
    let log = log_of_a_stop("");
    assert!(log.iter().all(|line| line.starts_with("drain-init: ")), "{log:?}");
    assert_eq!(log[0], "drain-init: SIGTERM: draining for 200ms, SIGKILL at 700ms");
    assert!(
        log[1].contains("drain over")
            && log[1].contains("SIGTERM")
            && seconds_left(&log[1]).is_some_and(|left| (0.0..=0.5).contains(&left)),
        "{log:?}"
    );
    assert!(
        log[2].contains("SIGKILL") && log[2].contains("grace period"),
        "why the app was killed: {log:?}"
    );
    assert_eq!(
        log.len(),
        3 + usize::from(log.len() > 3),
        "no more than one line about the end: {log:?}"
    );
}

/// A late end of the drain leaves less.
fn seconds_left(line: &str) -> Option<f64> {
    line.split_once("SIGKILL in ")?.1.split_once('s')?.0.parse().ok()
}

#[test]
fn quiet_leaves_what_is_wrong_and_verbose_adds_each_signal() {
    for option in ["-q", "--quiet"] {
        let log = log_of_a_stop(option);
        assert!(
            !log.is_empty() && log.iter().all(|line| line.contains("SIGKILL")),
            "the SIGKILL alone: {log:?}"
        );
    }
    for option in ["-v", "--verbose"] {
        assert!(log_of_a_stop(option).iter().any(|line| line.contains("SIGUSR1")), "{option}");
    }
    assert!(!log_of_a_stop("").iter().any(|line| line.contains("SIGUSR1")));
}

/// Each line an object with what a machine sorts by; the same events as in text.
#[test]
fn the_json_log_is_an_object_a_line() {
    let log: Vec<_> =
        log_of_a_stop("--log-format json -v").iter().map(|line| object(line)).collect();
    for entry in &log {
        for key in ["level", "event", "msg"] {
            assert!(entry.get(key).is_some_and(|it| !it.is_empty()), "{key}: {entry:?}");
        }
    }
    let with = |key: &str, value: &str| {
        log.iter().any(|entry| entry.get(key).is_some_and(|it| it.contains(value)))
    };
    for message in ["SIGTERM: draining for 200ms, SIGKILL at 700ms", "SIGUSR1"] {
        assert!(with("msg", message), "{message}: {log:?}");
    }
    assert!(with("level", "error") && with("level", "info") && with("level", "debug"), "{log:?}");
}

/// A command's name comes from outside, and may hold anything.
#[test]
fn the_json_log_escapes_what_it_quotes() {
    let ended = init().args("--log-format json").command(["/no/such/\"com\\mand\"\n\u{1}"]).ended();
    assert_eq!((ended.code, ended.err.len()), (127, 1), "{ended:?}");
    let entry = object(&ended.err[0]);
    let message = &entry["msg"];
    assert!(message.contains("/no/such/"), "{message}");
}

/// A JSON object of strings.
fn object(line: &str) -> BTreeMap<String, String> {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

// ---- where it can't be written

fn with_broken_stderr(what: &str, init: Init) {
    let mut run =
        init.args("-v --delay 1s --grace 3s --kill-margin 500ms").app(["ready", "trap"]).start();
    run.line("ready");
    for number in [USR1, 40] {
        assert_after(what, run.time_to_forward(number), ms(0));
    }
    let asked = run.signal(TERM);
    assert_after(what, run.time_to_forward(USR2), ms(0));
    assert_after(what, run.line("signal 15") - asked, ms(1000));
    assert_after(what, run.time_to_forward(HUP), ms(0));
    let ended = run.ended();
    assert_after(what, ended.at - asked, ms(2500));
    assert_eq!(ended.code, 137, "{what}");
    // Of its own broken pipe drain-init gets a SIGPIPE: that is not the app's.
    let signals: Vec<_> =
        ended.out.iter().filter_map(|line| line.strip_prefix("signal ")).collect();
    assert_eq!(signals, ["10", "40", "12", "15", "1"], "{what}");
}

#[test]
fn a_closed_stderr_delays_nothing() {
    at_both_levels(|init| with_broken_stderr("closed", init().closed([2])));
}

#[test]
fn a_full_stderr_delays_nothing() {
    at_both_levels(|init| {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        with_broken_stderr("/dev/full", init().stderr(full));
    });
}

#[test]
fn a_stuck_stderr_delays_nothing() {
    at_both_levels(|init| {
        let (from, to) = stuck_pipe();
        with_broken_stderr("a pipe that nobody reads", init().stderr(to));
        drop(from);
    });
}

/// It takes a part of a line, and the rest of a blocking write would wait for ever.
#[test]
fn a_terminal_that_nobody_reads_delays_nothing() {
    at_both_levels(|init| {
        let (from, to) = stuck_terminal();
        with_broken_stderr("a terminal that nobody reads", init().stderr(to));
        drop(from);
    });
}

#[test]
fn a_stderr_whose_reader_is_gone_delays_nothing() {
    at_both_levels(|init| {
        let (from, to) = system::pipe().expect("a pipe");
        drop(from);
        with_broken_stderr("a pipe without a reader", init().stderr(to));
    });
}

/// A slow pipe is the app's too: setting it to non-blocking would be seen there.
#[test]
fn stderr_stays_as_blocking_as_it_was() {
    let mut run = init().args("-v --delay 0").app(["ready", "until:10", "fds", "until:15"]).start();
    run.line("ready");
    run.signal(USR1);
    run.log("SIGUSR1"); // the log has been written to
    let line = run.line_with("fd 2 ").text;
    assert!(line.ends_with("flags 1"), "write-only and nothing else: {line}");
}
