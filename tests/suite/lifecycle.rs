//! The life of a container under drain-init: running, draining, stopping, killing, and what is left in order afterwards.
//! Times are short, so that the tests are quick. docs/design.md has the states.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use crate::support::system::{self, now, pause};
use crate::support::{
    Folder, Init, LIMIT, Running, assert_after, at_both_levels, becomes_true, becomes_true_after,
    init, ms, needs_namespaces, needs_program, stat_of,
};

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const USR1: i32 = 10;
const USR2: i32 = 12;
const TERM: i32 = 15;
const CONT: i32 = 18;
const STOP: i32 = 19;

/// Signals that drain-init does not forward, according to docs/options.md: fault signals, SIGCHLD, the
/// libc's own, and SIGRTMAX.
const EXCEPTED: [i32; 11] = [4, 5, 6, 7, 8, 11, 17, 31, 32, 33, 64];

/// All that is forwarded, save the two that ask for a stop.
fn forwarded() -> impl Iterator<Item = i32> {
    (1..=64).filter(|n| !EXCEPTED.contains(n) && ![9, STOP, TERM, INT].contains(n))
}

/// Sends each, and waits for the app to see it before the next.
fn forwards(run: &mut Running, signals: impl IntoIterator<Item = i32>) -> Vec<String> {
    let lines = signals.into_iter().map(|number| {
        run.signal(number);
        let line = format!("signal {number}");
        run.line(&line);
        line
    });
    lines.collect()
}

/// From then on a stop signal is a second one: drain-init has taken the first one at the latest when it logs that it drains, which
/// is waited for before.
fn past_the_same_request(asked: Instant) {
    pause((asked + ms(1500)).saturating_duration_since(now()));
}

fn signals(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.strip_prefix("signal ")).collect()
}

// ---- signals

/// In every state, each as itself, at once, and nothing else besides.
#[test]
fn every_signal_is_forwarded_before_during_and_after_the_drain() {
    at_both_levels(|init| {
        let mut run = init().args("--delay 15s --grace 60s").app(["ready", "trap"]).start();
        run.line("ready");
        let mut expected = vec!["ready".to_owned()];
        expected.extend(forwards(&mut run, forwarded()));
        let asked = run.signal(TERM);
        run.log("draining");
        expected.extend(forwards(&mut run, forwarded())); // the second one would end the drain, and come before these
        past_the_same_request(asked);
        run.signal(TERM);
        run.line("signal 15");
        expected.push("signal 15".to_owned());
        expected.extend(forwards(&mut run, forwarded().chain([TERM, INT, TERM])));
        assert_eq!(run.killed(), expected);
    });
}

/// They don't reach the app, and do drain-init no harm.
#[test]
fn excepted_signals_are_kept_from_the_app() {
    at_both_levels(|init| {
        let mut run = init().args("--delay 0").app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        for number in EXCEPTED {
            run.signal(number);
            run.signal(USR1); // comes after it: what isn't seen by then isn't on its way
            run.line("signal 10");
        }
        run.signal(TERM);
        let ended = run.ended();
        assert_eq!(ended.code, 3);
        let mut expected = vec!["10"; EXCEPTED.len()];
        expected.push("15");
        assert_eq!(signals(&ended.out), expected);
    });
}

/// A process of the app's group gets them too, and without --group it doesn't; in every state.
#[test]
fn with_group_signals_go_to_the_whole_group() {
    at_both_levels(|init| {
        for group in [true, false] {
            let options = if group { "--delay 15s --group" } else { "--delay 15s" };
            let app = ["child:name:child,print:there,trap", "ready", "trap"];
            let mut run = init().args(options).app(app).start();
            run.line("child: there");
            run.signal(USR1);
            let asked = run.signal(TERM);
            run.log("draining");
            run.signal(USR2);
            run.signal(40);
            past_the_same_request(asked);
            run.signal(TERM);
            run.log("drain over");
            run.signal(HUP);
            let mut expected: Vec<String> = ["child: there", "ready"].map(String::from).to_vec();
            for number in [HUP, USR1, USR2, 40, TERM] {
                expected.push(format!("signal {number}"));
                if group {
                    expected.push(format!("child: signal {number}"));
                }
            }
            for line in &expected {
                run.says(line); // in whatever order: who has several waiting sees the lowest first
            }
            pause(ms(100)); // for what would come besides
            let mut lines = run.killed();
            lines.sort();
            expected.sort();
            assert_eq!(lines, expected, "{options}");
        }
    });
}

/// Rewriting comes before anything else looks at the signal: what becomes a stop signal asks for a stop.
#[test]
fn map_signal_rewrites_and_drops() {
    let options = "--delay 0 --map-signal HUP=USR1 --map-signal USR2=none --map-signal RTMIN+1=SIGRTMIN+2 \
                   --map-signal 3=TERM --map-signal PWR=HUP";
    at_both_levels(|init| {
        let mut run = init().args(options).app(["ready", "until:15", "exit:0"]).start();
        run.line("ready");
        for (sent, seen) in [(HUP, USR1), (35, 36), (30, HUP)] {
            run.signal(USR2);
            run.signal(sent);
            run.line(&format!("signal {seen}"));
        }
        run.signal(QUIT);
        let ended = run.ended();
        assert_eq!(signals(&ended.out), ["10", "36", "1", "15"]);
        assert!(ended.log().contains("SIGTERM"), "a stop was asked for: {ended:?}");
        assert_eq!(ended.code, 0);
    });
}

/// Naming any replaces the two; real-time signals can be stop signals (systemd's and nginx's images have them as STOPSIGNAL).
#[test]
fn stop_on_names_what_asks_for_a_stop_and_stop_signal_what_the_app_gets() {
    for (options, asks, gets) in [
        ("--stop-on QUIT", QUIT, QUIT),
        ("--stop-on SIGRTMIN+3 --stop-on WINCH", 37, 37),
        ("--stop-on SIGRTMIN+3 --stop-on WINCH", 28, 28),
        ("--stop-on QUIT --stop-signal USR2", QUIT, USR2),
        ("--stop-signal RTMAX-1", TERM, 63),
        ("", INT, INT),
    ] {
        let mut run = init().args("--delay 300ms").args(options).app(["ready", "trap"]).start();
        run.line("ready");
        if options.contains("--stop-on") {
            for number in [TERM, INT] {
                run.signal(number);
                let line = format!("signal {number}");
                run.line(&line);
            }
        }
        let asked = run.signal(asks);
        let got = run.line(&format!("signal {gets}"));
        assert_after(options, got - asked, ms(300));
    }
}

// ---- the drain, and the deadline

struct Files {
    folder: Folder,
}

impl Files {
    fn new() -> Self {
        Files { folder: Folder::new() }
    }

    fn ready(&self) -> PathBuf {
        self.folder.path("ready")
    }

    fn drain(&self) -> PathBuf {
        self.folder.path("drain")
    }

    fn on(&self, init: Init) -> Init {
        init.arg("--ready-file").arg(self.ready()).arg("--drain-file").arg(self.drain())
    }

    /// As the state of the container should show: (ready, draining).
    fn there(&self) -> (bool, bool) {
        (self.ready().exists(), self.drain().exists())
    }
}

fn is_served(port: u16) -> bool {
    let mut answer = String::new();
    TcpStream::connect(("127.0.0.1", port))
        .and_then(|mut connection| {
            connection.set_read_timeout(Some(LIMIT))?;
            connection.read_to_string(&mut answer)
        })
        .is_ok()
        && answer == "served\n"
}

/// Item 4 of the issue, in its own numbers: the app serves through the drain and is told nothing, then is told, then killed, and a
/// grandchild in its own session with it.
fn a_stop_from_drain_to_sigkill(init: Init) {
    let files = Files::new();
    let app = ["child:setsid,name:grandchild,print:there,trap", "serve", "ready", "trap"];
    let mut run = files.on(init.args("--delay 2s --grace 6s")).app(app).start();
    let port = run.line_with("port ").text[5..].parse().expect("a port");
    run.line("ready");
    assert!(becomes_true(LIMIT, || files.there() == (true, false)), "ready once the app runs");

    let asked = run.signal(TERM);
    let what = "the ready-file goes, the drain-file comes";
    becomes_true_after(what, asked, ms(0), || files.there() == (false, true));
    while asked.elapsed() < ms(1900) {
        assert!(is_served(port), "served all through the drain, {:?} into it", asked.elapsed());
        pause(ms(20));
    }
    assert_after("SIGTERM to the app", run.line("signal 15") - asked, ms(2000));
    assert!(is_served(port), "this app goes on even now");

    let ended = run.ended();
    assert_after("SIGKILL and exit", ended.at - asked, ms(5500));
    assert_eq!(ended.code, 137);
    assert_eq!(ended.left, [""; 0], "the grandchild is dead too");
    assert_eq!(signals(&ended.out), ["15"], "the app is told once");
    assert_eq!(files.there(), (false, true));
}

#[test]
fn a_stop_from_drain_to_sigkill_as_a_subreaper() {
    a_stop_from_drain_to_sigkill(init());
}

#[test]
fn a_stop_from_drain_to_sigkill_as_pid_1() {
    if needs_namespaces() {
        a_stop_from_drain_to_sigkill(init().pid1());
    }
}

/// The exit code is the app's, and nothing waits for the rest of the drain.
#[test]
fn an_app_that_ends_in_the_drain_ends_it() {
    at_both_levels(|init| {
        let mut run = init().args("--delay 20s").app(["ready", "until:10", "exit:3"]).start();
        run.line("ready");
        run.signal(TERM);
        run.log("draining");
        let told = run.signal(USR1);
        let ended = run.ended();
        assert_after("exit", ended.at - told, ms(0));
        assert_eq!((ended.code, signals(&ended.out)), (3, vec!["10"]));
    });
}

#[test]
fn a_second_stop_signal_ends_the_drain_at_once() {
    at_both_levels(|init| {
        let mut run = init().args("--delay 20s").app(["ready", "until:15", "exit:0"]).start();
        run.line("ready");
        let asked = run.signal(TERM);
        run.log("draining");
        past_the_same_request(asked);
        let again = run.signal(TERM);
        assert_after("SIGTERM to the app", run.line("signal 15") - again, ms(0));
        assert_eq!(run.ended().code, 0);
    });
}

#[test]
fn a_delay_of_zero_forwards_at_once() {
    let files = Files::new();
    let mut run = files.on(init().args("--delay 0")).app(["ready", "until:15", "exit:0"]).start();
    run.line("ready");
    let asked = run.signal(TERM);
    assert_after("SIGTERM to the app", run.line("signal 15") - asked, ms(0));
    assert_eq!(run.ended().code, 0);
    assert_eq!(files.there(), (false, true), "a drain it was, if a short one");
}

/// A SIGINT that a process has sent is a stop like any other, terminal or not: `docker run -t`, and a `docker stop` of an image whose
/// STOPSIGNAL it is. What a person's ctrl-C does is in job_control.rs.
#[test]
fn a_sigint_that_a_process_has_sent_drains_with_a_terminal_on_stdin_too() {
    for with_terminal in [true, false] {
        for number in [INT, TERM] {
            let (_ours, theirs) = system::terminal();
            let mut init = init().args("--delay 400ms").app(["ready", "trap"]);
            if with_terminal {
                init = init.stdin(theirs);
            }
            let mut run = init.start();
            run.line("ready");
            let asked = run.signal(number);
            let got = run.line(&format!("signal {number}"));
            let what = format!("terminal: {with_terminal}, signal {number}");
            assert_after(&what, got - asked, ms(400));
        }
    }
}

// ---- one request in several signals

/// Two `docker stop` at once, INT with TERM: drained for, once, and nobody ends it.
#[test]
fn within_a_second_of_the_first_every_stop_signal_is_the_same_request() {
    at_both_levels(|init| {
        for second in [TERM, INT] {
            let mut run = init().args("-v --delay 2s").app(["ready", "trap"]).start();
            run.line("ready");
            let asked = run.signal(TERM);
            run.log("SIGTERM: draining for 2s");
            for at in [0, 300] {
                pause((asked + ms(at)).saturating_duration_since(now()));
                run.signal(second);
                run.log("after the SIGTERM: the same request, not forwarded");
            }
            let told = run.line("signal 15") - asked;
            assert!(told >= ms(2000), "drained for {told:?}");
            run.time_to_forward(USR1); // what else was on its way would have come before
            assert_eq!(signals(&run.killed()), ["15", "10"], "told once");
        }
    });
}

/// It signals its child, and then the group that both are in.
#[test]
fn timeout_drains() {
    if !needs_program("timeout") {
        return;
    }
    let under = ["timeout", "-k", "8", "1"];
    for _ in 0..3 {
        let run = init().under(under).args("--delay 3s").command(["sleep", "60"]).start();
        let ended = run.ended();
        // By its own clock, so that a busy machine changes nothing.
        let log = ended.log();
        assert!(log.contains("SIGTERM: draining for 3s"), "{log}");
        assert!(log.contains("drain over after 3."), "the whole of it: {log}");
        assert!(!log.contains("again"), "{log}");
    }
}

/// Said as what they are.
#[test]
fn a_second_stop_signal_of_another_kind_is_not_said_to_come_again() {
    let mut run = init().args("--delay 20s").app(["ready", "until:2", "exit:0"]).start();
    run.line("ready");
    let asked = run.signal(INT);
    run.log("SIGINT: draining");
    past_the_same_request(asked);
    run.signal(TERM);
    let ended = run.ended();
    assert_eq!(ended.code, 0);
    let over = ended.err.iter().find(|line| line.contains("drain over")).expect("a line");
    assert!(over.starts_with("drain-init: SIGTERM: drain over after "), "{over}");
    assert!(over.contains(": SIGINT to the app, SIGKILL in "), "what came first: {over}");
}

// ---- the image's stop signal

/// httpd, nginx, haproxy: nothing says that it wasn't drained for.
#[test]
fn a_signal_that_the_app_ends_on_may_be_the_images_stop_signal() {
    at_both_levels(|init| {
        let mut run = init().app(["ready", "until:28", "exit:0"]).start();
        run.line("ready");
        run.signal(28);
        let ended = run.ended();
        let [line] = ended.err.as_slice() else { panic!("one line: {:?}", ended.err) };
        let hint = " later: if it is the image's stop signal, --stop-on WINCH drains first";
        assert!(
            line.starts_with("drain-init: SIGWINCH was forwarded and the app ended "),
            "{line}"
        );
        assert!(line.ends_with(hint), "{line}");
        // Named, it is one.
        let mut run = init().args("--delay 0 --stop-on WINCH").app(["ready", "until:28"]).start();
        run.line("ready");
        run.signal(28);
        let log = run.ended().log();
        assert!(log.contains("SIGWINCH: no drain") && !log.contains("--stop-on"), "{log}");
    });
}

/// Counted back from the SIGKILL, in order of time whatever order they are given in.
#[test]
fn escalation_comes_in_order_before_the_sigkill() {
    let options = "--delay 200ms --grace 4s --kill-margin 200ms \
                   --escalate QUIT:1500ms --escalate USR1:2900ms --escalate RTMIN+4:2200ms";
    at_both_levels(|init| {
        let mut run = init().args(options).app(["ready", "trap"]).start();
        run.line("ready");
        let asked = run.signal(TERM);
        for (line, due) in
            [("signal 15", 200), ("signal 10", 900), ("signal 38", 1600), ("signal 3", 2300)]
        {
            assert_after(line, run.line(line) - asked, ms(due));
        }
        let ended = run.ended();
        assert_after("SIGKILL", ended.at - asked, ms(3800));
        assert_eq!((ended.code, signals(&ended.out)), (137, vec!["15", "10", "38", "3"]));
    });
}

// ---- what the app leaves behind

/// The others kill it. Told by SIGTERM, it has its second, though the app has gone.
#[test]
fn a_grandchild_that_cleans_up_gets_its_time() {
    at_both_levels(|init| {
        let app = [
            "child:setsid,name:grandchild,print:there,until:15,wait:1000,print:cleaned",
            "ready",
            "until:15",
            "exit:5",
        ];
        let mut run = init().args("--delay 0").app(app).start();
        run.line("grandchild: there");
        let asked = run.signal(TERM);
        run.line("grandchild: cleaned");
        let ended = run.ended();
        assert_after("exit", ended.at - asked, ms(1000));
        assert_eq!(ended.code, 5, "the app's own code");
    });
}

/// The same where no stop was asked for: the app has ended by itself.
#[test]
fn what_an_app_leaves_that_ended_by_itself_is_told_too() {
    at_both_levels(|init| {
        let app =
            ["child:name:child,print:there,until:15,wait:300,print:cleaned", "until:10", "exit:5"];
        let mut run = init().app(app).start();
        run.line("child: there");
        run.signal(USR1);
        run.line("child: cleaned");
        assert_eq!(run.ended().code, 5);
    });
}

#[test]
fn a_grandchild_that_ignores_sigterm_is_killed_after_orphan_grace() {
    at_both_levels(|init| {
        let app =
            ["child:setsid,ignore:15,name:grandchild,print:there,pause", "until:15", "exit:5"];
        let mut run = init().args("--delay 0 --orphan-grace 700ms").app(app).start();
        run.line("grandchild: there");
        let asked = run.signal(TERM);
        let ended = run.ended();
        assert_after("exit", ended.at - asked, ms(700));
        assert_eq!((ended.code, ended.left), (5, vec![]));
    });
}

#[test]
fn orphan_grace_ends_at_the_deadline() {
    let app = ["child:setsid,ignore:15,name:grandchild,print:there,pause", "until:15", "exit:5"];
    let options = "--delay 200ms --grace 2s --kill-margin 200ms --orphan-grace 20s";
    let mut run = init().args(options).app(app).start();
    run.line("grandchild: there");
    let asked = run.signal(TERM);
    let ended = run.ended();
    assert_after("exit", ended.at - asked, ms(1800));
    assert_eq!((ended.code, ended.left), (5, vec![]));
}

/// `npm start`, `sh -c 'setup; server'`: the app dies of SIGTERM, and the server that is left has a request to answer.
#[test]
fn after_a_requested_stop_what_is_left_has_the_rest_of_the_grace_period() {
    at_both_levels(|init| {
        let app = [
            "child:name:server,print:there,until:15,wait:4000,print:answered",
            "ready",
            "until:15",
            "exit:5",
        ];
        let mut run = init().args("--delay 0").app(app).start();
        run.line("server: there");
        run.signal(TERM);
        let named = run.log("waiting for ").text;
        assert!(
            named.contains("waiting for witness (") && named.contains("), SIGKILL in 2"),
            "{named}"
        );
        run.line("server: answered");
        let ended = run.ended();
        assert_eq!(ended.code, 5);
        assert_eq!(ended.log().matches("waiting for").count(), 1, "once: {ended:?}");
    });
}

/// `docker exec`: whoever was sent into the container is nobody that the app left, and has no time of its own.
#[test]
fn a_process_that_was_sent_into_the_container_is_not_waited_for() {
    if !needs_namespaces() {
        return;
    }
    let mut run = init().pid1().args("--delay 0").app(["ready", "until:15", "exit:5"]).start();
    run.line("ready");
    let mut entered =
        init().bare().beside(&run).app(["ignore:15", "print:entered", "pause"]).start();
    entered.line("entered");
    run.signal(TERM);
    let ended = run.ended();
    assert_eq!(ended.code, 5);
    assert!(!ended.log().contains("processes it left"), "{ended:?}");
    assert!(entered.ends_within(LIMIT), "the kernel ends it with its namespace");
}

/// It ended by itself: three seconds, as nobody counts a grace period.
#[test]
fn what_an_app_leaves_that_ended_by_itself_has_three_seconds() {
    let app = ["child:ignore:15,name:child,print:there,pause", "until:10", "exit:5"];
    let mut run = init().app(app).start();
    run.line("child: there");
    let ends = run.signal(USR1);
    let ended = run.ended();
    assert!(ended.at - ends >= ms(3000), "after {:?}", ended.at - ends);
    assert!(ended.log().contains("SIGKILL in 3.0s"), "{ended:?}");
    assert_eq!((ended.code, ended.left), (5, vec![]));
}

/// They get no more time than an app that is signalled at that moment.
#[test]
fn a_stop_asked_for_in_the_orphans_time_has_its_deadline() {
    let app = ["child:setsid,ignore:15,name:grandchild,print:there,pause", "until:10", "exit:5"];
    let options = "--delay 200ms --grace 1s --kill-margin 200ms --orphan-grace 20s";
    at_both_levels(|init| {
        let mut run = init().args(options).app(app).start();
        run.line("grandchild: there");
        run.signal(USR1);
        run.log("SIGTERM to the processes it left");
        let asked = run.signal(TERM);
        let ended = run.ended();
        assert_after("exit", ended.at - asked, ms(800));
        assert_eq!((ended.code, ended.left), (5, vec![]));
    });
}

/// PID 1 needs no table of processes to reach them all.
#[test]
fn as_pid_1_it_tells_what_the_app_leaves_without_proc() {
    if !needs_namespaces() {
        return;
    }
    let app =
        ["child:setsid,name:grandchild,print:there,until:15,print:cleaned", "until:10", "exit:5"];
    let mut run = init().pid1().without_proc().app(app).start();
    run.line("grandchild: there");
    run.signal(USR1);
    run.line("grandchild: cleaned");
    assert_eq!(run.ended().code, 5);
}

// ---- stopped clocks

/// Past the deadline everything is due at once: told, then killed, each once.
#[test]
fn stopped_past_the_whole_grace_period_it_does_what_is_due() {
    let options = "-v --delay 1s --grace 2200ms --kill-margin 200ms --escalate USR1:200ms";
    let mut run = init().args(options).app(["ready", "trap"]).start();
    run.line("ready");
    run.signal(TERM);
    run.log("draining");
    run.signal(STOP);
    run.silent_for(ms(2100));
    let goes_on = run.signal(CONT);
    let ended = run.ended();
    assert_after("exit", ended.at - goes_on, ms(0));
    assert_eq!((ended.code, ended.left.len()), (137, 0));
    let order: Vec<usize> = ["drain over", "SIGUSR1 to the app", "SIGKILL to all"]
        .iter()
        .map(|part| {
            let lines: Vec<usize> =
                (0..ended.err.len()).filter(|&i| ended.err[i].contains(part)).collect();
            assert_eq!(lines.len(), 1, "`{part}` once: {:?}", ended.err);
            lines[0]
        })
        .collect();
    assert!(order.is_sorted(), "{:?}", ended.err);
}

/// Stopped past the end of the drain alone: the signal is late, once, and the deadline stays where it was.
#[test]
fn stopped_past_the_drain_it_forwards_late_and_kills_on_time() {
    let mut run =
        init().args("--delay 1s --grace 4s --kill-margin 200ms").app(["ready", "trap"]).start();
    run.line("ready");
    let asked = run.signal(TERM);
    run.log("draining");
    run.signal(STOP);
    run.silent_for(ms(1500));
    let goes_on = run.signal(CONT);
    assert_after("SIGTERM to the app", run.line("signal 15") - goes_on, ms(0));
    let ended = run.ended();
    assert_after("SIGKILL", ended.at - asked, ms(3800));
    assert_eq!(signals(&ended.out).iter().filter(|n| **n == "15").count(), 1);
    assert_eq!(ended.code, 137);
}

/// Signals that came while it was stopped are kept, and a drain that begins late has its full
/// length.
#[test]
fn signals_that_came_while_stopped_are_kept() {
    let mut run = init()
        .args("--delay 400ms --grace 5s --kill-margin 100ms")
        .app(["ready", "until:15", "exit:0"])
        .start();
    run.line("ready");
    run.signal(STOP);
    run.signal(TERM);
    run.signal(USR1);
    run.silent_for(ms(600));
    let goes_on = run.signal(CONT);
    assert_after("SIGUSR1 to the app", run.line("signal 10") - goes_on, ms(0));
    assert_after("SIGTERM to the app", run.line("signal 15") - goes_on, ms(400));
    assert_eq!(run.ended().code, 0);
}

// ---- the processor

/// It sleeps up to the deadline, and not up to some second before it.
#[test]
fn the_drain_costs_no_time_of_the_processor() {
    let mut run = init().args("--delay 900ms").app(["ready", "until:15", "exit:0"]).start();
    run.line("ready");
    run.signal(TERM);
    run.log("draining");
    run.silent_for(ms(700));
    let ticks = stat_of(run.pid).expect("it is there").ticks;
    assert!(ticks < 20, "computed for {ticks} hundredths of a second");
    assert_eq!(run.ended().code, 0);
}

// ---- outcome

#[test]
fn map_exit_rewrites_always_and_map_stop_exit_after_a_stop() {
    let options =
        "--delay 0 --map-exit 3=4 --map-exit 7=0 --map-stop-exit 143=0 --map-stop-exit 3=9";
    for (asks, own, code) in [
        (false, "exit:3", 4),
        (false, "exit:7", 0),
        (false, "die:15", 143),
        (false, "exit:5", 5),
        (true, "exit:3", 9),
        (true, "exit:7", 0),
        (true, "die:15", 0),
        (true, "exit:143", 0),
        (true, "exit:5", 5),
    ] {
        let first = if asks { "until:15" } else { "until:10" };
        let mut run = init().args(options).app(["ready", first, own]).start();
        run.line("ready");
        run.signal(if asks { TERM } else { USR1 });
        assert_eq!(run.ended().code, code, "stop asked for: {asks}, app: {own}");
    }
}

/// 137 at the deadline is an outcome like any other.
#[test]
fn map_stop_exit_rewrites_the_deadlines_137() {
    let options = "--delay 0 --grace 500ms --kill-margin 200ms --map-stop-exit 137=77";
    let mut run = init().args(options).app(["ready", "trap"]).start();
    run.line("ready");
    run.signal(TERM);
    assert_eq!(run.ended().code, 77);
}

// ---- files

/// A file of a container that was killed is there still when the next one starts, in an emptyDir.
#[test]
fn a_stale_drain_file_and_ready_file_are_removed_at_start() {
    let files = Files::new();
    fs::write(files.drain(), "stale").expect("a file");
    fs::write(files.ready(), "stale").expect("a file");
    // As the app comes up, it looks itself: it must not find the drain-file.
    let script = format!("test -e {} && exit 9; exit 4", files.drain().display());
    assert_eq!(files.on(init()).command(["sh", "-c", &script]).ended().code, 4);
    // No app, never ready: not even with a file from before.
    fs::write(files.ready(), "stale").expect("a file");
    assert_eq!(files.on(init()).command(["/no/such/command"]).ended().code, 127);
    assert_eq!(files.there(), (false, false));
}

/// Also where the app ends by itself, in which case no drain begins.
#[test]
fn the_ready_file_goes_with_the_app() {
    let files = Files::new();
    let mut run = files.on(init()).app(["ready", "until:10", "exit:0"]).start();
    run.line("ready");
    assert!(becomes_true(LIMIT, || files.there() == (true, false)));
    run.signal(USR1);
    assert_eq!(run.ended().code, 0);
    assert_eq!(files.there(), (false, false));
}

/// A drain-file that can't be made any more stops nothing.
#[test]
fn a_folder_that_goes_away_stops_nothing() {
    let files = Files::new();
    let folder = files.folder.path("folder");
    fs::create_dir(&folder).expect("a folder");
    let drain = folder.join("drain");
    let mut run = init()
        .args("--delay 200ms")
        .arg("--drain-file")
        .arg(&drain)
        .app(["ready", "until:15", "exit:0"])
        .start();
    run.line("ready");
    fs::remove_dir_all(&folder).expect("removed");
    let asked = run.signal(TERM);
    let log = run.log("cannot make").text;
    assert!(log.contains(drain.to_str().expect("UTF-8")), "{log}");
    assert_after("SIGTERM to the app", run.line("signal 15") - asked, ms(200));
    assert_eq!(run.ended().code, 0);
}

// ---- parents

/// The parent is a shell that starts it and ends. Under PID 1 of a namespace there would be nobody left to see.
#[test]
fn the_parents_death_is_a_signal_if_asked_for() {
    let script = "\"$@\" & read line; exit 0";
    let (from, to) = system::pipe().expect("a pipe");
    let options = "--delay 0 --stop-on TERM --parent-death-signal USR2";
    let mut run = init()
        .under(["sh", "-c", script, "sh"])
        .args(options)
        .app(["ready", "until:12", "exit:0"])
        .stdin(from)
        .start();
    run.line("ready");
    run.silent_for(ms(100));
    drop(to); // the shell reads the end of its input, and ends
    run.line("signal 12");
}
