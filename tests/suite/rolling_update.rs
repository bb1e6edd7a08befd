//! examples/rolling-update itself: that it counts what is lost, that it leaves nothing behind however it is ended, and that an
//! ordinary user can run it. What it shows of drain-init is .ci/run's to see, with --quick.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::support::proc::{processes, stat_of, variables_of};
use crate::support::system::{KILL, now, pause};
use crate::support::{
    Folder, LIMIT, becomes_true, ms, needs, needs_program, needs_root, rolling_update,
};

const INT: i32 = 2;
const TERM: i32 = 15;
const NOBODY: u32 = 65534;

fn can_run() -> bool {
    let tools = ["ip", "nft", "haproxy", "tini"];
    needs_root() && tools.into_iter().all(needs_program)
}

/// It takes drain-init's options, and drops them: the delay is lost.
fn without_delay(folder: &Folder) -> PathBuf {
    let path = folder.path("without-delay");
    let script = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nexec tini \"$@\"\n";
    fs::write(&path, script).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
    path
}

fn command(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(rolling_update());
    command.env("ROLLING_UPDATE_INIT", without_delay(folder));
    command.args(arguments).arg("--out").arg(folder.path("out"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether it is content, and what it printed.
fn outcome(mut command: Command) -> (bool, String) {
    let output = command.output().expect("it runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    println!("{}", text.concat());
    (output.status.success(), text.concat())
}

#[test]
fn a_wrapper_that_drops_the_delay_is_found_out() {
    if !can_run() {
        return;
    }
    let folder = Folder::new();
    let cell = "kube-proxy L=2s naive drain-init --until-quiet 2s";
    let (content, text) = outcome(command(&folder, &["--quick", "--only", cell]));
    assert!(!content && text.contains("requests lost, where none may be"), "{text}");
    let csv = fs::read_to_string(folder.path("out/rolling-update.csv")).expect("the CSV");
    let figures: Vec<&str> = csv.lines().nth(1).expect("the cell").split(',').collect();
    let refused: u32 = figures[8].parse().expect("the number of refused requests");
    assert!(refused > 0 && figures[1] == "kube-proxy" && figures[2] == "2", "{csv}");
    let failed = fs::read_to_string(folder.path("out/failed.csv")).expect("the failed requests");
    let cells = failed.lines().filter(|line| line.starts_with(&format!("{cell},")));
    assert_eq!(cells.filter(|line| line.ends_with(",refused")).count(), refused as usize);
}

#[test]
fn without_a_lag_nothing_is_lost() {
    if !can_run() {
        return;
    }
    let folder = Folder::new();
    let (content, text) = outcome(command(&folder, &["--quick", "--only", "L=0s"]));
    assert!(content && text.contains("requests, none failed"), "{text}");
}

#[test]
fn an_ordinary_user_can_run_it() {
    let unshares = |user: u32| {
        let words = ["--user", "--map-root-user", "--net", "--pid", "--fork", "true"];
        let status = Command::new("unshare").args(words).uid(user).status();
        status.is_ok_and(|status| status.success())
    };
    if !can_run() || !needs("user namespaces for an ordinary user", unshares(NOBODY)) {
        return;
    }
    let folder = Folder::new();
    let out = folder.path("out");
    fs::create_dir(&out).expect("a folder");
    std::os::unix::fs::chown(&out, Some(NOBODY), Some(NOBODY)).expect("it is theirs");
    let mut command = command(&folder, &["--quick", "--only", "naive tini"]);
    // Everything is already built, and only root can run cargo.
    command.env("CARGO", "true").uid(NOBODY).gid(NOBODY);
    let (content, text) = outcome(command);
    assert!(content && text.contains("refused"), "{text}");
}

// ---- what is left behind

/// The processes of the run with this folder, which all have its path in their environment.
fn processes_of(folder: &Folder) -> Vec<i32> {
    let mark = folder.path("").display().to_string();
    let is_marked = |pid: &i32| variables_of(*pid).iter().any(|it| it.contains(&mark));
    processes().filter(is_marked).collect()
}

/// Of all its threads.
fn namespaces(pid: i32) -> HashSet<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let files = threads
        .flat_map(|thread| ["net", "pid", "mnt"].map(|kind| thread.path().join("ns").join(kind)));
    files.filter_map(|file| Some(fs::metadata(file).ok()?.ino())).collect()
}

/// The namespaces of all processes that had started by then, in hundredths of a second since boot. The kernel reuses the number
/// of a namespace that is gone, so a process that started later may be in a new one with an old number; so may a thread of ours.
fn namespaces_of_those_there(at: u64) -> HashSet<u64> {
    let own = std::process::id().cast_signed();
    let others = processes().filter(|pid| *pid != own);
    let there = others.filter(|pid| stat_of(*pid).is_some_and(|it| it.started <= at));
    there.flat_map(namespaces).collect()
}

fn since_the_machines_start() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").expect("/proc/uptime");
    let seconds = uptime.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    (seconds.expect("seconds") * 100.0) as u64
}

/// Killed with the test, if that ends early.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends it with this signal, so long after its first namespace was made. All that it ran is over then, and with
/// the last process the namespaces go, none of which has a name, and with them the devices and the rules.
fn leaves_nothing(signal: i32, after: u64, folder: &Folder) {
    let mut run = Killed(command(folder, &["--quick"]).spawn().expect("it runs"));
    let pid = run.0.id();
    let mut lines = BufReader::new(run.0.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("cells, ") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).expect("a line"), 0, "it ended by itself");
    }
    pause(ms(after));
    let host = namespaces(std::process::id().cast_signed());
    let look = || {
        let ran = processes_of(folder);
        let made: HashSet<u64> = ran.iter().copied().flat_map(namespaces).collect();
        (ran.len(), made.difference(&host).copied().collect::<HashSet<_>>())
    };
    // On a loaded machine a second may not be enough for the pods.
    let far = || {
        let (ran, made) = look();
        if after < 1000 { made.len() >= 3 } else { ran > 10 && made.len() > 20 }
    };
    assert!(becomes_true(LIMIT, far), "it has got as far as the namespaces, or the pods");
    let (ran, made) = look();
    println!("signal {signal} after {after} ms: {ran} processes, {} namespaces", made.len());

    crate::support::system::signal(pid.cast_signed(), signal);
    let (ended, at) = (now(), since_the_machines_start());
    run.0.wait().expect("its end");
    let left = || {
        let namespaces = made.intersection(&namespaces_of_those_there(at)).count();
        (processes_of(folder), namespaces)
    };
    assert!(becomes_true(LIMIT, || left() == (vec![], 0)), "left: {:?}", left());
    println!("    all gone after {:?}", now() - ended);
    // Nor does anything of it hold its output open.
    lines.read_to_end(&mut vec![]).expect("its end");
}

#[test]
fn ended_at_any_point_it_leaves_nothing_behind() {
    if !can_run() {
        return;
    }
    rolling_update(); // is built before any time is measured
    let names = || {
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        names.map(|name| name.file_name()).collect::<HashSet<_>>()
    };
    let rules = || {
        let tables = Command::new("nft").args(["list", "tables"]).output().expect("nft");
        String::from_utf8(tables.stdout).expect("text").contains("kube-proxy")
    };
    let named = names();
    thread::scope(|scope| {
        for (signal, times) in [(INT, [0, 1200]), (TERM, [150, 2500]), (KILL, [80, 1300])] {
            scope.spawn(move || {
                for after in times {
                    leaves_nothing(signal, after, &Folder::new());
                }
            });
        }
    });
    assert!(names().is_subset(&named), "a namespace has a name");
    assert!(!rules(), "the host has a rule");
    let device = Path::new("/sys/class/net/clients");
    assert!(!device.exists(), "the host has a device");
}
