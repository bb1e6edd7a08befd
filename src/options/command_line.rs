//! The command line and the environment, as typed: which options were given, with which text.
//!
//! What the texts mean is for `config`, and for the verbs. The command line wins over the
//! environment, option by option. Everything from `--` on is COMMAND's and is not looked at.

#![forbid(unsafe_code)]

mod display;

use std::ffi::CStr;
use std::fmt;

use display::Meant;

use crate::sys::{self, Arguments};

/// What every variable's name begins with.
pub const PREFIX: &str = "DRAIN_INIT_";

/// What an option takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A value, once.
    Value,
    /// A value, as often as it is given; its variable takes several, with this between them.
    Values(u8),
    /// None: it is on or off. The letter is its short form.
    Nothing(u8),
}

use Takes::{Nothing, Value, Values};

/// The options by their names. --help's text is help.txt; a test holds the two together.
const OPTIONS: [(&str, Takes); 28] = [
    ("delay", Value),
    ("max-delay", Value),
    ("until-quiet", Value),
    ("quiet-on", Value),
    ("watch-port", Values(b',')),
    ("ignore-peer", Values(b',')),
    ("on-drain", Values(b'\n')),
    ("drain-file", Value),
    ("grace", Value),
    ("kill-margin", Value),
    ("stop-on", Values(b',')),
    ("stop-signal", Value),
    ("escalate", Values(b',')),
    ("orphan-grace", Value),
    ("ready-file", Value),
    ("ready-listen", Value),
    ("ready-check", Value),
    ("unready-delay", Value),
    ("map-signal", Values(b',')),
    ("group", Nothing(b'g')),
    ("parent-death-signal", Value),
    ("map-exit", Values(b',')),
    ("map-stop-exit", Values(b',')),
    ("termination-log", Value),
    ("log-format", Value),
    ("quiet", Nothing(b'q')),
    ("verbose", Nothing(b'v')),
    ("timeout", Value),
];

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

/// Which options, by their names.
pub enum Options {
    AllBut(&'static [&'static str]),
    Only(&'static [&'static str]),
}

impl Verb {
    /// Whether an option that exists is one of this verb's.
    fn takes(&self, option: &str) -> bool {
        match self.options {
            Options::AllBut(names) => !names.contains(&option),
            Options::Only(names) => names.contains(&option),
        }
    }
}

/// An option with its text, and where it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub option: &'static str,
    pub text: &'static str,
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    CommandLine,
    Environment,
}

/// The options as typed.
#[derive(Debug, Default)]
pub struct Typed {
    given: Vec<Given>,
    /// What variables that are no options' are called, without the prefix.
    pub unknown: Vec<&'static str>,
}

/// What a command line asks for.
pub enum Asked {
    Help,
    Version,
    Options(Read),
}

/// What was read.
pub struct Read {
    pub typed: Typed,
    /// What stands beside the options.
    pub operand: Option<&'static str>,
    /// The words that the options were typed in.
    pub words: Arguments,
    /// COMMAND with its arguments as they are.
    pub command: Arguments,
}

/// Takes whole lines of complaint, without their ends.
pub type Complain<'a> = &'a mut dyn FnMut(fmt::Arguments);

/// There were complaints.
#[derive(Debug)]
pub struct Refused;

fn refused<T>(complain: Complain, line: fmt::Arguments) -> Result<T, Refused> {
    complain(line);
    Err(Refused)
}

/// Reads the options of a verb from `arguments` (what follows the verb) and from the environment.
/// Complains of everything that is not an option.
pub fn read(verb: &Verb, arguments: Arguments, complain: Complain) -> Result<Asked, Refused> {
    let separator = arguments.iter().position(|argument| argument.to_bytes() == b"--");
    let words = arguments.head(separator.unwrap_or(arguments.len()));
    let command = arguments.tail(separator.map_or(arguments.len(), |separator| separator + 1));
    let mut typed = Typed::default();
    let mut operand = None;
    let mut rest = words;
    while let Some(word) = rest.get(0) {
        let place = words.len() - rest.len();
        rest = rest.tail(1);
        let word = utf8(word, complain)?;
        match word {
            "-h" | "--help" => return Ok(Asked::Help),
            "--version" => return Ok(Asked::Version),
            _ if word.starts_with('-') => rest = typed.add(verb, word, rest, complain)?,
            // From a misplaced COMMAND on, nothing is ours to look at.
            _ if verb.command && separator.is_some() => {
                let why = "is no option; between the options and `--` nothing else may stand";
                return refused(complain, format_args!("{word}: {why}"));
            }
            _ if verb.command => {
                let meant = Meant { verb: verb.name, words, command: place };
                return refused(complain, format_args!("{word}: COMMAND follows `--`: {meant}"));
            }
            _ if verb.operand.is_none() || operand.is_some() => {
                let verb = verb.name;
                return refused(complain, format_args!("{word}: is one word too many for {verb}"));
            }
            _ => operand = Some(word),
        }
    }
    let name = verb.name;
    if separator.is_some() && !verb.command {
        return refused(complain, format_args!("--: {name} takes no COMMAND"));
    }
    if let Some(wanted) = verb.operand
        && operand.is_none()
    {
        let line = format_args!("there is no {wanted}: drain-init {name} {wanted}");
        return refused(complain, line);
    }
    typed.add_environment(sys::environment(PREFIX.as_bytes()), complain)?;
    Ok(Asked::Options(Read { typed, operand, words, command }))
}

/// Whether JSON is asked for: before the options are read, for what there is to say of them.
pub fn json_is_asked(arguments: Arguments) -> bool {
    let mut variables = sys::environment(PREFIX.as_bytes());
    let mut is_json = variables.any(|variable| variable == (&b"LOG_FORMAT"[..], &b"json"[..]));
    let mut words = arguments.iter().map(CStr::to_bytes).take_while(|word| *word != b"--");
    while let Some(word) = words.next() {
        let text = match word {
            b"--log-format" => words.next(),
            _ => word.strip_prefix(b"--log-format="),
        };
        is_json = text.map_or(is_json, |text| text == b"json");
    }
    is_json
}

fn utf8(word: &'static CStr, complain: Complain) -> Result<&'static str, Refused> {
    let no_utf8 = |_| {
        let word = word.to_string_lossy();
        complain(format_args!("{word}: is no UTF-8; COMMAND follows `--`"));
        Refused
    };
    word.to_str().map_err(no_utf8)
}

impl Typed {
    /// Adds the option that `word` begins; its value may be the next one. Returns what follows.
    fn add(
        &mut self,
        verb: &Verb,
        word: &'static str,
        mut rest: Arguments,
        complain: Complain,
    ) -> Result<Arguments, Refused> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let is_named = |(long, takes): &&(&str, Takes)| match *takes {
            Nothing(short) if name.as_bytes() == [b'-', short] => true,
            _ => name.strip_prefix("--") == Some(long),
        };
        let Some(&(option, takes)) = OPTIONS.iter().find(is_named) else {
            let line =
                format_args!("{name}: there is no such option; `drain-init --help` lists them");
            return refused(complain, line);
        };
        if !verb.takes(option) {
            let verb = if verb.name.is_empty() { "run" } else { verb.name };
            let line =
                format_args!("{name}: is no option of {verb}; `drain-init --help` lists them");
            return refused(complain, line);
        }
        let text = match (takes, value, rest.get(0)) {
            (Nothing(_), None, _) => "",
            (Nothing(_), Some(_), _) => {
                return refused(complain, format_args!("{word}: it takes no value; write {name}"));
            }
            (Value | Values(_), Some(value), _) => value,
            (Value | Values(_), None, Some(next)) => {
                rest = rest.tail(1);
                utf8(next, complain)?
            }
            (Value | Values(_), None, None) => {
                return refused(complain, format_args!("{name}: its value is missing"));
            }
        };
        if takes == Value && self.one(option).is_some() {
            let line = format_args!("{name} {text}: it is given twice; give it once");
            return refused(complain, line);
        }
        self.given.push(Given { option, text, source: Source::CommandLine });
        Ok(rest)
    }

    /// Adds what the environment says of options that the command line does not give. `variables`
    /// are names without their prefix, and values.
    pub fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (&'static [u8], &'static [u8])>,
        complain: Complain,
    ) -> Result<(), Refused> {
        let mut result = Ok(());
        let typed = self.given.len();
        // An empty one is an unset one, known or not.
        for (name, value) in variables.filter(|(_, value)| !value.is_empty()) {
            let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value)) else {
                let name = String::from_utf8_lossy(name);
                result = refused(complain, format_args!("{PREFIX}{name}: its value is no UTF-8"));
                continue;
            };
            let is_named = |(option, _): &&(&str, Takes)| name.bytes().eq(capitals(option));
            let Some(&(option, takes)) = OPTIONS.iter().find(is_named) else {
                // Kubernetes sets these in every pod beside a Service called drain-init.
                if !name.starts_with("SERVICE_") && !name.starts_with("PORT") {
                    self.unknown.push(name);
                }
                continue;
            };
            let mut add = |text| {
                // The two that say how much is logged are one choice.
                let is_level = |option| matches!(option, "quiet" | "verbose");
                let same = |given: &Given| {
                    given.option == option || (is_level(given.option) && is_level(option))
                };
                if !self.given.iter().take(typed).any(same) {
                    self.given.push(Given { option, text, source: Source::Environment });
                }
            };
            match takes {
                Value => add(value),
                Values(separator) => {
                    let separator = char::from(separator);
                    let items = value.split(separator);
                    items.filter(|item| separator == ',' || !item.is_empty()).for_each(add);
                }
                Nothing(_) if value == "1" => add(""),
                Nothing(_) if value == "0" => {}
                Nothing(_) => {
                    let line =
                        format_args!("{PREFIX}{name}={value}: is neither 1 nor 0; say which");
                    result = refused(complain, line);
                }
            }
        }
        result
    }

    /// Each time that an option is given.
    pub fn all<'a>(&'a self, option: &'static str) -> impl Iterator<Item = &'a Given> {
        self.given.iter().filter(move |given| given.option == option)
    }

    /// An option that is given once.
    pub fn one(&self, option: &'static str) -> Option<&Given> {
        self.all(option).next()
    }
}

/// An option in the form of its variable.
fn capitals(option: &str) -> impl Iterator<Item = u8> {
    option.bytes().map(|byte| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() })
}

#[cfg(test)]
mod tests;
