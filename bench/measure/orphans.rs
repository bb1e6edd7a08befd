//! 100,000 processes that end as orphans, under each init as PID 1 of a namespace.

use std::io::Read as _;
use std::process::{Command, Stdio};

use crate::cost::own_program;
use crate::table::{Bar, Row};
use crate::{Contender, Rounds};

/// So many turns, of which the median counts.
const TURNS: usize = 20;

pub fn reaped(contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    let count = rounds.of(100_000) / TURNS;
    let mut turns = vec![vec![]; contenders.len()];
    for number in 0..TURNS {
        // Another one begins each time.
        for place in 0..contenders.len() {
            let index = (number + place) % contenders.len();
            turns[index].push(turn(&contenders[index], count));
        }
    }
    let median = |turns: &Vec<[f64; 3]>, field: usize| {
        let mut figures: Vec<f64> = turns.iter().map(|turn| turn[field]).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2] * TURNS as f64
    };
    let of = |field| turns.iter().map(|turns| Some(median(turns, field))).collect();
    let most = turns.iter().map(|turns| turns.iter().map(|turn| turn[2]).fold(0.0, f64::max));
    vec![
        Row {
            what: "100,000 orphans made and reaped",
            unit: "s",
            figures: of(0),
            bar: Bar::Times { debian: 1.0, musl: None },
        },
        Row {
            what: "the init's processor time for them",
            unit: "s",
            figures: of(1),
            bar: Bar::None,
        },
        Row {
            what: "most zombies at once",
            unit: "",
            figures: most.map(Some).collect(),
            bar: Bar::None,
        },
    ]
}

/// Seconds, seconds of processor time, and zombies, as the app tells them.
fn turn(contender: &Contender, count: usize) -> [f64; 3] {
    let (program, count) = (own_program(), count.to_string());
    let init = contender.command(&[], &[&program, "app", "orphans", &count]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(init.get_program()).args(init.get_args());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("unshare");
    let mut text = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("read");
    let status = child.wait().expect("waited for");
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match figures.try_into() {
        Ok(figures) if status.success() => figures,
        _ => panic!("{}: {status}: {text}", contender.name),
    }
}
