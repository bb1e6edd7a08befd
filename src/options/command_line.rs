//! The command line: argh reads it into the structs of `typed`. By hand only what argh lacks:
//! `--option=value`, --version, COMMAND after `--`, and one line of ours for anything that is wrong.
//!
//! Everything from `--` on is COMMAND's and is not looked at.

#![forbid(unsafe_code)]

use super::display::Meant;
use super::environment;
use super::typed::{Slot, Takes, Texts, dashed, is_known};
use crate::log::Format;
use crate::sys::Arguments;

/// What a verb takes, beside what its struct says.
pub struct Verb {
    /// As typed; empty where it was left out.
    pub name: &'static str,
    /// Which of the struct's options it takes, by their fields; all of them if nothing is said.
    pub only: Option<&'static [&'static str]>,
    /// COMMAND may follow.
    pub command: bool,
}

/// What a command line asks for.
pub enum Asked<T> {
    Help,
    Version,
    Options(Read<T>),
}

/// What was read.
pub struct Read<T> {
    pub options: T,
    /// Variables of our prefix that are not an option's, without it.
    pub unknown: Vec<&'static str>,
    /// The words that the options were typed in.
    pub words: Arguments,
    /// COMMAND with its arguments as they are.
    pub command: Arguments,
}

/// What is wrong, a line each, and the form in which the log is wanted.
#[derive(Debug)]
pub struct Refused {
    pub lines: Vec<String>,
    pub format: Format,
    /// Where the container's refusal is to be found, as far as one knows.
    pub termination_log: Option<&'static str>,
}

/// Reads the options of a verb from `arguments` (what follows the verb) and from the environment.
pub fn read<T: Texts>(verb: &Verb, arguments: Arguments) -> Result<Asked<T>, Refused> {
    let separator = arguments.iter().position(|argument| argument.to_bytes() == b"--");
    let mut line = Line {
        verb,
        options: T::default().options().iter().map(as_typed).collect(),
        words: arguments.head(separator.unwrap_or(arguments.len())),
        has_separator: separator.is_some(),
        split: Vec::new(),
    };
    let command = arguments.tail(separator.map_or(arguments.len(), |separator| separator + 1));
    let stop = line.split();
    let format = format(&line.split);
    let termination_log = text(&line.split, "--termination-log", b"TERMINATION_LOG");
    let termination_log = termination_log.and_then(|path| str::from_utf8(path).ok());
    let refused = |lines| Refused { lines, format, termination_log };
    let misplaced = match stop.map_err(|why| refused(vec![why]))? {
        Stop::Help => return Ok(Asked::Help),
        Stop::Version => return Ok(Asked::Version),
        Stop::Misplaced(why) => Some(why),
        Stop::End => None,
    };
    let options = T::from_args(&[], &line.split).map_err(|exit| line.in_our_words(&exit.output));
    let mut options = options.map_err(|why| refused(vec![why]))?;
    if let Some(why) = misplaced {
        return Err(refused(vec![why]));
    }
    for (name, slot) in options.options() {
        slot.name(name);
        if slot.is_given() && verb.only.is_some_and(|only| !only.contains(&name)) {
            return Err(refused(vec![line.not_taken(&format!("--{}", dashed(name)))]));
        }
    }
    let unknown =
        environment::add(&mut options.options(), environment::variables()).map_err(refused)?;
    Ok(Asked::Options(Read { options, unknown, words: line.words, command }))
}

/// An option with its dashes, and what it takes.
fn as_typed((name, slot): &(&str, &mut dyn Slot)) -> (String, Takes) {
    (format!("--{}", dashed(name)), slot.takes())
}

/// The form in which the log is wanted, also where not all of the words can be read.
fn format(split: &[&'static str]) -> Format {
    let is_json = text(split, "--log-format", b"LOG_FORMAT") == Some(b"json");
    if is_json { Format::Json } else { Format::Text }
}

/// The text of an option or its variable, likewise.
fn text(split: &[&'static str], option: &str, variable: &[u8]) -> Option<&'static [u8]> {
    let typed = split.windows(2).rfind(|pair| pair.first() == Some(&option));
    match typed.and_then(<[_]>::last) {
        Some(text) => Some(text.as_bytes()),
        None => environment::variables()
            .find(|(name, value)| *name == variable && !value.is_empty())
            .map(|(_, it)| it),
    }
}

/// Where a command line stops.
enum Stop {
    End,
    Help,
    Version,
    /// At a word that is not an option's: why it is wrong, unless something before it is.
    Misplaced(String),
}

/// A command line on its way to argh.
struct Line<'a> {
    verb: &'a Verb,
    /// The verb's options, with their dashes.
    options: Vec<(String, Takes)>,
    words: Arguments,
    /// There is a `--` after the words.
    has_separator: bool,
    /// The words as argh takes them: an option and its value are two.
    split: Vec<&'static str>,
}

impl Line<'_> {
    fn split(&mut self) -> Result<Stop, String> {
        let mut is_value = false;
        for (place, word) in self.words.iter().enumerate() {
            let Ok(word) = word.to_str() else {
                let word = word.to_string_lossy();
                return Err(format!("{word}: not valid UTF-8; COMMAND follows `--`"));
            };
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (word, None),
            };
            match word {
                _ if is_value => {
                    self.split.push(word);
                    is_value = false;
                }
                "-h" | "--help" => return Ok(Stop::Help),
                "--version" => return Ok(Stop::Version),
                _ if self.takes(option).is_some_and(|takes| takes != Takes::Nothing) => {
                    self.split.push(option);
                    self.split.extend(value);
                    is_value = value.is_none();
                }
                // From a misplaced COMMAND on, nothing is ours to look at.
                _ if self.verb.command && !word.starts_with('-') => {
                    return Ok(Stop::Misplaced(self.misplaced(word, place)));
                }
                _ => self.split.push(word),
            }
        }
        match self.has_separator && !self.verb.command {
            true => Err(format!("--: {} takes no COMMAND", self.verb.name)),
            false => Ok(Stop::End),
        }
    }

    /// What an option takes, if it is one of the verb's.
    fn takes(&self, option: &str) -> Option<Takes> {
        self.options.iter().find(|(name, _)| name == option).map(|(_, takes)| *takes)
    }

    /// What is wrong with an option of another verb.
    fn not_taken(&self, option: &str) -> String {
        let verb = if self.verb.name.is_empty() { "run" } else { self.verb.name };
        format!("{option} is not an option of {verb} (see drain-init --help)")
    }

    /// What is wrong with a word where COMMAND is none yet.
    fn misplaced(&self, word: &str, command: usize) -> String {
        if self.has_separator {
            return format!("{word}: not an option, and COMMAND follows `--`");
        }
        let meant = Meant { verb: self.verb.name, words: self.words, command };
        format!("{word}: COMMAND follows `--`: {meant}")
    }

    /// What argh complains of, in one line of ours.
    fn in_our_words(&self, complaint: &str) -> String {
        let complaint = complaint.trim();
        let verb = self.verb.name;
        if let Some(word) = complaint.strip_prefix("Unrecognized argument: ") {
            let option = word.split_once('=').map_or(word, |(option, _)| option);
            return if !word.starts_with('-') {
                format!("{word}: one word too many for {verb}")
            } else if self.takes(option).is_some() {
                format!("{word}: {option} takes no value")
            } else if is_known(|name| option.strip_prefix("--") == Some(&dashed(name))) {
                self.not_taken(option)
            } else {
                format!("unknown option {option} (see drain-init --help)")
            };
        }
        if let Some(option) = complaint.strip_prefix("No value provided for option '") {
            return format!("{} needs a value", option.trim_end_matches(['\'', '.']));
        }
        if let Some(option) = complaint.strip_prefix("Error parsing option '") {
            // Texts are texts: there is nothing else that can be wrong with one.
            let option = option.split('\'').next().unwrap_or_default();
            return format!("{option} is given twice; give it once");
        }
        if let Some(operand) = complaint.strip_prefix("Required positional arguments not provided:")
        {
            let operand = operand.trim();
            return format!("{operand} is missing: drain-init {verb} {operand}");
        }
        complaint.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests;
