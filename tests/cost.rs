//! What drain-init costs, as far as it is the same on every run: bench/run has the rest. On the build that ships.

mod support;

use std::process::Command;

use support::system::pause;
use support::{Init, Kind, children_of, free_port, ms, needs_program, static_init};

/// Twelve, and one or two to spare. tini-static makes 28 and catatonit 27.
const MOST_CALLS: usize = 14;

#[test]
fn few_system_calls_come_before_the_apps_exec() {
    if !needs_program("strace") {
        return;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-o", "/dev/stdout"]).arg(static_init());
    let output = strace.args(["--", "/bin/true"]).output().expect("strace");
    let trace = String::from_utf8(output.stdout).expect("text");
    let before = trace.lines().take_while(|line| !line.contains("execve(\"/bin/true\""));
    let calls: Vec<&str> = before.skip(1).filter(|line| !line.contains(" resumed>")).collect();
    assert!(trace.contains("execve(\"/bin/true\"") && calls.len() > 3, "no trace: {trace}");
    println!("{} system calls", calls.len());
    assert!(calls.len() <= MOST_CALLS, "{}:\n{}", calls.len(), calls.join("\n"));
}

/// How often the scheduler has run it.
fn runs(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("it runs");
    text.split_whitespace().nth(2).and_then(|word| word.parse().ok()).expect("three numbers")
}

#[test]
fn nothing_wakes_it_or_its_companion_while_nothing_happens() {
    let listen = format!("--ready-listen 127.0.0.1:{}", free_port());
    for options in ["", "--delay 5s --until-quiet 2s", &listen] {
        let init = Init::new(Kind::DrainInit, static_init());
        let mut run = init.args(options).app(["ready", "until:15"]).start();
        run.line("ready");
        pause(ms(500));
        let mut pids = vec![run.pid];
        // The witness is its child, too, and sleeps as well.
        pids.extend(children_of(run.pid));
        assert_eq!(pids.len(), if options == listen { 3 } else { 2 }, "{options}");
        let before: Vec<u64> = pids.iter().map(|pid| runs(*pid)).collect();
        pause(ms(2000));
        let after: Vec<u64> = pids.iter().map(|pid| runs(*pid)).collect();
        assert_eq!(before, after, "{options}");
    }
}
