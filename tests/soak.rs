//! For hours if need be: lives as chance makes them, each as PID 1 of a namespace of its own and held to the laws of schedules.rs;
//! and beside them one drain-init that lives on through signals, orphans, probes and hooks, and must not grow.
//!
//!     SOAK_MINUTES=30 cargo test --release --test soak -- --nocapture     without it, a few seconds

mod support;

use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::life::{own_address, readyz};
use support::proc::descriptors_of;
use support::schedule::live;
use support::system::{self, now, try_signal};
use support::{
    Init, Kind, LIMIT, Running, becomes_true, children_of, companion_of, init, left_by_these_tests,
    needs_namespaces, needs_static, stat_of, static_init, witness,
};

const AT_ONCE: usize = 30;
const DRAIN: i32 = 64;

fn soak_time() -> Duration {
    let minutes = env::var("SOAK_MINUTES").map_or(0.05, |text| text.parse().expect("minutes"));
    Duration::from_secs_f64(minutes * 60.0)
}

#[test]
fn thousands_of_lives_leave_nothing_and_a_long_one_does_not_grow() {
    if !needs_static() || !needs_namespaces() {
        return;
    }
    witness(); // built before any time is measured
    let mut long = LongLife::start();
    // Memory that it needs for the first of each kind is kept from then on.
    (0..50).for_each(|_| long.lives_on());
    let before = long.costs();
    println!("after {} rounds: {before:?}", long.rounds);
    let end = now() + soak_time();
    let seeds = AtomicU64::new(u64::from(std::process::id()) * 1_000_000);
    let (lives, late, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while now() < end && !stop.load(Ordering::Relaxed) {
                    let seed = seeds.fetch_add(1, Ordering::Relaxed);
                    lives.fetch_add(1, Ordering::Relaxed);
                    let Err(broken) = live(seed, Some(true)) else { continue };
                    late.fetch_add(1, Ordering::Relaxed);
                    // As in schedules.rs: who may have been late on a loaded machine is given three more.
                    let holds = |_| live(seed, Some(true)).is_ok();
                    if broken.for_sure || !(0..3).any(holds) {
                        stop.store(true, Ordering::Relaxed);
                        panic!("{}", broken.what);
                    }
                }
            });
        }
        while now() < end && !stop.load(Ordering::Relaxed) {
            long.lives_on();
        }
    });
    let after = long.costs();
    println!("after {} rounds: {after:?}", long.rounds);
    let [lives, late] = [lives, late].map(AtomicU64::into_inner);
    println!("{lives} lives of one PID namespace each, {late} of them late at first");
    assert_eq!(before.descriptors, after.descriptors);
    assert!(after.memory <= before.memory + 32, "it grows: {before:?}, {after:?}");
    drop(long);
    assert!(
        becomes_true(LIMIT, || left_by_these_tests().is_empty()),
        "{:?}",
        left_by_these_tests()
    );
}

/// A drain-init that runs for the whole test.
struct LongLife {
    run: Running,
    address: String,
    rounds: usize,
}

#[derive(Debug)]
#[allow(dead_code)] // all of it is printed
struct Costs {
    /// Resident, and all that is mapped, in kB.
    memory: u64,
    mapped: u64,
    descriptors: usize,
    /// Resident memory and descriptors of the readiness server, which is killed and started again now and then.
    server: (u64, usize),
}

impl LongLife {
    fn start() -> Self {
        let address = own_address();
        // The release build, as the memory of a debug build says nothing.
        let init = Init::new(Kind::DrainInit, static_init()).pid1();
        let options =
            "--delay 0 --max-delay 50ms --grace 150ms --kill-margin 50ms --on-drain exec:/bin/true";
        let init = init.args(options).args(&format!("--ready-listen {address}"));
        let mut run = init.app(["ready", "trap"]).start();
        run.line("ready");
        assert!(becomes_true(LIMIT, || readyz(&address) == Some(200)), "ready");
        Self { run, address, rounds: 0 }
    }

    /// Signals, each of which must arrive, and orphans, and a probe; now and then a hook's drain that no stop signal follows, and
    /// the end of the readiness server.
    fn lives_on(&mut self) {
        self.rounds += 1;
        (0..20).for_each(|_| _ = self.run.signal(40));
        (0..20).for_each(|_| _ = self.run.line("signal 40"));
        let app = ["orphans:20", "release", "reaped"];
        let beside = init().bare().beside(&self.run).app(app).ended();
        assert!(beside.out.iter().any(|line| line.starts_with("reaped in")), "{beside:?}");
        if self.rounds.is_multiple_of(10) {
            self.run.signal(DRAIN);
            self.run.log("ready again, nothing is killed");
        }
        if self.rounds.is_multiple_of(25) {
            let server = companion_of(self.run.pid, "ready");
            server.into_iter().for_each(|pid| try_signal(pid, system::KILL));
        }
        let (run, address, rounds) = (self.run.pid, &self.address, self.rounds);
        assert!(becomes_true(LIMIT, || readyz(address) == Some(200)), "ready, round {rounds}");
        let is_zombie = |pid: &i32| stat_of(*pid).is_some_and(|stat| stat.state == 'Z');
        let zombies = || children_of(run).iter().filter(|pid| is_zombie(pid)).count();
        assert!(becomes_true(LIMIT, || zombies() == 0), "zombies, round {rounds}");
    }

    fn costs(&self) -> Costs {
        let mut server = None;
        assert!(becomes_true(LIMIT, || {
            server = companion_of(self.run.pid, "ready");
            server.is_some()
        }));
        let server = server.unwrap_or_default();
        Costs {
            memory: self.run.status("VmRSS"),
            mapped: self.run.status("VmSize"),
            descriptors: descriptors_of(self.run.pid),
            server: (support::status_of(server, "VmRSS"), descriptors_of(server)),
        }
    }
}
