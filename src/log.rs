//! Logs events on standard error, one line each; nothing at all while all is well.
//!
//! A line is formatted into a fixed-size buffer and written once. Nothing here blocks or fails: a
//! log that cannot be written is no reason to stop a container.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys;

/// The longest line; longer ones are cut. Below PIPE_BUF, so that a line is written atomically.
const LINE: usize = 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl Format {
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is neither text nor json"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is wrong; logged even with --quiet.
    Error,
    /// The container changes its state.
    #[default]
    Info,
    /// Everything else; logged with --verbose.
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Where lines go, and which lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log {
    pub format: Format,
    pub level: Level,
    /// A second place for lines, besides standard error.
    pub copy: Option<BorrowedFd<'static>>,
}

impl Log {
    /// Logs a line. `event` is the short name by which a machine finds it.
    pub fn line(&self, level: Level, event: &str, message: fmt::Arguments) {
        if level > self.level {
            return;
        }
        let line = Line::new(self.format, level, event, message);
        sys::write_line(libc::STDERR_FILENO, line.bytes());
        if let Some(copy) = self.copy {
            sys::write_line(copy.as_raw_fd(), line.bytes());
        }
    }

    pub fn error(&self, event: &str, message: fmt::Arguments) {
        self.line(Level::Error, event, message);
    }

    pub fn debug(&self, event: &str, message: fmt::Arguments) {
        self.line(Level::Debug, event, message);
    }
}

fn write_json(line: &mut Line, level: Level, event: &str, message: fmt::Arguments) -> fmt::Result {
    write!(line, r#"{{"from":"drain-init","level":"{}","event":"{event}","msg":""#, level.name())?;
    // A long message must leave room to close the JSON object on its line.
    line.limit = LINE - r#""}"#.len() - 1;
    write!(Escaped { line, json: true }, "{message}")?;
    line.limit = LINE;
    line.write_str(r#""}"#)
}

/// A line of bounded length.
struct Line {
    text: [u8; LINE],
    length: usize,
    limit: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { text: [0; LINE], length: 0, limit: LINE - 1 }
    }
}

impl Line {
    fn new(format: Format, level: Level, event: &str, message: fmt::Arguments) -> Self {
        let mut line = Self::default();
        // Writing to a Line does not fail: it cuts.
        let _ = match format {
            Format::Text => {
                write!(Escaped { line: &mut line, json: false }, "drain-init: {message}")
            }
            Format::Json => write_json(&mut line, level, event, message),
        };
        line.end();
        line
    }

    fn end(&mut self) {
        self.limit = LINE;
        let _ = self.write_str("\n");
    }

    fn bytes(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

impl Write for Line {
    /// Cuts at the limit, at a character boundary.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.limit.saturating_sub(self.length);
        let text = text.get(..text.floor_char_boundary(room)).unwrap_or_default();
        let end = self.length + text.len();
        if let Some(place) = self.text.get_mut(self.length..end) {
            place.copy_from_slice(text.as_bytes());
            self.length = end;
        }
        Ok(())
    }
}

/// Escapes everything in an option's text that would end the line or control a terminal, and
/// everything that JSON does not allow in a string.
struct Escaped<'a> {
    line: &'a mut Line,
    json: bool,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '"' | '\\' if self.json => self.whole(format_args!("\\{character}"))?,
                '\n' => self.whole(format_args!("\\n"))?,
                _ if character.is_control() => {
                    self.whole(format_args!("\\u{:04x}", u32::from(character)))?;
                }
                _ => self.line.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl Escaped<'_> {
    /// Writes an escape whole or not at all.
    fn whole(&mut self, escape: fmt::Arguments) -> fmt::Result {
        const LONGEST: usize = r"\u0000".len();
        let fits = self.line.length + LONGEST <= self.line.limit;
        if fits { self.line.write_fmt(escape) } else { Ok(()) }
    }
}

/// Formats a message as a line.
#[cfg(any(test, fuzzing))]
pub fn text(format: Format, message: &str) -> String {
    let line = Line::new(format, Level::Info, "test", format_args!("{message}"));
    String::from_utf8_lossy(line.bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_ended() {
        let line = text(Format::Text, &"ä".repeat(LINE));
        assert!(line.len() >= LINE - 1 && line.len() <= LINE, "{}", line.len());
        assert!(line.ends_with("ä\n"));
        assert!(text(Format::Text, &"\n".repeat(LINE)).ends_with("\\n\n"));
    }

    #[test]
    fn what_would_end_the_line_is_escaped() {
        let line = text(Format::Text, "a \"b\" \\ \n \u{1b}[2J \u{9b} ä");
        assert_eq!(line, "drain-init: a \"b\" \\ \\n \\u001b[2J \\u009b ä\n");
        let line = text(Format::Json, "a \"b\" \\ \n \u{1} ä");
        assert!(line.ends_with("\"msg\":\"a \\\"b\\\" \\\\ \\n \\u0001 ä\"}\n"), "{line}");
    }

    #[test]
    fn a_long_message_leaves_the_object_whole() {
        for filler in ["x", "\"", "\u{1}", "ä"] {
            for odd in 0..8 {
                let line = text(Format::Json, &("y".repeat(odd) + &filler.repeat(LINE)));
                assert!(line.len() <= LINE, "{}", line.len());
                let body = line.strip_suffix("\"}\n").expect("closed");
                let slashes = body.len() - body.trim_end_matches('\\').len();
                assert!(slashes.is_multiple_of(2), "an escape was cut: {line}");
            }
        }
    }
}
