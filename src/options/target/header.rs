//! Header fields that are sent with every HTTP request: `Host: app.example`.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fmt;
use std::rc::Rc;

use super::{Why, why};
use crate::options::typed::{Given, Source};

/// Fields that a request sets itself, or that its answer is read by.
const OWN: [&str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];

/// A field that replaces the default one.
const HOST: &str = "Host";
const USER_AGENT: &str = "User-Agent";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    name: String,
    value: String,
    /// Given by the environment, which companions inherit: arguments are visible to every user.
    is_inherited: bool,
}

/// All fields, shared by all targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Rc<[Header]>);

impl Header {
    fn parse(text: &str) -> Result<Self, Why> {
        let Some((name, value)) = text.split_once(':') else {
            return Err(why("has no colon; write 'Name: value'"));
        };
        if name.is_empty() || !is_token(name) {
            return Err(format!("\"{name}\" is not the name of a header; write 'Name: value'"));
        }
        if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Err(format!("{name} is set by drain-init; leave it out"));
        }
        let value = value.trim_matches([' ', '\t']);
        // RFC 9110, 5.5.
        if value.chars().any(|character| character.is_control() && character != '\t') {
            return Err(why("has a control character in its value"));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned(), is_inherited: false })
    }

    /// Whether a request may have only one field of that name.
    fn is_singular(&self) -> bool {
        [HOST, USER_AGENT].iter().any(|name| self.is(name))
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl Headers {
    /// Parses the options, or returns the first invalid one and what is wrong with it.
    pub fn read(options: &[Given]) -> Result<Self, (Given, Why)> {
        let mut headers = Vec::<Header>::new();
        for given in options.iter().copied() {
            let mut header = Header::parse(given.text).map_err(|why| (given, why))?;
            let is_there = |other: &Header| header.is_singular() && header.is(&other.name);
            if headers.iter().any(is_there) {
                return Err((given, format!("{} is already there; give it once", header.name)));
            }
            header.is_inherited = given.source == Source::Environment;
            headers.push(header);
        }
        Ok(Self(headers.into()))
    }

    /// The header lines of a request to `host`.
    pub fn of_request(&self, host: &str) -> String {
        let mut lines = String::new();
        let given = |name| self.0.iter().any(|header| header.is(name));
        for (name, value) in [(HOST, host), (USER_AGENT, "drain-init")] {
            if !given(name) {
                lines += &line(name, value);
            }
        }
        for header in self.0.iter() {
            lines += &line(&header.name, &header.value);
        }
        lines
    }

    /// The options that pass these fields to a companion, except the inherited ones.
    pub fn words(&self) -> impl Iterator<Item = CString> {
        let typed = self.0.iter().filter(|header| !header.is_inherited);
        // A value has no null byte.
        typed.filter_map(|header| CString::new(format!("--header={header}")).ok())
    }
}

fn line(name: &str, value: &str) -> String {
    format!("{name}: {value}\r\n")
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value)
    }
}

/// Whether the text is a token, RFC 9110, 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[&'static str]) -> Result<Headers, (Given, Why)> {
        let given =
            |text: &&'static str| Given { option: "header", text, source: Source::CommandLine };
        Headers::read(&headers.iter().map(given).collect::<Vec<_>>())
    }

    fn lines(headers: &[&'static str]) -> String {
        read(headers).expect("right").of_request("app:8080")
    }

    #[test]
    fn headers_are_added_and_replace_the_two_that_are_sent_anyway() {
        assert_eq!(lines(&[]), "Host: app:8080\r\nUser-Agent: drain-init\r\n");
        assert_eq!(
            lines(&["host: a.example", "X-Key:  a: b ", "X-Key: c", "Empty:"]),
            "User-Agent: drain-init\r\nhost: a.example\r\nX-Key: a: b\r\nX-Key: c\r\nEmpty: \r\n"
        );
        assert_eq!(
            lines(&["User-Agent: kube-probe/1"]),
            "Host: app:8080\r\nUser-Agent: kube-probe/1\r\n"
        );
    }

    #[test]
    fn nothing_gets_in_that_would_be_a_second_line_or_another_request() {
        for text in [
            "X",
            ": x",
            "X Y: z",
            "X\r\nY: z",
            "X: y\r\nZ: a",
            "X: y\nZ: a",
            "X: a\0b",
            "connection: keep-alive",
            "Content-Length: 3",
            "transfer-encoding: chunked",
        ] {
            assert!(Header::parse(text).is_err(), "{text:?}");
        }
        assert!(read(&["Host: a", "host: b"]).is_err());
    }
}
