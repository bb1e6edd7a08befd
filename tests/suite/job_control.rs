//! Terminals: the app has the foreground as if its shell had started it, job control works, and the shell gets its terminal back.
//! A real shell on a real (pseudo) terminal, with a person who types.

use std::fs;

use crate::support;
use crate::support::terminal::{CTRL_C, CTRL_D, CTRL_Z, Terminal};
use crate::support::{
    Folder, Init, LIMIT, at_both_levels, becomes_true, children_of, init, ms, needs_namespaces,
    needs_program, stat_of, system, witness,
};

const SHELLS: [&[&str]; 2] =
    [&["bash", "--norc", "--noprofile", "--noediting", "-i"], &["dash", "-i"]];

/// In each shell that is here, with `$INIT` and `$APP` ready to be used.
fn in_a_shell(test: impl Fn(Terminal)) {
    for shell in SHELLS {
        if needs_program(shell[0]) {
            println!("in {}", shell[0]);
            let mut terminal = Terminal::start(with_variables(init().bare().command(shell)));
            terminal.shows("prompt> ");
            test(terminal);
        }
    }
}

/// A script: no job control of its own, so that the init shares its process group.
fn in_a_script(script: &str, test: impl Fn(Terminal)) {
    for shell in ["bash", "dash"] {
        if needs_program(shell) {
            println!("in {shell}");
            test(Terminal::start(with_variables(init().bare().command([shell, "-c", script]))));
        }
    }
}

fn with_variables(init: Init) -> Init {
    let (_, program) = support::init_under_test();
    init.env("PS1", "prompt> ").env("INIT", program).env("APP", witness()).env("TERM", "dumb")
}

/// The init's pid, then the app's, once both are there.
fn processes(terminal: &Terminal) -> (i32, i32) {
    let mut found = (0, 0);
    let there = becomes_true(LIMIT, || {
        let init = children_of(terminal.leader.pid);
        let app = init.first().map(|&init| children_of(init)).unwrap_or_default();
        found = (*init.first().unwrap_or(&0), *app.first().unwrap_or(&0));
        found.1 != 0
    });
    assert!(there, "the shell has started the init, and that the app");
    found
}

#[track_caller]
fn becomes(pid: i32, state: char, who: &str) {
    let there = becomes_true(LIMIT, || stat_of(pid).is_some_and(|stat| stat.state == state));
    assert!(there, "{who} should be {state}, is {:?}", stat_of(pid).map(|stat| stat.state));
}

/// The shell answers: it is in the foreground, and at its prompt. What it prints isn't what was typed.
fn the_shell_answers(terminal: &mut Terminal) {
    terminal.types("echo shell-$((40+2))\n");
    terminal.shows("shell-42");
    terminal.shows("prompt> ");
}

// ---- ctrl-C

/// From the kernel to the app, once: drain-init is not in the foreground, so it does not get it, and forwards nothing.
#[test]
fn ctrl_c_reaches_the_app_alone() {
    in_a_shell(|mut terminal| {
        terminal.types(
            "$INIT -v --delay 0 -- $APP ready until:2 print:first until:2 exit:3; echo code-$?\n",
        );
        terminal.shows("ready");
        terminal.types(CTRL_C);
        terminal.shows("first");
        system::pause(ms(300)); // for a second one, that drain-init would have forwarded
        terminal.types(CTRL_C);
        let between = terminal.shows("code-3");
        assert_eq!(between.matches("signal 2").count(), 1, "{between}");
        assert!(!between.contains("SIGINT"), "drain-init has seen none: {between}");
        terminal.shows("prompt> ");
        the_shell_answers(&mut terminal);
    });
}

/// Where no standard descriptor is the terminal, drain-init keeps its foreground and is the one that ctrl-C reaches. The kernel sends
/// it: a person is there, and nobody drains for 20 s. One that a process sends to the same drain-init is no person.
#[test]
fn ctrl_c_to_drain_init_itself_has_no_delay() {
    let folder = Folder::new();
    let [report, log] = ["report", "log"].map(|name| folder.path(name));
    let text = |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default();
    in_a_shell(|mut terminal| {
        for ctrl_c in [true, false] {
            let _ = fs::remove_file(&report);
            terminal.types(&format!(
                "$INIT --delay 20s -- $APP ready until:2 exit:3 </dev/null >{} 2>{}; echo code-$?\n",
                report.display(),
                log.display()
            ));
            assert!(becomes_true(LIMIT, || text(&report).contains("ready")));
            let (init, app) = processes(&terminal);
            if ctrl_c {
                terminal.types(CTRL_C);
                terminal.shows("code-3");
                assert!(
                    text(&log).contains("SIGINT: no drain, SIGINT to the app"),
                    "{}",
                    text(&log)
                );
            } else {
                system::signal(init, 2);
                assert!(becomes_true(LIMIT, || text(&log).contains("SIGINT: draining for 20s")));
                system::signal(app, 2);
                terminal.shows("code-3");
            }
            terminal.shows("prompt> ");
        }
    });
}

/// An app that dies of ctrl-C ends as it would without an init.
#[test]
fn an_app_that_dies_of_ctrl_c_is_130() {
    in_a_shell(|mut terminal| {
        terminal.types("$INIT -- $APP ready pause; echo code-$?\n");
        terminal.shows("ready");
        terminal.types(CTRL_C);
        terminal.shows("code-130");
        terminal.shows("prompt> ");
        the_shell_answers(&mut terminal);
    });
}

/// `docker run -it`: the init leads the session; the app has the foreground, reads the terminal, and gets ctrl-C.
#[test]
fn on_the_terminal_of_a_container_the_app_has_the_foreground() {
    at_both_levels(|init| {
        let mut terminal = Terminal::start(
            init().arg("-v").app(["ids", "ready", "until:2", "wait:500", "exit:4"]),
        ); // what is unread when the session ends is lost
        let ids = terminal.shows("ready");
        let words: Vec<&str> = ids.split_whitespace().collect();
        assert_eq!(words[5], words[9], "its group is the foreground: {ids}");
        assert_eq!(words[1], words[5], "and its own: {ids}");
        terminal.types(CTRL_C);
        terminal.shows("signal 2");
        assert_eq!(terminal.leader.ended().code, 4);

        let mut terminal = Terminal::start(init().app(["ready", "lines"]));
        terminal.shows("ready");
        terminal.types("hello\n");
        terminal.shows("read hello");
        terminal.types(CTRL_D);
        terminal.shows("read end");
        assert_eq!(terminal.leader.ended().code, 0);
    });
}

/// Ctrl-Z in a container: no shell is there that could let the app go on. Without an init the kernel ignores it for PID 1.
#[test]
fn on_the_terminal_of_a_container_ctrl_z_stops_nothing_for_long() {
    if !needs_namespaces() {
        return;
    }
    let mut terminal = Terminal::start(init().pid1().app(["ready", "lines"]));
    terminal.shows("ready");
    terminal.types(CTRL_Z);
    terminal.types("hello\n");
    terminal.shows("read hello");
    terminal.types(CTRL_D);
    terminal.shows("read end");
    assert_eq!(terminal.leader.ended().code, 0);
}

// ---- ctrl-Z, fg, bg

/// Both stop, or the shell would wait on; both go on, and the app reads from the terminal as before.
#[test]
fn ctrl_z_stops_both_and_fg_resumes_both() {
    in_a_shell(|mut terminal| {
        terminal.types("$INIT -- $APP ready lines\n");
        terminal.shows("ready");
        let (init, app) = processes(&terminal);
        for round in 1..=2 {
            terminal.types(&format!("round {round}\n"));
            terminal.shows(&format!("read round {round}"));
            assert_eq!(
                Some(terminal.foreground()),
                stat_of(app).map(|stat| stat.group),
                "the app has the foreground"
            );

            terminal.types(CTRL_Z);
            terminal.shows("prompt> ");
            becomes(app, 'T', "the app");
            becomes(init, 'T', "drain-init");
            the_shell_answers(&mut terminal);

            terminal.types("fg\n");
            becomes(app, 'S', "the app");
            becomes(init, 'S', "drain-init");
        }
        terminal.types("last\n");
        terminal.shows("read last");
        terminal.types(CTRL_D);
        terminal.shows("read end");
        terminal.shows("prompt> ");
        the_shell_answers(&mut terminal);
    });
}

/// In the background the app goes on and the shell keeps its terminal; `fg` brings it back, ctrl-C included. bash sends nothing
/// to a job that runs already: drain-init can't know at once, so ctrl-C may come to it, and has to reach the app all the same.
#[test]
fn bg_resumes_both_and_leaves_the_shell_its_terminal() {
    in_a_shell(|mut terminal| {
        terminal.types("$INIT -- $APP ready pause\n");
        terminal.shows("ready");
        let (init, app) = processes(&terminal);
        terminal.types(CTRL_Z);
        terminal.shows("prompt> ");
        becomes(app, 'T', "the app");

        terminal.types("bg\n");
        terminal.shows("prompt> ");
        becomes(app, 'S', "the app");
        becomes(init, 'S', "drain-init");
        the_shell_answers(&mut terminal);
        assert_eq!(terminal.foreground(), terminal.leader.pid, "the shell's own group");
        ends_by_ctrl_c_after_fg(&mut terminal, app);
    });
}

/// Started with `&`, it must not take the terminal from its shell.
#[test]
fn started_in_the_background_it_leaves_the_shell_its_terminal() {
    in_a_shell(|mut terminal| {
        terminal.types("$INIT -- $APP ready pause &\n");
        terminal.shows("ready");
        terminal.types("\n");
        terminal.shows("prompt> ");
        the_shell_answers(&mut terminal);
        assert_eq!(terminal.foreground(), terminal.leader.pid, "the shell's own group");
        let (_, app) = processes(&terminal);
        ends_by_ctrl_c_after_fg(&mut terminal, app);
    });
}

fn ends_by_ctrl_c_after_fg(terminal: &mut Terminal, app: i32) {
    terminal.types("fg; echo code-$?\n");
    let shell = terminal.leader.pid;
    assert!(becomes_true(LIMIT, || terminal.foreground() != shell), "the job has the foreground");
    terminal.types(CTRL_C);
    terminal.shows("code-130");
    assert!(stat_of(app).is_none(), "the app has ended");
    the_shell_answers(terminal);
}

/// The app, in the foreground, gets a line and then the end of its input; the shell has its terminal again.
fn reads_to_its_end(terminal: &mut Terminal) {
    terminal.types("hello\n");
    terminal.shows("read hello");
    terminal.types(CTRL_D);
    terminal.shows("read end");
    terminal.shows("prompt> ");
    the_shell_answers(terminal);
}

/// The same for reading: an app that runs in the background when `fg` comes, and reads later.
#[test]
fn a_running_job_can_read_after_fg() {
    in_a_shell(|mut terminal| {
        terminal.types("$INIT -- $APP ready wait:1000 lines &\n");
        terminal.shows("ready");
        terminal.types("fg\n");
        reads_to_its_end(&mut terminal);
    });
}

/// Reading from the terminal in the background stops app and drain-init; `fg` gives it what it wants.
#[test]
fn an_app_that_reads_in_the_background_waits_for_fg() {
    in_a_shell(|mut terminal| {
        terminal.types("$INIT -- $APP ready lines &\n");
        terminal.shows("ready");
        let (init, app) = processes(&terminal);
        becomes(app, 'T', "the app");
        becomes(init, 'T', "drain-init");
        terminal.types("\n");
        terminal.shows("prompt> ");
        terminal.types("fg\n");
        becomes(app, 'S', "the app");
        reads_to_its_end(&mut terminal);
    });
}

/// A stop signal to a stopped app: it is told, and goes on to see it.
#[test]
fn a_stopped_app_is_still_stopped_by_sigterm() {
    in_a_shell(|mut terminal| {
        terminal.types("$INIT --delay 0 -- $APP ready pause\n");
        terminal.shows("ready");
        let (init, app) = processes(&terminal);
        terminal.types(CTRL_Z);
        terminal.shows("prompt> ");
        becomes(init, 'T', "drain-init");
        system::signal(init, 15);
        terminal.types("fg; echo code-$?\n");
        terminal.shows("code-143");
        assert!(becomes_true(LIMIT, || stat_of(app).is_none()), "the app has ended");
        the_shell_answers(&mut terminal);
    });
}

// ---- giving the terminal back

/// In a script nobody but drain-init gives the foreground back: the shell shares its group, and does no job control.
#[test]
fn a_script_can_read_from_its_terminal_after_the_app_has_ended() {
    let endings = ["exit:0", "die:9", "die:40"];
    for ending in endings {
        in_a_script(
            &format!("$INIT -- $APP {ending}; read line; echo \"got-$line\""),
            |mut terminal| {
                terminal.types("hello\n");
                terminal.shows("got-hello");
                assert_eq!(terminal.leader.ended().code, 0);
            },
        );
    }
}

#[test]
fn a_script_can_read_from_its_terminal_after_an_app_that_could_not_be_started() {
    for command in ["/no/such/command", "/etc"] {
        in_a_script(
            &format!("$INIT -- {command}; read line; echo \"got-$line\""),
            |mut terminal| {
                terminal.types("hello\n");
                terminal.shows("got-hello");
            },
        );
    }
}

/// At the deadline too, where drain-init doesn't end with its app.
#[test]
fn a_script_can_read_from_its_terminal_after_the_sigkill() {
    let options = "--delay 0 --grace 500ms --kill-margin 200ms";
    let script =
        format!("$INIT {options} -- $APP ready trap; echo code-$?; read line; echo \"got-$line\"");
    in_a_script(&script, |mut terminal| {
        terminal.shows("ready");
        let (init, _) = processes(&terminal);
        system::signal(init, 15);
        terminal.shows("code-137");
        terminal.types("hello\n");
        terminal.shows("got-hello");
    });
}

// ---- SIGTTIN and SIGTTOU

/// The kernel sends them for reading and writing in the background. drain-init reads nothing, and its log may be such a write.
#[test]
fn ttin_and_ttou_never_stop_it() {
    let folder = Folder::new();
    let report = folder.path("report");
    in_a_shell(|mut terminal| {
        let _ = fs::remove_file(&report);
        terminal.types("stty tostop\n");
        terminal.shows("prompt> ");
        terminal.types(&format!("$INIT -v -- $APP to:{} ready trap &\n", report.display()));
        let reported = |line: &str| {
            let there = becomes_true(LIMIT, || {
                fs::read_to_string(&report).is_ok_and(|text| text.lines().any(|l| l == line))
            });
            assert!(there, "the app sees `{line}`");
        };
        reported("ready");
        let (init, app) = processes(&terminal);
        for number in [21, 22, 10] {
            system::signal(init, number);
            reported(&format!("signal {number}"));
        }
        terminal.shows("SIGUSR1"); // the log, written from the background to a terminal that stops those who do
        assert_eq!(stat_of(init).map(|stat| stat.state), Some('S'), "drain-init");
        assert_eq!(stat_of(app).map(|stat| stat.state), Some('S'), "the app");
    });
}
