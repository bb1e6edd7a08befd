//! What is typed, and that every option is everywhere it has to be.

use argh::ArgsInfo;

use super::*;

const VERB: Verb =
    Verb { name: "run", options: Options::AllBut(&["--timeout"]), operand: None, command: true };

fn read_words(words: &[&str]) -> Result<Parsed, Complaint> {
    let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    parse(&VERB, &Sorted::new(&VERB, &bytes)?)
}

fn typed(words: &[&str]) -> Typed {
    match read_words(words) {
        Ok(Parsed::Typed(typed)) => *typed,
        Ok(Parsed::Help) => panic!("{words:?} asks for help"),
        Err(complaint) => panic!("{words:?}: {complaint}"),
    }
}

fn complaint(words: &[&str]) -> String {
    read_words(words).err().expect("a complaint")
}

fn texts(list: &[Given]) -> Vec<&str> {
    list.iter().map(|given| given.text.as_str()).collect()
}

#[test]
fn a_value_is_the_next_word_or_follows_an_equals_sign() {
    assert_eq!(typed(&["--delay", "3s"]).delay.expect("given").text, "3s");
    assert_eq!(typed(&["--delay=3s"]).delay.expect("given").text, "3s");
    assert_eq!(texts(&typed(&["--map-exit=143=0"]).map_exit), ["143=0"]);
    assert_eq!(texts(&typed(&["--map-exit", "143=0"]).map_exit), ["143=0"]);
}

#[test]
fn argh_s_complaints_are_said_in_our_words() {
    assert!(complaint(&["--dealy", "3s"]).starts_with("--dealy: there is no such option"));
    assert_eq!(complaint(&["--delay"]), "--delay: its value is missing");
    let twice = complaint(&["--delay", "1", "--delay", "2"]);
    assert_eq!(twice, "--delay 2: it is given twice; give it once");
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let mut typed = typed(&["--delay", "1s", "--stop-on", "HUP", "-q"]);
    let environment: [(&[u8], &[u8]); 6] = [
        (b"DELAY", b"9s"),
        (b"STOP_ON", b"QUIT,USR1"),
        (b"MAP_EXIT", b"1=2,3=4"),
        (b"VERBOSE", b"1"),
        (b"GRACE", b""),
        (b"NO_SUCH", b"1"),
    ];
    let mut warnings = Vec::new();
    let complaints =
        typed.add_environment(environment.into_iter(), |warning| warnings.push(warning));
    assert!(complaints.is_empty(), "{complaints:?}");
    assert_eq!(typed.delay.expect("given").text, "1s");
    assert_eq!(texts(&typed.stop_on), ["HUP"]);
    assert_eq!(texts(&typed.map_exit), ["1=2", "3=4"]);
    assert!(!typed.verbose && typed.grace.is_none());
    assert!(matches!(&warnings[..], [one] if one.starts_with("DRAIN_INIT_NO_SUCH: ")));
}

#[test]
fn what_kubernetes_sets_for_a_service_of_our_name_is_no_mistake() {
    let set: [(&[u8], &[u8]); 2] =
        [(b"SERVICE_HOST", b"10.0.0.1"), (b"PORT_80_TCP_ADDR", b"10.0.0.1")];
    let complaints =
        Typed::default().add_environment(set.into_iter(), |warning| panic!("{warning}"));
    assert!(complaints.is_empty());
}

/// Every option is in --help and in README, with its variable, and the variable is read.
#[test]
fn every_option_is_documented_with_its_variable() {
    let help = include_str!("../help.txt");
    let readme = include_str!("../../README.md");
    let options = Typed::get_args_info().flags;
    let options = options.iter().filter(|flag| !["--version", "--help"].contains(&flag.long));
    let mut count = 0;
    for option in options {
        let long = option.long;
        let variable = variable(long.trim_start_matches('-'));
        assert!(help.contains(&format!("{long} ")), "--help lacks {long}");
        assert!(help.contains(&format!("[{variable}, ")), "--help lacks {variable}");
        assert!(readme.contains(&format!("`{long}")), "README lacks {long}");
        let name = variable.strip_prefix(PREFIX).expect("prefix").as_bytes();
        let mut typed = Typed::default();
        let complaints =
            typed.add_environment([(name, b"1".as_slice())].into_iter(), |line| panic!("{line}"));
        assert!(complaints.is_empty(), "{complaints:?}");
        let untouched = format!("{:?}", Typed::default());
        assert_ne!(format!("{typed:?}"), untouched, "{variable} is not read");
        count += 1;
    }
    assert_eq!(help.matches("[DRAIN_INIT_").count(), count, "--help names a variable too many");
}

#[test]
fn help_fits_a_terminal() {
    let long: Vec<&str> =
        include_str!("../help.txt").lines().filter(|line| line.len() > 80).collect();
    assert!(long.is_empty(), "{long:?}");
}
