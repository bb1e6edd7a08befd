//! Costs that do not vary from run to run: size, system calls, instructions, memory, idling.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::table::{Bar, Row, median};
use crate::{Contender, Rounds};

const LONG_ENOUGH: Duration = Duration::from_millis(300);

pub fn size(contenders: &[Contender], _: &Rounds) -> Vec<Row> {
    let size = |contender: &Contender| Some(fs::metadata(&contender.path).ok()?.len() as f64);
    let figures = contenders.iter().map(size).collect();
    vec![Row { what: "binary", unit: "bytes", figures, bar: Bar::AtMost(256.0 * 1024.0) }]
}

/// Up to the app's exec, whoever makes them.
pub fn calls(contenders: &[Contender], _: &Rounds) -> Vec<Row> {
    let calls = |contender: &Contender| {
        let init = contender.command(&[], &["/bin/true"]);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "signal=none", "-o", "/dev/stdout"]);
        let output = strace.arg(init.get_program()).args(init.get_args()).output().ok()?;
        let trace = String::from_utf8(output.stdout).ok()?;
        let before = trace.lines().take_while(|line| !line.contains("execve(\"/bin/true\""));
        Some(before.filter(|line| !line.contains(" resumed>")).count() as f64 - 1.0)
    };
    let figures = contenders.iter().map(calls).collect();
    let bar = Bar::Times { debian: 1.0, musl: None };
    vec![Row { what: "system calls from exec to the app's exec", unit: "calls", figures, bar }]
}

/// Of init and app's start together, all that runs as a user.
pub fn instructions(contenders: &[Contender], _: &Rounds) -> Vec<Row> {
    let count = |contender: &Contender| {
        let init = contender.command(&[], &["/bin/true"]);
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        let output = valgrind.arg(init.get_program()).args(init.get_args()).output().ok()?;
        let text = String::from_utf8(output.stderr).ok()?;
        let last = text.lines().rfind(|line| line.contains("Collected : "))?;
        last.rsplit(' ').next()?.parse().ok()
    };
    let figures = contenders.iter().map(count).collect();
    let bar = Bar::None;
    vec![Row {
        what: "instructions from exec to exit, the app's not counted",
        unit: "",
        figures,
        bar,
    }]
}

struct Idle(Child);

impl Idle {
    fn start(contender: &Contender, options: &[&str]) -> Self {
        Self(contender.command(options, &["/bin/sleep", "600"]).spawn().expect("started"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its child processes that run the same program.
    fn companions(&self) -> Vec<u32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid()));
        let children = children.unwrap_or_default();
        let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.filter(|pid| program(*pid) == program(self.pid())).collect()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid()));
        for pid in
            children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok())
        {
            // SAFETY: a child of our child, which is not reaped before that is.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In KiB.
fn rolled_up(pid: u32, field: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

pub fn memory(contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    let fields = ["Rss", "Pss", "Private_Dirty"];
    let mut seen: Vec<[Vec<f64>; 3]> = contenders.iter().map(|_| Default::default()).collect();
    for _ in 0..rounds.of(9) {
        let idle: Vec<Idle> = contenders.iter().map(|one| Idle::start(one, &[])).collect();
        sleep(LONG_ENOUGH);
        for (idle, seen) in idle.iter().zip(&mut seen) {
            for (field, values) in fields.iter().zip(seen) {
                values.extend(rolled_up(idle.pid(), field));
            }
        }
    }
    let mut of = |field: usize| seen.iter_mut().map(|seen| median(&mut seen[field])).collect();
    let mut rows = vec![
        Row {
            what: "RSS at idle",
            unit: "KiB",
            figures: of(0),
            bar: Bar::Times { debian: 0.4, musl: None },
        },
        Row { what: "PSS at idle, one instance", unit: "KiB", figures: of(1), bar: Bar::None },
        Row {
            what: "private dirty at idle",
            unit: "KiB",
            figures: of(2),
            bar: Bar::Times { debian: 1.0, musl: None },
        },
    ];
    rows.extend(companions(contenders));
    rows
}

/// Of the process that an option adds; drain-init's alone.
fn companions(contenders: &[Contender]) -> Vec<Row> {
    let rows: [(&str, &[&str]); 2] = [
        ("RSS of what --ready-listen adds", &["--ready-listen=127.0.0.1:39179"]),
        (
            "RSS of what --ready-file with --ready-check adds",
            &["--ready-file=/tmp/drain-init-bench-ready", "--ready-check=tcp://127.0.0.1:1"],
        ),
    ];
    let row = |(what, options): (&'static str, &[&str])| {
        let figure = |contender: &Contender| {
            let idle = contender.is_ours().then(|| Idle::start(contender, options))?;
            sleep(LONG_ENOUGH);
            let companions = idle.companions();
            assert!(!companions.is_empty(), "{}: {options:?}", contender.name);
            Some(companions.iter().filter_map(|pid| rolled_up(*pid, "Rss")).sum())
        };
        let figures = contenders.iter().map(figure).collect();
        Row { what, unit: "KiB", figures, bar: Bar::None }
    };
    rows.map(row).into()
}

/// Runs and processor time in nanoseconds, as the scheduler counts them.
fn scheduled(pid: u32) -> Option<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let mut words = text.split_whitespace();
    let time = words.next()?.parse().ok()?;
    Some((words.nth(1)?.parse().ok()?, time))
}

pub fn idle(contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    let time = Duration::from_secs(60).mul_f64(rounds.of(100) as f64 / 100.0);
    let idle: Vec<Idle> = contenders.iter().map(|one| Idle::start(one, &[])).collect();
    sleep(LONG_ENOUGH);
    let before: Vec<_> = idle.iter().map(|idle| scheduled(idle.pid())).collect();
    sleep(time);
    let after: Vec<_> = idle.iter().map(|idle| scheduled(idle.pid())).collect();
    let pairs = || before.iter().zip(&after);
    let wakeups = pairs().map(|(before, after)| Some((*after)?.0 - (*before)?.0)).collect();
    let used = pairs().map(|(before, after)| Some(((*after)?.1 - (*before)?.1) / 1e6)).collect();
    vec![
        Row { what: "wake-ups in 60 s at idle", unit: "", figures: wakeups, bar: Bar::AtMost(0.0) },
        Row { what: "processor time in 60 s at idle", unit: "ms", figures: used, bar: Bar::None },
    ]
}

/// For whoever measures with a program of ours as the app.
pub fn own_program() -> String {
    std::env::current_exe().expect("this program").display().to_string()
}

/// A pipe to the app's standard output.
pub fn with_output(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).spawn().expect("started")
}
