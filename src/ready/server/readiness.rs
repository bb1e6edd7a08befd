//! The answer to a probe: ready, or why not.
//!
//! The target, if there is one, is asked on demand: by one check at a time, and no more often than
//! is useful. It must not know the clients.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock::Time;
use crate::duration::Rounded;
use crate::options::target::Target;
use crate::ready::check::{Check, Reason};
use crate::ready::slate::{Said, Slate, State};
use crate::sys::Polled;

/// How long an answer of the target stays valid.
pub const FRESH: Duration = Duration::from_millis(100);

/// How long the target has to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(1);

pub struct Readiness {
    check: Option<Target>,
    slate: Option<Slate>,
    running: Option<Check>,
    latest: Option<(Time, Result<(), Reason>)>,
    was_ready: bool,
    draining: Option<Since>,
    /// The app is not started yet: the targets it waits for, as far as known.
    waits_for: Option<String>,
}

/// When the drain began, if it began during this process's life.
#[derive(Clone, Copy)]
enum Since {
    Seen(Time),
    Before,
}

impl Readiness {
    /// `draining`: the drain had begun before this.
    pub fn new(check: Option<Target>, slate: Option<Slate>, draining: bool) -> Self {
        let draining = draining.then_some(Since::Before);
        Self {
            check,
            slate,
            running: None,
            latest: None,
            was_ready: false,
            draining,
            waits_for: None,
        }
    }

    /// For an app that is not started yet: never ready.
    pub fn before_start() -> Self {
        Self { waits_for: Some(String::new()), ..Self::new(None, None, false) }
    }

    /// Sets the targets that the start waits for.
    pub fn waits_for(&mut self, what: String) {
        self.waits_for = Some(what);
    }

    /// From now on the target is not asked.
    pub fn drain_begins(&mut self, now: Time) {
        self.draining.get_or_insert(Since::Seen(now));
        self.running = None;
    }

    /// The answer for a probe; an error says why not ready. None while the target is being asked.
    pub fn tell(&mut self, now: Time) -> Option<Result<(), String>> {
        let said = self.slate.as_ref().map(Slate::read);
        let state = said.as_ref().map(|said| said.state);
        let told = self.tell_of(state, now)?;
        Some(told.map_err(|why| match said {
            Some(Said { status, .. }) if !status.is_empty() => format!("{why}; status: {status}"),
            _ => why,
        }))
    }

    /// The same without the app's status text; `state` is the state the app has announced, if that
    /// counts.
    fn tell_of(&mut self, state: Option<State>, now: Time) -> Option<Result<(), String>> {
        match self.draining {
            Some(Since::Seen(since)) => {
                let lasted = Rounded(now.saturating_sub(since));
                return Some(Err(format!("draining for {lasted}")));
            }
            Some(Since::Before) => return Some(Err("draining".to_owned())),
            None => {}
        }
        match self.waits_for.as_deref() {
            None => {}
            Some("") => return Some(Err("starting".to_owned())),
            Some(what) => return Some(Err(format!("starting: waiting for {what}"))),
        }
        match state {
            Some(State::Starting) => {
                return Some(Err("starting: the app has not sent READY=1".to_owned()));
            }
            Some(State::Stopping) => {
                return Some(Err("not ready: the app has sent STOPPING=1".to_owned()));
            }
            Some(State::Ready) | None => {}
        }
        let Some(target) = &self.check else {
            return Some(Ok(()));
        };
        let fresh = |at: Time| now.saturating_sub(at) < FRESH;
        if self.running.is_none() && !self.latest.as_ref().is_some_and(|(at, _)| fresh(*at)) {
            self.running = Some(Check::begin(target, now, ANSWER_LIMIT));
            self.advance(now);
        }
        if self.running.is_some() {
            return None;
        }
        let state = if self.was_ready { "not ready" } else { "starting" };
        self.latest.as_ref().map(|(_, result)| match result {
            Ok(()) => Ok(()),
            Err(reason) => Err(format!("{state}: {reason}")),
        })
    }

    /// Continues the running check as far as possible without waiting.
    pub fn advance(&mut self, now: Time) {
        if let Some(result) = self.running.as_mut().and_then(|check| check.advance(now)) {
            self.was_ready |= result.is_ok();
            self.latest = Some((now, result));
            self.running = None;
        }
    }

    /// The descriptor that the running check waits for, and its deadline.
    pub fn wants(&self) -> Option<(Polled<'_>, Time)> {
        self.running.as_ref().map(Check::wants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Time {
        Duration::from_millis(milliseconds)
    }

    fn not(why: &str) -> Option<Result<(), String>> {
        Some(Err(why.to_owned()))
    }

    #[test]
    fn without_a_check_it_is_ready_until_the_drain() {
        let mut readiness = Readiness::new(None, None, false);
        assert_eq!(readiness.tell(ms(0)), Some(Ok(())));
        readiness.drain_begins(ms(1000));
        assert_eq!(readiness.tell(ms(1000)), not("draining for 0.0s"));
        assert_eq!(readiness.tell(ms(4200)), not("draining for 3.2s"));
        readiness.drain_begins(ms(5000));
        assert_eq!(readiness.tell(ms(6000)), not("draining for 5.0s"), "it began once");
    }

    #[test]
    fn restarted_in_mid_drain_it_does_not_know_for_how_long() {
        let mut readiness = Readiness::new(None, None, true);
        assert_eq!(readiness.tell(ms(0)), not("draining"));
        readiness.drain_begins(ms(1000));
        assert_eq!(readiness.tell(ms(2000)), not("draining"));
    }

    #[test]
    fn an_answer_is_good_for_a_while() {
        let path = std::env::temp_dir().join(format!("drain-init-ready-{}", std::process::id()));
        let target = format!("file:{}", path.display());
        let mut readiness = Readiness::new(Target::parse(&target).ok(), None, false);
        let starting = not(&format!("starting: {target} is not there"));
        assert_eq!(readiness.tell(ms(0)), starting);
        std::fs::write(&path, "").expect("a file");
        assert_eq!(readiness.tell(ms(99)), starting);
        assert_eq!(readiness.tell(ms(100)), Some(Ok(())));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(readiness.tell(ms(199)), Some(Ok(())));
        assert_eq!(readiness.tell(ms(200)), not(&format!("not ready: {target} is not there")));
    }

    #[test]
    fn the_drain_ends_a_check_that_is_under_way() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = format!("http://{}/", listener.local_addr().expect("an address"));
        let mut readiness = Readiness::new(Target::parse(&target).ok(), None, false);
        assert_eq!(readiness.tell(ms(0)), None);
        assert_eq!(readiness.tell(ms(10)), None, "one check at a time");
        assert!(readiness.wants().is_some_and(|(_, deadline)| deadline == ANSWER_LIMIT));
        readiness.drain_begins(ms(20));
        assert!(readiness.wants().is_none());
        assert_eq!(readiness.tell(ms(20)), not("draining for 0.0s"));
        let mut readiness = Readiness::new(Target::parse(&target).ok(), None, false);
        assert_eq!(readiness.tell(ms(0)), None);
        readiness.advance(ANSWER_LIMIT);
        let why = format!("starting: {target} gave no answer within 1s");
        assert_eq!(readiness.tell(ANSWER_LIMIT), not(&why));
    }
}
