//! Compares the times of a plan with each other.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::reader::Reader;
use crate::duration::Short;
use crate::options::plan::{Escalation, Plan};
use crate::options::typed::Given;
use crate::options::watched::Watched;

impl Reader<'_> {
    /// Checks that each time leaves room for the next.
    pub(super) fn check_times(
        &mut self,
        plan: &Plan,
        watched: Option<&Watched>,
        escalations: &[(Given, Escalation)],
    ) {
        let typed = self.typed;
        let (delay, grace, kill_margin) = (typed.delay, typed.grace, typed.kill_margin);
        let kill_after = plan.kill_after();
        if kill_after.is_zero() {
            if let Some(given) = kill_margin.or(grace) {
                self.refuse(
                    given,
                    format_args!(
                        "SIGKILL would fall at once: --grace {} minus --kill-margin {} leaves \
                         nothing; make the grace period longer or the margin shorter",
                        Short(plan.grace),
                        Short(plan.kill_margin)
                    ),
                );
            }
            return;
        }
        let no_time = NoTime(kill_after);
        if plan.delay >= kill_after {
            match (delay, grace, kill_margin) {
                (Some(given), _, _) => {
                    let remedy = "make --delay shorter or --grace longer";
                    self.refuse(given, format_args!("{no_time}; {remedy}"));
                }
                (None, Some(given), _) => {
                    let delay = Short(plan.delay);
                    self.refuse(
                        given,
                        format_args!("{no_time}; set --delay, which defaults to {delay}"),
                    );
                }
                // Then the margin leaves no room.
                (None, None, Some(given)) => {
                    self.refuse(given, format_args!("{no_time}; make it shorter"));
                }
                (None, None, None) => {}
            }
        }
        if let Some(given) = typed.max_delay {
            if plan.max_delay < plan.delay {
                let delay = Short(plan.delay);
                let why = format_args!("is shorter than --delay, {delay}; make it at least that");
                self.refuse(given, why);
            } else if plan.max_delay >= kill_after && plan.delay < kill_after {
                self.refuse(given, format_args!("{no_time}; make it shorter"));
            }
        }
        let longest = plan.longest_drain();
        for (given, time) in [
            (typed.until_quiet, watched.map_or(Duration::ZERO, |watched| watched.until_quiet)),
            (typed.close_idle, watched.and_then(|it| it.close_idle).unwrap_or_default()),
            (typed.unready_delay, plan.unready_delay),
        ] {
            if let Some(given) = given
                && time > longest
            {
                let longest = Short(longest);
                self.refuse(
                    given,
                    format_args!("is longer than the longest drain, {longest}; make it shorter"),
                );
            }
        }
        let told_after = plan.told_after();
        let room = kill_after.saturating_sub(told_after);
        for (given, escalation) in escalations.iter().copied() {
            if escalation.before_kill > room && told_after < kill_after {
                self.refuse(
                    given,
                    format_args!(
                        "could be sent before the app is told to stop, at the latest {} after the \
                         stop signal and {} before SIGKILL; make its time shorter",
                        Short(told_after),
                        Short(room)
                    ),
                );
            }
        }
    }
}

/// The message for a drain that lasts until SIGKILL, this long after the stop signal.
struct NoTime(Duration);

impl fmt::Display for NoTime {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kill_after = Short(self.0);
        write!(
            f,
            "leaves the app no time to stop: SIGKILL falls {kill_after} after the stop signal"
        )
    }
}
