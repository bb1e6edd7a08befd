//! The standard descriptors that were closed when drain-init was started: whatever it is, nothing that it opens has one of their
//! numbers, not for a moment. Else a log would go to the kernel's socket, or a probe's answer into a file.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use crate::support::life::{own_address, readyz};
use crate::support::{
    Folder, Init, Kind, LIMIT, Server, becomes_true, needs_program, static_init, static_witness,
};

const TERM: i32 = 15;

/// The system calls that return a new descriptor. Not dup2(2), whose caller chooses the number.
const OPENING: &str = "trace=execve,open,openat,socket,accept,accept4,pipe,pipe2,dup,fcntl,pidfd_open,eventfd2,\
                       epoll_create1,signalfd,signalfd4,memfd_create,inotify_init1,timerfd_create";

fn each_combination(test: impl Fn(&[i32]) + Sync) {
    if !needs_program("strace") {
        return;
    }
    static_init();
    std::thread::scope(|scope| {
        for closed in [&[0][..], &[1], &[2], &[0, 2], &[0, 1, 2]] {
            let test = &test;
            scope.spawn(move || test(closed));
        }
    });
}

/// The build that ships, with these closed; what it and its companions open is in the trace. A shell closes them: strace would
/// open others in their place.
fn traced(trace: &Path, closed: &[i32]) -> Init {
    let closing: String = closed.iter().map(|number| format!(" {number}>&-")).collect();
    let shell = format!("exec \"$0\" \"$@\"{closing}");
    let mut words: Vec<_> =
        ["strace", "-D", "-f", "-qq", "-e", OPENING, "-o"].map(Into::into).into();
    words.push(trace.as_os_str().to_owned());
    words.extend(["/bin/sh", "-c", &shell].map(Into::into));
    Init::new(Kind::DrainInit, static_init()).under(words)
}

/// Each call of drain-init and its companions, whole.
fn calls(trace: &Path) -> Vec<String> {
    let text = fs::read_to_string(trace).expect("the trace");
    let own = [static_init().display().to_string(), "/proc/self/exe".into()];
    let (mut begun, mut calls) = (HashMap::new(), Vec::new());
    // The shell comes first, and the app is somebody else.
    let (mut has_begun, mut others) = (false, HashSet::new());
    for line in text.lines() {
        let (pid, call) = line.split_once(' ').expect("a process, and its call");
        let call = call.trim_start();
        if let Some(beginning) = call.strip_suffix("<unfinished ...>") {
            begun.insert(pid, beginning.to_owned());
            continue;
        }
        let call = match call.split_once(" resumed>") {
            Some((_, end)) => begun.remove(pid).unwrap_or_default() + end,
            None => call.to_owned(),
        };
        if let Some(program) = call.strip_prefix("execve(\"") {
            let program = program.split('"').next().unwrap_or_default();
            if own.iter().any(|own| own == program) {
                has_begun = true;
            } else if has_begun {
                others.insert(pid);
            }
        }
        if has_begun && !others.contains(pid) {
            calls.push(call);
        }
    }
    calls
}

fn assert_none_is_standard(trace: &Path, closed: &[i32]) {
    let calls = calls(trace);
    let mut taken = 0;
    for call in &calls {
        // Of one that was interrupted in the trace strace leaves a blank.
        let numbers: Vec<i32> = match call.strip_prefix("pipe2(") {
            Some(ends) => ends
                .trim_start_matches([' ', '['])
                .split(']')
                .next()
                .unwrap_or_default()
                .split(", ")
                .flat_map(str::parse)
                .collect(),
            None if call.starts_with("fcntl") && !call.contains("F_DUPFD") => continue,
            None if call.starts_with("execve") => continue,
            None => call
                .rsplit("= ")
                .next()
                .and_then(|number| number.parse().ok())
                .into_iter()
                .collect(),
        };
        // To have the number taken: open, or openat where there is none.
        let takes = call.contains("\"/\", ") && call.contains("O_PATH");
        if takes {
            taken += 1;
        } else {
            assert!(
                !numbers.iter().any(|number| closed.contains(number)),
                "closed {closed:?}: {call}"
            );
        }
    }
    assert!(taken >= closed.len(), "closed {closed:?}: {calls:#?}");
}

/// With everything that is opened in such a life: markers, logs, listeners, pipes, sockets of each kind, /proc.
#[test]
fn nothing_of_an_entrypoint_and_its_companions_is_a_standard_descriptor() {
    each_combination(|closed| {
        for scheme in ["", "tcp://"] {
            let (folder, address, server) = (Folder::new(), own_address(), Server::on(0));
            let trace = folder.path("trace");
            let port = server.port;
            let mut init = traced(&trace, closed)
                .args("--delay 300ms --max-delay 5s --until-quiet 100ms --watch-port 1")
                .arg("--ready-notify")
                .args(&format!(
                    "--ready-listen {scheme}{address} --ready-check tcp://127.0.0.1:{port}"
                ))
                .args(&format!("--on-drain http://127.0.0.1:{port}/told"));
            for file in ["ready-file", "drain-file", "termination-log"] {
                init = init.arg(format!("--{file}")).arg(folder.path(file));
            }
            let run = init.static_app(["notify:READY=1", "until:15", "exit:3"]).start();
            assert!(becomes_true(LIMIT, || folder.path("ready-file").exists()), "{closed:?}");
            // The tcp:// one says nothing.
            if scheme.is_empty() {
                assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)), "{closed:?}");
            } else {
                assert!(becomes_true(LIMIT, || std::net::TcpStream::connect(&address).is_ok()));
            }
            run.signal(TERM);
            assert_eq!(run.ended().code, 3, "{closed:?}");
            let trace_text = fs::read_to_string(&trace).expect("the trace");
            let server = if scheme.is_empty() { "ready-notified" } else { "accept" };
            for companion in [server, "await", "notify", "drain", "call"] {
                let words = format!("\"drain-init\", \"companion\", \"{companion}\"");
                assert!(trace_text.contains(&words), "there was no {companion}: {trace_text}");
            }
            let log = fs::read_to_string(folder.path("termination-log")).expect("the log");
            assert!(log.starts_with("drain-init: SIGTERM: draining"), "{log}");
            assert_none_is_standard(&trace, closed);
        }
    });
}

/// Where no option has anything opened before the app starts, the first is a pipe to the drain companion.
#[test]
fn nothing_that_a_drain_opens_first_is_a_standard_descriptor() {
    each_combination(|closed| {
        let folder = Folder::new();
        let trace = folder.path("trace");
        let options = "--delay 200ms --max-delay 5s --until-quiet 100ms --watch-port 1";
        let run = traced(&trace, closed).args(options).static_app(["until:15", "exit:3"]).start();
        let read = || fs::read_to_string(&trace).unwrap_or_default();
        let is_started = format!("execve(\"{}\"", static_witness().display());
        assert!(becomes_true(LIMIT, || read().contains(&is_started)), "{closed:?}");
        run.signal(TERM);
        assert_eq!(run.ended().code, 3, "{closed:?}");
        let text = read();
        assert!(text.contains("\"drain-init\", \"companion\", \"drain\""), "{text}");
        assert_none_is_standard(&trace, closed);
    });
}

#[test]
fn nothing_of_another_verb_is_a_standard_descriptor() {
    each_combination(|closed| {
        let (folder, server) = (Folder::new(), Server::on(0));
        let target = format!("tcp://127.0.0.1:{}", server.port);
        let dest = folder.path("copy").display().to_string();
        let hook = "prestop --delay 200ms --until-quiet 100ms --max-delay 1s --watch-port 1";
        let marker = folder.path("drain").display().to_string();
        for words in [
            format!("probe {target}"),
            "probe http://localhost:1/".to_owned(),
            format!("install {dest}"),
            format!("explain --ready-file {marker}"),
            format!("{hook} --drain-file {marker}"),
        ] {
            let trace = folder.path("trace");
            let ended = traced(&trace, closed).args(&words).ended();
            let expected = if words.contains(":1/") { 1 } else { 0 };
            // With stdout closed, explain can print nothing.
            let is_mute = words.starts_with("explain") && closed.contains(&1);
            assert_eq!(
                ended.code,
                if is_mute { 125 } else { expected },
                "{closed:?} {words}: {ended:?}"
            );
            assert_none_is_standard(&trace, closed);
        }
    });
}
