//! The time to start a command and see it end, over starting it bare.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::signal::on_one_processor;
use crate::table::{Bar, Row, median, quantile};
use crate::{Contender, Rounds};

const APP: &str = "/bin/true";

pub fn added(contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    let bar = Bar::Times { debian: 0.42, musl: Some(1.2) };
    let [median, quantile] = measured(contenders, rounds);
    // Without what it costs to wake up another processor, which is much on a virtual machine.
    let [on_one, _] = on_one_processor(|| measured(contenders, rounds));
    let row = |what, figures, bar| Row { what, unit: "ms", figures, bar };
    vec![
        row("time over a bare start, median", median, bar),
        row("the same, 99th percentile", quantile, Bar::None),
        row("time over a bare start on one processor, median", on_one, Bar::None),
    ]
}

/// Of each: the median and the 99th percentile.
fn measured(contenders: &[Contender], rounds: &Rounds) -> [Vec<Option<f64>>; 2] {
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
    [over(median), over(|times| quantile(times, 0.99))]
}

/// In milliseconds.
fn time(command: &mut Command) -> f64 {
    let began = Instant::now();
    let status = command.status();
    let took = began.elapsed().as_secs_f64() * 1000.0;
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
    took
}
