//! Waits until targets are ready, asking all of them side by side: for `wait`, and for the
//! companion that holds the start of the app.
//!
//! Each target is asked every 100 ms at first, then ever more slowly. Names are looked up for each
//! question. It must not know what follows from the result.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::duration::Rounded;
use crate::log::{Level, Log};
use crate::options::target::Target;
use crate::poll;
use crate::ready::check::{Check, Reason};
use crate::sys::Polled;

/// The pause between two questions: a tenth of the time that has passed, within these bounds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a target has to answer: longer than a lost packet or a slow name server takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// When to log the missing targets for the first time.
const SAID_AFTER: Duration = Duration::from_secs(1);

/// And how often after that.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// How to wait.
pub struct Waits<'a> {
    pub timeout: Duration,
    pub log: Log,
    /// The log level of a target that becomes ready.
    pub ready: Level,
    /// Log the missing targets again and again.
    pub repeats: bool,
    /// Ends the wait when it becomes readable.
    pub told: Option<&'a OwnedFd>,
}

pub enum Outcome {
    Ready,
    /// The time has passed, and these targets were not ready.
    Late(Vec<Reason>),
    Told,
}

/// Returns when all targets have been ready, or the time has passed. Calls `news` with the missing
/// targets, and why they are missing, whenever those may have changed.
pub fn until_ready(
    targets: &[Target],
    waits: &Waits,
    clock: Clock,
    news: &mut dyn FnMut(&Missing),
) -> Outcome {
    let mut left: Vec<Asked> = targets.iter().map(Asked::new).collect();
    let mut says_at = SAID_AFTER;
    loop {
        let now = clock.now();
        let mut has_news = false;
        left.retain_mut(|asked| match asked.advance(now, waits.timeout) {
            Answer::Ready => {
                let line = format_args!("{} is ready after {}", asked.target, Rounded(now));
                waits.log.line(waits.ready, "ready", line);
                false
            }
            Answer::Not => {
                has_news = true;
                true
            }
            Answer::None => true,
        });
        if left.is_empty() {
            return Outcome::Ready;
        }
        if now >= waits.timeout {
            return Outcome::Late(left.into_iter().filter_map(|asked| asked.reason).collect());
        }
        if has_news {
            news(&Missing(&left));
        }
        if now >= says_at {
            let line = format_args!("waiting for {}", Missing(&left));
            waits.log.line(Level::Info, "starting", line);
            says_at = if waits.repeats { says_at.saturating_add(SAID_EVERY) } else { Time::MAX };
        }
        let mut until = waits.timeout.min(says_at);
        let mut places = Vec::with_capacity(1 + left.len());
        places.push(waits.told.map_or(Polled::NOTHING, Polled::readable));
        for asked in &left {
            let (place, at) = asked.wants();
            places.push(place);
            until = until.min(at);
        }
        poll::wait(&mut places, Some(until), now);
        if places.first().is_some_and(Polled::is_ready) {
            return Outcome::Told;
        }
    }
}

/// A target that has not been ready yet.
struct Asked<'a> {
    target: &'a Target,
    check: Option<Check>,
    /// When it is asked next.
    next_at: Time,
    reason: Option<Reason>,
}

enum Answer {
    None,
    Ready,
    Not,
}

impl<'a> Asked<'a> {
    fn new(target: &'a Target) -> Self {
        Self { target, check: None, next_at: Time::ZERO, reason: None }
    }

    fn advance(&mut self, now: Time, timeout: Time) -> Answer {
        if self.check.is_none() && now >= self.next_at && now < timeout {
            // The first question may use all of the time.
            let began = if self.next_at.is_zero() { Time::ZERO } else { now };
            let limit = ANSWER_LIMIT.min(timeout.saturating_sub(began));
            self.check = Some(Check::begin(self.target, began, limit));
            self.next_at = now.saturating_add(pause(now));
        }
        let Some(answer) = self.check.as_mut().and_then(|check| check.advance(now)) else {
            return Answer::None;
        };
        self.check = None;
        match answer {
            Ok(()) => Answer::Ready,
            Err(reason) => {
                // A question without its full time tells less than the one before.
                if now < timeout || self.reason.is_none() {
                    self.reason = Some(reason);
                }
                Answer::Not
            }
        }
    }

    fn wants(&self) -> (Polled<'_>, Time) {
        match &self.check {
            Some(check) => check.wants(),
            None => (Polled::NOTHING, self.next_at),
        }
    }
}

/// The pause before the next question, `waited` after the start.
fn pause(waited: Time) -> Duration {
    (waited / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// `tcp://db:5432 (refused), http://localhost:15021/healthz/ready (no answer yet)`.
pub struct Missing<'a>(&'a [Asked<'a>]);

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut between = "";
        for Asked { target, reason, .. } in self.0 {
            let why = reason.as_ref().map_or("no answer yet", Reason::why);
            write!(f, "{between}{target} ({why})")?;
            between = ", ";
        }
        Ok(())
    }
}

/// Joins all reasons on one line.
pub fn joined(reasons: &[Reason]) -> String {
    let mut line = String::new();
    for reason in reasons {
        let between = if line.is_empty() { "" } else { "; " };
        // Writing to a String does not fail.
        let _ = write!(line, "{between}{reason}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_every_100_ms_at_first_and_every_second_in_the_end() {
        let mut now = Time::ZERO;
        let mut asked = vec![];
        while now < Duration::from_secs(30) {
            asked.push(now.as_millis());
            now += pause(now);
        }
        assert_eq!(&asked[..4], [0, 100, 200, 300]);
        let after = |from: u128| asked.windows(2).find(|pair| pair[0] >= from).expect("two");
        let gap = |from| after(from)[1] - after(from)[0];
        assert!(gap(1_500) < 200, "{}", gap(1_500));
        assert_eq!(gap(15_000), 1_000);
    }
}
