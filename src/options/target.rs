//! Targets to ask, listen on or call, as named on the command line.
//!
//! Pure: parses texts into values, or into messages that say what to write instead. Looks up no
//! name and asks no target.

#![forbid(unsafe_code)]

mod handler;
mod header;
mod listen;

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

pub use handler::Handler;
pub use header::Headers;
pub use listen::ListenOn;

/// What is wrong with a text, and what to write instead. It is printed after the text and a colon.
type Why = String;

/// The default port of http.
const HTTP_PORT: u16 = 80;

/// The example in messages.
const A_URL: &str = "http://127.0.0.1:8080/path";

/// The longest name in DNS.
const LONGEST_NAME: usize = 253;

/// A target that is ready or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Ready when it accepts a connection.
    Tcp(Endpoint),
    /// Ready when it answers with a status from 200 to 399, as for the kubelet.
    Http(Url),
    /// Ready when the file exists.
    File(String),
}

/// The address of a server: an IP address (IPv6 without its brackets) or a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub endpoint: Endpoint,
    /// The text between `http://` and the path, as written: the value of the Host header.
    pub authority: String,
    /// From the slash on, with the query.
    pub path: String,
    /// Additional header fields.
    pub headers: Headers,
}

#[cold]
#[inline(never)]
fn why(text: &str) -> Why {
    text.to_owned()
}

impl Target {
    pub fn parse(text: &str) -> Result<Self, Why> {
        if let Some(rest) = text.strip_prefix("tcp://") {
            return Endpoint::parse(rest, None).map(Self::Tcp);
        }
        if let Some(rest) = text.strip_prefix("http://") {
            return Url::parse(rest).map(Self::Http);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return if !path.starts_with('/') {
                Err(why("needs an absolute path; write file:/path"))
            } else if path.chars().any(char::is_control) {
                Err(why("has a control character in its path"))
            } else {
                Ok(Self::File(path.into()))
            };
        }
        refuse_https(text, A_URL)?;
        let what = if text.contains("://") { "has an unknown scheme" } else { "has no scheme" };
        let remedy = "write tcp://127.0.0.1:8080, http://127.0.0.1:8080/path or file:/path";
        Err(format!("{what}; {remedy}"))
    }

    /// Parses a target that is asked again and again, and must not wait for a name server.
    pub fn parse_local(text: &str) -> Result<Self, Why> {
        let target = Self::parse(text)?;
        match target.endpoint() {
            Some(endpoint) if endpoint.addresses().is_empty() => Err(format!(
                "{} would be looked up for every probe; write localhost or an address",
                endpoint.host
            )),
            _ => Ok(target),
        }
    }

    /// The header fields of its request, if it is asked over HTTP.
    pub fn headers(&self) -> Option<&Headers> {
        match self {
            Self::Http(url) => Some(&url.headers),
            Self::Tcp(_) | Self::File(_) => None,
        }
    }

    /// Sets the header fields of every request.
    pub fn send(&mut self, headers: &Headers) {
        if let Self::Http(url) = self {
            url.headers = headers.clone();
        }
    }

    /// The server to ask, if it is not a file.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Tcp(endpoint) | Self::Http(Url { endpoint, .. }) => Some(endpoint),
            Self::File(_) => None,
        }
    }
}

fn refuse_https(text: &str, instead: &str) -> Result<(), Why> {
    match text.get(..6) {
        Some(scheme) if scheme.eq_ignore_ascii_case("https:") => {
            Err(format!("https is not supported; write {instead}"))
        }
        _ => Ok(()),
    }
}

impl Endpoint {
    /// Parses `host:port` or `[::1]:port`; the port is optional if there is a default.
    fn parse(text: &str, default_port: Option<u16>) -> Result<Self, Why> {
        if text.contains('@') {
            return Err(why("names a user, which is not sent; leave it out"));
        }
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return Err(format!("has \"{rest}\" after the address; write [::1]:8080")),
            },
            None => match split_port(text) {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err(why("has no host; write localhost, an address or a name"));
        }
        let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if bracketed.is_some() {
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(format!("\"{host}\" is not an IPv6 address; write [::1]:8080"));
            }
        } else if host.contains(':') {
            return Err(why("has an IPv6 address without brackets; write [::1]:8080"));
        } else if host.len() > LONGEST_NAME || !host.bytes().all(of_a_name) {
            return Err(format!("\"{host}\" is not a host; write localhost, an address or a name"));
        }
        let port = match (port.map(parse_port), default_port) {
            (Some(port), _) => port?,
            (None, Some(port)) => port,
            (None, None) => return Err(format!("has no port; write {text}:8080")),
        };
        Ok(Self { host: host.to_owned(), port })
    }

    /// Its addresses, in the order in which they are tried, if the host is an address or localhost.
    /// Empty if the name has to be looked up.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        // localhost does not depend on /etc/hosts, which a scratch image lacks.
        let hosts: &[&str] = if self.host.eq_ignore_ascii_case("localhost") {
            &["127.0.0.1", "::1"]
        } else {
            &[self.host.as_str()]
        };
        let mut addresses = Vec::new();
        for host in hosts {
            if let Ok(address) = host.parse() {
                addresses.push(SocketAddr::new(address, self.port));
            }
        }
        addresses
    }
}

/// Splits at the last colon.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let colon = text.bytes().rposition(|byte| byte == b':')?;
    Some((text.get(..colon)?, text.get(colon + 1..)?))
}

fn parse_port(text: &str) -> Result<u16, Why> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(format!("\"{text}\" is not a port; write a number from 1 to 65535")),
    }
}

impl Url {
    /// Parses the text after `http://`.
    fn parse(text: &str) -> Result<Self, Why> {
        let (authority, rest) = text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()));
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(why("has a character in its path that must be percent-encoded, as in %20"));
        }
        let endpoint = Endpoint::parse(authority, Some(HTTP_PORT))?;
        // RFC 9110, 4.2.3: an empty path is the same as `/`.
        let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        Ok(Self { endpoint, authority: authority.to_owned(), path, headers: Headers::default() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) => write!(f, "tcp://{endpoint}"),
            Self::Http(url) => write!(f, "{url}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests;
