//! What can be asked, listened on or called, as the command line names it.
//!
//! Pure: texts become values, or complaints that say what would do. Nothing is looked up here, and
//! nobody is asked.

#![forbid(unsafe_code)]

mod handler;
mod header;
mod listen;

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

pub use handler::Handler;
pub use header::Headers;
pub use listen::ListenOn;

/// What is wrong with a text, and what would do: it follows the text, and a colon.
type Why = String;

/// The port of http where none is given.
const HTTP_PORT: u16 = 80;

/// What complaints give as an example.
const A_URL: &str = "http://127.0.0.1:8080/path";

/// The longest name that DNS has.
const LONGEST_NAME: usize = 253;

/// Something that is ready or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Ready when it accepts a connection.
    Tcp(Endpoint),
    /// Ready when it answers with 200 to 399, as the kubelet has it.
    Http(Url),
    /// Ready when it is there.
    File(String),
}

/// Who listens: an address (IPv6 without its brackets) or a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub endpoint: Endpoint,
    /// What stands between `http://` and the path, as written: what the Host header says.
    pub authority: String,
    /// From the slash on, with the query.
    pub path: String,
    /// What is sent besides.
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

    /// A target that is asked again and again and must not wait for a name server.
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

    /// What is sent with a request, if one is made.
    pub fn headers(&self) -> Option<&Headers> {
        match self {
            Self::Http(url) => Some(&url.headers),
            Self::Tcp(_) | Self::File(_) => None,
        }
    }

    /// With every request.
    pub fn send(&mut self, headers: &Headers) {
        if let Self::Http(url) = self {
            url.headers = headers.clone();
        }
    }

    /// Who is to be asked, if it is somebody.
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
    /// `host:port` or `[::1]:port`; the port may be left out where there is a default.
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

    /// Its addresses, if the host is one or localhost, in the order in which they are tried. Empty
    /// where somebody would have to be asked.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        // What localhost means is not left to a file that a scratch image does not have.
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

/// At the last colon.
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
    /// What follows `http://`.
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
