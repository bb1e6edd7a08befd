//! How drain-init starts its app, whatever it was started with itself: descriptors, masks, closed standard streams, no /proc, no
//! /dev, an empty root; and that no signal is lost from its first system call on.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::support::{
    Folder, Init, Kind, assert_after, at_both_levels, init, ms, needs_namespaces, needs_program,
    needs_root, needs_static, static_init, static_witness, without_glibcs_own, witness,
};

/// The build under test, and the static one that ships: their C libraries differ in what they do before `main`.
fn each_build(test: impl Fn(Init)) {
    test(init());
    if needs_static() {
        test(Init::new(Kind::DrainInit, static_init()));
    }
}

// ---- what the app finds

/// Compared with the same witness started the same way without an init.
#[test]
fn the_app_finds_descriptors_and_signals_as_without_an_init() {
    let folder = Folder::new();
    let file = |name: &str| File::create(folder.path(name)).expect("a file");
    let (stdout, stderr, kept) =
        (file("stdout"), file("stderr"), Arc::new(OwnedFd::from(file("kept"))));
    let report = folder.path("report");
    let to = format!("to:{}", report.display());
    for (blocked, ignored) in [
        (vec![], vec![]),
        (vec![], vec![13]), // SIGPIPE, that Rust programs take for theirs
        (vec![13, 15, 34], vec![1, 3, 13, 20, 21, 22, 63]),
        ((1..=64).collect(), (1..=64).filter(|n| *n != 17).collect()),
    ] {
        let app = |init: Init| {
            let streams = init
                .stdout(stdout.try_clone().expect("a copy"))
                .stderr(stderr.try_clone().expect("a copy"));
            let started =
                streams.keeping(kept.clone()).blocked(blocked.clone()).ignored(ignored.clone());
            let _ = fs::remove_file(&report);
            let code = started.app([&to, "masks", "fds", "exit:7"]).ended().code;
            assert_eq!(code, 7);
            fs::read_to_string(&report).expect("the report")
        };
        let bare = app(init().bare());
        assert!(bare.lines().count() == 6, "masks, four descriptors, and the end: {bare}");
        each_build(|init| {
            let program = init.program().to_owned();
            let [found, expected] = [app(init), bare.clone()].map(|report| {
                let (masks, rest) = report.split_once('\n').expect("lines");
                format!("{}\n{rest}", without_glibcs_own(&program, masks))
            });
            assert_eq!(found, expected, "blocked {blocked:?} ignored {ignored:?}");
        });
    }
}

/// They stay closed: another file must not get the number of standard output. Without /dev/null std aborts before main.
#[test]
fn closed_standard_streams_stay_closed_and_the_app_starts() {
    let folder = Folder::new();
    let report = folder.path("report");
    let to = format!("to:{}", report.display());
    for closed in [vec![0], vec![1], vec![2], vec![1, 2], vec![0, 1, 2]] {
        for without_dev in [false, true] {
            if without_dev && !needs_namespaces() {
                continue;
            }
            let start = |init: Init| {
                let init = if without_dev { init.without_dev() } else { init };
                let _ = fs::remove_file(&report);
                let ended = init.closed(closed.clone()).app([&to, "fds", "exit:7"]).ended();
                assert_eq!(
                    ended.code, 7,
                    "closed {closed:?}, without /dev: {without_dev}: {ended:?}"
                );
                fs::read_to_string(&report).expect("the report")
            };
            each_build(|init| {
                let lines = start(init);
                let open: Vec<i32> = (0..3)
                    .filter(|n| lines.lines().any(|line| line.starts_with(&format!("fd {n} "))))
                    .collect();
                let expected: Vec<i32> = (0..3).filter(|n| !closed.contains(n)).collect();
                assert_eq!(open, expected, "without /dev: {without_dev}\n{lines}");
                assert_eq!(
                    lines.lines().count(),
                    expected.len() + 1,
                    "and nothing besides: {lines}"
                );
            });
        }
    }
}

/// With SIGCHLD ignored, the kernel keeps no status for waitpid; and the app is to find it as it was.
#[test]
fn sigchld_ignored_at_the_start_loses_no_status() {
    at_both_levels(|init| {
        for (end, code) in [("exit:42", 42), ("die:9", 137), ("die:40", 168)] {
            let ended = init().ignored([17]).app(["masks", "orphans:5", "release", end]).ended();
            assert_eq!(ended.code, code);
            assert!(ended.out[0].ends_with("ignored 0000000000010000"), "{ended:?}");
        }
        let mut run =
            init().ignored([17]).args("--delay 200ms").app(["ready", "until:15", "exit:3"]).start();
        run.line("ready");
        run.signal(15);
        assert_eq!(run.ended().code, 3);
    });
}

/// The program's own name, and options in front of it.
#[test]
fn a_command_whose_name_is_no_utf8_is_started() {
    let folder = Folder::new();
    let program = folder.path("").join(OsStr::from_bytes(b"\xff\xfe=\xc0"));
    std::os::unix::fs::symlink(witness(), &program).expect("a link");
    let words = [program.as_os_str(), OsStr::new("argv"), OsStr::from_bytes(b"--delay=\xff")];
    let ended = init().args("--delay 1s -q").command(words).ended();
    assert_eq!((ended.code, ended.out), (0, vec!["argv 2d2d64656c61793dff".to_owned()]));
}

/// Group of its own, child of the init; as in a container there is no terminal.
#[test]
fn the_app_has_a_process_group_of_its_own() {
    let mut run = init().app(["ids", "pause"]).start();
    let line = run.line_with("pid ").text;
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[3], run.pid.to_string(), "child of the init: {line}");
    assert_eq!(words[1], words[5], "leader of its group: {line}");
}

/// One line that says which command, and why.
#[test]
fn a_command_that_cannot_be_started_is_named_in_one_line() {
    let folder = Folder::new();
    let script = folder.path("script");
    fs::write(&script, "exit 3\n").expect("a file");
    let commands = [
        ("/no/such/command", 127),
        ("no-such-command", 127),
        ("/etc", 126),
        (script.to_str().expect("UTF-8"), 126),
    ];
    for (command, code) in commands {
        let ended = init().command([command, "--flag"]).ended();
        assert_eq!((ended.code, ended.err.len()), (code, 1), "{ended:?}");
        assert!(
            ended.err[0].starts_with("drain-init: ") && ended.err[0].contains(command),
            "{ended:?}"
        );
    }
}

/// execvp(3) has the shell run it. A program for another machine is refused with the same error by the kernel, and is none.
#[test]
fn a_script_that_names_no_interpreter_is_run_by_the_shell() {
    let folder = Folder::new();
    let executable = |name: &str, content: &[u8]| {
        let path = folder.path(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path.into_os_string()
    };
    let script = executable("the-script", b"echo \"$0|$1|$2\"; exit 3\n");
    let said = format!("{}|a b|", script.display());
    each_build(|init| {
        let ended = init.command([script.as_os_str(), OsStr::new("a b")]).ended();
        assert_eq!((ended.code, &ended.out), (3, &vec![said.clone()]), "{ended:?}");
    });
    let path = format!("{}:/usr/bin:/bin", folder.path("").display());
    each_build(|init| {
        let ended = init.env("PATH", &path).command(["the-script", "a b"]).ended();
        assert_eq!(
            (ended.code, ended.out[0].ends_with("/the-script|a b|")),
            (3, true),
            "{ended:?}"
        );
    });
    each_build(|init| {
        let handler = format!("--on-drain=exec:{}", script.display());
        let mut run = init.args("-v --delay 100ms").arg(handler).app(["ready", "until:15"]).start();
        run.line("ready");
        run.signal(15);
        let log = run.ended().log();
        assert!(log.contains("exited with 3"), "{log}");
    });

    let foreign = executable("foreign", b"\x7fELF\x02\x01\x01\0and so on");
    let ended = init().command([foreign]).ended();
    assert_eq!((ended.code, ended.err.len()), (126, 1), "{ended:?}");
    assert!(ended.err[0].ends_with("a program for another kind of machine"), "{ended:?}");
    if needs_root() {
        let root = Folder::new();
        fs::copy(&script, root.path("script")).expect("a copy");
        let ended = init().in_empty_root(&root).command(["/script"]).ended();
        assert_eq!((ended.code, ended.err.len()), (126, 1), "{ended:?}");
        assert!(ended.err[0].ends_with("there is no /bin/sh to run it"), "{ended:?}");
    }
}

/// sd_listen_fds(3): who is named is the one process that the descriptors are for.
#[test]
fn descriptors_of_a_service_manager_are_the_apps() {
    let listening = |init: Init, pid: &str| {
        // The one number that cannot be known before: the shell's is drain-init's.
        let start = format!("LISTEN_PID={pid} exec \"$0\" \"$@\"");
        let init = init.under(["/bin/sh", "-c", &start]);
        let init =
            init.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web").env("LISTEN_PIDFDID", "7");
        let said = "echo $LISTEN_FDS $LISTEN_FDNAMES ${LISTEN_PIDFDID-none} $LISTEN_PID $$";
        let ended = init.command(["/bin/sh", "-c", said]).ended();
        assert_eq!((ended.code, ended.out.len()), (0, 1), "{ended:?}");
        ended.out[0].split(' ').map(str::to_owned).collect::<Vec<String>>()
    };
    let levels: [fn(Init) -> Init; 2] = [|init| init, Init::pid1];
    for level in &levels[..if needs_namespaces() { 2 } else { 1 }] {
        each_build(|init| {
            let found = listening(level(init), "$$");
            assert_eq!(found[..3], ["1", "web", "none"], "{found:?}");
            assert_eq!(found[3], found[4], "{found:?}");
        });
        each_build(|init| {
            let found = listening(level(init), "4194304");
            assert_eq!(found[..4], ["1", "web", "7", "4194304"], "{found:?}");
        });
    }
}

/// A companion closes the service manager's descriptors, so a handler has none, and no LISTEN_ variables.
#[test]
fn handlers_are_told_of_no_descriptors() {
    let handler = "--on-drain=exec:/bin/sh -c 'env | grep LISTEN_ >&2; echo told >&2'";
    let init = init().args("-v --delay 100ms").arg(handler);
    let mut run = init
        .env("LISTEN_PID", "7")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "web")
        .env("LISTEN_PIDFDID", "7")
        .app(["ready", "until:15"])
        .start();
    run.line("ready");
    run.signal(15);
    let said = run.ended().err;
    assert!(said.contains(&"told".to_owned()), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("LISTEN_")), "{said:?}");
}

/// Found in PATH, as a shell would: also past a folder where it can't be executed.
#[test]
fn a_command_is_looked_up_in_path() {
    let (first, second) = (Folder::new(), Folder::new());
    fs::write(first.path("the-app"), "not executable").expect("a file");
    std::os::unix::fs::symlink(witness(), second.path("the-app")).expect("a link");
    let path =
        format!("/no/such/folder:{}:{}", first.path("").display(), second.path("").display());
    each_build(|init| {
        let ended = init.env("PATH", &path).command(["the-app", "exit:9"]).ended();
        assert_eq!(ended.code, 9, "{ended:?}");
    });
    let alone = first.path("").display().to_string();
    assert_eq!(
        init().env("PATH", alone).command(["the-app"]).ended().code,
        126,
        "there, but not executable"
    );
}

// ---- bare surroundings

#[test]
fn it_needs_no_proc() {
    if !needs_namespaces() {
        return;
    }
    at_both_levels(|init| {
        let mut run = init()
            .without_proc()
            .args("--delay 200ms")
            .app(["orphans:5", "release", "ready", "until:15", "exit:3"])
            .start();
        run.line("ready");
        run.signal(15);
        run.line("signal 15");
        let ended = run.ended();
        assert_eq!(ended.code, 3);
        assert_eq!(ended.err.len(), 3, "draining, over, ended, and nothing about /proc: {ended:?}");
    });
}

/// A scratch image has nothing else: no libc, no /proc, no /dev, no /tmp.
#[test]
fn it_runs_in_an_empty_root() {
    if !needs_static() || !needs_root() {
        return;
    }
    let root = Folder::new();
    let start = |level: fn(Init) -> Init| level(init().in_empty_root(&root));
    let levels: [fn(Init) -> Init; 2] = [|init| init, |init| init.pid1()];
    for level in &levels[..if needs_namespaces() { 2 } else { 1 }] {
        assert_eq!(start(*level).app(["exit:42"]).ended().code, 42);
        assert_eq!(start(*level).command(["/nothing"]).ended().code, 127);
        assert_eq!(start(*level).args("--delay 5x").app(["exit:42"]).ended().code, 125);
        let mut run = start(*level)
            .args("--delay 200ms")
            .app(["orphans:5", "release", "ready", "until:15", "exit:3"])
            .start();
        run.line("ready");
        run.signal(15);
        run.log("draining");
        run.line("signal 15");
        assert_eq!(run.ended().code, 3);
    }
}

/// The static build: a dynamic linker needs a descriptor itself.
#[test]
fn it_needs_no_descriptor() {
    if !needs_static() {
        return;
    }
    let folder = Folder::new();
    let levels: [fn(Init) -> Init; 2] = [|init| init, |init| init.pid1()];
    for level in &levels[..if needs_namespaces() { 2 } else { 1 }] {
        let start = |options: &str, steps: &str| {
            let init = level(Init::new(Kind::DrainInit, static_init())).no_descriptor_left();
            let app = static_witness().into_os_string();
            init.args(options).command([app].into_iter().chain(steps.split(' ').map(Into::into)))
        };
        let touch = format!("touch:{}", folder.path("file").display());
        assert_eq!(start("", &touch).ended().code, 98, "the app has none either, unless it asks");
        assert_eq!(start("", "exit:42").ended().code, 42);
        assert_eq!(start("", "die:40").ended().code, 168);
        for (last, options, code, ends) in [
            ("until:15", "--delay 300ms", 3, 300),
            ("trap", "--delay 300ms --grace 1s --kill-margin 300ms", 137, 700),
        ] {
            let steps = format!("descriptors orphans:5 release ready {last} exit:3");
            let mut run = start(options, &steps).start();
            run.line("ready");
            for number in [10, 40] {
                run.time_to_forward(number);
            }
            let asked = run.signal(15);
            run.log("draining");
            assert_after("SIGTERM to the app", run.line("signal 15") - asked, ms(300));
            let ended = run.ended();
            assert_after("exit", ended.at - asked, ms(ends));
            assert_eq!((ended.code, ended.left.len()), (code, 0), "{ended:?}");
        }
    }
}

/// As .ci wants it too: what `file` calls static-pie.
#[test]
fn the_shipped_build_names_no_interpreter() {
    if !needs_static() {
        return;
    }
    let bytes = fs::read(static_init()).expect("the binary");
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| {
        usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")))
            .expect("fits")
    };
    assert_eq!(half(16), 3, "ET_DYN: it can be loaded anywhere");
    let headers = (0..usize::from(half(56))).map(|i| word(32) + i * usize::from(half(54)));
    let kinds: Vec<u32> = headers
        .map(|at| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")))
        .collect();
    assert!(kinds.contains(&2) && !kinds.contains(&3), "PT_DYNAMIC, and no PT_INTERP: {kinds:?}");
}

// ---- no signal is lost

/// A SIGTERM at each system call from the first up to the one that waits for signals, past the spawn; the list is what a run
/// shows that nothing is injected into.
#[test]
fn a_sigterm_at_any_system_call_of_the_start_is_kept() {
    if !needs_program("strace") {
        return;
    }
    at_each_system_call("--delay 300ms --grace 20s", |init, inject| {
        let ended = init("TERM").app(["ready", "until:15", "exit:3"]).ended();
        assert_eq!(
            (ended.code, ended.out),
            (3, vec!["ready".to_owned(), "signal 15".to_owned()]),
            "{inject}: {:?}",
            ended.err
        );
        let drained = ended.err.iter().any(|line| line.contains("SIGTERM: draining for 300ms"));
        assert!(drained, "{inject}: {:?}", ended.err);
    });
}

/// 34 is SIGRTMIN to everyone but musl, which keeps it for itself: its functions that restore a signal mask, posix_spawn and fork
/// among them, leave it unblocked. It comes blocked here, so that the app has it blocked from its own start on.
#[test]
fn the_first_realtime_signal_at_any_system_call_of_the_start_is_kept() {
    if !needs_program("strace") {
        return;
    }
    at_each_system_call("", |init, inject| {
        let ended = init("34").blocked([34]).app(["ready", "until:34", "exit:3"]).ended();
        assert_eq!(
            (ended.code, ended.out),
            (3, vec!["ready".to_owned(), "signal 34".to_owned()]),
            "{inject}: {:?}",
            ended.err
        );
    });
}

/// Runs the test for each system call, with the init that gets a signal of that name there. With the same options each time: how
/// much memory is asked for depends on them.
fn at_each_system_call(options: &str, test: impl Fn(&dyn Fn(&str) -> Init, &str)) {
    if !needs_static() {
        return;
    }
    let folder = Folder::new();
    let trace = folder.path("trace");
    let start = |inject: &[&str]| {
        let strace = ["strace", "-o"].map(OsStr::new).into_iter().chain([trace.as_os_str()]);
        let strace = strace.chain(inject.iter().map(OsStr::new));
        Init::new(Kind::DrainInit, static_init()).under(strace).args(options)
    };
    let ended = start(&[]).app(["wait:100", "exit:42"]).ended();
    assert_eq!(ended.code, 42, "strace works here, and passes the exit code on");
    let calls = calls_up_to_the_wait(&trace);
    println!("{} system calls: {}", calls.len(), calls.join(" "));
    assert_eq!(calls[0], "rt_sigprocmask", "the first one blocks every signal");
    for (i, call) in calls.iter().enumerate() {
        let nth = calls[..=i].iter().filter(|c| *c == call).count();
        let init =
            |signal: &str| start(&["-e", &format!("inject={call}:signal={signal}:when={nth}")]);
        test(&init, &format!("{call}, time {nth}"));
    }
}

fn calls_up_to_the_wait(trace: &Path) -> Vec<String> {
    let trace = fs::read_to_string(trace).expect("the trace");
    let names: Vec<&str> = trace.lines().filter_map(|line| Some(line.split_once('(')?.0)).collect();
    assert_eq!(names[0], "execve", "{trace}");
    let spawn = names.iter().position(|name| ["clone", "clone3", "fork", "vfork"].contains(name));
    let spawn = spawn.unwrap_or_else(|| panic!("no process is started:\n{trace}"));
    // While the app runs there is nothing to do but to wait; whatever that is done by, it is the first of these.
    let waits =
        ["rt_sigtimedwait", "poll", "ppoll", "epoll_wait", "epoll_pwait", "select", "pselect6"];
    let wait = names[spawn..].iter().position(|name| waits.contains(name));
    let wait = spawn + wait.unwrap_or_else(|| panic!("no wait:\n{trace}"));
    names[1..=wait].iter().map(|name| (*name).to_owned()).collect()
}
