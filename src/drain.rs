//! The drain alone: the app keeps serving until the delay has passed, the handlers have run, and
//! the traffic has ended.
//!
//! PID 1's drain companion runs it, and so does a hook in a container without a drain-init. It must
//! not know which of the two it is, and tells the app nothing.

#![forbid(unsafe_code)]

pub mod closing;
pub mod entrypoint;
pub mod handlers;
pub mod traffic;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::duration::Short;
use crate::log::Log;
use crate::options::config::Config;
use crate::options::watched::Watched;
use crate::signal::SignalSet;
use crate::sys;
use closing::Lender;
use handlers::{Handlers, ON_DRAIN};
use traffic::{Verdict, Watch};

/// How long before its end the longest drain samples as fast as it may, to catch an instant at
/// which busy connections are owed nothing.
const HURRY: Duration = Duration::from_secs(1);
/// Where idle connections are closed, this fraction of the longest drain instead.
const HURRY_PART: u32 = 10;

/// How a drain ended.
#[derive(Debug)]
pub enum End {
    Over,
    /// It is over, for this reason.
    Seen(String),
    /// A signal ended it.
    Told,
}

pub struct Drain<'a> {
    delay: Duration,
    max_delay: Duration,
    /// Until when it looks, past its longest time, for an instant with nothing in flight.
    last_look: Duration,
    handlers: Handlers<'a>,
    watched: Option<Watched>,
    log: Log,
}

impl<'a> Drain<'a> {
    /// Begins the drain: starts the handlers, which write to `output`.
    pub fn begin(config: &'a Config, output: BorrowedFd) -> Self {
        let mut drain = Self { watched: config.watched.clone(), ..Self::join(config) };
        drain.handlers.start(&config.handlers, output);
        drain
    }

    /// Joins a drain that is under way, whose handlers another process runs.
    pub fn join(config: &'a Config) -> Self {
        let plan = &config.plan;
        Self {
            delay: plan.delay,
            max_delay: plan.max_delay,
            last_look: plan.max_delay.saturating_add(plan.looked_for()),
            handlers: Handlers::none(ON_DRAIN, config.log),
            watched: None,
            log: config.log,
        }
    }

    /// Waits until the drain is over, `before` included, or one of these signals comes.
    pub fn wait(mut self, before: Duration, told_by: SignalSet) -> End {
        let clock = Clock::start();
        let now = || before.saturating_add(clock.now());
        let close_idle = self.watched.as_ref().and_then(|watched| watched.close_idle);
        let mut watch = self.watched.take().map(|watched| Watch::begin(watched, self.log, &now));
        if let (Some(watch), Some(after)) = (&mut watch, close_idle) {
            watch.close_idle(after, self.max_delay, Lender::find());
        }
        let part = close_idle.map_or(Duration::ZERO, |_| self.max_delay / HURRY_PART);
        let hurry = HURRY.max(part);
        let (mut cut, mut hurried) = (false, false);
        loop {
            self.handlers.reap();
            let mut next = self.delay;
            if now() >= self.max_delay && !std::mem::replace(&mut cut, true) {
                self.handlers.cut(self.max_delay);
            }
            let hurry = now() >= self.max_delay.saturating_sub(hurry);
            if hurry && !std::mem::replace(&mut hurried, true) {
                watch.iter_mut().for_each(Watch::hurry);
            }
            if now() >= self.delay {
                next = self.max_delay;
            }
            if let Some(watch) = &mut watch {
                let last = now() >= self.last_look;
                if last || now() >= watch.next() {
                    let verdict = if last { Some(watch.sample(&now)) } else { watch.look(&now) };
                    if let Some(why) = verdict.and_then(|verdict| self.over(&verdict, now())) {
                        return End::Seen(why);
                    }
                }
                // The last look is taken whatever it costs: it shows what the end may cut off.
                next = if cut { self.last_look } else { next }.min(watch.next());
            } else if cut || (now() >= self.delay && self.handlers.are_done()) {
                return End::Over;
            }
            let timeout = next.saturating_sub(now());
            if let Some(received) = sys::wait_for_signal(Some(timeout))
                && told_by.contains(received.signal)
            {
                self.handlers.kill();
                return End::Told;
            }
        }
    }

    /// Why the drain is over, if this verdict ends it: the traffic is quiet, or, at its longest,
    /// nothing is in flight or the last look has passed.
    fn over(&self, verdict: &Verdict, now: Time) -> Option<String> {
        if now >= self.max_delay {
            let longest = Short(self.max_delay);
            let over = verdict.nothing_to_wait_for() || now >= self.last_look;
            return over.then(|| format!("at its longest, {longest}: {verdict}"));
        }
        let over = now >= self.delay && self.handlers.are_done() && verdict.is_quiet();
        over.then(|| verdict.to_string())
    }
}

/// Standard error, for the processes that a drain starts.
pub fn standard_error() -> BorrowedFd<'static> {
    sys::STANDARD_ERROR
}
