//! Combinations of options. Single invalid values are tested on the binary, in tests/.

use super::*;
use crate::signal::SignalSet;

/// The options and their texts.
fn config(options: &[(&str, &'static str)]) -> Result<Config, Vec<String>> {
    let result = Config::new(&Options::of(options), Surroundings::Checked);
    result.map_err(|refused| refused.lines)
}

#[test]
fn nothing_said_is_the_defaults() {
    let config = config(&[]).expect("the defaults are right");
    assert_eq!(config.plan.delay, DELAY);
    assert_eq!(config.plan.kill_after(), Duration::from_millis(29_500));
    assert_eq!(config.plan.stop_on, SignalSet::from_iter([Signal::INT, Signal::TERM]));
}

#[test]
fn every_finding_is_reported_and_none_that_only_follows() {
    let complaints = config(&[
        ("delay", "5x"),
        ("max_delay", "1s"),
        ("stop_signal", "KILL"),
        ("map_exit", "300=0"),
        ("map_exit", "1"),
    ])
    .expect_err("nonsense");
    let options: Vec<&str> = complaints.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(options, ["--delay", "--stop-signal", "--map-exit", "--map-exit"]);
}

#[test]
fn escalations_are_put_in_the_order_in_which_they_are_due() {
    let options = [("escalate", "QUIT:2s"), ("escalate", "USR1:10s")];
    let escalate = config(&options).expect("right").plan.escalate;
    let seconds: Vec<u64> = escalate.iter().map(|one| one.before_kill.as_secs()).collect();
    assert_eq!(seconds, [10, 2]);
}

#[test]
fn a_stop_signal_may_become_another_stop_signal_only() {
    let with = |map| config(&[("map_signal", map)]);
    assert!(with("TERM=INT").is_ok());
    assert!(with("HUP=TERM").is_ok());
    assert!(with("HUP=none").is_ok());
    assert!(with("TERM=none").is_err());
    let complaints = with("TERM=QUIT").expect_err("no stop any more");
    assert!(complaints.concat().contains("--stop-signal SIGQUIT"), "{complaints:?}");
}

/// Half of the grace period leaves no drain if SIGKILL is sent then.
#[test]
fn the_longest_drain_is_half_of_the_grace_period_if_that_leaves_time() {
    let longest = |options: &[_]| config(options).expect("right").plan.max_delay;
    assert_eq!(longest(&[]), Duration::from_secs(15));
    assert_eq!(longest(&[("delay", "20s")]), Duration::from_secs(20));
    let grace = [("delay", "1"), ("grace", "4")];
    assert_eq!(longest(&[&grace[..], &[("kill_margin", "1.9s")]].concat()), Duration::from_secs(2));
    assert_eq!(longest(&[&grace[..], &[("kill_margin", "2s")]].concat()), Duration::from_secs(1));
    assert_eq!(longest(&[("max_delay", "5s")]), Duration::from_secs(5), "as long as the delay");
}

#[test]
fn times_may_be_as_long_as_there_is_time_for_them() {
    for (options, too_long) in [
        ([("unready_delay", "5s"), ("delay", "5s")], ("unready_delay", "5001ms")),
        ([("until_quiet", "15s"), ("delay", "5s")], ("until_quiet", "15001ms")),
        ([("escalate", "QUIT:24.5s"), ("delay", "5s")], ("escalate", "QUIT:24501ms")),
    ] {
        assert!(config(&options).is_ok(), "{options:?}");
        assert!(config(&[too_long, options[1]]).is_err(), "{too_long:?}");
    }
}
