//! Reads single options: turns a text into a value, or into a message that names the option.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::{START_TIMEOUT, Surroundings};
use crate::duration;
use crate::log::Level;
use crate::marker;
use crate::options::network::Network;
use crate::options::target::Headers;
use crate::options::typed::{Given, Options};
use crate::options::watched::{InFlight, QuietOn, Watched};

/// Reads values and collects messages. An invalid value is replaced by its default, so that the
/// other options are checked too.
pub(super) struct Reader<'a> {
    pub typed: &'a Options,
    pub surroundings: Surroundings,
    pub complaints: Vec<String>,
}

impl Reader<'_> {
    #[cold]
    #[inline(never)]
    pub fn refuse(&mut self, given: Given, why: fmt::Arguments) {
        self.complaints.push(format!("{given}: {why}"));
    }

    pub fn parsed<T, W: fmt::Display>(
        &mut self,
        given: Given,
        parse: impl Fn(&'static str) -> Result<T, W>,
    ) -> Option<T> {
        parse(given.text).map_err(|why| self.refuse(given, format_args!("{why}"))).ok()
    }

    /// Reads an option that may be given once.
    pub fn value<T, W: fmt::Display>(
        &mut self,
        given: Option<Given>,
        parse: impl Fn(&'static str) -> Result<T, W>,
    ) -> Option<T> {
        self.parsed(given?, parse)
    }

    /// Reads an option that may be given any number of times.
    pub fn values<T, W: fmt::Display>(
        &mut self,
        given: &[Given],
        parse: impl Fn(&'static str) -> Result<T, W>,
    ) -> Vec<T> {
        given.iter().filter_map(|given| self.parsed(*given, &parse)).collect()
    }

    pub fn watched(&mut self) -> Option<Watched> {
        let typed = self.typed;
        let quiet_on = self.value(typed.quiet_on, |text| match text {
            "requests" => Ok(QuietOn::Requests),
            "connections" => Ok(QuietOn::Connections),
            _ => Err("is neither requests nor connections"),
        });
        let ports = self.values(&typed.watch_port, |text| match text.parse() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err("is not a port; write 1 to 65535"),
        });
        let ignored_peers = self.values(&typed.ignore_peer, |text| {
            Network::parse(text).map_err(|why| format!("{why}; write 10.0.0.7 or 10.0.0.0/24"))
        });
        let close_idle = self.duration(typed.close_idle);
        if close_idle.is_some_and(|time| time.is_zero())
            && let Some(given) = typed.close_idle
        {
            self.refuse(given, format_args!("leaves no time to be idle in; write 100ms"));
        }
        let in_flight = self.value(typed.in_flight, |text| match text {
            "drain-init" => Ok(InFlight::DrainInit),
            "app" => Ok(InFlight::App),
            _ => Err("is neither drain-init nor app"),
        });
        let in_flight = in_flight.unwrap_or_default();
        let until_quiet = self.duration(typed.until_quiet)?;
        if until_quiet.is_zero()
            && let Some(given) = typed.until_quiet
        {
            self.refuse(given, format_args!("leaves no time to be quiet in; write 2s"));
        }
        let ports = ports.into_iter().collect();
        Some(Watched {
            until_quiet,
            quiet_on: quiet_on.unwrap_or(match in_flight {
                InFlight::DrainInit => QuietOn::Requests,
                InFlight::App => QuietOn::Connections,
            }),
            ports,
            ignored_peers,
            given: Vec::new(),
            close_idle: close_idle.filter(|_| in_flight == InFlight::DrainInit),
            in_flight,
        })
    }

    pub fn headers(&mut self) -> Headers {
        Headers::read(&self.typed.header).unwrap_or_else(|(given, why)| {
            self.refuse(given, format_args!("{why}"));
            Headers::default()
        })
    }

    /// How long to wait for the targets of --start-after, if there are any.
    pub fn start_timeout(&mut self) -> Option<Duration> {
        let typed = self.typed;
        let timeout = self.duration(typed.start_timeout).unwrap_or(START_TIMEOUT);
        if let Some(given) = typed.start_timeout
            && timeout.is_zero()
        {
            self.refuse(given, format_args!("leaves no time to ask; write 60s"));
        }
        (!typed.start_after.is_empty()).then_some(timeout)
    }

    pub fn exit_codes(&mut self, given: &[Given]) -> Vec<(u8, u8)> {
        let mut codes = Vec::<(u8, u8)>::new();
        for given in given.iter().copied() {
            let Some((from, to)) = self.parsed(given, exit_codes) else {
                continue;
            };
            if codes.iter().any(|(other, _)| *other == from) {
                self.refuse(given, format_args!("{from} is already rewritten; give it once"));
            }
            codes.push((from, to));
        }
        codes
    }

    pub fn duration(&mut self, given: Option<Given>) -> Option<Duration> {
        let given = given?;
        let parsed = duration::parse(given.text);
        parsed
            .map_err(|why| self.refuse(given, format_args!("{why}; write 500ms, 5s or 1m30s")))
            .ok()
    }

    pub fn termination_log(&mut self) -> Option<&'static str> {
        let given = self.typed.termination_log?;
        let path = given.text;
        if self.surroundings == Surroundings::Checked {
            let (folder, _) = marker::split(path);
            if path.is_empty() || Path::new(path).is_dir() {
                self.refuse(given, format_args!("is not a file; write /dev/termination-log"));
            } else if !Path::new(folder).is_dir() {
                self.refuse(
                    given,
                    format_args!("folder {folder} does not exist; name one that does"),
                );
            }
        }
        Some(path)
    }

    pub fn level(&mut self) -> Level {
        match (self.typed.quiet, self.typed.verbose) {
            (true, true) => {
                self.complaints.push("--quiet and --verbose: choose one".to_owned());
                Level::Info
            }
            (true, false) => Level::Error,
            (false, true) => Level::Debug,
            (false, false) => Level::Info,
        }
    }

    pub fn file(&mut self, given: Option<Given>) -> Option<&'static str> {
        let given = given?;
        if self.surroundings == Surroundings::Checked
            && let Err(why) = marker::check(given.text)
        {
            self.refuse(given, format_args!("{why}"));
        }
        Some(given.text)
    }
}

fn exit_codes(text: &str) -> Result<(u8, u8), &'static str> {
    let (from, to) = text.split_once('=').ok_or("has no `=`; write FROM=TO, as in 143=0")?;
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) => Ok((from, to)),
        _ => Err("an exit code is a number from 0 to 255"),
    }
}
