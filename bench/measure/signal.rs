//! From kill(2) to the first instruction of the app's handler, all on one processor.

use std::io::Read as _;
use std::process::Child;

use crate::cost::{own_program, with_output};
use crate::table::{Bar, Row, median, quantile};
use crate::{Contender, Rounds};

/// Signals to one contender before it is the next one's turn.
const TURN: usize = 50;

pub fn latency(contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    on_one_processor(|| measured(contenders, rounds))
}

/// Does it on one processor, with all that it starts.
pub fn on_one_processor<T>(work: impl FnOnce() -> T) -> T {
    let everywhere = affinity();
    stay_on(&one_of(&everywhere));
    let done = work();
    stay_on(&everywhere);
    done
}

fn measured(contenders: &[Contender], rounds: &Rounds) -> Vec<Row> {
    let program = own_program();
    let start = |contender: &Contender| {
        let mut child = with_output(contender.command(&[], &[&program, "app", "handler"]));
        time(&mut child); // it says when it is ready
        child
    };
    let mut children: Vec<Child> = contenders.iter().map(start).collect();
    let mut times: Vec<Vec<f64>> = contenders.iter().map(|_| vec![]).collect();
    for _ in 0..rounds.of(5000) / TURN {
        for (child, times) in children.iter_mut().zip(&mut times) {
            for _ in 0..TURN {
                let sent = now();
                // SAFETY: a child of ours that has not been waited for.
                unsafe { libc::kill(child.id().cast_signed(), libc::SIGUSR1) };
                times.push(time(child).saturating_sub(sent) as f64 / 1000.0);
            }
        }
    }
    for mut child in children {
        // SAFETY: as above; the app ends by it, and the init with it.
        unsafe { libc::kill(child.id().cast_signed(), libc::SIGQUIT) };
        let _ = child.wait();
    }
    let mut of =
        |part: fn(&mut [f64]) -> Option<f64>| times.iter_mut().map(|times| part(times)).collect();
    vec![
        Row {
            what: "signal to the app's handler, median",
            unit: "us",
            figures: of(median),
            bar: Bar::Times { debian: 1.1, musl: None },
        },
        Row {
            what: "the same, 99th percentile",
            unit: "us",
            figures: of(|times| quantile(times, 0.99)),
            bar: Bar::None,
        },
    ]
}

/// The next time that the app reports, in nanoseconds.
fn time(child: &mut Child) -> u64 {
    let mut bytes = [0; 8];
    let from = child.stdout.as_mut().expect("a pipe");
    from.read_exact(&mut bytes).expect("the app runs");
    u64::from_ne_bytes(bytes)
}

/// Of the monotonic clock, in nanoseconds; safe in a signal handler.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

fn affinity() -> libc::cpu_set_t {
    // SAFETY: all zeros is a valid set, which the call fills.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &raw mut set);
        set
    }
}

/// The first of them.
fn one_of(all: &libc::cpu_set_t) -> libc::cpu_set_t {
    // SAFETY: the index is below the set's size.
    unsafe {
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        let first = (0..libc::CPU_SETSIZE as usize).find(|index| libc::CPU_ISSET(*index, all));
        libc::CPU_SET(first.expect("a processor"), &mut one);
        one
    }
}

/// From now on, with what is started.
fn stay_on(processors: &libc::cpu_set_t) {
    // SAFETY: a valid set.
    unsafe { libc::sched_setaffinity(0, size_of_val(processors), processors) };
}
