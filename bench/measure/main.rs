//! Measures what an init costs, beside others in one alternating run, and writes bench/RESULTS.md.
//!
//! usage: measure [--rounds N] [ROW...] -- NAME=PATH...
//!
//! The first two are drain-init as released and plain; names that end in `, musl` are peers built
//! against musl, the rest are Debian's. Started by bench/run.

// Only the program under test is limited to one clock and no sleep.
#![allow(clippy::disallowed_methods)]

mod app;
mod cost;
mod deadline;
mod orphans;
mod signal;
mod start;
mod table;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use table::Row;

/// An init to measure.
pub struct Contender {
    pub name: String,
    pub path: PathBuf,
}

/// How much is measured.
pub struct Rounds(usize);

impl Rounds {
    /// So many where nothing else was asked for.
    pub fn of(&self, usual: usize) -> usize {
        (usual * self.0).div_ceil(100)
    }
}

impl Contender {
    pub fn is_ours(&self) -> bool {
        self.name.starts_with("drain-init")
    }

    pub fn is_musl_peer(&self) -> bool {
        self.name.ends_with(", musl")
    }

    /// It with this as its app. tini is told to adopt orphans, as the others do unasked.
    pub fn command(&self, options: &[&str], app: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        if self.name.starts_with("tini") {
            command.arg("-s");
        }
        command.args(options).arg("--").args(app);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

type Measure = fn(&[Contender], &Rounds) -> Vec<Row>;

const ROWS: [(&str, Measure); 9] = [
    ("size", cost::size),
    ("calls", cost::calls),
    ("instructions", cost::instructions),
    ("memory", cost::memory),
    ("idle", cost::idle),
    ("start", start::added),
    ("signal", signal::latency),
    ("orphans", orphans::reaped),
    ("deadline", deadline::lateness),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [mode, rest @ ..] = arguments.as_slice()
        && mode == "app"
    {
        return app::run(rest);
    }
    let Some((rounds, rows, contenders)) = parse(&arguments) else {
        eprintln!("usage: measure [--rounds PERCENT] [ROW...] -- NAME=PATH...");
        return ExitCode::from(2);
    };
    let mut measured = vec![];
    for (name, measure) in ROWS {
        if rows.is_empty() || rows.iter().any(|row| row == name) {
            eprintln!("measuring: {name}");
            measured.extend(measure(&contenders, &rounds));
        }
    }
    let text = table::text(&contenders, &measured, &rounds);
    println!("{text}");
    if rows.is_empty()
        && let Err(error) = std::fs::write("bench/RESULTS.md", text)
    {
        eprintln!("bench/RESULTS.md: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Option<(Rounds, Vec<String>, Vec<Contender>)> {
    let end = arguments.iter().position(|word| word == "--")?;
    let (options, contenders) = arguments.split_at(end);
    let (rounds, rows) = match options {
        [option, rounds, rows @ ..] if option == "--rounds" => (rounds.parse().ok()?, rows),
        rows => (100, rows),
    };
    if rows.iter().any(|row| !ROWS.iter().any(|(name, _)| row == name)) {
        return None;
    }
    let contender = |word: &String| {
        let (name, path) = word.split_once('=')?;
        Some(Contender { name: name.to_owned(), path: path.into() })
    };
    let contenders = contenders[1..].iter().map(contender).collect::<Option<_>>()?;
    Some((Rounds(rounds), rows.to_vec(), contenders))
}
