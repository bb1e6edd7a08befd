//! The command line and the environment, as typed: which options were given, with which text.
//!
//! What the texts mean is for `config`, and for the verbs. The command line wins over the
//! environment, option by option. Everything from `--` on is COMMAND's and is not looked at.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ffi::CStr;

use argh::{EarlyExit, FromArgValue, FromArgs};

use crate::sys::{self, Arguments};

/// What every variable's name begins with.
const PREFIX: &str = "DRAIN_INIT_";

/// The options that take no value.
const SWITCHES: [&str; 8] =
    ["--group", "--quiet", "--verbose", "--version", "--help", "-g", "-q", "-v"];

/// What a verb takes on its command line; variables are for whoever they concern.
pub struct Verb {
    /// As typed; empty where it was left out.
    pub name: &'static str,
    pub options: Options,
    /// What stands beside the options, if anything does.
    pub operand: Option<&'static str>,
    /// COMMAND may follow.
    pub command: bool,
}

/// Which options, as they are typed.
pub enum Options {
    AllBut(&'static [&'static str]),
    Only(&'static [&'static str]),
}

impl Verb {
    /// Whether an option that exists is one of this verb's.
    fn takes(&self, option: &str) -> bool {
        match self.options {
            _ if option == "--version" => true,
            Options::AllBut(names) => !names.contains(&option),
            Options::Only(names) => names.contains(&option),
        }
    }
}

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
    /// goes on until no traffic has come for so long
    #[argh(option)]
    pub until_quiet: Option<Given>,
    /// what counts as traffic
    #[argh(option)]
    pub quiet_on: Option<Given>,
    /// the ports that are watched
    #[argh(option)]
    pub watch_port: Vec<Given>,
    /// whose connections are no traffic
    #[argh(option)]
    pub ignore_peer: Vec<Given>,
    /// run when the drain begins
    #[argh(option)]
    pub on_drain: Vec<Given>,
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
    /// where readiness is answered
    #[argh(option)]
    pub ready_listen: Option<Given>,
    /// what ready asks of the app
    #[argh(option)]
    pub ready_check: Option<Given>,
    /// how long ready stays into the drain
    #[argh(option)]
    pub unready_delay: Option<Given>,

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
    /// where one line says how the stop goes
    #[argh(option)]
    pub termination_log: Option<Given>,
    /// text or json
    #[argh(option)]
    pub log_format: Option<Given>,
    /// errors only
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// every signal and more
    #[argh(switch, short = 'v')]
    pub verbose: bool,

    /// how long a probe waits for an answer
    #[argh(option)]
    pub timeout: Option<Given>,

    /// prints the version
    #[argh(switch)]
    pub version: bool,
}

/// What a command line asks for.
pub enum Asked {
    Help,
    Version,
    Options(Box<Read>),
}

/// What was read.
pub struct Read {
    pub typed: Typed,
    /// What stands beside the options.
    pub operand: Option<String>,
    /// The words that the options were typed in.
    pub words: Arguments,
    /// COMMAND with its arguments as they are.
    pub command: Arguments,
}

/// A whole line of complaint, without a line's end.
pub type Complaint = String;

/// Reads the options of a verb from `arguments` (what follows the verb) and from the environment.
/// Complains of everything that is not an option; of variables that are none, through `warn`.
pub fn read(
    verb: &Verb,
    arguments: Arguments,
    warn: impl FnMut(Complaint),
) -> Result<Asked, Vec<Complaint>> {
    let separator = arguments.iter().position(|argument| argument.to_bytes() == b"--");
    let words = arguments.head(separator.unwrap_or(arguments.len()));
    let command = arguments.tail(separator.map_or(arguments.len(), |separator| separator + 1));

    let typed = words.iter().map(CStr::to_bytes).collect::<Vec<_>>();
    let sorted = Sorted::new(verb, &typed).map_err(|complaint| vec![complaint])?;
    let parsed = parse(verb, &sorted).map_err(|complaint| vec![complaint])?;
    let mut typed = match parsed {
        Parsed::Help => return Ok(Asked::Help),
        Parsed::Typed(typed) if typed.version => return Ok(Asked::Version),
        Parsed::Typed(typed) => *typed,
    };
    let operand = operand(verb, &arguments, &sorted, separator.is_some())?;
    let complaints = typed.add_environment(sys::environment(PREFIX.as_bytes()), warn);
    if complaints.is_empty() {
        Ok(Asked::Options(Box::new(Read { typed, operand, words, command })))
    } else {
        Err(complaints)
    }
}

/// The words before `--`: the options as argh takes them, and the rest.
struct Sorted<'a> {
    options: Vec<&'a str>,
    /// Which options these are.
    names: Vec<&'a str>,
    /// With their places among the words.
    operands: Vec<(usize, &'a str)>,
}

impl<'a> Sorted<'a> {
    /// From a misplaced COMMAND on, nothing is ours to look at.
    fn new(verb: &Verb, words: &[&'a [u8]]) -> Result<Self, Complaint> {
        let mut sorted = Self { options: vec![], names: vec![], operands: vec![] };
        let mut words = words.iter().enumerate();
        let text = |word: &'a [u8]| {
            str::from_utf8(word).map_err(|_| {
                format!("{}: is no UTF-8; COMMAND follows `--`", String::from_utf8_lossy(word))
            })
        };
        while let Some((place, word)) = words.next() {
            let word = text(word)?;
            match word.split_once('=') {
                _ if !word.starts_with('-') => {
                    sorted.operands.push((place, word));
                    if verb.command {
                        break;
                    }
                }
                Some((option, _)) if SWITCHES.contains(&option) => {
                    return Err(format!("{word}: it takes no value; write {option}"));
                }
                // argh knows `--option value` alone.
                Some((option, value)) if option.starts_with("--") => {
                    sorted.names.push(option);
                    sorted.options.extend([option, value]);
                }
                _ => {
                    sorted.names.push(word);
                    sorted.options.push(word);
                    if !SWITCHES.contains(&word)
                        && let Some((_, value)) = words.next()
                    {
                        sorted.options.push(text(value)?);
                    }
                }
            }
        }
        Ok(sorted)
    }
}

enum Parsed {
    Help,
    Typed(Box<Typed>),
}

fn parse(verb: &Verb, sorted: &Sorted) -> Result<Parsed, Complaint> {
    let typed = match Typed::from_args(&["drain-init"], &sorted.options) {
        Ok(typed) => Box::new(typed),
        Err(EarlyExit { status: Ok(()), .. }) => return Ok(Parsed::Help),
        Err(EarlyExit { output, status: Err(()) }) => return Err(reworded(&output)),
    };
    match sorted.names.iter().find(|name| !verb.takes(name)) {
        Some(name) => Err(format!(
            "{name}: is no option of {}; `drain-init --help` lists them",
            if verb.name.is_empty() { "run" } else { verb.name }
        )),
        None => Ok(Parsed::Typed(typed)),
    }
}

/// What a verb takes beside its options, and nothing else.
fn operand(
    verb: &Verb,
    arguments: &Arguments,
    sorted: &Sorted,
    separated: bool,
) -> Result<Option<String>, Vec<Complaint>> {
    let complaint = match (verb.operand, &sorted.operands[..]) {
        (_, [(place, first), ..]) if verb.command => {
            misplaced(verb.name, arguments, *place, first, separated)
        }
        _ if separated && !verb.command => format!("--: {} takes no COMMAND", verb.name),
        (None, []) => return Ok(None),
        (Some(_), [(_, operand)]) => return Ok(Some((*operand).to_owned())),
        (Some(wanted), []) => {
            format!("there is no {wanted}: drain-init {} {wanted}", verb.name)
        }
        (None, [(_, extra), ..]) | (Some(_), [_, (_, extra), ..]) => {
            format!("{extra}: is one word too many for {}", verb.name)
        }
    };
    Err(vec![complaint])
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
        && let Some(rest) = rest.trim_end_matches('\n').strip_suffix("': duplicate values provided")
        && let Some((option, value)) = rest.split_once("' with value '")
    {
        return format!("{option} {value}: it is given twice; give it once");
    }
    complaint.to_owned()
}

/// The complaint about a word where options should be, with the command line as it was meant.
fn misplaced(
    verb: &'static str,
    arguments: &Arguments,
    place: usize,
    word: &str,
    separated: bool,
) -> Complaint {
    if separated {
        return format!(
            "{word}: is no option; between the options and `--` nothing else may stand"
        );
    }
    let mut line = "drain-init".to_owned();
    let verb = (!verb.is_empty()).then_some(Cow::from(verb));
    let options = arguments.head(place).iter().map(CStr::to_string_lossy);
    let command = arguments.tail(place).iter().map(CStr::to_string_lossy);
    for word in verb.into_iter().chain(options).chain([Cow::from("--")]).chain(command) {
        line.push(' ');
        line.push_str(&quoted(&word));
    }
    format!("{word}: COMMAND follows `--`: {line}")
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
    pub fn add_environment<'a>(
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
                "UNTIL_QUIET" => one(&mut self.until_quiet, value),
                "QUIET_ON" => one(&mut self.quiet_on, value),
                "WATCH_PORT" => list(&mut self.watch_port, value, ','),
                "IGNORE_PEER" => list(&mut self.ignore_peer, value, ','),
                "ON_DRAIN" => list(&mut self.on_drain, value, '\n'),
                "DRAIN_FILE" => one(&mut self.drain_file, value),
                "GRACE" => one(&mut self.grace, value),
                "KILL_MARGIN" => one(&mut self.kill_margin, value),
                "STOP_ON" => list(&mut self.stop_on, value, ','),
                "STOP_SIGNAL" => one(&mut self.stop_signal, value),
                "ESCALATE" => list(&mut self.escalate, value, ','),
                "ORPHAN_GRACE" => one(&mut self.orphan_grace, value),
                "READY_FILE" => one(&mut self.ready_file, value),
                "READY_LISTEN" => one(&mut self.ready_listen, value),
                "READY_CHECK" => one(&mut self.ready_check, value),
                "UNREADY_DELAY" => one(&mut self.unready_delay, value),
                "MAP_SIGNAL" => list(&mut self.map_signal, value, ','),
                "GROUP" => switch(&mut self.group, value),
                "PARENT_DEATH_SIGNAL" => one(&mut self.parent_death_signal, value),
                "MAP_EXIT" => list(&mut self.map_exit, value, ','),
                "MAP_STOP_EXIT" => list(&mut self.map_stop_exit, value, ','),
                "TERMINATION_LOG" => one(&mut self.termination_log, value),
                "TIMEOUT" => one(&mut self.timeout, value),
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

fn list(option: &mut Vec<Given>, value: &str, separator: char) -> Known {
    if !option.iter().any(|given| given.source == Source::CommandLine) {
        let items = value.split(separator).filter(|item| separator == ',' || !item.is_empty());
        option.extend(items.map(from_environment));
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
