//! Parses the command line with argh, into the structs of `typed`. Only what argh lacks is written
//! here: `--option=value`, --version, COMMAND after `--`, and one line of our own for each mistake.
//!
//! Everything after `--` belongs to COMMAND and is not parsed.

#![forbid(unsafe_code)]

use super::display::Meant;
use super::environment;
use super::typed::{Slot, Takes, Texts, dashed, is_known};
use crate::log::Format;
use crate::sys::Arguments;

/// The parts of a verb that its struct does not express.
pub struct Verb {
    /// As typed; empty if it was left out.
    pub name: &'static str,
    /// The options that it takes, by field name; None for all of the struct's.
    pub only: Option<&'static [&'static str]>,
    /// Whether COMMAND may follow.
    pub command: bool,
}

/// The request of a command line.
pub enum Asked<T> {
    Help,
    Version,
    Options(Read<T>),
}

/// The result of parsing.
pub struct Read<T> {
    pub options: T,
    /// Variables with our prefix that belong to no option, without the prefix.
    pub unknown: Vec<&'static str>,
    /// The words of the options.
    pub words: Arguments,
    /// COMMAND and its arguments, unchanged.
    pub command: Arguments,
}

/// The mistakes, one per line, and the format of the log.
#[derive(Debug)]
pub struct Refused {
    pub lines: Vec<String>,
    pub format: Format,
    /// The container's termination log, if known.
    pub termination_log: Option<&'static str>,
}

/// Parses a verb's options from `arguments` (the words after the verb) and from the environment.
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

/// An option with its dashes, and the kind of value it takes.
fn as_typed((name, slot): &(&str, &mut dyn Slot)) -> (String, Takes) {
    (format!("--{}", dashed(name)), slot.takes())
}

/// The format of the log, even if some of the words are invalid.
fn format(split: &[&'static str]) -> Format {
    let is_json = text(split, "--log-format", b"LOG_FORMAT") == Some(b"json");
    if is_json { Format::Json } else { Format::Text }
}

/// The text of an option or its variable, even if other words are invalid.
fn text(split: &[&'static str], option: &str, variable: &[u8]) -> Option<&'static [u8]> {
    let typed = split.windows(2).rfind(|pair| pair.first() == Some(&option));
    match typed.and_then(<[_]>::last) {
        Some(text) => Some(text.as_bytes()),
        None => environment::variables()
            .find(|(name, value)| *name == variable && !value.is_empty())
            .map(|(_, it)| it),
    }
}

/// Where parsing stops.
enum Stop {
    End,
    Help,
    Version,
    /// At a word that is not an option. The text is reported unless an earlier word is wrong.
    Misplaced(String),
}

/// A command line, prepared for argh.
struct Line<'a> {
    verb: &'a Verb,
    /// The verb's options, with their dashes.
    options: Vec<(String, Takes)>,
    words: Arguments,
    /// Whether a `--` follows the words.
    has_separator: bool,
    /// The words as argh takes them: an option and its value are two words.
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
                // A misplaced COMMAND and the words after it are not parsed.
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

    /// The kind of value that an option takes, if the verb has this option.
    fn takes(&self, option: &str) -> Option<Takes> {
        self.options.iter().find(|(name, _)| name == option).map(|(_, takes)| *takes)
    }

    /// The mistake of an option that belongs to another verb.
    fn not_taken(&self, option: &str) -> String {
        let verb = if self.verb.name.is_empty() { "run" } else { self.verb.name };
        format!("{option} is not an option of {verb} (see drain-init --help)")
    }

    /// The mistake of a word before COMMAND.
    fn misplaced(&self, word: &str, command: usize) -> String {
        if self.has_separator {
            return format!("{word}: not an option, and COMMAND follows `--`");
        }
        let meant = Meant { verb: self.verb.name, words: self.words, command };
        format!("{word}: COMMAND follows `--`: {meant}")
    }

    /// Rephrases argh's message as one line of ours.
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
            // Texts are not parsed here, so nothing else can be wrong with one.
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
