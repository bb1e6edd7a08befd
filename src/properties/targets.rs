//! Texts of the command line that name a target, listener, handler, peer, signal or time.

use std::fmt::Display;
use std::net::IpAddr;

use super::is_one_line;
use crate::duration;
use crate::options::network::Network;
use crate::options::target::{Endpoint, Handler, ListenOn, Target, Url};
use crate::signal::Signal;

/// Tries the text as each of these.
pub fn targets(input: &[u8]) {
    // The kernel passes no zero byte; the command line refuses text that is not valid UTF-8.
    let Ok(text) = str::from_utf8(input) else { return };
    if text.contains('\0') {
        return;
    }
    if let Some(target) = said_again(text, Target::parse) {
        match &target {
            Target::Tcp(endpoint) => is_endpoint(endpoint),
            Target::Http(url) => is_url(url),
            Target::File(path) => assert!(path.starts_with('/'), "{path:?}"),
        }
        is_one_line(&target.to_string());
    }
    if let Some(target) = said_again(text, Target::parse_local) {
        assert!(target.endpoint().is_none_or(|endpoint| !endpoint.addresses().is_empty()));
    }
    if let Some(listen_on) = said_again(text, ListenOn::parse) {
        assert_ne!(listen_on.address().port(), 0);
    }
    match said_again(text, Handler::parse) {
        None => {}
        Some(Handler::Call { method, url }) => {
            is_url(&url);
            assert!(!method.is_empty() && method.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        Some(Handler::Exec(command)) => {
            let program = command.words.first().expect("a program");
            assert!(program.starts_with('/') || !program.contains('/'), "{program:?}");
        }
    }
    if let Ok(network) = Network::parse(text) {
        let address = text.split('/').next().unwrap_or_default();
        let address: IpAddr = address.parse().expect("an address");
        assert!(network.contains(address), "its own address is not in it");
    }
    if let Some(signal) = Signal::parse(text) {
        let number = signal.number();
        assert!((1..=64).contains(&number));
        assert!([32, 33].contains(&number) || Signal::parse(&signal.to_string()) == Some(signal));
    }
    if let Ok(time) = duration::parse(text) {
        is_one_line(&duration::Short(time).to_string());
        let seconds = text.parse().ok();
        assert!(seconds.is_none_or(|seconds| time.as_secs() == seconds), "{time:?}");
    }
}

/// A parsed value is the same when its displayed form is parsed again; a mistake has a message.
fn said_again<T: Display + PartialEq + std::fmt::Debug>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    match parse(text) {
        Ok(value) => {
            let shown = value.to_string();
            assert_eq!(parse(&shown).as_ref(), Ok(&value), "shown as {shown:?}");
            Some(value)
        }
        Err(why) => {
            assert!(!why.trim().is_empty());
            None
        }
    }
}

fn is_endpoint(endpoint: &Endpoint) {
    assert_ne!(endpoint.port, 0);
    assert!(!endpoint.host.is_empty() && endpoint.host.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(endpoint.addresses().iter().all(|address| address.port() == endpoint.port));
}

/// Nothing in it can end a line of the request.
fn is_url(url: &Url) {
    is_endpoint(&url.endpoint);
    assert!(url.authority.bytes().all(|byte| byte.is_ascii_graphic()), "{:?}", url.authority);
    assert!(url.path.starts_with('/'), "{:?}", url.path);
    assert!(url.path.bytes().all(|byte| byte.is_ascii_graphic()), "{:?}", url.path);
}
