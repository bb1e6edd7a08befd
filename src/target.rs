//! What can be asked, listened on or called, as the command line names it.
//!
//! Pure: texts become values, or complaints that say what would do. Nothing is looked up here, and
//! nobody is asked.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// What is wrong with a text, and what would do: it follows the text, and a colon.
type Why = String;

/// The port of http where none is given.
const HTTP_PORT: u16 = 80;

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
    File(PathBuf),
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
}

/// Where readiness is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// Answers /readyz.
    Http(SocketAddr),
    /// The port is open exactly while ready.
    Tcp(SocketAddr),
}

/// What is run when the drain begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    Call {
        method: String,
        url: Url,
    },
    /// The program, an absolute path or a name that is looked up in PATH, and its arguments.
    Exec(Vec<String>),
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
                Err("names no absolute path; write file:/path".to_owned())
            } else if path.chars().any(char::is_control) {
                Err("has a control character in its path".to_owned())
            } else {
                Ok(Self::File(path.into()))
            };
        }
        refuse_https(text)?;
        Err("has no scheme; write tcp://127.0.0.1:8080, http://127.0.0.1:8080/path or file:/path"
            .to_owned())
    }

    /// A target that is asked again and again and must not wait for a name server.
    pub fn parse_local(text: &str) -> Result<Self, Why> {
        let target = Self::parse(text)?;
        match target.endpoint() {
            Some(endpoint) if endpoint.addresses().is_empty() => Err(format!(
                "{} would have to be looked up each time; write localhost or an address",
                endpoint.host
            )),
            _ => Ok(target),
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

fn refuse_https(text: &str) -> Result<(), Why> {
    match text.get(..6) {
        Some(scheme) if scheme.eq_ignore_ascii_case("https:") => {
            Err("https is not spoken here; write http://127.0.0.1:8080/path".to_owned())
        }
        _ => Ok(()),
    }
}

impl Endpoint {
    /// `host:port` or `[::1]:port`; the port may be left out where there is a default.
    fn parse(text: &str, default_port: Option<u16>) -> Result<Self, Why> {
        if text.contains('@') {
            return Err("names a user, which is not sent; leave it out".to_owned());
        }
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return Err(format!("has {rest:?} behind the address; write [::1]:8080")),
            },
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err("has no host; write localhost, an address or a name".to_owned());
        }
        let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if bracketed.is_some() {
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(format!("{host:?} is no IPv6 address; write [::1]:8080"));
            }
        } else if host.contains(':') {
            return Err("has an IPv6 address without brackets; write [::1]:8080".to_owned());
        } else if host.len() > LONGEST_NAME || !host.bytes().all(of_a_name) {
            return Err(format!("{host:?} is no host; write localhost, an address or a name"));
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
        let addresses = hosts.iter().filter_map(|host| host.parse().ok());
        addresses.map(|address| SocketAddr::new(address, self.port)).collect()
    }
}

fn parse_port(text: &str) -> Result<u16, Why> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(format!("{text:?} is no port; write a number from 1 to 65535")),
    }
}

impl Url {
    /// What follows `http://`.
    fn parse(text: &str) -> Result<Self, Why> {
        let (authority, rest) = text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()));
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err("has a character in its path that no request can carry; write it as %20 \
                        and the like"
                .to_owned());
        }
        let endpoint = Endpoint::parse(authority, Some(HTTP_PORT))?;
        // RFC 9110, 4.2.3: an empty path is the same as `/`.
        let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        Ok(Self { endpoint, authority: authority.to_owned(), path })
    }
}

impl ListenOn {
    pub fn parse(text: &str) -> Result<Self, Why> {
        refuse_https(text)?;
        let (address, is_tcp) = match text.strip_prefix("tcp://") {
            Some(address) => (address, true),
            None => (text.strip_prefix("http://").unwrap_or(text), false),
        };
        let scheme = if is_tcp { "tcp://" } else { "" };
        let Some((host, port)) = address.rsplit_once(':') else {
            return Err(format!("is no address and port; write {scheme}[::]:9000"));
        };
        let port = parse_port(port)?;
        if host.is_empty() {
            return Err(format!("has no address; write {scheme}[::]:{port}"));
        }
        let Ok(address) = address.parse::<SocketAddr>() else {
            return Err(format!(
                "{host:?} is no address; write {scheme}[::]:{port} or {scheme}0.0.0.0:{port}"
            ));
        };
        Ok(if is_tcp { Self::Tcp(address) } else { Self::Http(address) })
    }

    pub fn address(self) -> SocketAddr {
        match self {
            Self::Http(address) | Self::Tcp(address) => address,
        }
    }
}

impl Handler {
    pub fn parse(text: &str) -> Result<Self, Why> {
        if let Some(command) = text.strip_prefix("exec:") {
            return Self::parse_exec(command);
        }
        refuse_https(text)?;
        let (method, url) = match text.split_once(' ') {
            Some((method, url)) => (method, url.trim_start_matches(' ')),
            None => ("GET", text),
        };
        refuse_https(url)?;
        // What RFC 9110, 5.6.2 has in a token.
        let of_a_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if method.is_empty() {
            return Err("has an empty method; write POST http://127.0.0.1:8080/path".to_owned());
        }
        let Some(rest) = url.strip_prefix("http://") else {
            return Err("is no handler; write http://127.0.0.1:8080/path, POST http://... or \
                        exec:/command"
                .to_owned());
        };
        if !method.bytes().all(of_a_token) {
            return Err(format!("{method:?} is no method; write POST {url}"));
        }
        Ok(Self::Call { method: method.to_owned(), url: Url::parse(rest)? })
    }

    fn parse_exec(command: &str) -> Result<Self, Why> {
        let Some(words) = shlex::split(command) else {
            return Err("has a quotation mark or a backslash that nothing follows".to_owned());
        };
        match words.first().map(String::as_str) {
            None | Some("") => Err("has no command; write exec:/command argument".to_owned()),
            Some(program) if program.contains('/') && !program.starts_with('/') => Err(format!(
                "{program:?} depends on the folder it is run in; write exec:/{}",
                program.trim_start_matches("./")
            )),
            Some(_) => Ok(Self::Exec(words)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) => write!(f, "tcp://{endpoint}"),
            Self::Http(url) => write!(f, "{url}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
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

impl fmt::Display for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Http(address) => write!(f, "http://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Call { method, url } => write!(f, "{method} {url}"),
            // Quoted again, so that what is logged could be run.
            Self::Exec(words) => {
                let line = shlex::try_join(words.iter().map(String::as_str));
                write!(f, "exec:{}", line.unwrap_or_else(|_| words.join(" ")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
