//! The preStop hook, and what a drain does besides letting time pass: handlers and the termination log. Each hook runs in a
//! mount namespace of its own test, as a container's does: else it would find, and ask, the drain-init of any other test.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support;
use crate::support::system::{KILL, now, pause};
use crate::support::{
    Folder, Init, Kind, LIMIT, Running, Server, assert_after, at_both_levels, becomes_true,
    companion_of, free_port, init, init_under_test, ms, needs_namespaces, needs_program,
    needs_root, witness,
};

const USR1: i32 = 10;
const TERM: i32 = 15;

/// As a subreaper and as PID 1, in a mount namespace that is nobody else's.
fn in_containers(test: impl Fn(&dyn Fn() -> Init)) {
    if needs_namespaces() && needs_program("unshare") {
        test(&|| init().under(["unshare", "--mount"]));
        test(&|| init().pid1());
    }
}

fn hook_of(program: PathBuf, run: &Running) -> Init {
    Init::new(Kind::DrainInit, program).arg("prestop").beside(run)
}

fn hook(run: &Running) -> Init {
    hook_of(init_under_test().1, run)
}

fn tini() -> Init {
    Init::new(Kind::Tini, PathBuf::from("/usr/bin/tini")).pid1()
}

/// Waits until the drain has been asked for.
fn asked(run: &mut Running) {
    run.log("prestop: draining for");
}

fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

/// The delay is paid once, and the grace period runs from the hook's start: the kubelet counts it so.
#[test]
fn the_stop_signal_after_a_hook_is_forwarded_at_once_and_sigkill_counts_from_the_hook() {
    in_containers(|init| {
        let options = "--delay 1s --grace 3s --kill-margin 500ms";
        let mut run = init().args(options).app(["ready", "until:15", "pause"]).start();
        run.line("ready");
        let began = now();
        let hook = hook(&run).args("--delay 9s").start();
        asked(&mut run);
        let ended = hook.ended();
        assert_eq!((ended.code, ended.left), (0, vec![]));
        assert_after("the hook", ended.at - began, ms(1000));
        assert_after("SIGTERM to the app", run.time_to_forward(TERM), ms(0));
        let ended = run.ended();
        assert_after("SIGKILL", ended.at - began, ms(2500));
        assert_eq!(ended.code, 137);
    });
}

/// A kubelet gives up on a hook, or a node is short of memory: the drain isn't cut.
#[test]
fn a_hook_that_is_killed_changes_nothing() {
    in_containers(|init| {
        let mut run = init().args("--delay 1s").app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        let began = now();
        let hook = hook(&run).start();
        asked(&mut run);
        hook.signal(KILL);
        hook.ended();
        run.signal(TERM);
        run.log("SIGTERM: draining for");
        assert_after("SIGTERM", run.line("signal 15") - began, ms(1000));
        assert_eq!(run.ended().code, 3);
    });
}

/// Somebody tried the hook by hand, or the pod's deletion was never carried out.
#[test]
fn without_a_stop_signal_nothing_is_killed_and_it_is_ready_again() {
    in_containers(|init| {
        let folder = Folder::new();
        let [ready, drain] = ["ready", "drain"].map(|name| folder.path(name));
        let options = "--delay 300ms --max-delay 300ms --grace 2200ms --kill-margin 200ms";
        let init = init().args(options).arg("--ready-file").arg(&ready);
        let init = init.arg("--drain-file").arg(&drain);
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || ready.exists()));
        let began = now();
        let hook = hook(&run).start();
        asked(&mut run);
        assert!(becomes_true(LIMIT, || !ready.exists() && drain.exists()));
        hook.ended();
        assert_after("no stop", run.log("no stop signal came").at - began, ms(2000));
        assert!(becomes_true(LIMIT, || ready.exists() && !drain.exists()));
        run.time_to_forward(USR1);
        let asked = run.signal(TERM);
        run.log("SIGTERM: draining for 300ms");
        assert_after("a second drain", run.line("signal 15") - asked, ms(300));
        assert_eq!(run.ended().code, 3);
    });
}

/// A kubelet that is restarted runs the hook again.
#[test]
fn two_hooks_at_once_are_one_drain() {
    in_containers(|init| {
        let server = Server::on(0);
        let handler = format!("http://127.0.0.1:{}/once", server.port);
        let init = init().args("--delay 1s --on-drain").arg(handler);
        let mut run = init.app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        let began = now();
        let first = hook(&run).start();
        asked(&mut run);
        pause(ms(300));
        let second = hook(&run).start();
        for hook in [first, second] {
            let ended = hook.ended();
            assert_eq!(ended.code, 0);
            assert_after("a hook", ended.at - began, ms(1000));
        }
        run.signal(TERM);
        let ended = run.ended();
        assert_eq!((ended.code, count(&ended.err, "prestop: draining for")), (3, 1));
        assert_eq!(server.calls(), ["GET /once HTTP/1.1"]);
    });
}

/// The kubelet waits for its hook: a stop signal meanwhile says that the grace period is over, and 2 s are left.
#[test]
fn a_stop_signal_while_the_hook_waits_tells_the_app_at_once() {
    in_containers(|init| {
        let mut run = init().args("--delay 20s").app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        let hook = hook(&run).start();
        asked(&mut run);
        pause(ms(300));
        run.signal(TERM);
        let line = run.log("while prestop still waits").text;
        assert!(line.contains("the kubelet's grace period is over: drain over after "), "{line}");
        run.line("signal 15");
        let ended = run.ended();
        assert_eq!(ended.code, 3);
        assert!(!ended.log().contains("draining for 20s already"), "{ended:?}");
        hook.ended();
    });
}

/// Two hooks, of which the one that is killed is not the one that waits.
#[test]
fn of_two_hooks_the_one_that_lives_counts() {
    in_containers(|init| {
        let mut run = init().args("--delay 20s").app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        let first = hook(&run).start();
        asked(&mut run);
        let second = hook(&run).start();
        // Both wait: each has the companion's pidfd.
        for hook in [&first, &second] {
            assert!(becomes_true(LIMIT, || holds_a_pidfd(hook.pid)));
        }
        first.signal(KILL);
        first.ended();
        run.signal(TERM);
        run.log("while prestop still waits");
        run.line("signal 15");
        assert_eq!(run.ended().code, 3);
        second.ended();
    });
}

fn holds_a_pidfd(pid: i32) -> bool {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = folder.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("pidfd")).count() >= 2
}

#[test]
fn a_hook_in_a_drain_that_sigterm_began_waits_for_that_one() {
    in_containers(|init| {
        // As PID 1 it ends what is in its namespace with itself, and the hook is to end before that.
        let app = ["ready", "until:15", "until:10", "exit:3"];
        let mut run = init().args("--delay 1s").app(app).start();
        run.line("ready");
        let began = run.signal(TERM);
        run.log("draining");
        pause(ms(300));
        let hook = hook(&run).start();
        assert_after("SIGTERM", run.line("signal 15") - began, ms(1000));
        let ended = hook.ended();
        assert_eq!(ended.code, 0);
        assert_after("the hook", ended.at - began, ms(1000));
        run.signal(USR1);
        assert_eq!(run.ended().code, 3);
    });
}

/// An init container has put a new version into the volume: the one that runs is another file, and deleted.
#[test]
fn the_hook_of_a_replaced_binary_finds_the_one_that_runs() {
    in_containers(|init| {
        let folder = Folder::new();
        let copy = folder.path("drain-init");
        let install = || {
            let status = Command::new(init_under_test().1).arg("install").arg(&copy).status();
            assert!(status.is_ok_and(|status| status.success()));
        };
        install();
        // Whichever level it is, it runs from the copy.
        let pid1 = init().words().len() == 1;
        let init = Init::new(Kind::DrainInit, copy.clone());
        let init = if pid1 { init.pid1() } else { init.under(["unshare", "--mount"]) };
        let mut run = init.args("--delay 500ms").app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        install();
        let began = now();
        let hook = hook_of(copy, &run).start();
        asked(&mut run);
        assert_after("the hook", hook.ended().at - began, ms(500));
        assert_after("SIGTERM to the app", run.time_to_forward(TERM), ms(0));
        assert_eq!(run.ended().code, 3);
    });
}

/// An image that has drain-init, wrapped by one more: who gets the runtime's signal first drains.
#[test]
fn the_outermost_of_nested_ones_is_asked() {
    in_containers(|init| {
        let inner = init_under_test().1;
        let app = [
            inner.as_path(),
            "--delay".as_ref(),
            "200ms".as_ref(),
            "--".as_ref(),
            &witness(),
            "ready".as_ref(),
            "until:15".as_ref(),
            "exit:3".as_ref(),
        ];
        let mut run = init().args("--delay 700ms").command(app).start();
        run.line("ready");
        let began = now();
        let hook = hook(&run).start();
        run.log("prestop: draining for 700ms");
        assert_after("the hook", hook.ended().at - began, ms(700));
        run.signal(TERM);
        let ended = run.ended();
        assert_eq!((ended.code, count(&ended.err, "prestop: draining for")), (3, 1));
        assert_eq!(count(&ended.err, "SIGTERM: draining for 200ms"), 1);
    });
}

/// It may not signal it, so it does what it can.
#[test]
fn as_another_user_the_hook_drains_by_itself() {
    if !needs_namespaces() || !needs_root() {
        return;
    }
    let init = init().pid1().user(65532).args("-v --delay 0");
    let mut run = init.app(["ready", "trap"]).start();
    run.line("ready");
    let began = now();
    let ended = hook(&run).user(65533).args("--delay 500ms").ended();
    assert_after("the hook", ended.at - began, ms(500));
    assert_eq!((ended.code, count(&ended.err, "prestop: draining for 500ms")), (0, 1));
    run.silent_for(ms(50));
    run.time_to_forward(USR1);
    run.signal(KILL);
    assert_eq!(count(&run.ended().err, "draining"), 0);
}

/// There the hook is all there is, and its lines go to the container's log: the kubelet throws a hook's own away.
#[test]
fn with_tini_the_hook_drains_by_itself() {
    if !needs_namespaces() || !needs_program("tini") {
        return;
    }
    let mut run = tini().app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    let server = Server::on(0);
    let handler = format!("PUT http://127.0.0.1:{}/out", server.port);
    let began = now();
    let hook = hook(&run).args("--delay 500ms --on-drain").arg(handler).start();
    run.log("prestop: draining for 500ms");
    let ended = hook.ended();
    assert_after("the hook", ended.at - began, ms(500));
    assert_eq!((ended.code, ended.left), (0, vec![]));
    run.log("drain over");
    assert_eq!(server.calls(), ["PUT /out HTTP/1.1"]);
    run.signal(TERM);
    assert_eq!(run.ended().code, 3);
}

#[test]
fn sigterm_ends_the_hook_with_0_and_no_child_stays() {
    in_containers(|init| {
        let mut run = init().args("--delay 9s").app(["ready", "trap"]).start();
        run.line("ready");
        let hook = hook(&run).start();
        asked(&mut run);
        pause(ms(100)); // it may have yet to find the companion
        let told = hook.signal(TERM);
        let ended = hook.ended();
        assert_eq!((ended.code, ended.left), (0, vec![]));
        assert_after("its end", ended.at - told, ms(0));
    });
    if !needs_program("tini") || !needs_namespaces() {
        return;
    }
    let mut run = tini().app(["ready", "trap"]).start();
    run.line("ready");
    let handler = format!("exec:{} wait:20000", witness().display());
    let hook = hook(&run).args("--delay 9s --on-drain").arg(handler).start();
    run.log("draining");
    let told = hook.signal(TERM);
    let ended = hook.ended();
    assert_eq!((ended.code, ended.left), (0, vec![]));
    assert_after("its end", ended.at - told, ms(0));
}

/// A hook that fails drains nothing, and the kubelet keeps no word of why: it says what is wrong where that lasts, and drains by what
/// is right.
#[test]
fn wrong_use_of_the_hook_is_said_in_the_containers_log_and_drains_all_the_same() {
    let wrong = [
        ("--delay 500ms --delay", 500),
        ("--delay 500ms --nonsense", 500),
        ("--delay 500ms --max-delay never", 500),
        ("--delay 500ms more", 500),
        ("--delay 500ms -- /bin/true", 500),
        ("--delay 500ms --group", 500),
        ("--delay never --max-delay 10s", 5000),
    ];
    if !needs_namespaces() || !needs_program("tini") {
        return;
    }
    std::thread::scope(|scope| {
        for (words, lasts) in wrong {
            scope.spawn(move || {
                let mut run = tini().app(["ready", "until:15", "exit:3"]).start();
                run.line("ready");
                let began = now();
                let hook = hook(&run).args(words).start();
                run.log("drain-init: prestop: ");
                let ended = hook.ended();
                assert_eq!(
                    (ended.code, count(&ended.err, "; the hook drains without it")),
                    (0, 1),
                    "{ended:?}"
                );
                assert!(ended.at - began >= ms(lasts), "{words}: {:?}", ended.at - began);
                run.log("drain over after ");
                run.signal(TERM);
                assert_eq!(run.ended().code, 3);
            });
        }
    });
}

/// Nor does one fail that asks the entrypoint, which drains by its own options.
#[test]
fn a_wrong_option_of_the_hook_is_said_in_the_entrypoints_log_too() {
    in_containers(|init| {
        let mut run = init().args("--delay 500ms").app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        let began = now();
        let hook = hook(&run).args("--delay never").start();
        run.log("prestop: --delay never: ");
        run.log("prestop: draining for 500ms");
        let ended = hook.ended();
        assert_eq!(ended.code, 0);
        assert!(ended.at - began >= ms(500));
        run.signal(TERM);
        assert_eq!(run.ended().code, 3);
    });
}

/// shareProcessNamespace: PID 1 is pause, in a mount namespace of its own, and the container's first process is another.
#[test]
fn beside_pause_the_hook_writes_to_its_own_containers_log() {
    if !needs_namespaces() || !needs_program("unshare") {
        return;
    }
    let folder = Folder::new();
    let path = folder.path("log");
    // PID 1 stays in its mount namespace; the app's side of it is unshare's, with standard error in a file.
    let script = format!("\"$0\" \"$@\" 2>{}", path.display());
    let app = ["unshare", "--mount", "sh", "-c", &script];
    let app = app.map(std::ffi::OsString::from).into_iter();
    let app = app.chain([witness().into(), "ready".into(), "until:15".into(), "exit:3".into()]);
    let mut run = tini().command(app).start();
    run.line("ready");
    let mut container = 0;
    assert!(becomes_true(LIMIT, || {
        container = support::children_of(run.pid).first().copied().unwrap_or(0);
        container != 0
    }));
    let hook = Init::new(Kind::DrainInit, init_under_test().1).arg("prestop").inside(container);
    let ended = hook.args("--delay 300ms --on-drain exec:/bin/true --max-delay 2s").ended();
    assert_eq!(ended.code, 0);
    run.signal(TERM);
    let ended = run.ended();
    assert_eq!(count(&ended.err, "prestop"), 0, "pause has no log of ours: {ended:?}");
    let text = read(&path);
    assert!(text.contains("prestop: draining for 300ms to 2s\n"), "{text}");
    assert!(text.contains("drain over after 0.3s"), "{text}");
}

// ---- handlers

/// Starts it, sends SIGTERM, and says when; with what the handlers are.
fn draining(options: &str, handlers: &[&str]) -> (Running, Instant) {
    let mut init = init().args(options);
    for handler in handlers {
        init = init.arg("--on-drain").arg(handler);
    }
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    let asked = run.signal(TERM);
    (run, asked)
}

/// The drain is over after so long, by what the app is told; all that was logged.
fn over_after((mut run, asked): (Running, Instant), expected: Duration) -> String {
    assert_after("the end of the drain", run.line("signal 15") - asked, expected);
    let ended = run.ended();
    assert_eq!((ended.code, &ended.left), (3, &vec![]));
    ended.log()
}

#[test]
fn a_handler_is_called_once_with_its_method_and_path() {
    let server = Server::on(0);
    let url = format!("http://127.0.0.1:{}", server.port);
    let [get, post] = [format!("{url}/get"), format!("DELETE {url}/a/b?c=d")];
    over_after(draining("--delay 500ms", &[&get, &post]), ms(500));
    let mut calls = server.calls();
    calls.sort();
    assert_eq!(calls, ["DELETE /a/b?c=d HTTP/1.1", "GET /get HTTP/1.1"]);
}

#[test]
fn a_handler_that_never_answers_is_cut_at_max_delay() {
    let server = Server::on(0);
    server.answers(false);
    let handler = format!("http://127.0.0.1:{}/", server.port);
    let log = over_after(draining("--delay 200ms --max-delay 1s", &[&handler]), ms(1000));
    assert!(log.contains("not done after 1s: killed"), "{log}");
}

#[test]
fn a_handler_that_is_refused_is_logged_and_shortens_nothing() {
    let handler = format!("http://127.0.0.1:{}/", free_port());
    let handlers = [handler.as_str(), "exec:/does/not/exist", "exec:/bin/false"];
    let log = over_after(draining("--delay 500ms", &handlers), ms(500));
    for handler in handlers {
        assert!(log.contains(handler), "{handler} in\n{log}");
    }
    assert!(log.contains("refused"), "{log}");
}

#[test]
fn an_exec_handler_gets_arguments_with_spaces() {
    let (folder, witness) = (Folder::new(), witness());
    let path = folder.path("written");
    let written = path.display();
    let handler = format!("exec:{} to:{written} 'print:two words'", witness.display());
    over_after(draining("--delay 300ms", &[&handler]), ms(300));
    assert_eq!(fs::read_to_string(path).unwrap_or_default(), "two words\n");
}

#[test]
fn a_slow_handler_holds_the_drain_past_its_delay() {
    let handler = format!("exec:{} wait:1000", witness().display());
    over_after(draining("--delay 200ms --max-delay 5s", &[&handler]), ms(1000));
}

#[test]
fn a_second_stop_signal_ends_a_held_drain_and_its_handlers() {
    let folder = Folder::new();
    let path = folder.path("there");
    let handler = format!("exec:{} touch:{} wait:20000", witness().display(), path.display());
    let (mut run, asked) = draining("--delay 200ms --max-delay 10s", &[&handler]);
    assert!(becomes_true(LIMIT, || path.exists()));
    pause((asked + ms(1500)).saturating_duration_since(now()));
    assert_after("SIGTERM to the app", run.time_to_forward(TERM), ms(0));
    let ended = run.ended();
    assert_eq!((ended.code, ended.left), (3, vec![]));
}

/// Out of memory, say: what it has cost is the handlers' end, not the delay.
#[test]
fn the_delay_is_kept_when_the_drain_companion_is_killed() {
    let handler = format!("exec:{} wait:20000", witness().display());
    let (mut run, asked) = draining("--delay 1s --max-delay 9s", &[&handler]);
    let mut companion = None;
    assert!(becomes_true(LIMIT, || {
        companion = companion_of(run.pid, "drain");
        companion.is_some()
    }));
    support::system::signal(companion.unwrap_or_default(), KILL);
    assert_after("SIGTERM", run.line("signal 15") - asked, ms(1000));
    assert_eq!(run.ended().code, 3);
}

/// It is ended because the app has: nobody's failure, and with -q not a word.
#[test]
fn a_companion_that_is_ended_with_the_app_has_not_failed() {
    let handler = format!("exec:{} wait:20000", witness().display());
    let orphan = "child:name:child,print:there,until:15";
    at_both_levels(|init| {
        for held in [&["--until-quiet", "20s", "--watch-port", "1"][..], &["--on-drain", &handler]]
        {
            for app in [["print:child: there", "until:10"], [orphan, "until:10"]] {
                let init =
                    held.iter().fold(init().args("-q --delay 4s --max-delay 20s"), Init::arg);
                let mut run = init.app(app).start();
                run.line("child: there");
                run.signal(TERM);
                assert!(becomes_true(LIMIT, || companion_of(run.pid, "drain").is_some()));
                run.signal(USR1);
                let ended = run.ended();
                assert_eq!((ended.code, &ended.err), (0, &vec![]), "{held:?}, {app:?}");
            }
        }
    });
}

// ---- one line for one end

/// Why it is over, which the companion knows, and what follows, which PID 1 does: in one line, and in the termination log.
#[test]
fn one_line_says_why_a_drain_is_over_and_what_follows() {
    let folder = Folder::new();
    let path = folder.path("log");
    at_both_levels(|init| {
        let _ = fs::remove_file(&path);
        let options = "--delay 0 --until-quiet 300ms --watch-port 1 --termination-log";
        let mut run = init().args(options).arg(&path).app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        run.signal(TERM);
        let ended = run.ended();
        let over: Vec<_> = ended.err.iter().filter(|line| line.contains("drain over")).collect();
        let [line] = over.as_slice() else { panic!("one line: {ended:?}") };
        assert!(
            line.starts_with("drain-init: drain over after 0.") && line.contains("s (quiet for "),
            "{line}"
        );
        assert!(line.contains("): SIGTERM to the app, SIGKILL in 29."), "{line}");
        let text = read(&path);
        let part = line.strip_prefix("drain-init: ").expect("our line");
        assert_eq!(text.matches("drain over").count(), 1, "{text}");
        assert!(text.contains(&format!("; {part}; app exited with 3 ")), "{text}");
    });
}

#[test]
fn one_line_says_why_a_hooks_drain_is_over_and_what_follows() {
    in_containers(|init| {
        let options = "--delay 0 --until-quiet 300ms --watch-port 1";
        let mut run = init().args(options).app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        assert_eq!(hook(&run).start().ended().code, 0);
        let line = run.log("drain over after ").text;
        assert!(line.contains("s (quiet for ") && line.contains("): ready again in "), "{line}");
        run.signal(TERM);
        assert_eq!(count(&run.ended().err, "drain over"), 1);
    });
}

// ---- the termination log

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Early, as a container that is killed says nothing more; the kubelet reads 4096 bytes.
#[test]
fn the_termination_log_is_written_early_and_grows() {
    let folder = Folder::new();
    let path = folder.path("log");
    let early = |run: &mut Running| {
        run.line("ready");
        assert_eq!(read(&path), "");
        run.signal(TERM);
        let begun = "drain-init: SIGTERM: draining";
        assert!(becomes_true(LIMIT, || read(&path).starts_with(begun)));
    };
    let init = |delay| init().args("--termination-log").arg(&path).arg("--delay").arg(delay);
    let mut run = init("20s").app(["ready", "until:10", "exit:3"]).start();
    early(&mut run);
    assert!(!read(&path).contains("drain over"), "it is in the drain: {}", read(&path));
    run.signal(USR1);
    assert_eq!(run.ended().code, 3);
    let mut run = init("300ms").app(["ready", "until:15", "exit:3"]).start();
    early(&mut run);
    assert_eq!(run.ended().code, 3);
    let text = read(&path);
    assert!(text.contains("; drain over") && text.contains("; app exited with 3"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

/// A volume, or a container that is started again, keeps the line of the life before.
#[test]
fn the_termination_log_is_of_this_life() {
    let folder = Folder::new();
    let path = folder.path("log");
    let init = || init().args("--delay 0 --termination-log").arg(&path);
    for life in 0..3 {
        let mut run = init().app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        assert_eq!(read(&path), "", "{life}");
        run.signal(TERM);
        assert_eq!(run.ended().code, 3);
        assert_eq!(read(&path).matches("app exited with 3").count(), 1, "{life}");
    }
}

/// It opens the file at once, and without O_TRUNC: a line of the life before would stand behind its words, and one that is
/// removed after its start would take them along.
#[test]
fn the_apps_first_words_are_its_own() {
    let folder = Folder::new();
    let path = folder.path("log");
    for _ in 0..20 {
        fs::write(&path, "drain-init: SIGTERM: draining for 5s; of an earlier life")
            .expect("written");
        let init = init().args("--delay 0 --termination-log").arg(&path);
        let words =
            ["/bin/sh", "-c", "printf 'first words\\n' 1<>\"$0\"; exit 3"].map(OsString::from);
        let ended = init.command(words.into_iter().chain([path.clone().into()])).ended();
        assert_eq!((ended.code, read(&path)), (3, "first words\n".to_owned()));
    }
}

/// Without O_TRUNC it writes over the beginning of a line that is longer than its own.
#[test]
fn nothing_of_the_line_is_left_behind_the_apps_words() {
    for mode in ["1<>", ">"] {
        let folder = Folder::new();
        let path = folder.path("log");
        let script = format!(
            "trap 'printf \"my words\\n\" {mode}\"$0\"; exit 3' TERM; echo ready; sleep 60 & wait"
        );
        let init = init().args("--delay 300ms --orphan-grace 0 --termination-log").arg(&path);
        let words = ["/bin/sh".into(), "-c".into(), OsString::from(script), path.clone().into()];
        let mut run = init.command(words).start();
        run.line("ready");
        run.signal(TERM);
        assert!(becomes_true(LIMIT, || read(&path).starts_with("drain-init: SIGTERM")));
        assert_eq!(run.ended().code, 3);
        assert_eq!(read(&path), "my words\n", "{mode}");
    }
}

/// `kubectl describe` has the reason, and not a bare number.
#[test]
fn a_start_that_is_refused_is_in_the_termination_log() {
    let folder = Folder::new();
    let path = folder.path("log");
    let text = path.display().to_string();
    let log = ["--termination-log", &text];
    for (words, code, why) in [
        (&["--delay", "5x", "--", "/bin/true"][..], 125, "--delay 5x: "),
        (&["--no-such", "--", "/bin/true"], 125, "unknown option --no-such"),
        (&["--grace", "x", "--delay", "x", "--", "/bin/true"], 125, "; --"),
        (&["--"], 125, "COMMAND is missing"),
        (&["--ready-file", "/no/such/folder/file", "--", "/bin/true"], 125, "/no/such/folder"),
        (&["--ready-listen", "192.0.2.1:80", "--", "/bin/true"], 125, "cannot listen there"),
        (&["--", "/no/such/command"], 127, "/no/such/command: not found"),
        (&["--", "/etc"], 126, "/etc: cannot be executed"),
    ] {
        for by_variable in [false, true] {
            fs::write(&path, "drain-init: of an earlier life").expect("written");
            let init = if by_variable {
                init().env("DRAIN_INIT_TERMINATION_LOG", &path)
            } else {
                log.iter().fold(init(), |init, word| init.arg(word))
            };
            let ended = words.iter().fold(init, |init, word| init.arg(word)).ended();
            assert_eq!(ended.code, code, "{words:?}: {ended:?}");
            let said = read(&path);
            assert!(said.starts_with("drain-init: ") && said.contains(why), "{words:?}: {said:?}");
            assert!(!said.contains("earlier") && !said.contains('\n'), "{said:?}");
        }
    }
    // Where it can't be written there is one line, as ever.
    let ended = init()
        .args("--termination-log /no/such/folder/log --delay 5x")
        .command(["/bin/true"])
        .ended();
    assert_eq!((ended.code, ended.err.len()), (125, 2), "a line for each: {ended:?}");
}

#[test]
fn the_termination_log_is_never_longer_than_4096_bytes() {
    let folder = Folder::new();
    let path = folder.path("log");
    let mut init = init().args("--delay 0 --grace 2s --kill-margin 0 --termination-log").arg(&path);
    for step in 1..=150 {
        init = init.arg("--escalate").arg(format!("USR1:{}ms", step * 10));
    }
    let mut run = init.app(["ready", "trap"]).start();
    run.line("ready");
    run.signal(TERM);
    assert_eq!(run.ended().code, 137);
    assert_eq!(fs::metadata(&path).map_or(0, |it| it.len()), 4096);
}

#[test]
fn the_termination_log_is_never_written_over_what_the_app_wrote() {
    let folder = Folder::new();
    let path = folder.path("log");
    let to = format!("to:{}", path.display());
    let init = || init().args("--delay 300ms --termination-log").arg(&path);
    let app = ["ready", "until:15", &to, "print:mine", "exit:3"];
    let mut run = init().app(app).start();
    run.line("ready");
    run.signal(TERM);
    assert_eq!(run.ended().code, 3);
    let text = read(&path);
    assert!(text.ends_with("mine\n"), "{text}");
    fs::write(&path, "before\n").expect("written");
    let mut run = init().app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    run.signal(TERM);
    run.ended();
    assert_eq!(read(&path), "before\n");
    fs::remove_file(&path).expect("removed");
    assert_eq!(init().app(["exit:3"]).ended().code, 3);
    assert_eq!(read(&path), "");
}
