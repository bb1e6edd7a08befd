//! The address that the readiness server listens on: `[::]:9000`, or `tcp://[::]:9000`.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;

use super::{Why, parse_port, refuse_https, split_port};

/// How readiness is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// Answers /readyz.
    Http(Listen),
    /// The port is open exactly while the app is ready.
    Tcp(Listen),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    address: SocketAddr,
    /// As typed.
    text: &'static str,
}

impl ListenOn {
    pub fn parse(text: &str) -> Result<Self, Why> {
        refuse_https(text, "[::]:9000")?;
        let (text, is_tcp) = match text.strip_prefix("tcp://") {
            Some(text) => (text, true),
            None => (text.strip_prefix("http://").unwrap_or(text), false),
        };
        let scheme = if is_tcp { "tcp://" } else { "" };
        let Some((host, port)) = split_port(text) else {
            return Err(format!("is not an address and a port; write {scheme}[::]:9000"));
        };
        let port = parse_port(port)?;
        if host.is_empty() {
            return Err(format!("has no address; write {scheme}[::]:{port}"));
        }
        let Ok(address) = text.parse() else {
            return Err(format!(
                "\"{host}\" is not an address; write {scheme}[::]:{port} or {scheme}0.0.0.0:{port}"
            ));
        };
        let listen = Listen { address, text: text.to_owned().leak() };
        Ok(if is_tcp { Self::Tcp(listen) } else { Self::Http(listen) })
    }

    pub fn address(self) -> SocketAddr {
        match self {
            Self::Http(listen) | Self::Tcp(listen) => listen.address,
        }
    }
}

impl fmt::Display for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Http(listen) => write!(f, "http://{}", listen.text),
            Self::Tcp(listen) => write!(f, "tcp://{}", listen.text),
        }
    }
}
