//! How late the SIGKILL at the deadline comes, with every processor busy. No peer has a deadline.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;

use crate::cost::{own_program, with_output};
use crate::signal::now;
use crate::table::{Bar, Row, quantile};
use crate::{Contender, Rounds};

/// At once; the deadline of each is 500 ms after its SIGTERM.
const AT_ONCE: usize = 10;
const DUE: f64 = 500.0;

/// Ends with its owner.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn lateness(contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    let processors = available_parallelism().map_or(1, usize::from);
    let busy = |_| {
        let mut command = Command::new("sh");
        Busy(command.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().expect("sh"))
    };
    let _busy: Vec<Busy> = (0..processors).map(busy).collect();
    let mut late: Vec<Option<Vec<f64>>> =
        contenders.iter().map(|one| one.is_ours().then(Vec::new)).collect();
    for _ in 0..rounds.of(200) / AT_ONCE {
        for (contender, late) in contenders.iter().zip(&mut late) {
            if let Some(late) = late {
                late.extend(turn(contender));
            }
        }
    }
    let mut of = |part: f64| {
        late.iter_mut().map(|late| quantile(late.as_mut()?, part)).collect::<Vec<Option<f64>>>()
    };
    let (p99, max) = (of(0.99), of(1.0));
    vec![
        Row {
            what: "SIGKILL after the deadline, 99th percentile",
            unit: "ms",
            figures: p99,
            bar: Bar::AtMost(20.0),
        },
        Row { what: "the same, maximum", unit: "ms", figures: max, bar: Bar::None },
    ]
}

fn turn(contender: &Contender) -> Vec<f64> {
    let options = ["--delay=0", "--grace=1s", "--kill-margin=500ms"];
    let program = own_program();
    let start = |_| {
        let mut child = with_output(contender.command(&options, &[&program, "app", "ignore"]));
        let mut ready = [0; 8];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("the app runs");
        let sent = now();
        // SAFETY: a child of ours that has not been waited for.
        unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
        (child, sent)
    };
    let children: Vec<(Child, u64)> = (0..AT_ONCE).map(start).collect();
    let ends = children.into_iter().map(|(mut child, sent)| {
        // The app's end closes the pipe; a thread each would only add to the load.
        let mut rest = vec![];
        child.stdout.take().expect("a pipe").read_to_end(&mut rest).expect("read");
        let took = (now() - sent) as f64 / 1e6;
        let status = child.wait().expect("waited for");
        assert_eq!(status.code(), Some(137), "{}", contender.name);
        took - DUE
    });
    ends.collect()
}
