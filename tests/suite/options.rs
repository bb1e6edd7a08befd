//! Checks that --help, the table in docs/options.md and the program agree on options, variables and defaults.

use std::collections::BTreeMap;
use std::fs;

use crate::support::options::{SWITCHES, VALUES, variable};
use crate::support::{Init, init};

/// An option as a text has it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// Its letter, if it has one, and what its value is called.
    form: String,
    repeatable: bool,
    default: String,
}

type Options = BTreeMap<String, Told>;

fn help() -> String {
    let ended = init().arg("--help").ended();
    assert_eq!((ended.code, &ended.err), (0, &vec![]));
    ended.out.join("\n")
}

/// `-g, --group` and the like: the name without dashes, and the whole without them.
fn name_of(form: &str) -> &str {
    let long = form.split("--").nth(1).unwrap_or_else(|| panic!("no option: {form}"));
    long.split(' ').next().expect("a name")
}

/// The options of --help; the bracket of each begins with its variable.
fn of_help(help: &str) -> Options {
    let mut found = Options::new();
    // Each begins a line, two columns in; what it does begins after two more spaces at the least, or fills the line.
    let mut rest = help;
    while let Some(at) = rest.find("\n  -") {
        rest = &rest[at + 3..];
        let Some((option, after)) =
            rest.split_once('[').filter(|(option, _)| !option.contains("\n  -"))
        else {
            continue; // --version and --help have no variable
        };
        // `--ignore-peer ADDR[/BITS] *` has one of its own.
        let (option, after) = match after.strip_prefix("/BITS]") {
            Some(after) => {
                let (_, after) = after.split_once('[').expect("its variable");
                ("--ignore-peer ADDR[/BITS] *  ", after)
            }
            None => (option, after),
        };
        let (bracket, _) = after.split_once(']').expect("the bracket's end");
        let (named, default) = bracket.split_once(", ").expect("a variable and a default");
        let form = option.split("  ").next().expect("the form").lines().next().expect("a line");
        let (form, repeatable) = match form.strip_suffix(" *") {
            Some(form) => (form, true),
            None => (form, form.ends_with('*')),
        };
        let name = name_of(form).to_owned();
        assert_eq!(named, variable(&name), "the variable of --{name}");
        // A long default continues on the next line.
        let default = default.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = Told { form: form.trim().to_owned(), repeatable, default };
        assert!(found.insert(name.clone(), told).is_none(), "--help has --{name} twice");
    }
    found
}

/// The rows of the table in docs/options.md; two options of one row share what is said there.
fn of_table() -> Options {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/options.md");
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let table = text.split("| option | default | what it does |").nth(1).expect("the table");
    let mut found = Options::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, options, default, ..] = columns[..] else { panic!("three columns: {row}") };
        let (options, repeatable) = match options.strip_suffix(" (repeatable)") {
            Some(options) => (options, true),
            None => (options, false),
        };
        let quoted: Vec<&str> = options.split('`').skip(1).step_by(2).collect();
        let forms: Vec<String> = match quoted[..] {
            // A letter, and the option that it stands for.
            [letter, option] if letter.len() == 2 => vec![format!("{letter}, {option}")],
            // Another form of the value, which --help has in its text.
            [option, other] if !other.starts_with('-') => {
                vec![match option.contains("log-format") {
                    true => format!("{option}|{other}"),
                    false => option.to_owned(),
                }]
            }
            _ => quoted.into_iter().map(str::to_owned).collect(),
        };
        for form in forms {
            let told = Told { form, repeatable, default: default.to_owned() };
            let name = name_of(&told.form).to_owned();
            assert!(
                found.insert(name.clone(), told).is_none(),
                "docs/options.md has --{name} twice"
            );
        }
    }
    found
}

/// The default of --orphan-grace.
const REST_OF_GRACE: &str = "what is left of --grace after a requested stop, else 3s";

/// As --help has it, in fewer letters.
fn shortened(default: &str) -> &str {
    match default {
        "" => "none",
        "TERM, INT" => "TERM,INT",
        "the larger of `--delay` and half of `--grace`" => "half of --grace or --delay",
        "what is left of `--grace` after a requested stop, else 3s" => REST_OF_GRACE,
        other => other,
    }
}

/// Fits a terminal, and is the same wherever it is asked for.
#[test]
fn help_is_80_columns_wide() {
    let help = help();
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for form in [
        "-h",
        "run --help",
        "explain --help",
        "prestop --help",
        "probe --help",
        "wait --help",
        "install --help",
    ] {
        let ended = init().args(form).ended();
        assert_eq!(
            (ended.code, ended.out.join("\n"), ended.err),
            (0, help.clone(), vec![]),
            "{form}"
        );
    }
}

#[test]
fn help_and_the_program_have_the_same_options() {
    let help = of_help(&help());
    let mut told: Vec<&str> = help.keys().map(String::as_str).collect();
    told.retain(|name| *name != "timeout"); // the probe's
    let mut known: Vec<&str> = VALUES.iter().map(|row| row.0).chain(SWITCHES).collect();
    known.sort_unstable();
    assert_eq!(told, known);
    for (name, value, _) in VALUES {
        // Which of them may be given twice is another matter than whether these two make sense.
        let option = format!("--{name}");
        let twice = init().arg("explain").arg(&option).arg(value).arg(&option).arg(value).ended();
        let refused = twice.err.iter().any(|line| line.contains("is given twice"));
        assert_eq!(!refused, help[name].repeatable, "{option}: {twice:?}");
    }
}

#[test]
fn help_and_the_table_say_the_same_of_each() {
    let (mut help, table) = (of_help(&help()), of_table());
    help.remove("timeout");
    assert_eq!(help.keys().collect::<Vec<_>>(), table.keys().collect::<Vec<_>>());
    for (name, told) in &table {
        let of_help = &help[name];
        assert_eq!(told.form, of_help.form, "--{name}");
        assert_eq!(told.repeatable, of_help.repeatable, "--{name} (repeatable)");
        let default = match (told.default.as_str(), of_help.default.as_str()) {
            ("off", "0") => "0",
            (default, _) => shortened(default),
        };
        // Where more is said of its variable, the default comes first.
        let of_help = of_help.default.split("; ").next().expect("the default");
        assert_eq!(default, of_help, "the default of --{name}");
    }
}

/// A default that is given changes nothing, and another value does.
#[test]
fn each_default_is_the_programs() {
    let explain = |init: Init| {
        let init = init.args("explain --until-quiet 2s --ready-file /tmp/drain-init-test-ready");
        let init = init.args("--start-after file:/never");
        let ended = init.ended();
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out.into_iter().chain(ended.err).collect::<Vec<_>>()
    };
    let log = |init: Init| init.arg("-v").app(["exit:3"]).ended().err;
    let mut tried = vec![];
    for (name, told) in of_help(&help()) {
        // These words are not values: they are tried below, or mean that there is none.
        let in_words =
            ["none", "off", "the one received", "those the app listens on", REST_OF_GRACE];
        let words = told.default.split("; ").next().expect("the default");
        if in_words.contains(&words)
            || ["max-delay", "timeout", "quiet", "verbose"].contains(&name.as_str())
        {
            continue;
        }
        let other = VALUES.iter().find(|row| row.0 == name).map_or("1", |row| row.1);
        let variable = variable(&name);
        let shown = |value: &str| match name.as_str() {
            "log-format" => log(init().env(&variable, value)),
            _ => explain(init().env(&variable, value)),
        };
        assert_eq!(shown(&told.default), shown(""), "--{name} {} is the default", told.default);
        assert_ne!(shown(other), shown(""), "--{name} {other} is not");
        tried.push(name);
    }
    let all = [
        "delay",
        "grace",
        "group",
        "in-flight",
        "kill-margin",
        "log-format",
        "quiet-on",
        "ready-notify",
        "start-timeout",
        "stop-on",
        "unready-delay",
    ];
    assert_eq!(tried, all);

    // Half of --grace, or --delay where that is larger.
    for (options, longest) in [("", "15s"), ("--grace 50s", "25s"), ("--delay 20s", "20s")] {
        let ended = init().args("explain --until-quiet 2s").args(options).ended();
        let line =
            ended.out.iter().find(|line| line.contains("whatever happens")).expect("the longest");
        assert_eq!(line.split_whitespace().next(), Some(longest), "{options}");
    }
}
