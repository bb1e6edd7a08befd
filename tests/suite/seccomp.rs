//! docs/seccomp.json: what it allows is what drain-init, its companions and its verbs use, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::net::TcpStream;

use crate::support::confined::{Verdict, call, filter};
use crate::support::dns::{NXDOMAIN, NameServer, OwnEtc, Reply, SERVFAIL, addresses, listener};
use crate::support::life::{Life, nothing_failed, own_address, readyz};
use crate::support::system::{self, enter_own_network, pause};
use crate::support::{
    Folder, Init, Kind, LIMIT, Server, becomes_true, free_port, ms, needs_namespaces,
    needs_program, needs_static, static_init, static_witness,
};
use seccompiler::BpfProgram;
use serde_json::Value;

const TERM: i32 = 15;

/// Of another machine than this one, where the same thing is done by another call.
const ELSEWHERE: &[&str] = if cfg!(target_arch = "x86_64") {
    &["dup3", "faccessat", "newfstatat", "ppoll", "renameat", "unlinkat"]
} else {
    &["access", "arch_prctl", "dup2", "lstat", "open", "poll", "rename", "stat", "unlink"]
};

/// Made by the kernel, when a wait goes on after a SIGSTOP or a freezer.
const NOT_SEEN: &[&str] = &["restart_syscall"];

/// The witness's own system calls, as the app inherits the filter.
const OF_THE_WITNESS: &[&str] = &["fork", "nanosleep", "pause", "pipe", "prlimit64", "setsid"];

/// The names in the profile that are drain-init's: the first list, as the second one is the runtime's.
fn listed() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/seccomp.json");
    let text = fs::read_to_string(path).expect("the profile");
    let profile: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let names = profile["syscalls"][0]["names"].as_array().expect("a list");
    names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// Only these calls, of those that this machine has.
fn only<'a>(names: impl Iterator<Item = &'a str>) -> BpfProgram {
    let are_here = |name: &&str| cfg!(target_arch = "x86_64") || !ELSEWHERE.contains(name);
    filter(names.filter(are_here).map(call), Verdict::Allowed, Verdict::Kills)
}

/// Everything that drain-init can be told to do, once or more, each start prepared by `confined`.
fn every_way(confined: &dyn Fn(Init) -> Init) {
    let shipped = || confined(Init::new(Kind::DrainInit, static_init()));
    for obeys in [true, false] {
        Life::traced().lived(shipped(), obeys);
    }

    // Names: of the first there are two addresses, of IPv6, which the resolver puts in order, and they come over TCP.
    enter_own_network();
    let etc = OwnEtc::enter();
    etc.set("nameserver 127.77.0.1\noptions timeout:1 attempts:2\n", "127.0.0.1 file.test\n");
    let _names = NameServer::on([127, 77, 0, 1], |question| match question.name.as_str() {
        "app.test" if question.is_tcp => addresses(&["::1", "::2"]),
        "app.test" => Reply::Cut(vec![]),
        "slow.test" if question.turn == 0 => Reply::Code(SERVFAIL),
        "slow.test" if question.turn == 1 => Reply::Lost,
        "slow.test" => addresses(&["127.0.0.1"]),
        _ => Reply::Code(NXDOMAIN),
    });
    let ((_app, port), (_app_6, port_6)) = (listener("127.0.0.1:0"), listener("[::1]:0"));
    for target in
        [format!("app.test:{port_6}"), format!("slow.test:{port}"), format!("file.test:{port}")]
    {
        let init = shipped().arg("probe").arg(format!("tcp://{target}")).args("--timeout 30s");
        assert_eq!(init.ended().code, 0, "{target}");
    }
    let ended = shipped().args("probe http://name.invalid --timeout 30s").ended();
    assert!(ended.code == 1 && ended.log().contains("unknown host"), "{ended:?}");

    // A connection that is kept, and closed for the app.
    let port = free_port();
    let options = "--delay 0 --until-quiet 300ms --close-idle 100ms --max-delay 9s";
    let keep = format!("keep:{port}");
    let init = shipped().args(options).args(&format!("--watch-port {port}"));
    let mut run = init.static_app([&keep, "ready", "until:15", "exit:3"]).start();
    run.line("ready");
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    client.read_exact(&mut [0; 7]).expect("served");
    pause(ms(200));
    run.signal(TERM);
    run.log("closed 1 of 1 kept connection");
    assert_eq!(run.ended().code, 3);

    // An open port; a terminal.
    let (folder, server) = (Folder::new(), Server::on(0));
    let options =
        "--delay 200ms --max-delay 500ms --grace 3s --kill-margin 500ms --parent-death-signal 9";
    let handlers = [
        format!("http://localhost:{}/", server.port),
        "http://name.invalid/".to_owned(),
        format!("exec:{} exit:0", static_witness().display()),
    ];
    let init = shipped().args(options).args(&format!("--ready-listen tcp://{}", own_address()));
    let init = handlers.iter().fold(init, |init, handler| init.arg("--on-drain").arg(handler));
    let (_ours, theirs) = system::terminal();
    let mut run = init
        .own_terminal(theirs)
        .static_app(["child:setsid,ignore:15,pause", "ready", "until:15", "exit:3"])
        .start();
    run.line("ready");
    pause(ms(300)); // the port is opened by then
    run.signal(TERM);
    run.line("signal 15");
    let ended = run.ended();
    assert_eq!((ended.code, ended.left.len()), (3, 0), "{ended:?}");

    // An app that says by itself that it is ready; whoever else waits for that is not there.
    let address = own_address();
    let init = shipped().args("-v --delay 0 --ready-notify --ready-listen").arg(&address);
    let init = init.env("NOTIFY_SOCKET", "@drain-init-test-nobody");
    let app = ["notify:STATUS=up", "notify:READY=1", "ready", "until:15", "exit:3"];
    let mut run = init.static_app(app).start();
    run.line("ready");
    assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)), "ready");
    run.signal(TERM);
    assert_eq!(run.ended().code, 3);

    // A start that waits, what answers meanwhile, and handlers at the end; the wait alone.
    let (there, address) = (folder.path("there"), own_address());
    let init = shipped().args(&format!("--delay 0 --ready-listen {address}"));
    let init = init.arg(format!("--start-after=file:{}", there.display()));
    let init = init.arg(format!("--start-after=http://localhost:{}/", server.port));
    let init = init.args("--on-exit exec:/bin/true --header X-Test:1");
    let mut run = init
        .arg(format!("--on-exit=http://localhost:{}/", server.port))
        .static_app(["ready", "until:15"])
        .start();
    run.log("waiting for ");
    assert!(becomes_true(LIMIT, || readyz(&address) == Some(503)));
    fs::write(&there, "").expect("a file");
    run.line("ready");
    run.signal(TERM);
    assert_eq!(run.ended().code, 0);
    let target = format!("file:{}", there.display());
    assert_eq!(shipped().args("wait -q").arg(&target).ended().code, 0);
    assert_eq!(shipped().args("wait --timeout 200ms file:/no/such").ended().code, 1);
    let mut run = shipped().pid1().args("wait file:/no/such").start();
    run.log("waiting for ");
    run.signal(TERM);
    assert_eq!(run.ended().code, 143);

    // The verbs, and the hook in both of its forms.
    let file = folder.path("file");
    fs::write(&file, "").expect("a file");
    let probes =
        ["tcp://localhost", "http://127.0.0.1"].map(|url| format!("{url}:{}", server.port));
    for target in probes.into_iter().chain([format!("file:{}", file.display())]) {
        assert_eq!(shipped().arg("probe").arg(&target).ended().code, 0, "{target}");
    }
    for name in ["copy", "copy", ""] {
        assert_eq!(shipped().arg("install").arg(folder.path(name)).ended().code, 0, "{name}");
    }
    std::os::unix::fs::symlink(&file, folder.path("link")).expect("a link");
    assert_eq!(shipped().arg("install").arg(folder.path("link")).ended().code, 0);
    for words in ["explain --delay 3s", "--help", "--version"] {
        assert_eq!(shipped().args(words).ended().code, 0, "{words}");
    }
    assert_eq!(shipped().args("--delay nonsense").ended().code, 125);
    // A tracer of PID 1 is one more that the app leaves, and ends with it alone.
    let hooked = shipped().pid1().args("--delay 200ms --orphan-grace 300ms");
    let mut run = hooked.static_app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    assert_eq!(shipped().beside(&run).arg("prestop").ended().code, 0);
    assert!(run.status("Pid") > 0, "the hook has asked it, and it lives on");
    run.signal(TERM);
    assert_eq!(run.ended().code, 3);
    let own = "prestop --delay 200ms --until-quiet 100ms --max-delay 500ms --watch-port 1 --on-drain exec:/bin/true";
    let alone =
        Init::new(Kind::Tini, "/usr/bin/tini".into()).pid1().static_app(["ready", "pause"]).start();
    assert_eq!(shipped().beside(&alone).args(own).ended().code, 0);
}

/// A call that is not listed ends the process, and so is found out.
#[test]
fn under_the_profile_everything_works() {
    if !needs_static() || !needs_namespaces() || !needs_program("tini") {
        return;
    }
    let listed = listed();
    let names = listed.iter().map(String::as_str).chain(OF_THE_WITNESS.iter().copied());
    let allowed = only(names);
    every_way(&|init| init.filtered(allowed.clone()));
    nothing_failed(
        &Life::new().lived(
            Init::new(Kind::DrainInit, static_init()).pid1().filtered(allowed.clone()),
            true,
        ),
    );
    // A negative control: pause(2) is the witness' own.
    let shipped = Init::new(Kind::DrainInit, static_init());
    let listed = only(listed.iter().map(String::as_str));
    let ended = shipped.filtered(listed).static_app(["pause"]).ended();
    assert_eq!(ended.code, 128 + 31, "SIGSYS: {ended:?}");
}

/// Each name is that of a call which one of drain-init's processes makes.
#[test]
fn the_profile_lists_nothing_that_is_not_used() {
    if !needs_static() || !needs_namespaces() || !needs_program("tini") || !needs_program("strace")
    {
        return;
    }
    let folder = Folder::new();
    let traces = folder.path("traces");
    fs::create_dir(&traces).expect("a folder");
    let count = std::cell::Cell::new(0);
    every_way(&|init| {
        count.set(count.get() + 1);
        let trace = traces.join(count.get().to_string());
        let strace = ["strace", "-f", "-D", "-qq", "-e", "signal=none", "-o"].map(OsString::from);
        init.under(strace.into_iter().chain([trace.into_os_string()]))
    });
    let mut used = BTreeSet::new();
    for trace in fs::read_dir(&traces).expect("traces").flatten() {
        used.extend(calls_of_drain_init(&fs::read_to_string(trace.path()).expect("a trace")));
    }
    let listed = listed();
    let unlisted: Vec<_> = used.difference(&listed).collect();
    assert!(unlisted.is_empty(), "used and not listed: {unlisted:?}");
    let besides =
        |name: &&String| !ELSEWHERE.contains(&name.as_str()) && !NOT_SEEN.contains(&name.as_str());
    let unused: Vec<_> = listed.difference(&used).filter(besides).collect();
    assert!(unused.is_empty(), "listed and not used: {unused:?}");
}

/// Of every process in the trace as long as it executes drain-init: `PID CALL(ARGUMENTS) = RESULT`, whose end may come later as
/// `PID <... CALL resumed>) = RESULT`.
fn calls_of_drain_init(trace: &str) -> BTreeSet<String> {
    let forks = trace.lines().filter_map(|line| {
        let (pid, rest) = line.split_once(' ')?;
        let child = rest.rsplit_once(" = ")?.1;
        ["clone", "fork"].iter().any(|call| rest.contains(call)).then_some((child, pid))
    });
    let parents: BTreeMap<&str, &str> = forks.collect();
    let mut calls = BTreeSet::new();
    // Whether it is drain-init, and whether it is about to become it.
    let mut processes: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for (index, line) in trace.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let resumed = rest.strip_prefix("<... ");
        let text = resumed.unwrap_or(rest);
        let name_end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(0);
        let call = &text[..name_end];
        // A child may be seen before its parent's call returns: it begins as what that one is.
        let parent = parents.get(pid).and_then(|parent| processes.get(parent));
        let begins = parent.is_none_or(|(is_own, _)| *is_own);
        let (is_own, becomes) = processes.entry(pid).or_insert((begins, begins));
        // The first one has executed drain-init itself.
        if *is_own && resumed.is_none() && index > 0 && !call.is_empty() {
            calls.insert(call.to_owned());
        }
        if call == "execve" {
            if resumed.is_none() {
                *becomes = text.contains("drain-init\"") || text.contains("\"/proc/self/exe\"");
            }
            if line.ends_with(" = 0") {
                *is_own = *becomes;
            }
        }
    }
    calls
}

/// It is Docker's own, and one system call more, whatever capabilities the container has.
#[test]
fn the_profile_for_docker_allows_one_call_more() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/seccomp-docker.json");
    let text = fs::read_to_string(path).expect("the profile");
    assert!(text.contains("\"defaultAction\": \"SCMP_ACT_ERRNO\""));
    let rules = text.split("\"names\": [").skip(1);
    let unconditional = rules.filter(|rule| {
        let rule = rule.split("\"names\"").next().unwrap_or_default();
        let names = rule.split(']').next().unwrap_or_default();
        names.contains("\"pidfd_getfd\"") && !rule.contains("\"includes\"")
    });
    let added: Vec<&str> = unconditional.collect();
    assert_eq!(added.len(), 1, "{added:?}");
    let names = added[0].split(']').next().unwrap_or_default();
    assert_eq!(names.trim(), "\"pidfd_getfd\"", "a rule of its own");
    assert!(added[0].contains("SCMP_ACT_ALLOW"));
}
