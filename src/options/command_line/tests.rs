//! What is typed, and that every option is everywhere it has to be.

use std::ffi::CString;

use super::*;

const VERB: Verb =
    Verb { name: "run", options: Options::AllBut(&["timeout"]), operand: None, command: true };

impl Typed {
    /// As if these had been typed, options and texts.
    pub fn of(options: &[(&str, &'static str)]) -> Self {
        let given = |(name, text): &(&str, &'static str)| {
            let option = OPTIONS.iter().map(|(option, _)| *option).find(|option| option == name);
            let option = option.expect("an option");
            Given { option, text, source: Source::CommandLine }
        };
        Self { given: options.iter().map(given).collect(), ..Self::default() }
    }

    fn texts(&self, option: &'static str) -> Vec<&str> {
        self.all(option).map(|given| given.text).collect()
    }
}

fn read_words(words: &[&str]) -> Result<Typed, String> {
    let words: Vec<CString> =
        words.iter().map(|word| CString::new(*word).expect("a word")).collect();
    let words: &'static [CString] = words.leak();
    let mut result = Err(String::new());
    sys::with_arguments(words, |arguments| {
        let mut line = String::new();
        let mut complain = |complaint: fmt::Arguments| line = complaint.to_string();
        let asked = read(&VERB, arguments, &mut complain);
        result = match asked {
            Ok(Asked::Options(read)) => Ok(read.typed),
            Ok(Asked::Help | Asked::Version) => panic!("{words:?} are no options"),
            Err(Refused) => Err(line),
        };
    });
    result
}

fn typed(words: &[&str]) -> Typed {
    read_words(words).unwrap_or_else(|complaint| panic!("{words:?}: {complaint}"))
}

fn complaint(words: &[&str]) -> String {
    read_words(words).expect_err("a complaint")
}

/// What is complained of.
fn add(typed: &mut Typed, variables: &[(&'static str, &'static str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let variables = variables.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let mut complain = |line: fmt::Arguments| complaints.push(line.to_string());
    let result = typed.add_environment(variables, &mut complain);
    assert_eq!(result.is_err(), !complaints.is_empty());
    complaints
}

#[test]
fn a_value_is_the_next_word_or_follows_an_equals_sign() {
    assert_eq!(typed(&["--delay", "3s"]).texts("delay"), ["3s"]);
    assert_eq!(typed(&["--delay=3s"]).texts("delay"), ["3s"]);
    assert_eq!(typed(&["--map-exit=143=0"]).texts("map-exit"), ["143=0"]);
    assert_eq!(typed(&["--map-exit", "143=0"]).texts("map-exit"), ["143=0"]);
}

#[test]
fn what_is_no_option_is_complained_of() {
    assert!(complaint(&["--dealy", "3s"]).starts_with("--dealy: there is no such option"));
    assert!(complaint(&["delay=3s"]).starts_with("delay=3s: COMMAND follows `--`"));
    assert!(complaint(&["-group"]).starts_with("-group: there is no such option"));
    assert!(complaint(&["--timeout", "1"]).starts_with("--timeout: is no option of run;"));
    assert_eq!(complaint(&["-g=1"]), "-g=1: it takes no value; write -g");
    assert_eq!(complaint(&["--delay"]), "--delay: its value is missing");
    let twice = complaint(&["--delay", "1", "--delay=2"]);
    assert_eq!(twice, "--delay 2: it is given twice; give it once");
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let mut typed = typed(&["--delay", "1s", "--stop-on", "HUP", "-q"]);
    let complaints = add(
        &mut typed,
        &[
            ("DELAY", "9s"),
            ("STOP_ON", "QUIT,USR1"),
            ("MAP_EXIT", "1=2,3=4"),
            ("VERBOSE", "1"),
            ("GRACE", ""),
            ("NO_SUCH", "1"),
        ],
    );
    assert!(complaints.is_empty(), "{complaints:?}");
    assert_eq!(typed.texts("delay"), ["1s"]);
    assert_eq!(typed.texts("stop-on"), ["HUP"]);
    assert_eq!(typed.texts("map-exit"), ["1=2", "3=4"]);
    assert!(typed.one("verbose").is_none() && typed.one("grace").is_none());
    assert_eq!(typed.unknown, ["NO_SUCH"]);
}

/// A comma too many is a mistake; a line of a YAML block that is empty is none.
#[test]
fn a_variable_lists_with_commas_or_lines() {
    let mut typed = Typed::default();
    let lists = [("STOP_ON", "QUIT,,HUP"), ("ON_DRAIN", "exec:a b,c\n\nexec:d\n")];
    assert_eq!(add(&mut typed, &lists), [""; 0]);
    assert_eq!(typed.texts("stop-on"), ["QUIT", "", "HUP"]);
    assert_eq!(typed.texts("on-drain"), ["exec:a b,c", "exec:d"]);
}

#[test]
fn what_kubernetes_sets_for_a_service_of_our_name_is_no_mistake() {
    let set = [("SERVICE_HOST", "10.0.0.1"), ("PORT_80_TCP_ADDR", "10.0.0.1")];
    let mut typed = Typed::default();
    assert_eq!((add(&mut typed, &set), typed.unknown), (vec![], vec![]));
}

/// Every option is in --help and in README, with its variable, and the variable is read.
#[test]
fn every_option_is_documented_with_its_variable() {
    let help = include_str!("../help.txt");
    let readme = include_str!("../../../README.md");
    for (option, takes) in OPTIONS {
        let name: &str = String::from_utf8(capitals(option).collect()).expect("ASCII").leak();
        assert!(help.contains(&format!(" --{option} ")), "--help lacks {option}");
        assert!(help.contains(&format!("[{PREFIX}{name}, ")), "--help lacks {name}");
        assert!(readme.contains(&format!("`--{option}")), "README lacks {option}");
        if let Nothing(short) = takes {
            let short = char::from(short);
            assert!(help.contains(&format!("-{short}, --{option} ")), "--help lacks -{short}");
        }
        let mut typed = Typed::default();
        assert_eq!(add(&mut typed, &[(name, "1")]), [""; 0]);
        assert!(typed.one(option).is_some(), "{name} is not read");
    }
    let count = help.matches("[DRAIN_INIT_").count();
    assert_eq!(count, OPTIONS.len(), "--help names a variable too many");
}

#[test]
fn help_fits_a_terminal() {
    let long: Vec<&str> =
        include_str!("../help.txt").lines().filter(|line| line.len() > 80).collect();
    assert!(long.is_empty(), "{long:?}");
}
