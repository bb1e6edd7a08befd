//! The command line and the environment, as typed: which options were given, with which text.
//!
//! What the texts mean is for `config`. The command line wins over the environment, option by
//! option. Everything from `--` on is COMMAND's and is not looked at.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ffi::CStr;

use argh::{EarlyExit, FromArgValue, FromArgs};

use crate::sys::{self, Arguments};

/// What every variable's name begins with.
const PREFIX: &str = "DRAIN_INIT_";

/// The options that take no value.
const SWITCHES: [&str; 5] = ["--group", "--quiet", "--verbose", "--version", "--help"];

/// The text of an option, and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub text: String,
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    CommandLine,
    Environment,
}

impl FromArgValue for Given {
    fn from_arg_value(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), source: Source::CommandLine })
    }
}

/// The options as typed. --help's text is help.txt; a test holds the two together.
#[derive(Debug, Default, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(help_triggers("-h", "--help", "help"))]
pub struct Typed {
    /// shortest drain
    #[argh(option)]
    pub delay: Option<Given>,
    /// longest drain
    #[argh(option)]
    pub max_delay: Option<Given>,
    /// created when the drain begins
    #[argh(option)]
    pub drain_file: Option<Given>,

    /// the whole budget
    #[argh(option)]
    pub grace: Option<Given>,
    /// how long before the end of the budget SIGKILL falls
    #[argh(option)]
    pub kill_margin: Option<Given>,
    /// the signals that ask for a stop
    #[argh(option)]
    pub stop_on: Vec<Given>,
    /// what the app is sent when the drain is over
    #[argh(option)]
    pub stop_signal: Option<Given>,
    /// a signal for an app that does not end
    #[argh(option)]
    pub escalate: Vec<Given>,
    /// what processes that the app left have to end
    #[argh(option)]
    pub orphan_grace: Option<Given>,

    /// exists exactly while ready
    #[argh(option)]
    pub ready_file: Option<Given>,

    /// rewrites a signal
    #[argh(option)]
    pub map_signal: Vec<Given>,
    /// signals go to the app's process group
    #[argh(switch, short = 'g')]
    pub group: bool,
    /// what drain-init gets when its own parent ends
    #[argh(option)]
    pub parent_death_signal: Option<Given>,

    /// rewrites an exit code
    #[argh(option)]
    pub map_exit: Vec<Given>,
    /// rewrites an exit code after a requested stop
    #[argh(option)]
    pub map_stop_exit: Vec<Given>,
    /// text or json
    #[argh(option)]
    pub log_format: Option<Given>,
    /// errors only
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// every signal and more
    #[argh(switch, short = 'v')]
    pub verbose: bool,

    /// prints the version
    #[argh(switch)]
    pub version: bool,

    /// what stands where `--` should
    #[argh(positional, greedy)]
    pub rest: Vec<String>,
}

/// What a command line asks for.
pub enum Asked {
    Help,
    Version,
    /// The options, and COMMAND with its arguments as they are.
    Options(Box<Typed>, Arguments),
}

/// A whole line of complaint, without a line's end.
pub type Complaint = String;

/// Reads the options of a verb from `arguments` (what follows the verb) and from the environment.
/// Complains of everything that is not an option; of variables that are none, through `warn`.
pub fn read(
    verb: &str,
    arguments: Arguments,
    warn: impl FnMut(Complaint),
) -> Result<Asked, Vec<Complaint>> {
    let separator = arguments.iter().position(|argument| argument.to_bytes() == b"--");
    let count = separator.unwrap_or(arguments.len());
    let typed = arguments.iter().take(count).map(CStr::to_bytes).collect::<Vec<_>>();
    let command = arguments.tail(separator.map_or(count, |separator| separator + 1));

    let mut typed = match parse(&typed) {
        Ok(Parsed::Help) => return Ok(Asked::Help),
        Ok(Parsed::Typed(typed)) if typed.version => return Ok(Asked::Version),
        Ok(Parsed::Typed(typed)) => typed,
        Err(complaint) => return Err(vec![complaint]),
    };
    if !typed.rest.is_empty() {
        return Err(vec![misplaced(verb, &arguments, &typed.rest, separator.is_some())]);
    }
    let complaints = typed.add_environment(sys::environment(PREFIX.as_bytes()), warn);
    if complaints.is_empty() { Ok(Asked::Options(typed, command)) } else { Err(complaints) }
}

enum Parsed {
    Help,
    Typed(Box<Typed>),
}

/// Parses what stands before `--`.
fn parse(arguments: &[&[u8]]) -> Result<Parsed, Complaint> {
    let mut words = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let word = str::from_utf8(argument).map_err(|_| {
            format!("{}: is no UTF-8; COMMAND follows `--`", String::from_utf8_lossy(argument))
        })?;
        // argh knows `--option value` alone.
        match word.split_once('=') {
            Some((option, _)) if SWITCHES.contains(&option) => {
                return Err(format!("{word}: it takes no value; write {option}"));
            }
            Some((option, value)) if option.starts_with("--") => words.extend([option, value]),
            _ => words.push(word),
        }
    }
    match Typed::from_args(&["drain-init"], &words) {
        Ok(typed) => Ok(Parsed::Typed(Box::new(typed))),
        Err(EarlyExit { status: Ok(()), .. }) => Ok(Parsed::Help),
        Err(EarlyExit { output, status: Err(()) }) => Err(reworded(&output)),
    }
}

/// argh's complaint in the form of ours.
fn reworded(complaint: &str) -> Complaint {
    let complaint = complaint.trim_end();
    if let Some(option) = complaint.strip_prefix("Unrecognized argument: ") {
        return format!("{option}: there is no such option; `drain-init --help` lists them");
    }
    if let Some(rest) = complaint.strip_prefix("No value provided for option '") {
        return format!("{}: its value is missing", rest.trim_end_matches("'."));
    }
    if let Some(rest) = complaint.strip_prefix("Error parsing option '")
        && let Some((option, rest)) = rest.split_once("' with value '")
        && let Some((value, _)) = rest.rsplit_once("': duplicate values provided")
    {
        return format!("{option} {value}: it is given twice; give it once");
    }
    complaint.to_owned()
}

/// The complaint about words where options should be, with the command line as it was meant.
fn misplaced(verb: &str, arguments: &Arguments, rest: &[String], separated: bool) -> Complaint {
    let all: Vec<Cow<str>> = arguments.iter().map(CStr::to_string_lossy).collect();
    let first = rest.first().map_or("", String::as_str);
    if separated {
        return format!(
            "{first}: is no option; between the options and `--` nothing else may stand"
        );
    }
    // `--option=value` was two words to argh, but never behind the first misplaced one, which it
    // took as it is.
    let behind = rest.iter().map(String::as_str).collect::<Vec<_>>();
    let split = (0..all.len()).find(|&index| joined(all.get(index..)) == behind);
    let (options, command) = all.split_at(split.unwrap_or(0));
    let mut line = "drain-init".to_owned();
    let verb = (!verb.is_empty()).then_some(verb);
    let options = options.iter().map(Cow::as_ref);
    let command = command.iter().map(Cow::as_ref);
    for word in verb.into_iter().chain(options).chain(["--"]).chain(command) {
        line.push(' ');
        line.push_str(&quoted(word));
    }
    format!("{first}: COMMAND follows `--`: {line}")
}

/// The words as `parse` passed them to argh.
fn joined<'a>(arguments: Option<&'a [Cow<str>]>) -> Vec<&'a str> {
    let mut words = Vec::new();
    for argument in arguments.unwrap_or_default() {
        match argument.split_once('=') {
            Some((option, value)) if option.starts_with("--") => words.extend([option, value]),
            _ => words.push(argument),
        }
    }
    words
}

/// A word as a shell would have to be given it.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if word.bytes().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

impl Typed {
    /// Adds what the environment says of options that the command line does not give. `variables`
    /// are names without their prefix, and values.
    fn add_environment<'a>(
        &mut self,
        variables: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        mut warn: impl FnMut(Complaint),
    ) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let level_typed = self.quiet || self.verbose;
        for (name, value) in variables {
            // An empty one is an unset one, known or not.
            if value.is_empty() {
                continue;
            }
            let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value)) else {
                let name = String::from_utf8_lossy(name);
                complaints.push(format!("{PREFIX}{name}: its value is no UTF-8"));
                continue;
            };
            let known = match name {
                "DELAY" => one(&mut self.delay, value),
                "MAX_DELAY" => one(&mut self.max_delay, value),
                "DRAIN_FILE" => one(&mut self.drain_file, value),
                "GRACE" => one(&mut self.grace, value),
                "KILL_MARGIN" => one(&mut self.kill_margin, value),
                "STOP_ON" => list(&mut self.stop_on, value),
                "STOP_SIGNAL" => one(&mut self.stop_signal, value),
                "ESCALATE" => list(&mut self.escalate, value),
                "ORPHAN_GRACE" => one(&mut self.orphan_grace, value),
                "READY_FILE" => one(&mut self.ready_file, value),
                "MAP_SIGNAL" => list(&mut self.map_signal, value),
                "GROUP" => switch(&mut self.group, value),
                "PARENT_DEATH_SIGNAL" => one(&mut self.parent_death_signal, value),
                "MAP_EXIT" => list(&mut self.map_exit, value),
                "MAP_STOP_EXIT" => list(&mut self.map_stop_exit, value),
                "LOG_FORMAT" => one(&mut self.log_format, value),
                // The two are one choice, so the command line wins over both.
                "QUIET" | "VERBOSE" if level_typed => switch(&mut false, value),
                "QUIET" => switch(&mut self.quiet, value),
                "VERBOSE" => switch(&mut self.verbose, value),
                _ => Known::No,
            };
            match known {
                Known::Yes => {}
                Known::NoSwitch => complaints
                    .push(format!("{PREFIX}{name}={value}: is neither 1 nor 0; say which")),
                // Kubernetes sets these in every pod beside a Service called drain-init.
                Known::No if name.starts_with("SERVICE_") || name.starts_with("PORT") => {}
                Known::No => warn(format!(
                    "{PREFIX}{name}: there is no such option; `drain-init --help` lists them"
                )),
            }
        }
        complaints
    }
}

/// Whether a variable names an option.
enum Known {
    Yes,
    No,
    /// It does, and its value is neither 1 nor 0.
    NoSwitch,
}

fn from_environment(text: &str) -> Given {
    Given { text: text.to_owned(), source: Source::Environment }
}

fn one(option: &mut Option<Given>, value: &str) -> Known {
    option.get_or_insert_with(|| from_environment(value));
    Known::Yes
}

fn list(option: &mut Vec<Given>, value: &str) -> Known {
    if !option.iter().any(|given| given.source == Source::CommandLine) {
        option.extend(value.split(',').map(from_environment));
    }
    Known::Yes
}

fn switch(option: &mut bool, value: &str) -> Known {
    match value {
        "1" => *option = true,
        "0" => {}
        _ => return Known::NoSwitch,
    }
    Known::Yes
}

/// How the given text of an option is named in a complaint: as it was written.
pub fn as_written(option: &str, given: &Given) -> String {
    match given.source {
        Source::CommandLine => format!("--{option} {}", quoted(&given.text)),
        Source::Environment => format!("{}={}", variable(option), given.text),
    }
}

/// The variable of an option.
pub fn variable(option: &str) -> String {
    format!("{PREFIX}{}", option.replace('-', "_").to_ascii_uppercase())
}

#[cfg(test)]
mod tests;
