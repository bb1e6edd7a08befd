//! The options that name signals.

#![forbid(unsafe_code)]

use super::reader::Reader;
use crate::duration;
use crate::options::plan::Escalation;
use crate::options::typed::Given;
use crate::signal::{Signal, SignalMap, SignalSet};

/// The role of a named signal.
#[derive(Clone, Copy)]
pub(super) enum Role {
    /// drain-init has to receive it.
    Received,
    /// It is sent to the app.
    Sent,
    /// It is sent when the parent ends.
    OfParent,
}

impl Reader<'_> {
    pub(super) fn signal(&mut self, given: Option<Given>, role: Role) -> Option<Signal> {
        let given = given?;
        self.named(given, given.text, role)
    }

    /// Parses a signal that may have this role.
    fn named(&mut self, given: Given, name: &str, role: Role) -> Option<Signal> {
        let Some(signal) = Signal::parse(name) else {
            let remedy = "write TERM, SIGTERM, 15 or SIGRTMIN+3";
            self.refuse(given, format_args!("unknown signal \"{name}\"; {remedy}"));
            return None;
        };
        match (signal.excepted(), role) {
            (Some(reason), _) => {
                self.refuse(given, format_args!("{signal} cannot be named: {reason}"));
            }
            (None, Role::Received) if signal.uncatchable() => {
                let why = "never reaches drain-init: no process can catch it";
                self.refuse(given, format_args!("{signal} {why}"));
            }
            (None, Role::Sent) if signal.uncatchable() => {
                let why = "cannot be caught by the app; --grace sets when SIGKILL falls";
                self.refuse(given, format_args!("{signal} {why}"));
            }
            (None, Role::OfParent) if signal == Signal::STOP => {
                self.refuse(given, format_args!("would stop drain-init forever"));
            }
            (None, Role::Received | Role::Sent | Role::OfParent) => return Some(signal),
        }
        None
    }

    pub(super) fn stop_on(&mut self) -> SignalSet {
        let typed = &self.typed.stop_on;
        if typed.is_empty() {
            return SignalSet::from_iter([Signal::TERM, Signal::INT]);
        }
        typed.iter().filter_map(|given| self.named(*given, given.text, Role::Received)).collect()
    }

    pub(super) fn escalate(&mut self) -> Vec<(Given, Escalation)> {
        let mut escalations = Vec::<(Given, Escalation)>::new();
        for given in self.typed.escalate.iter().copied() {
            let Some((name, before)) = given.text.split_once(':') else {
                self.refuse(given, format_args!("has no `:`; write SIGNAL:TIME, as in QUIT:2s"));
                continue;
            };
            let signal = self.named(given, name, Role::Sent);
            match (signal, duration::parse(before)) {
                (Some(signal), Ok(before_kill)) => {
                    // The longest time before SIGKILL comes first; equal ones keep their order.
                    let is_before = |(_, it): &(_, Escalation)| it.before_kill >= before_kill;
                    let place = escalations.partition_point(is_before);
                    escalations.insert(place, (given, Escalation { signal, before_kill }));
                }
                (_, Err(why)) => self.refuse(given, format_args!("its time {why}; write QUIT:2s")),
                (None, Ok(_)) => {}
            }
        }
        escalations
    }

    /// A stop signal that is dropped, or rewritten to one that requests no stop, would leave the
    /// container without a drain and a deadline.
    pub(super) fn signal_map(&mut self, stop_on: SignalSet) -> SignalMap {
        let mut map = SignalMap::default();
        let mut mapped = SignalSet::default();
        for given in self.typed.map_signal.iter().copied() {
            let Some((from, to)) = given.text.split_once('=') else {
                self.refuse(given, format_args!("has no `=`; write FROM=TO, as in HUP=USR1"));
                continue;
            };
            let from = self.named(given, from, Role::Received);
            let to = if to.eq_ignore_ascii_case("none") {
                Some(None)
            } else {
                self.named(given, to, Role::Sent).map(Some)
            };
            let (Some(from), Some(to)) = (from, to) else {
                continue;
            };
            if mapped.contains(from) {
                self.refuse(given, format_args!("{from} is already rewritten; give it once"));
            }
            match to {
                _ if !stop_on.contains(from) => {}
                None => {
                    let why = "asks for a stop and cannot be dropped; see --stop-on";
                    self.refuse(given, format_args!("{from} {why}"));
                }
                Some(to) if !stop_on.contains(to) => self.refuse(
                    given,
                    format_args!(
                        "{from} would no longer ask for a stop; \
                         --stop-signal {to} sends the app another signal"
                    ),
                ),
                Some(_) => {}
            }
            mapped.insert(from);
            map.set(from, to);
        }
        map
    }
}
