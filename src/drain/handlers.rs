//! Handlers: URLs to call and commands to run, side by side, when the drain begins or when the app
//! has ended. A failure is logged and changes nothing else.

#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock::Clock;
use crate::duration::Short;
use crate::log::{Format, Log};
use crate::options::target::Handler;
use crate::signal::Signal;
use crate::sys::{self, CompanionStart, Described, Pid, Program, Reaped, Recipient, Status};

/// The event that runs them: the name of the option, and of their log lines.
pub const ON_DRAIN: &str = "on-drain";
pub const ON_EXIT: &str = "on-exit";

pub struct Handlers<'a> {
    running: Vec<Running<'a>>,
    event: &'static str,
    log: Log,
}

/// A handler that has not ended.
struct Running<'a> {
    pid: Pid,
    handler: &'a Handler,
}

/// Runs all handlers. Returns when they have ended, or when the limit has passed and they were
/// killed.
pub fn run_all(handlers: &[Handler], event: &'static str, limit: Duration, log: Log) {
    let clock = Clock::start();
    let mut running = Handlers::none(event, log);
    running.start(handlers, sys::STANDARD_ERROR);
    loop {
        running.reap();
        let left = limit.saturating_sub(clock.now());
        if running.are_done() {
            return;
        }
        if left.is_zero() {
            return running.cut(limit);
        }
        sys::wait_for_signal(Some(left));
    }
}

impl<'a> Handlers<'a> {
    pub fn none(event: &'static str, log: Log) -> Self {
        Self { running: Vec::new(), event, log }
    }

    /// Starts the handlers, which write to `output`.
    pub fn start(&mut self, handlers: &'a [Handler], output: BorrowedFd) {
        for handler in handlers {
            match start(handler, self.event, self.log.format, output) {
                Ok(pid) => self.running.push(Running { pid, handler }),
                Err(error) => {
                    self.failed(handler, format_args!("cannot be started: {}", Described(&error)));
                }
            }
        }
    }

    pub fn are_done(&self) -> bool {
        self.running.is_empty()
    }

    /// Reaps the handlers that have ended. This process has no other children.
    pub fn reap(&mut self) {
        while let Reaped::Ended(pid, status) = sys::reap(false) {
            let Some(index) = self.running.iter().position(|running| running.pid == pid) else {
                continue;
            };
            let Running { handler, .. } = self.running.swap_remove(index);
            match (handler, status) {
                (_, Status::Exited(0)) => {
                    self.log.debug(self.event, format_args!("{handler}: done"));
                }
                // It has logged the reason itself.
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

    /// Kills the handlers that are still running, `after` their start.
    pub fn cut(&mut self, after: Duration) {
        for running in &self.running {
            let after = Short(after);
            self.failed(running.handler, format_args!("not done after {after}: killed"));
        }
        self.kill();
    }

    pub fn kill(&mut self) {
        for running in self.running.drain(..) {
            // It leads its process group, so its descendants are killed too.
            let _ = sys::send(Recipient::Group(running.pid), Signal::KILL);
        }
    }

    fn failed(&self, handler: &Handler, how: fmt::Arguments) {
        self.log.error(self.event, format_args!("{handler}: {how}"));
    }
}

fn start(handler: &Handler, event: &str, format: Format, output: BorrowedFd) -> io::Result<Pid> {
    let mut words = Vec::new();
    let program = match handler {
        Handler::Exec(command) => {
            for word in &command.words {
                words.push(CString::new(word.as_str())?);
            }
            Program::Named
        }
        Handler::Call { url, .. } => {
            words.extend([c"companion".into(), c"call".into(), CString::new(event)?]);
            words.push(CString::new(handler.to_string())?);
            if format == Format::Json {
                words.push(c"--log-format=json".into());
            }
            words.extend(url.headers.words());
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
