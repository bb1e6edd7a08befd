//! The time to start a command and see it end, over starting it bare.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::table::{Bar, Row, median, quantile};
use crate::{Contender, Rounds};

const APP: &str = "/bin/true";

pub fn added(contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    let rounds = rounds.of(2000);
    let mut bare = vec![];
    let mut times: Vec<Vec<f64>> = contenders.iter().map(|_| vec![]).collect();
    for round in 0..rounds {
        bare.push(time(Command::new(APP).stdin(Stdio::null())));
        for turn in 0..contenders.len() {
            // Not always the same one after the same one.
            let index = (turn + round) % contenders.len();
            times[index].push(time(&mut contenders[index].command(&[], &[APP])));
        }
    }
    let mut over = |part: fn(&mut [f64]) -> Option<f64>| {
        let bare = part(&mut bare);
        let all = times.iter_mut().map(|times| Some((part(times)? - bare?).max(0.0)));
        all.collect()
    };
    let bar = Bar::Times { debian: 0.35, musl: Some(1.2) };
    vec![
        Row { what: "time over a bare start, median", unit: "ms", figures: over(median), bar },
        Row {
            what: "the same, 99th percentile",
            unit: "ms",
            figures: over(|times| quantile(times, 0.99)),
            bar: Bar::None,
        },
    ]
}

/// In milliseconds.
fn time(command: &mut Command) -> f64 {
    let began = Instant::now();
    let status = command.status();
    let took = began.elapsed().as_secs_f64() * 1000.0;
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
    took
}
