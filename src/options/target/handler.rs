//! Handlers that run when the drain begins, or when the app has ended: a URL to call, or a command.

#![forbid(unsafe_code)]

use std::fmt;

use super::header::is_token;
use super::{A_URL, Headers, Url, Why, refuse_https, why};

/// A handler that runs when the drain begins, or when the app has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    Call { method: String, url: Url },
    Exec(Command),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// As typed.
    text: String,
    /// The program, as an absolute path or a name that is looked up in PATH, and its arguments.
    pub words: Vec<String>,
}

impl Handler {
    pub fn parse(text: &str) -> Result<Self, Why> {
        if let Some(command) = text.strip_prefix("exec:") {
            return Self::parse_exec(command);
        }
        refuse_https(text, A_URL)?;
        let (method, url) = match text.split_once(' ') {
            Some((method, url)) => (method, url.trim_start_matches(' ')),
            None => ("GET", text),
        };
        refuse_https(url, A_URL)?;
        if method.is_empty() {
            return Err(why("has an empty method; write POST http://127.0.0.1:8080/path"));
        }
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(why(
                "is not a handler; write http://127.0.0.1:8080/path, POST http://... or \
                        exec:/command",
            ));
        };
        if !is_token(method) {
            return Err(format!("\"{method}\" is not a method; write POST {url}"));
        }
        Ok(Self::Call { method: method.to_owned(), url: Url::parse(rest)? })
    }

    /// Sets the header fields of its request, if it calls a URL.
    pub fn send(&mut self, headers: &Headers) {
        if let Self::Call { url, .. } = self {
            url.headers = headers.clone();
        }
    }

    fn parse_exec(command: &str) -> Result<Self, Why> {
        let Some(words) = shlex::split(command) else {
            return Err(why("has an unclosed quotation mark or a trailing backslash"));
        };
        match words.first().map(String::as_str) {
            None | Some("") => Err(why("has no command; write exec:/command argument")),
            Some(program) if program.contains('/') && !program.starts_with('/') => Err(format!(
                "\"{program}\" is relative to the working directory; write exec:/{}",
                program.strip_prefix("./").unwrap_or(program)
            )),
            Some(_) => Ok(Self::Exec(Command { text: command.to_owned(), words })),
        }
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Call { method, url } => write!(f, "{method} {url}"),
            Self::Exec(command) => write!(f, "exec:{}", command.text),
        }
    }
}
