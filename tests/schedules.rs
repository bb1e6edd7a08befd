//! Runs the real binary through random, seeded schedules of signals, pauses, exits and kills, and checks each run against the
//! laws of `lifecycle`. See support/schedule.rs.
//!
//!     SCHEDULES=100000 cargo test --release --test schedules     that many, not 1,000
//!     SEED=17 cargo test --test schedules                        that one again, alone

mod support;

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use support::schedule::{Broken, live};
use support::{needs_namespaces, witness};

/// Seeds on which a law, or the code that checks it, was once wrong.
const KNOWN: [u64; 1] = [12_122_000_501];

/// At once: most of a life is waiting.
const AT_ONCE: u64 = 60;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

#[test]
fn the_laws_hold_in_every_schedule() {
    let pid1 = if needs_namespaces() { None } else { Some(false) };
    witness(); // built before any time is measured
    if let Some(seed) = number("SEED") {
        return live(seed, pid1).unwrap_or_else(|broken| panic!("{}", broken.what));
    }
    let many = number("SCHEDULES").unwrap_or(1000);
    // Other ones each time, from a seed that is said.
    let first = number("FIRST_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 1_000_000);
    println!("seeds {first} to {}", first + many - 1);
    let seed = |number: u64| KNOWN.get(number as usize).copied().unwrap_or(first + number);
    let (next, broken) = (AtomicU64::new(0), Mutex::new(Vec::<(u64, Broken)>::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let seed = seed(number);
                    if number >= many || broken.lock().is_ok_and(|broken| broken.len() > 20) {
                        return;
                    }
                    if let Err(law) = live(seed, pid1) {
                        broken.lock().expect("the list").push((seed, law));
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().expect("the list");
    let late = broken.iter().filter(|(_, law)| !law.for_sure).count();
    println!("{many} schedules, {} broke a law, {late} of them may have been late", broken.len());
    for (_, law) in &broken {
        println!("{}", law.what.lines().next().unwrap_or_default());
    }
    for (seed, law) in broken {
        // A loaded machine is late as well, but not three times in a row with nothing beside it.
        let holds = !law.for_sure && (0..3).any(|_| live(seed, pid1).is_ok());
        assert!(holds, "SEED={seed} shows it again\n{}", law.what);
    }
}
