//! `drain-init probe TARGET [--timeout D]`: an exec probe or HEALTHCHECK for an image without a
//! shell. Exit code 0 if the target is ready, 1 if it is not, with one line that says why.

#![forbid(unsafe_code)]

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::{read, refuse};
use crate::check::{Check, answer};
use crate::cli::{Options, Verb, as_written};
use crate::clock::Clock;
use crate::duration::{self, Short};
use crate::log::Log;
use crate::sys::{self, Arguments};
use crate::target::{Endpoint, Target};

const VERB: Verb = Verb {
    name: "probe",
    options: Options::Only(&["--timeout"]),
    operand: Some("TARGET"),
    command: false,
};

const TIMEOUT: Duration = Duration::from_secs(1);

const NOT_READY: u8 = 1;

pub fn probe(arguments: Arguments) -> u8 {
    let read = match read(&VERB, arguments) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let text = read.operand.unwrap_or_default();
    let mut complaints = Vec::new();
    let target = Target::parse(&text).map_err(|why| complaints.push(format!("{text}: {why}")));
    let timeout = match &read.typed.timeout {
        None => TIMEOUT,
        Some(given) => duration::parse(&given.text)
            .and_then(|timeout| if timeout.is_zero() { Err("is no time") } else { Ok(timeout) })
            .unwrap_or_else(|why| {
                let written = as_written("timeout", given);
                complaints.push(format!("{written}: {why}; write 500ms or 1s"));
                TIMEOUT
            }),
    };
    match target {
        Ok(target) if complaints.is_empty() => ask(&target, timeout),
        _ => refuse(&complaints),
    }
}

fn ask(target: &Target, timeout: Duration) -> u8 {
    let clock = Clock::start();
    let addresses = target.endpoint().map(|endpoint| addresses(endpoint, timeout));
    let answer = match addresses.transpose() {
        Ok(addresses) => {
            let rest = timeout.saturating_sub(clock.now());
            let addresses = addresses.unwrap_or_default();
            let check = Check::begin(target, addresses, clock.now(), rest);
            answer(check, clock).map_err(|reason| reason.to_string())
        }
        Err(why) => Err(why),
    };
    match answer {
        Ok(()) => 0,
        Err(why) => {
            Log::default().error("probe", format_args!("{target} {why}"));
            NOT_READY
        }
    }
}

/// Where somebody is, by the system's resolver if need be: within the limit, or this process ends.
pub fn addresses(endpoint: &Endpoint, limit: Duration) -> Result<Vec<SocketAddr>, String> {
    let local = endpoint.addresses();
    if !local.is_empty() {
        return Ok(local);
    }
    // The resolver has time limits of its own, longer than any probe's.
    let line = format!("drain-init: {endpoint}: its name was not found in {}\n", Short(limit));
    sys::end_after(limit, line, NOT_READY);
    let found = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
    sys::do_not_end();
    found.map(Iterator::collect).map_err(|_| "has a name that is not found".to_owned())
}
