//! What can be asked, listened on or called, as options name it: targets, listeners, handlers.
//!
//! Pure: texts become values. Nothing is looked up here.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What is wrong with a text, and what would do.
type Why = String;

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

/// Who listens: a name or an address without brackets, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub endpoint: Endpoint,
    /// With the query, from the slash on.
    pub path: String,
}

/// Where readiness is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    Http(SocketAddr),
    /// The port is open exactly while ready.
    Tcp(SocketAddr),
}

/// What is run when the drain begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    Call { method: String, url: Url },
    Exec(Vec<String>),
}

impl Target {
    pub fn parse(text: &str) -> Result<Self, Why> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(no_scheme());
        };
        match (scheme, rest.strip_prefix("//")) {
            ("tcp", Some(rest)) => Endpoint::parse(rest, None).map(Self::Tcp),
            ("http", Some(rest)) => Url::parse(rest).map(Self::Http),
            ("https", _) => Err(no_https()),
            ("file", None) if rest.starts_with('/') => Ok(Self::File(rest.into())),
            ("file", _) => Err("is no absolute path; write file:/path".to_owned()),
            _ => Err(no_scheme()),
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

fn no_scheme() -> Why {
    "has no scheme; write tcp://127.0.0.1:8080, http://127.0.0.1:8080/path or file:/path".to_owned()
}

fn no_https() -> Why {
    "https is not spoken here; write http://127.0.0.1:8080/path".to_owned()
}

impl Endpoint {
    /// `host:port`, `[::1]:port`; without a port if there is a default.
    fn parse(text: &str, default_port: Option<u16>) -> Result<Self, Why> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':').or(Some(""))),
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err("has no host; write localhost or an address".to_owned());
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        match bracketed {
            Some(_) if host.parse::<std::net::Ipv6Addr>().is_err() => {
                return Err(format!("{host} is no IPv6 address"));
            }
            None if !host.bytes().all(plain) => {
                return Err(format!("{host:?} is no host; an IPv6 address stands in brackets"));
            }
            _ => {}
        }
        let port = match (port, default_port) {
            (None, Some(port)) => port,
            (None, None) => return Err("has no port; write host:port".to_owned()),
            (Some(port), _) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(format!("{port:?} is no port; write 1 to 65535")),
            },
        };
        Ok(Self { host: host.to_owned(), port })
    }

    /// Whether it can be found without asking anybody.
    pub fn is_local(&self) -> bool {
        !self.addresses().is_empty()
    }

    /// Its addresses, if the host is one or localhost: in the order in which they are tried.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let hosts: &[&str] = match self.host.as_str() {
            "localhost" => &["127.0.0.1", "::1"],
            host => &[host],
        };
        let addresses = hosts.iter().filter_map(|host| host.parse().ok());
        addresses.map(|address| SocketAddr::new(address, self.port)).collect()
    }
}

impl Url {
    /// What follows `http://`.
    fn parse(text: &str) -> Result<Self, Why> {
        let (authority, path) = match text.find('/') {
            Some(slash) => text.split_at(slash),
            None => (text, "/"),
        };
        if authority.contains('@') {
            return Err("names a user; that is not sent".to_owned());
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err("has a path that no request can carry; encode it with %".to_owned());
        }
        let endpoint = Endpoint::parse(authority, Some(80))?;
        Ok(Self { endpoint, path: path.to_owned() })
    }
}

impl Listen {
    pub fn parse(text: &str) -> Result<Self, Why> {
        if text.starts_with("https:") {
            return Err(no_https());
        }
        let (address, is_tcp) = match (text.strip_prefix("tcp://"), text.strip_prefix("http://")) {
            (Some(address), _) => (address, true),
            (None, Some(address)) => (address, false),
            (None, None) => (text, false),
        };
        let address: SocketAddr = address.parse().map_err(|_| {
            "is no address and port; write 0.0.0.0:9000, [::]:9000 or tcp://[::]:9000".to_owned()
        })?;
        if address.port() == 0 {
            return Err("0 is no port; write 1 to 65535".to_owned());
        }
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
            return match shlex::split(command) {
                Some(words) if words.first().is_some_and(|word| !word.is_empty()) => {
                    Ok(Self::Exec(words))
                }
                Some(_) => Err("has no command; write exec:/command argument".to_owned()),
                None => Err("has a quote that is not closed".to_owned()),
            };
        }
        let (method, url) = text.split_once(' ').unwrap_or(("GET", text));
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(format!("{method:?} is no method; write POST http://host:port/path"));
        }
        if url.starts_with("https:") {
            return Err(no_https());
        }
        let Some(url) = url.strip_prefix("http://") else {
            let forms = "http://host:port/path, POST http://host:port/path or exec:/command";
            return Err(format!("is no handler; write {forms}"));
        };
        Ok(Self::Call { method: method.to_owned(), url: Url::parse(url)? })
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
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "http://{}{}", self.endpoint, self.path)
    }
}

impl fmt::Display for Listen {
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
            Self::Exec(words) => write!(f, "exec:{}", words.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_they_are_read() {
        for text in [
            "tcp://127.0.0.1:8080",
            "tcp://[::1]:8080",
            "tcp://localhost:65535",
            "http://app.svc:8080/healthz?full=1",
            "file:/run/ready",
        ] {
            assert_eq!(Target::parse(text).map(|target| target.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(
            Target::parse("http://[::1]").map(|t| t.to_string()),
            Ok("http://[::1]:80/".into())
        );
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            "127.0.0.1:8080",
            "localhost",
            "https://localhost/",
            "tcp://localhost",
            "tcp://localhost:0",
            "tcp://localhost:65536",
            "tcp://:80",
            "tcp://::1:80",
            "tcp://[::1",
            "tcp://[::1]80",
            "tcp://[host]:80",
            "tcp://a b:80",
            "tcp:localhost:80",
            "http://user@localhost/",
            "http:///path",
            "http://localhost/a b",
            "http://localhost/\n",
            "file:relative",
            "file://host/path",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_and_localhost_need_no_look_up() {
        let addresses = |text: &str| match Target::parse(text) {
            Ok(Target::Tcp(endpoint)) => endpoint.addresses(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(addresses("tcp://localhost:1").len(), 2);
        assert_eq!(addresses("tcp://[::1]:1").len(), 1);
        assert!(addresses("tcp://app:1").is_empty());
    }

    #[test]
    fn listeners_have_an_address_and_a_port() {
        assert_eq!(
            Listen::parse("[::]:9000").map(|l| l.to_string()),
            Ok("http://[::]:9000".into())
        );
        assert!(matches!(Listen::parse("tcp://0.0.0.0:9000"), Ok(Listen::Tcp(_))));
        for text in
            ["9000", ":9000", "localhost:9000", "0.0.0.0:0", "0.0.0.0:65536", "https://[::]:1"]
        {
            assert!(Listen::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn handlers_call_or_execute() {
        let exec = Handler::parse("exec:/bin/bye 'two words' three");
        assert_eq!(
            exec,
            Ok(Handler::Exec(["/bin/bye", "two words", "three"].map(str::to_owned).into()))
        );
        assert_eq!(
            Handler::parse("http://a/b").map(|h| h.to_string()),
            Ok("GET http://a:80/b".into())
        );
        let post = Handler::parse("POST http://a:1/b").map(|h| h.to_string());
        assert_eq!(post, Ok("POST http://a:1/b".into()));
        for text in [
            "",
            " http://a/b",
            "https://a/b",
            "POST https://a/b",
            "exec:",
            "exec:'",
            "exec:\"\"",
            "tcp://a:1",
            "P@ST http://a/b",
            "POST  http://a/b",
            "http://",
        ] {
            assert!(Handler::parse(text).is_err(), "{text}");
        }
    }
}
