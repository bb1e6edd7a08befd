//! Command lines, and the messages for invalid ones.

use std::ffi::CString;

use super::*;
use crate::options::typed::{Given, Install, Options};

const RUN: Verb = Verb { name: "run", only: None, command: true };
const INSTALL: Verb = Verb { name: "install", only: None, command: false };
const PRESTOP: Verb = Verb { name: "prestop", only: Some(&["delay"]), command: false };

/// The options of these words, or the one line of the message.
fn read_words<T: Texts>(verb: &Verb, words: &[&str]) -> Result<T, String> {
    let words: Vec<CString> =
        words.iter().map(|word| CString::new(*word).expect("a word")).collect();
    let mut result = Err(String::new());
    crate::sys::with_arguments(&words, |arguments| {
        result = match read(verb, arguments) {
            Ok(Asked::Options(read)) => Ok(read.options),
            Ok(Asked::Help | Asked::Version) => panic!("{words:?} are not options"),
            Err(Refused { lines, .. }) => {
                let [line] = &lines[..] else { panic!("{lines:?}") };
                Err(line.clone())
            }
        };
    });
    result
}

fn typed(words: &[&str]) -> Options {
    read_words(&RUN, words).unwrap_or_else(|complaint| panic!("{words:?}: {complaint}"))
}

fn complaint(words: &[&str]) -> String {
    read_words::<Options>(&RUN, words).expect_err("a complaint")
}

fn texts(given: &[Given]) -> Vec<String> {
    given.iter().map(Given::to_string).collect()
}

#[test]
fn a_value_is_the_next_word_or_follows_an_equals_sign() {
    for words in [&["--delay", "3s"][..], &["--delay=3s"]] {
        assert_eq!(texts(typed(words).delay.as_slice()), ["--delay 3s"]);
    }
    for words in
        [&["--map-exit=143=0", "--map-exit", "1=2"][..], &["--map-exit=143=0", "--map-exit=1=2"]]
    {
        assert_eq!(texts(&typed(words).map_exit), ["--map-exit 143=0", "--map-exit 1=2"]);
    }
    assert!(typed(&["-g"]).group && typed(&["--group"]).group && !typed(&[]).group);
}

/// Whatever it looks like.
#[test]
fn a_value_may_begin_with_dashes_or_be_empty() {
    let typed = typed(&["--ready-file", "--delay=3", "--drain-file=-h", "--delay="]);
    assert_eq!(texts(typed.ready_file.as_slice()), ["--ready-file --delay=3"]);
    assert_eq!(texts(typed.drain_file.as_slice()), ["--drain-file -h"]);
    assert_eq!(texts(typed.delay.as_slice()), ["--delay ''"]);
}

/// In our own words, for any version of argh.
#[test]
fn what_argh_refuses_is_one_line_of_ours() {
    let see = "(see drain-init --help)";
    for (words, line) in [
        (&["--dealy", "3s"][..], format!("unknown option --dealy {see}")),
        (&["--dealy=3s"], format!("unknown option --dealy {see}")),
        (&["--until_quiet=3s"], format!("unknown option --until_quiet {see}")),
        (&["-group"], format!("unknown option -group {see}")),
        (&["-g=1"], format!("unknown option -g {see}")),
        (&["--timeout", "1"], format!("--timeout is not an option of run {see}")),
        (&["--quiet=1"], "--quiet=1: --quiet takes no value".to_owned()),
        (&["--delay"], "--delay needs a value".to_owned()),
        (&["--delay", "1", "--delay=2"], "--delay is given twice; give it once".to_owned()),
    ] {
        assert_eq!(complaint(words), line);
    }
    for (words, line) in [
        (&[][..], "DEST is missing: drain-init install DEST"),
        (&["a", "b"], "b: one word too many for install"),
        (&["--", "a"], "--: install takes no COMMAND"),
    ] {
        assert_eq!(read_words::<Install>(&INSTALL, words).expect_err("a complaint"), line);
    }
    let line = read_words::<Options>(&PRESTOP, &["--grace", "3s"]).expect_err("the entrypoint's");
    assert_eq!(line, format!("--grace is not an option of prestop {see}"));
    assert!(read_words::<Options>(&PRESTOP, &["--delay", "3s"]).is_ok());
}

#[test]
fn a_misplaced_command_is_shown_in_its_place() {
    let line = "delay=3s: COMMAND follows `--`: drain-init run -g -- delay=3s --delay";
    assert_eq!(complaint(&["-g", "delay=3s", "--delay"]), line);
    assert_eq!(complaint(&["app", "--", "x"]), "app: not an option, and COMMAND follows `--`");
    // An earlier mistake is reported first.
    assert!(complaint(&["--dealy", "3s", "--", "x"]).starts_with("unknown option --dealy "));
}
