//! Surroundings that change while drain-init runs: files that vanish, a clock that is set, time that stands still, a process that
//! can't be killed, crowds of signals and of processes.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::confined::{Cgroup, Verdict, call, call_with, filter, needs_cgroup};
use crate::support::life::{own_address, readyz};
use crate::support::system::{self, KILL, now, pause};
use crate::support::{
    Folder, Init, Kind, LIMIT, Running, assert_after, at_both_levels, becomes_true, children_of,
    companion_of, copy_program, init, ms, needs_namespaces, needs_program, needs_static, slack,
    stat_of, static_init, witness,
};

const USR1: i32 = 10;
const TERM: i32 = 15;
const CONT: i32 = 18;
const STOP: i32 = 19;

/// How often there was such a line.
fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

/// It is told, sees it after so long, and ends.
fn stops_after(run: &mut Running, what: &str, due: Duration) {
    let asked = run.signal(TERM);
    assert_after(what, run.line("signal 15") - asked, due);
}

// ---- files that vanish

/// The program that runs is its own: what lies under its name now is not looked at.
#[test]
fn companions_start_when_the_binary_is_deleted_or_replaced() {
    for replaced in [false, true] {
        let folder = Folder::new();
        let program = folder.path("drain-init");
        copy_program(init().program(), &program);
        let address = own_address();
        let init = Init::new(Kind::DrainInit, program.clone());
        let init = init.args("--delay 200ms --max-delay 5s --on-drain");
        let handler =
            format!("exec:{} to:{} print:told", witness().display(), folder.path("told").display());
        let init = init.arg(handler).args(&format!("--ready-listen {address}"));
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        fs::remove_file(&program).expect("removed");
        if replaced {
            copy_program(&PathBuf::from("/bin/false"), &program);
        }
        let mut server = None;
        assert!(becomes_true(LIMIT, || {
            server = companion_of(run.pid, "ready");
            server.is_some()
        }));
        system::signal(server.unwrap_or_default(), KILL);
        assert!(becomes_true(LIMIT, || companion_of(run.pid, "ready")
            .is_some_and(|pid| Some(pid) != server)));
        assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)), "it is started again");
        stops_after(&mut run, "SIGTERM", ms(200));
        let ended = run.ended();
        assert_eq!((ended.code, count(&ended.err, "failed")), (3, 0), "{ended:?}");
        assert_eq!(fs::read_to_string(folder.path("told")).unwrap_or_default(), "told\n");
    }
}

/// With the app's program and working directory in it.
#[test]
fn the_apps_folder_may_be_deleted() {
    let folder = Folder::new();
    let program = folder.path("app");
    copy_program(&witness(), &program);
    let script = "cd \"$0\" && exec \"$@\"";
    let init =
        init().under([OsString::from("sh"), "-c".into(), script.into(), folder.0.clone().into()]);
    let init =
        init.args("--delay 200ms --ready-file ready --drain-file drain --termination-log log");
    let init = init.args("--on-drain exec:/bin/true");
    let mut run = init.command(["./app", "ready", "until:15", "exit:3"]).start();
    run.line("ready");
    assert!(becomes_true(LIMIT, || folder.path("ready").exists()));
    fs::remove_dir_all(&folder.0).expect("removed");
    run.time_to_forward(USR1);
    stops_after(&mut run, "SIGTERM", ms(200));
    let ended = run.ended();
    assert_eq!((ended.code, count(&ended.err, "/drain: No such file")), (3, 1), "{ended:?}");
}

// ---- clocks

/// A filter ends whoever asks for another clock; its own negative control is date(1).
#[test]
fn no_clock_but_the_monotonic_is_read() {
    if !needs_static() {
        return;
    }
    let another = call_with("clock_gettime", "ne", libc::CLOCK_MONOTONIC);
    let others = [call("gettimeofday"), call("time"), another];
    let only = filter(others, Verdict::Kills, Verdict::Allowed);
    let date = init().bare().without_vdso().filtered(only.clone()).command(["/bin/date"]).ended();
    assert_eq!(date.code, 1000 + 31, "SIGSYS: {date:?}");
    for (last, code) in [("until:15", 3), ("trap", 137)] {
        let init = Init::new(Kind::DrainInit, static_init()).without_vdso().filtered(only.clone());
        let options = "--delay 300ms --grace 2s --kill-margin 300ms --escalate 10:100ms --on-drain exec:/bin/true";
        let mut run = init.args(options).app(["ready", last, "exit:3"]).start();
        run.line("ready");
        stops_after(&mut run, "SIGTERM", ms(300));
        assert_eq!(run.ended().code, code);
    }
}

/// A day later and a day earlier, by a clock that everything in the container has.
#[test]
fn a_monotonic_clock_with_any_beginning_will_do() {
    if !needs_namespaces() || !needs_program("unshare") {
        return;
    }
    let up: f64 = fs::read_to_string("/proc/uptime")
        .expect("uptime")
        .split(' ')
        .next()
        .and_then(|t| t.parse().ok())
        .expect("seconds");
    // No clock begins before zero: as much of a day as the machine has been up.
    let back = format!("-{}", (up as u64 - 1).min(86_400));
    for offset in ["86400", &back, "3153600000"] {
        let clock = ["unshare", "--time", "--monotonic", offset, "--boottime", offset];
        let seen = init().bare().under(clock).command(["cat", "/proc/uptime"]).ended().out;
        let seen: f64 = seen[0].split(' ').next().and_then(|t| t.parse().ok()).expect("seconds");
        let expected = up + offset.parse::<f64>().expect("a number");
        assert!(
            (seen - expected).abs() < 600.0,
            "the namespace has its own time: {seen}, {expected}"
        );
        let mut run = init()
            .under(clock)
            .args("--delay 300ms --grace 1s --kill-margin 300ms")
            .app(["ready", "trap"])
            .start();
        run.line("ready");
        let asked = run.signal(TERM);
        assert_after(offset, run.line("signal 15") - asked, ms(300));
        let ended = run.ended();
        assert_after(offset, ended.at - asked, ms(700));
        assert_eq!(ended.code, 137);
    }
}

// ---- time that stands still

/// `docker pause`: the whole container across each deadline in turn, and across all of them.
#[test]
fn frozen_across_a_deadline_it_does_what_is_due_when_it_thaws() {
    if !needs_cgroup("freezer") {
        return;
    }
    // SIGTERM at 800, SIGRTMIN+6 at 2400, SIGKILL at 4000.
    let options = "-v --delay 800ms --unready-delay 400ms --grace 4500ms --kill-margin 500ms --escalate RTMIN+6:1600ms";
    let steps = [(800, "signal 15"), (2400, "signal 40")];
    let frozen = |from: u64, to: u64| {
        let cgroup = Cgroup::new("freezer");
        let folder = Folder::new();
        let ready = folder.path("ready");
        let init = init().in_cgroup(&cgroup).args(options).arg("--ready-file").arg(&ready);
        let mut run = init.app(["ready", "trap"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || ready.exists()));
        let asked = run.signal(TERM);
        run.log("draining");
        pause((asked + ms(from)).saturating_duration_since(now()));
        let freezes = now() - asked;
        cgroup.freeze();
        let frozen = now() - asked;
        pause((asked + ms(to)).saturating_duration_since(now()));
        let thaws = now() - asked;
        cgroup.thaw();
        let thawed = now() - asked;
        // While it freezes and thaws, either may be first.
        let is_due = |what: &str, measured: Duration, at: u64| {
            let earliest = if ms(at) > frozen && ms(at) < thaws { thaws } else { ms(at) };
            let latest = if ms(at) > freezes && ms(at) < thawed { thawed } else { ms(at) };
            assert!(
                measured >= earliest,
                "{what}: after {measured:?}, frozen {frozen:?} to {thaws:?}"
            );
            assert!(
                measured < latest + slack(),
                "{what}: due after {latest:?}, came after {measured:?}"
            );
        };
        if to < 4000 {
            for (at, line) in steps {
                is_due(line, run.line(line) - asked, at);
            }
        }
        let ended = run.ended();
        is_due("SIGKILL", ended.at - asked, 4000);
        assert_eq!((ended.code, ended.left.len(), ready.exists()), (137, 0, false));
        // In order, and each once, however many were due at once.
        let order = ["drain over", "SIGRTMIN+6 to the app", "SIGKILL to all"];
        let found: Vec<&str> = ended
            .err
            .iter()
            .filter_map(|line| order.into_iter().find(|part| line.contains(part)))
            .collect();
        assert_eq!(found, order);
    };
    std::thread::scope(|scope| {
        for (from, to) in
            [(200, 600), (200, 1800), (1800, 3200), (200, 3200), (3200, 4800), (200, 4800)]
        {
            scope.spawn(move || frozen(from, to));
        }
    });
}

/// The same for drain-init alone, whose app lives on: SIGSTOP across the end of the readiness and of the drain.
#[test]
fn stopped_in_a_held_drain_it_goes_on_where_the_clock_is() {
    let options = "--delay 200ms --max-delay 1500ms --unready-delay 400ms --grace 9s --on-drain";
    let handler = format!("exec:{} wait:20000", witness().display());
    let mut run = init().args(options).arg(handler).app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    run.signal(TERM);
    run.log("draining");
    run.signal(STOP);
    run.silent_for(ms(1900));
    let goes_on = run.signal(CONT);
    assert_after("SIGTERM", run.line("signal 15") - goes_on, ms(0));
    assert_eq!(run.ended().code, 3);
}

/// An app in uninterruptible sleep does not delay the exit: drain-init sends SIGKILL, waits, and exits on time. The kernel keeps
/// a PID 1 until its namespace is empty; the test then sees only that it is exiting.
#[test]
fn an_app_that_cannot_be_killed_does_not_delay_the_exit() {
    if !needs_cgroup("freezer") || !needs_namespaces() {
        return;
    }
    for pid1 in [false, true] {
        let cgroup = Cgroup::new("freezer");
        let init = if pid1 { init().pid1() } else { init() };
        let options = "--delay 200ms --grace 1s --kill-margin 200ms";
        let mut run = init.args(options).app(["ready", "trap"]).start();
        run.line("ready");
        children_of(run.pid).iter().for_each(|app| cgroup.add(*app));
        let asked = run.signal(TERM);
        cgroup.freeze();
        let left = run.log("leaving it behind").at - asked;
        assert_after("it is given up", left, ms(900));
        if pid1 {
            let is_exiting = || stat_of(run.pid).is_none_or(|stat| stat.is_exiting);
            assert!(becomes_true(LIMIT, is_exiting), "exit_group was called");
            cgroup.thaw();
            assert_eq!(run.ended().code, 137);
        } else {
            assert!(run.ends_within(LIMIT));
            cgroup.thaw();
            assert_eq!(run.ended().code, 137);
        }
    }
}

// ---- under pressure

/// In every state: each real-time signal arrives, and the drain and the stop come when they are due. No more
/// are on the way at once than the kernel queues for a user.
#[test]
fn of_100_000_signals_none_is_lost() {
    if !needs_static() {
        return;
    }
    const MANY: usize = 100_000;
    const AT_ONCE: usize = 500;
    // The release build, as the speed of a debug build says nothing.
    let init = Init::new(Kind::DrainInit, static_init());
    let mut run =
        init.args("--delay 300ms --grace 400s").app(["ready", "until:15", "trap"]).start();
    run.line("ready");
    let began = now();
    let mut asked = None;
    for batch in 0..MANY / AT_ONCE {
        if batch == MANY / AT_ONCE / 2 {
            asked = Some(run.signal(TERM));
        }
        (0..AT_ONCE).for_each(|_| _ = run.signal(40));
        (0..AT_ONCE).for_each(|_| _ = run.line("signal 40"));
    }
    println!("{MANY} signals in {:?}", now() - began);
    run.says("signal 15");
    assert!(run.when("signal 15") - asked.expect("asked") >= ms(300));
    let lines = run.killed();
    assert_eq!((count(&lines, "signal 40"), count(&lines, "signal 15")), (MANY, 1));
}

/// More than are reaped at once, of whose ends one signal tells: all are reaped, and the stop signal that came with them is not behind
/// them.
#[test]
fn three_thousand_that_have_ended_while_it_was_stopped_are_all_reaped() {
    at_both_levels(|init| {
        let mut run = init()
            .args("--delay 0")
            .app([
                "ready",
                "until:10",
                "orphans:3000",
                "until:10",
                "release",
                "reaped",
                "until:15",
                "exit:3",
            ])
            .start();
        run.line("ready");
        let app = children_of(run.pid)[0];
        run.signal(USR1);
        run.line("orphans 3000");
        run.signal(STOP);
        system::signal(app, USR1);
        let zombies = || {
            let children = children_of(run.pid);
            children.iter().filter(|pid| stat_of(**pid).is_some_and(|it| it.state == 'Z')).count()
        };
        assert!(becomes_true(LIMIT, || zombies() == 3000), "{}", zombies());
        run.signal(CONT);
        run.line_with("reaped in");
        run.signal(TERM);
        let ended = run.ended();
        assert_eq!((ended.code, ended.left.len()), (3, 0), "{ended:?}");
    });
}

/// The app forks on, and what it forks is drain-init's to reap: the drain ends when it should, and no zombie is left.
#[test]
fn ten_thousand_processes_that_come_and_go_delay_no_drain() {
    let round = "orphans:1000,release,reaped";
    let child = format!("child:wait:300,{}", [round; 10].join(","));
    at_both_levels(|init| {
        let mut run = init()
            .args("--delay 3s")
            .app([&child, "ready", "until:15", "until:10", "exit:3"])
            .start();
        run.line("ready");
        let asked = run.signal(TERM);
        for _ in 0..10 {
            run.line_with("reaped in");
        }
        let took = now() - asked;
        run.says("signal 15");
        assert_after("SIGTERM", run.when("signal 15") - asked, ms(3000));
        let zombies = children_of(run.pid)
            .into_iter()
            .filter(|pid| stat_of(*pid).is_some_and(|s| s.state == 'Z'));
        println!("10,000 processes in {took:?}");
        assert!(zombies.count() <= 1, "none but the child, for an instant");
        run.signal(USR1);
        let ended = run.ended();
        assert_eq!((ended.code, ended.left.len()), (3, 0), "{ended:?}");
    });
}
