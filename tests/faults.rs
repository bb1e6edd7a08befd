//! System calls that fail, once and for ever; files that vanish; a clock that is set; time that stands still. What the tests of
//! the start, of the life of a container, of the hooks and of readiness inject is not repeated here.

mod support;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use support::confined::{Cgroup, Verdict, filter, needs_cgroup, only_with};
use support::life::readyz;
use support::system::{self, KILL, now, pause};
use support::{
    Folder, Init, Kind, LIMIT, Running, SLACK, assert_after, becomes_true, children_of,
    companion_of, copy_program, free_port, init, ms, needs_drain_init, needs_namespaces,
    needs_program, stat_of, static_init, witness,
};

const USR1: i32 = 10;
const TERM: i32 = 15;
const CONT: i32 = 18;
const STOP: i32 = 19;
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
    needs_drain_init() && needs_program("strace")
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
        let asked = run.signal(DRAIN);
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
        let port = free_port();
        let options = format!("-v --delay 300ms --ready-listen 127.0.0.1:{port}");
        let init = injected(&[&format!("clone:error=EAGAIN:when={when}")]).args(&options);
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        if answers {
            assert!(becomes_true(LIMIT, || readyz(port) == Some(200)));
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

/// What a pod would suffer from all its life: the pipe that tells the server of the drain is made once.
#[test]
fn a_pipe_that_fails_once_costs_no_readiness() {
    if !can_inject() {
        return;
    }
    for when in ["1", "1..3"] {
        let port = free_port();
        let init = injected(&[&format!("pipe2:error=EMFILE:when={when}")]);
        let init = init.args(&format!("--delay 500ms --ready-listen 127.0.0.1:{port}"));
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || readyz(port) == Some(200)), "pipe {when}");
        let asked = run.signal(TERM);
        assert!(becomes_true(ms(400), || readyz(port) == Some(503)), "it is told of the drain");
        assert_after("SIGTERM", run.line("signal 15") - asked, ms(500));
        assert_eq!(run.ended().code, 3);
    }
}

/// Never ready is what is left. Neither PID 1 nor a companion computes.
#[test]
fn a_pipe_that_always_fails_stops_nothing_and_nothing_spins() {
    if !can_inject() {
        return;
    }
    let port = free_port();
    let init = injected(&["pipe2:error=EMFILE"]);
    let init = init.args(&format!("--delay 300ms --ready-listen 127.0.0.1:{port}"));
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    let spent = || stat_of(run.pid).expect("it is there").ticks;
    let before = spent();
    assert_ne!(readyz(port), Some(200));
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
        let options = "--delay 200ms --grace 1s --kill-margin 300ms";
        let mut run = init.args(options).app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        let asked = run.signal(TERM);
        let app = children_of(run.pid);
        let ended = run.ended();
        assert_eq!((ended.code, count(&ended.out, "signal 15") > 0), (code, seen), "{when}");
        if code == 137 {
            // As nobody can be killed either, 100 ms are waited for that in vain.
            let due = if when == "1+" { 800 } else { 700 };
            assert_after(when, ended.at - asked, ms(due));
        }
        app.iter().for_each(|pid| system::try_signal(*pid, KILL));
    }
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
    let options = "--grace 1100ms --kill-margin 500ms --delay 200ms --orphan-grace 200ms";
    for (more, since) in [
        ("--on-drain exec:/bin/true", "1+"),
        ("--until-quiet 100ms --max-delay 200ms", "1+"),
        ("", "1+"),
        ("", "2+"),
        ("", "3+"),
        ("", "4+"),
    ] {
        let rules =
            ["mmap", "brk", "mremap"].map(|call| format!("{call}:error=ENOMEM:when={since}"));
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        for (last, code) in [("until:15", 3), ("trap", 137)] {
            let init = injected(&rules).args(options).args(more);
            let child = "child:ignore:15,pause";
            let app = [child, "orphans:50", "release", "reaped", "ready", last, "exit:3"];
            let mut run = init.app(app).start();
            run.line("ready");
            for _ in 0..100 {
                run.time_to_forward(USR1);
            }
            stops_after(&mut run, more, ms(200));
            let ended = run.ended();
            assert_eq!((ended.code, &ended.left), (code, &vec![]), "{since}: {ended:?}");
        }
    }
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
    assert!(told >= ms(300) && told < ms(1700) + SLACK, "{rule}: {told:?}");
    assert_eq!(run.ended().code, 3);
}

// ---- files that vanish

/// The program that runs is its own: what lies under its name now is not looked at.
#[test]
fn companions_start_when_the_binary_is_deleted_or_replaced() {
    if !needs_drain_init() {
        return;
    }
    for replaced in [false, true] {
        let folder = Folder::new();
        let program = folder.path("drain-init");
        copy_program(init().program(), &program);
        let port = free_port();
        let init = Init::new(Kind::DrainInit, program.clone());
        let init = init.args("--delay 200ms --max-delay 5s --on-drain");
        let handler =
            format!("exec:{} to:{} print:told", witness().display(), folder.path("told").display());
        let init = init.arg(handler).args(&format!("--ready-listen 127.0.0.1:{port}"));
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
        assert!(becomes_true(LIMIT, || readyz(port) == Some(200)), "it is started again");
        stops_after(&mut run, "SIGTERM", ms(200));
        let ended = run.ended();
        assert_eq!((ended.code, count(&ended.err, "failed")), (3, 0), "{ended:?}");
        assert_eq!(fs::read_to_string(folder.path("told")).unwrap_or_default(), "told\n");
    }
}

/// With the app's program and working directory in it.
#[test]
fn the_apps_folder_may_be_deleted() {
    if !needs_drain_init() {
        return;
    }
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
    assert_eq!((ended.code, count(&ended.err, "cannot make drain")), (3, 1), "{ended:?}");
}

// ---- clocks

/// A filter ends whoever asks for another clock; its own negative control is date(1).
#[test]
fn no_clock_but_the_monotonic_is_read() {
    if !needs_drain_init() {
        return;
    }
    let calls = [libc::SYS_gettimeofday, libc::SYS_time];
    let mut only = only_with(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC as u32, Verdict::Kills);
    // These two before it: each call that is not one of them goes on to what follows.
    let mut both = filter(calls, Verdict::Kills, Verdict::Allowed);
    both.pop();
    both.append(&mut only);
    let date = init().bare().without_vdso().filtered(both.clone()).command(["/bin/date"]).ended();
    assert_eq!(date.code, 1000 + 31, "SIGSYS: {date:?}");
    for (last, code) in [("until:15", 3), ("trap", 137)] {
        let init = Init::new(Kind::DrainInit, static_init()).without_vdso().filtered(both.clone());
        let options = "--delay 300ms --grace 1s --kill-margin 300ms --escalate 10:200ms --on-drain exec:/bin/true";
        let mut run = init.args(options).app(["ready", last, "exit:3"]).start();
        run.line("ready");
        stops_after(&mut run, "SIGTERM", ms(300));
        assert_eq!(run.ended().code, code);
    }
}

/// A day later and a day earlier, by a clock that everything in the container has.
#[test]
fn a_monotonic_clock_with_any_beginning_will_do() {
    if !needs_drain_init() || !needs_namespaces() || !needs_program("unshare") {
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
    for offset in ["86400", &back, "31536000000"] {
        let clock = ["unshare", "--time", "--monotonic", offset, "--boottime", offset];
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
    if !needs_drain_init() || !needs_cgroup("freezer") {
        return;
    }
    // SIGTERM at 400, SIGUSR2 at 1200, SIGKILL at 2000.
    let options = "-v --delay 400ms --unready-delay 200ms --grace 2500ms --kill-margin 500ms --escalate USR2:800ms";
    let steps = [(400, "signal 15"), (1200, "signal 12")];
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
        cgroup.freeze();
        pause((asked + ms(to)).saturating_duration_since(now()));
        let thawed = now();
        cgroup.thaw();
        let due = |at: u64| if (from..to).contains(&at) { thawed - asked } else { ms(at) };
        if to < 2000 {
            for (at, line) in steps {
                assert_after(line, run.line(line) - asked, due(at));
            }
        }
        let ended = run.ended();
        assert_after("SIGKILL", ended.at - asked, due(2000));
        assert_eq!((ended.code, ended.left.len(), ready.exists()), (137, 0, false));
        // In order, and each once, however many were due at once.
        let order = ["drain over", "SIGUSR2 to the app", "SIGKILL to all"];
        let found: Vec<&str> = ended
            .err
            .iter()
            .filter_map(|line| order.into_iter().find(|part| line.contains(part)))
            .collect();
        assert_eq!(found, order);
    };
    std::thread::scope(|scope| {
        for (from, to) in
            [(100, 300), (100, 900), (900, 1600), (100, 1600), (1600, 2400), (100, 2400)]
        {
            scope.spawn(move || frozen(from, to));
        }
    });
}

/// The same for drain-init alone, whose app lives on: SIGSTOP across the end of the readiness and of the drain.
#[test]
fn stopped_in_a_held_drain_it_goes_on_where_the_clock_is() {
    if !needs_drain_init() {
        return;
    }
    let options = "--delay 200ms --max-delay 600ms --unready-delay 400ms --grace 3s --on-drain";
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

/// Whoever is in uninterruptible sleep: SIGKILL is sent, waited for, and drain-init ends on time all the same. As PID 1 the kernel
/// keeps it until the namespace is empty; what can be seen then is that it is exiting.
#[test]
fn an_app_that_cannot_be_killed_does_not_delay_the_exit() {
    if !needs_drain_init() || !needs_cgroup("freezer") || !needs_namespaces() {
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
            assert!(becomes_true(support::SLACK, || is_exiting(run.pid)), "exit_group was called");
            cgroup.thaw();
            assert_eq!(run.ended().code, 137);
        } else {
            assert!(run.ends_within(SLACK));
            cgroup.thaw();
            assert_eq!(run.ended().code, 137);
        }
    }
}

/// PF_EXITING among the flags of /proc/PID/stat.
fn is_exiting(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags =
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u32>().ok());
    flags.is_none_or(|flags| flags & 4 != 0)
}
