//! What options mean together. One bad value at a time is tried on the binary, in tests/.

use super::*;
use crate::cli::Source;

fn config(typed: &Typed) -> Result<Config, Vec<Complaint>> {
    Config::new(typed, Surroundings::Checked)
}

fn given(text: &str) -> Option<Given> {
    Some(Given { text: text.to_owned(), source: Source::CommandLine })
}

fn list(texts: &[&str]) -> Vec<Given> {
    texts.iter().filter_map(|text| given(text)).collect()
}

#[test]
fn nothing_said_is_the_defaults() {
    let config = config(&Typed::default()).expect("the defaults are right");
    assert_eq!(config.plan.delay, DELAY);
    assert_eq!(config.plan.kill_after(), Duration::from_millis(29_500));
    assert_eq!(config.plan.stop_on, SignalSet::from_iter([Signal::INT, Signal::TERM]));
}

#[test]
fn every_finding_is_reported_and_none_that_only_follows() {
    let typed = Typed {
        delay: given("5x"),
        max_delay: given("1s"),
        stop_signal: given("KILL"),
        map_exit: list(&["300=0", "1"]),
        ..Typed::default()
    };
    let complaints = config(&typed).expect_err("nonsense");
    let options: Vec<&str> = complaints.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(options, ["--delay", "--stop-signal", "--map-exit", "--map-exit"]);
}

#[test]
fn escalations_are_put_in_the_order_in_which_they_are_due() {
    let typed = Typed { escalate: list(&["QUIT:2s", "USR1:10s"]), ..Typed::default() };
    let escalate = config(&typed).expect("right").plan.escalate;
    let seconds: Vec<u64> = escalate.iter().map(|one| one.before_kill.as_secs()).collect();
    assert_eq!(seconds, [10, 2]);
}

#[test]
fn a_stop_signal_may_become_another_stop_signal_only() {
    let with = |map: &str| Typed { map_signal: list(&[map]), ..Typed::default() };
    assert!(config(&with("TERM=INT")).is_ok());
    assert!(config(&with("HUP=TERM")).is_ok());
    assert!(config(&with("HUP=none")).is_ok());
    assert!(config(&with("TERM=none")).is_err());
    let complaints = config(&with("TERM=QUIT")).expect_err("no stop any more");
    assert!(complaints.concat().contains("--stop-signal SIGQUIT"), "{complaints:?}");
}
