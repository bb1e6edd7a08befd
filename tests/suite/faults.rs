//! System calls that fail, once and for ever. What the tests of the start, of the life of a container, of the hooks and of
//! readiness inject is not repeated here; surroundings.rs and limits.rs have what else can go wrong.

use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::life::{own_address, readyz};
use crate::support::system::{self, KILL, now, pause};
use crate::support::{
    Folder, Init, Kind, LIMIT, Running, assert_after, becomes_true, becomes_true_after,
    children_of, ms, needs_program, needs_static, slack, stat_of, static_init, witness,
};

const USR1: i32 = 10;
const TERM: i32 = 15;
const DRAIN: i32 = 64;

/// The build that ships, and these faults (`strace -e inject=...`) in it alone, or with `-f` in what it starts too. The tracer is
/// nobody's parent.
fn injected(injections: &[&str]) -> Init {
    traced(&[], injections)
}

fn traced(options: &[&str], injections: &[&str]) -> Init {
    let words = ["strace", "-D", "-qq", "-o", "/dev/null"].iter().chain(options);
    let words = words.map(OsString::from);
    let injections =
        injections.iter().flat_map(|rule| ["-e".into(), format!("inject={rule}").into()]);
    Init::new(Kind::DrainInit, static_init()).under(words.chain(injections))
}

fn can_inject() -> bool {
    needs_static() && needs_program("strace")
}

/// How often there was such a line.
fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

/// It is told, sees it after so long, and ends.
fn stops_after(run: &mut Running, what: &str, due: Duration) {
    let asked = run.signal(TERM);
    assert_after(what, run.line("signal 15") - asked, due);
}

// ---- fork

#[test]
fn an_app_that_cannot_be_forked_is_125_with_the_reason() {
    if !can_inject() {
        return;
    }
    let folder = Folder::new();
    let reasons = [("EAGAIN", "temporarily unavailable"), ("ENOMEM", "emory")];
    for (error, reason) in reasons {
        let init = injected(&[&format!("clone:error={error}:when=1")]);
        let init = init.arg("--ready-file").arg(folder.path("ready"));
        let ended = init.app(["touch:/dev/null"]).ended();
        assert_eq!((ended.code, ended.err.len()), (125, 1), "{ended:?}");
        let line = &ended.err[0];
        assert!(line.contains("cannot be started") && line.contains(reason), "{line}");
        assert!(!folder.path("ready").exists());
    }
}

/// By the clock: the delay where handlers or a hook would have held it, and its longest where only the companion could have said
/// when the traffic ends.
#[test]
fn a_drain_whose_companion_cannot_be_forked_is_kept_by_the_clock() {
    if !can_inject() {
        return;
    }
    for error in ["EAGAIN", "ENOMEM"] {
        let start = |options: &str| {
            let init = injected(&[&format!("clone:error={error}:when=2+")]).args(options);
            let mut run = init.app(["ready", "until:15", "exit:3"]).start();
            run.line("ready");
            run
        };
        let held = [
            ("--delay 500ms --max-delay 900ms --on-drain exec:/bin/true", 500),
            ("--delay 500ms --max-delay 900ms --until-quiet 100ms", 900),
            ("--delay 0 --max-delay 900ms --until-quiet 100ms", 900),
        ];
        for (options, due) in held {
            let mut run = start(options);
            stops_after(&mut run, options, ms(due));
            let ended = run.ended();
            assert_eq!((ended.code, count(&ended.err, "cannot start the drain companion")), (3, 1));
        }
        // A hook's drain, which SIGTERM joins.
        let mut run = start("--delay 500ms");
        // By a process that ends: one that is there still when SIGTERM comes has run out of time.
        let asked = now();
        let kill = ["-c".to_owned(), format!("kill -{DRAIN} {}", run.pid)];
        assert!(Command::new("sh").args(kill).status().is_ok_and(|status| status.success()));
        run.log("prestop: draining for");
        run.signal(TERM);
        assert_after("a hook", run.line("signal 15") - asked, ms(500));
        assert_eq!(run.ended().code, 3);
    }
}

#[test]
fn a_readiness_server_that_cannot_be_forked_is_tried_again_and_nothing_spins() {
    if !can_inject() {
        return;
    }
    for (when, answers) in [("2", true), ("2+", false)] {
        let address = own_address();
        let options = format!("-v --delay 300ms --ready-listen {address}");
        let init = injected(&[&format!("clone:error=EAGAIN:when={when}")]).args(&options);
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        if answers {
            assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)));
        } else {
            pause(ms(1500));
        }
        stops_after(&mut run, "SIGTERM", ms(300));
        let ended = run.ended();
        let tries = count(&ended.err, "cannot start a companion");
        let allowed = if answers { 1..=1 } else { 4..=12 };
        assert!(allowed.contains(&tries) && ended.code == 3, "{tries} tries: {ended:?}");
    }
}

// ---- the other calls of PID 1

/// A fault that would last for the pod's whole life: the pipe that tells the server of the drain is
/// made once.
#[test]
fn a_pipe_that_fails_once_costs_no_readiness() {
    if !can_inject() {
        return;
    }
    for when in ["1", "1..3"] {
        let address = own_address();
        let init = injected(&[&format!("pipe2:error=EMFILE:when={when}")]);
        let init = init.args(&format!("--delay 1500ms --ready-listen {address}"));
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)), "pipe {when}");
        let asked = run.signal(TERM);
        assert!(becomes_true(LIMIT, || readyz(&address) == Some(503)), "it is told of the drain");
        assert_after("SIGTERM", run.line("signal 15") - asked, ms(1500));
        assert_eq!(run.ended().code, 3);
    }
}

/// Never ready is what is left. Neither PID 1 nor a companion computes.
#[test]
fn a_pipe_that_always_fails_stops_nothing_and_nothing_spins() {
    if !can_inject() {
        return;
    }
    let address = own_address();
    let init = injected(&["pipe2:error=EMFILE"]);
    let init = init.args(&format!("--delay 300ms --ready-listen {address}"));
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    let spent = || stat_of(run.pid).expect("it is there").ticks;
    let before = spent();
    assert_ne!(readyz(&address), Some(200));
    pause(ms(1500));
    assert!(spent() - before < 30, "{} hundredths of a second", spent() - before);
    stops_after(&mut run, "SIGTERM", ms(300));
    let ended = run.ended();
    assert_eq!(ended.code, 3);
    assert!((1..=12).contains(&count(&ended.err, "cannot start a companion")), "{ended:?}");
}

/// One error that means nothing, and some that should not come.
#[test]
fn a_wait_for_signals_that_fails_once_loses_none() {
    if !can_inject() {
        return;
    }
    for error in ["EINTR", "EAGAIN", "ENOMEM", "EINVAL"] {
        for when in [1, 2, 3] {
            let init = injected(&[&format!("rt_sigtimedwait:error={error}:when={when}")]);
            let mut run = init.args("--delay 200ms").app(["ready", "until:15", "exit:3"]).start();
            run.line("ready");
            run.time_to_forward(USR1);
            stops_after(&mut run, error, ms(200));
            assert_eq!(run.ended().code, 3);
        }
    }
}

/// As under a filter that knows nothing of it: no signal can be read, but the app's end is seen, and nothing spins until then.
#[test]
fn a_wait_for_signals_that_always_fails_still_sees_the_apps_end() {
    if !can_inject() {
        return;
    }
    for error in ["EPERM", "ENOSYS"] {
        let init = injected(&[&format!("rt_sigtimedwait:error={error}")]);
        let mut run =
            init.app(["orphans:5", "release", "reaped", "ready", "until:10", "exit:3"]).start();
        run.line("ready");
        let before = stat_of(run.pid).expect("it is there").ticks;
        pause(ms(1000));
        let spent = stat_of(run.pid).expect("it is there").ticks - before;
        assert!(spent < 30, "{error}: {spent} hundredths of a second");
        children_of(run.pid).iter().for_each(|app| system::signal(*app, USR1));
        assert_eq!(run.ended().code, 3);
    }
}

/// The app has made itself another user, say. The exit comes on time, and one failure costs that one signal.
#[test]
fn a_kill_that_fails_holds_nothing_up() {
    if !can_inject() {
        return;
    }
    for (when, seen, code) in [("1", false, 137), ("2", true, 3), ("1+", false, 137)] {
        let init = injected(&[&format!("kill:error=EPERM:when={when}")]);
        let options = "--delay 200ms --grace 2s --kill-margin 300ms";
        let mut run = init.args(options).app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        let asked = run.signal(TERM);
        let app = children_of(run.pid);
        let ended = run.ended();
        assert_eq!((ended.code, count(&ended.out, "signal 15") > 0), (code, seen), "{when}");
        if code == 137 {
            // As nobody can be killed either, 100 ms are waited for that in vain.
            let due = if when == "1+" { 1800 } else { 1700 };
            assert_after(when, ended.at - asked, ms(due));
        }
        app.iter().for_each(|pid| system::try_signal(*pid, KILL));
    }
}

/// It looks through /proc for who is left only after it has sent SIGKILL to those that it knows; and if that takes longer than the
/// 100 ms that it waits for the killed, they are seen to have ended all the same.
#[test]
fn a_slow_look_through_proc_makes_no_sigkill_late() {
    if !can_inject() {
        return;
    }
    let folder = Folder::new();
    let trace = folder.path("trace");
    let to_file = ["-o", trace.to_str().expect("UTF-8")];
    let init = traced(&to_file, &["getdents64:delay_enter=400000"]);
    let options = "--delay 0 --grace 1s --kill-margin 300ms";
    let mut run = init.args(options).app(["ready", "trap"]).start();
    run.line("ready");
    let app = children_of(run.pid)[0];
    let asked = run.signal(TERM);
    let is_dead = || stat_of(app).is_none_or(|stat| stat.state == 'Z');
    becomes_true_after("SIGKILL", asked, ms(700), is_dead);
    let ended = run.ended();
    assert_eq!(ended.code, 137);
    let traced = || fs::read_to_string(&trace).unwrap_or_default();
    assert!(becomes_true(LIMIT, || traced().contains("exit_group(")));
    let trace = traced();
    let at = |call: &dyn Fn(&str) -> bool| {
        trace.lines().position(call).unwrap_or_else(|| panic!("{trace}"))
    };
    let killed = at(&|line| line.starts_with("kill(") && line.contains("SIGKILL"));
    assert!(killed < at(&|line| line.starts_with("getdents64(")), "{trace}");
    assert_eq!(count(&ended.err, "does not end"), 0, "{:?}", ended.err);
}

#[test]
fn calls_that_fail_are_survived() {
    if !can_inject() {
        return;
    }
    let folder = Folder::new();
    let file = folder.path("drain");
    for (rule, log) in [
        ("wait4:error=EINTR:when=1", true),
        ("wait4:error=EINTR:when=2", true),
        ("prctl:error=EINVAL", true), // no subreaper: an old kernel
        ("rt_sigaction:error=EPERM", true),
        ("openat:error=EMFILE:when=2+", true),
        ("open:error=ENFILE:when=2+", true),
        ("unlink:error=EROFS:when=3+", true),
        ("ioctl:error=ENOTTY", true),
        // The log, in all the ways in which it can be refused.
        ("poll:error=EPERM", false),
        ("poll:error=ENOMEM:when=1", true),
        ("pwritev2:error=ENOSYS", true),
        ("pwritev2:error=EOPNOTSUPP", true),
        ("pwritev2:error=EAGAIN", false),
        ("pwritev2:error=EIO", true),
    ] {
        let init = injected(&[rule]).args("-v --delay 200ms --drain-file").arg(&file);
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        run.time_to_forward(USR1);
        stops_after(&mut run, rule, ms(200));
        let ended = run.ended();
        assert_eq!((ended.code, ended.left.len()), (3, 0), "{rule}: {ended:?}");
        assert_eq!(count(&ended.err, "exit code 3") == 1, log, "{rule}: {ended:?}");
    }
    let ended = injected(&["pwritev2:error=EIO", "write:error=ENOSPC"]).app(["exit:3"]).ended();
    assert_eq!(ended.code, 3);
}

/// From any call on: who is left is still told and killed, though the table of processes cannot be read.
#[test]
fn without_more_memory_the_stop_is_as_ever() {
    if !can_inject() {
        return;
    }
    _ = (static_init(), witness()); // built before any time is measured
    let cases = [
        ("--on-drain exec:/bin/true", "1+"),
        ("--until-quiet 100ms --max-delay 200ms", "1+"),
        ("", "1+"),
        ("", "2+"),
        ("", "3+"),
        ("", "4+"),
    ];
    std::thread::scope(|scope| {
        for (options, since) in cases {
            scope.spawn(move || without_memory(options, since, "until:15", 3));
            scope.spawn(move || without_memory(options, since, "trap", 137));
        }
    });
}

fn without_memory(options: &str, since: &str, last: &str, code: i32) {
    let rules = ["mmap", "brk", "mremap"].map(|call| format!("{call}:error=ENOMEM:when={since}"));
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let init = injected(&rules).args(options);
    let init = init.args("--grace 5s --kill-margin 500ms --delay 200ms --orphan-grace 200ms");
    let child = "child:ignore:15,pause";
    let app = [child, "orphans:50", "release", "reaped", "ready", last, "exit:3"];
    let mut run = init.app(app).start();
    run.line("ready");
    for _ in 0..100 {
        run.time_to_forward(USR1);
    }
    let asked = run.signal(TERM);
    let told = run.line("signal 15") - asked;
    // An instant with nothing in flight is looked for, past the longest time.
    let slack = slack() + ms(if options.contains("quiet") { 1000 } else { 0 });
    assert!(told >= ms(200) && told < ms(200) + slack, "{options}: {told:?}");
    let ended = run.ended();
    assert_eq!((ended.code, &ended.left), (code, &vec![]), "{since}: {ended:?}");
}

// ---- netlink, in the companion

/// Each of its calls once, at each place: the drain ends no sooner than it may, and not past its longest.
#[test]
fn a_netlink_call_that_fails_once_shortens_no_drain() {
    if !can_inject() {
        return;
    }
    let calls = ["socket", "bind", "setsockopt", "sendto", "recvfrom", "recvmsg"];
    let cases = calls.iter().flat_map(|call| ["ENOBUFS", "ENOMEM"].map(|error| (call, error)));
    std::thread::scope(|scope| {
        for (call, error) in cases {
            scope.spawn(move || {
                ["1", "2", "3", "1+"]
                    .map(|when| quiet_drain(&format!("{call}:error={error}:when={when}")))
            });
        }
    });
}

fn quiet_drain(rule: &str) {
    let options = "--delay 300ms --until-quiet 100ms --max-delay 700ms --watch-port 1";
    let init = traced(&["-f"], &[rule]).args(options);
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    let asked = run.signal(TERM);
    let told = run.line("signal 15") - asked;
    assert!(told >= ms(300) && told < ms(1700) + slack(), "{rule}: {told:?}");
    assert_eq!(run.ended().code, 3);
}
