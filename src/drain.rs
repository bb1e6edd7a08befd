//! The drain alone: the app serves on for the delay, until what was asked to run has run, and until
//! the traffic has ended.
//!
//! It is what PID 1's drain companion does, and a hook where there is no drain-init to ask. It must
//! not know which of the two it is, and tells the app nothing.

#![forbid(unsafe_code)]

pub mod closing;
pub mod entrypoint;
pub mod traffic;

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::duration::Short;
use crate::log::{Format, Log};
use crate::options::config::Config;
use crate::options::target::Handler;
use crate::options::watched::Watched;
use crate::signal::{Signal, SignalSet};
use crate::sys::{self, CompanionStart, Described, Pid, Program, Reaped, Recipient, Status};
use traffic::{Verdict, Watch};

/// How long before its longest time is over samples come as quickly as they may: so it is known of
/// busy connections, by then, when one is owed nothing.
const HURRY: Duration = Duration::from_secs(1);
/// Where idle connections are closed, the last one of so many parts of it.
const HURRY_PART: u32 = 10;

/// How a drain ended.
#[derive(Debug)]
pub enum End {
    Over,
    /// It is over, and this is why.
    Seen(String),
    /// It was told to end.
    Told,
}

pub struct Drain<'a> {
    delay: Duration,
    max_delay: Duration,
    /// Past its longest time it looks for an instant at which nothing is in flight, until then.
    last_look: Duration,
    running: Vec<Running<'a>>,
    watched: Option<Watched>,
    log: Log,
}

/// A handler that has not ended.
struct Running<'a> {
    pid: Pid,
    handler: &'a Handler,
}

impl<'a> Drain<'a> {
    /// Begins it: the handlers run from now on, and write to `output`.
    pub fn begin(config: &'a Config, output: BorrowedFd) -> Self {
        let mut drain = Self { watched: config.watched.clone(), ..Self::join(config) };
        for handler in &config.handlers {
            match start(handler, config.log.format, output) {
                Ok(pid) => drain.running.push(Running { pid, handler }),
                Err(error) => {
                    drain.failed(handler, format_args!("cannot be started: {}", Described(&error)))
                }
            }
        }
        drain
    }

    /// A drain that has been going on already, whose handlers are somebody else's.
    pub fn join(config: &'a Config) -> Self {
        let plan = &config.plan;
        Self {
            delay: plan.delay,
            max_delay: plan.max_delay,
            last_look: plan.max_delay.saturating_add(plan.looked_for()),
            running: Vec::new(),
            watched: None,
            log: config.log,
        }
    }

    /// Waits until it is over, `before` included, or one of these signals comes.
    pub fn wait(mut self, before: Duration, told_by: SignalSet) -> End {
        let clock = Clock::start();
        let now = || before.saturating_add(clock.now());
        let close_idle = self.watched.as_ref().and_then(|watched| watched.close_idle);
        let mut watch = self.watched.take().map(|watched| Watch::begin(watched, self.log, &now));
        if let (Some(watch), Some(after)) = (&mut watch, close_idle) {
            watch.close_idle(after, self.max_delay);
        }
        let part = close_idle.map_or(Duration::ZERO, |_| self.max_delay / HURRY_PART);
        let hurry = HURRY.max(part);
        let (mut cut, mut hurried) = (false, false);
        loop {
            self.reap();
            let mut next = self.delay;
            if now() >= self.max_delay && !std::mem::replace(&mut cut, true) {
                self.cut();
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
                // The last look is taken whatever it costs: it says what the end may cut.
                next = if cut { self.last_look } else { next }.min(watch.next());
            } else if cut || (now() >= self.delay && self.running.is_empty()) {
                return End::Over;
            }
            let timeout = next.saturating_sub(now());
            if let Some(received) = sys::wait_for_signal(Some(timeout))
                && told_by.contains(received.signal)
            {
                self.kill();
                return End::Told;
            }
        }
    }

    /// Why it is over, if what was seen ends it: quiet, or at its longest an instant at which
    /// nothing is in flight, which is not looked for for ever.
    fn over(&self, verdict: &Verdict, now: Time) -> Option<String> {
        if now >= self.max_delay {
            let longest = Short(self.max_delay);
            let over = verdict.nothing_to_wait_for() || now >= self.last_look;
            return over.then(|| format!("at its longest, {longest}: {verdict}"));
        }
        let over = now >= self.delay && self.running.is_empty() && verdict.is_quiet();
        over.then(|| verdict.to_string())
    }

    /// Handlers that have ended. Nobody else is a child of this process.
    fn reap(&mut self) {
        while let Reaped::Ended(pid, status) = sys::reap(false) {
            let Some(index) = self.running.iter().position(|running| running.pid == pid) else {
                continue;
            };
            let Running { handler, .. } = self.running.swap_remove(index);
            match (handler, status) {
                (_, Status::Exited(0)) => {
                    self.log.debug("on-drain", format_args!("{handler}: done"));
                }
                // It has said why.
                (Handler::Call { .. }, Status::Exited(1)) => {}
                (_, Status::Exited(code)) => {
                    self.failed(handler, format_args!("exited with {code}"));
                }
                (_, Status::Killed(signal)) => {
                    self.failed(handler, format_args!("was killed by {signal}"));
                }
            }
        }
    }

    /// The longest time is over.
    fn cut(&mut self) {
        for running in &self.running {
            let after = Short(self.max_delay);
            self.failed(running.handler, format_args!("not done after {after}: killed"));
        }
        self.kill();
    }

    fn kill(&mut self) {
        for running in self.running.drain(..) {
            // It leads its group; what it started goes with it.
            let _ = sys::send(Recipient::Group(running.pid), Signal::KILL);
        }
    }

    fn failed(&self, handler: &Handler, how: std::fmt::Arguments) {
        self.log.error("on-drain", format_args!("{handler}: {how}"));
    }
}

fn start(handler: &Handler, format: Format, output: BorrowedFd) -> std::io::Result<Pid> {
    let mut words = Vec::new();
    let program = match handler {
        Handler::Exec(command) => {
            for word in &command.words {
                words.push(CString::new(word.as_str())?);
            }
            Program::Named
        }
        Handler::Call { .. } => {
            words.extend([c"companion".into(), c"call".into(), CString::new(handler.to_string())?]);
            if format == Format::Json {
                words.push(c"json".into());
            }
            Program::Own
        }
    };
    let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    sys::start_companion(&CompanionStart {
        program,
        words: &words,
        input: None,
        second_input: None,
        third_input: None,
        output: Some(output),
    })
}

/// Standard error, for whatever a drain starts.
pub fn standard_error() -> BorrowedFd<'static> {
    sys::STANDARD_ERROR
}
