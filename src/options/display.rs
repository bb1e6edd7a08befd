//! Formats options and command lines for messages: as written, or quoted for a shell.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};

use super::typed::{Given, PREFIX, Source, dashed};
use crate::sys::Arguments;

/// As written.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { option, text, source } = self;
        match source {
            Source::CommandLine => write!(f, "--{} {}", dashed(option), Quoted(text)),
            Source::Environment => {
                write!(f, "{PREFIX}{}={text}", option.to_ascii_uppercase())
            }
        }
    }
}

/// The command line that was probably meant.
pub(super) struct Meant {
    pub verb: &'static str,
    pub words: Arguments,
    /// The index of COMMAND.
    pub command: usize,
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("drain-init")?;
        if !self.verb.is_empty() {
            write!(f, " {}", self.verb)?;
        }
        for (index, word) in self.words.iter().enumerate() {
            if index == self.command {
                f.write_str(" --")?;
            }
            write!(f, " {}", Quoted(&word.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// Quotes a word for a shell.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
        if !self.0.is_empty() && self.0.bytes().all(plain) {
            return f.write_str(self.0);
        }
        f.write_char('\'')?;
        for character in self.0.chars() {
            match character {
                '\'' => f.write_str(r"'\''")?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char('\'')
    }
}
