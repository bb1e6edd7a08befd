//! Waiting until targets are ready: each is asked until it was, side by side, by `wait` and by the
//! companion that holds the start of the app.
//!
//! Answers are asked for every 100 ms at first, then ever more slowly; a name is looked up for each
//! question. What becomes of the outcome is not known here.

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

/// From one question to the next: a tenth of the time that has passed, within these.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a target has for an answer. More than a lost packet costs, and a slow name server.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// After so long it is said what is waited for.
const SAID_AFTER: Duration = Duration::from_secs(1);

/// And again after each of these.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// How it is waited.
pub struct Waits<'a> {
    pub timeout: Duration,
    pub log: Log,
    /// How much it matters that one is ready.
    pub ready: Level,
    /// What is waited for is said again and again.
    pub repeats: bool,
    /// What ends it when it becomes readable.
    pub told: Option<&'a OwnedFd>,
}

pub enum Outcome {
    Ready,
    /// The time is over, and these were not.
    Late(Vec<Reason>),
    Told,
}

/// Returns when all of them were ready, or the time is over. `news` is given what is waited for, and
/// why, whenever that may have changed.
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

/// A target that has yet to be ready.
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
            // The first one has all the time that there is.
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
                // A question that has not had its time says less than the one before.
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

/// Before the next question, after so long.
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

/// All of them in one line.
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
