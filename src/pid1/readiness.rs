//! PID 1's part of readiness: the ready-file, the listener, and the companions that answer on it,
//! ask the app, and receive its messages.
//!
//! It must not know why a drain begins or ends, nor parse the messages.
//!
//! Longer than 300 lines because each companion's start and end depend on the same few states.

#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::clock::Time;
use crate::log::{Format, Level, Log};
use crate::marker;
use crate::options::config::Config;
use crate::options::target::{Headers, ListenOn};
use crate::pid1::companions::{Companions, Wanted};
use crate::pid1::listener::Listener;
use crate::pid1::notify::Notify;
use crate::sys::{self, CompanionStart, Described, Pid, Status};

pub struct Readiness {
    /// The target and the options that companions ask it with.
    target: Vec<CString>,
    /// The app is not started yet. The pipe `draining` carries the targets that the start waits
    /// for.
    before_start: bool,
    listener: Option<Listener>,
    /// The read end goes to the server, which is started with it; the write end closes when the
    /// drain begins.
    draining: Option<Pipe>,
    server: Wanted,
    /// The companion that asks the app until it is ready for the first time.
    waiter: Wanted,
    notify: Option<Notify>,
    /// The companion that receives the app's messages, for as long as the app lives.
    notified: Wanted,
    /// The app has announced that it is ready, and not since then that it is stopping.
    says_ready: bool,
    /// No drain has withdrawn readiness.
    is_on: bool,
}

impl Readiness {
    pub fn new(config: &Config, listener: Option<Listener>, notify: Option<Notify>) -> Self {
        let mut target = Vec::new();
        if let Some(asked) = &config.ready_check {
            target.extend(CString::new(asked.to_string()));
            target.extend(asked.headers().into_iter().flat_map(Headers::words));
        }
        let mut notified = Wanted::default();
        if notify.is_some() {
            // From the start on, and in a drain too: only this companion receives the app's
            // messages.
            notified.want(Time::ZERO);
        }
        Self {
            target,
            before_start: false,
            listener,
            draining: None,
            server: Wanted::default(),
            waiter: Wanted::default(),
            notify,
            notified,
            says_ready: false,
            is_on: false,
        }
    }

    /// The app is started later: until then it is not ready, and probes are told why.
    pub fn wait_for_start(&mut self, now: Time) {
        if let Some(Listener { listen: ListenOn::Http(_), .. }) = &self.listener {
            self.before_start = true;
            // Without the pipe the targets waited for are unknown, and the server is restarted.
            self.draining = pipe().ok();
            self.server.want(now);
        }
    }

    /// The variable that tells the app where to send its messages, if they are received.
    pub fn notify_socket(&self) -> Option<&CStr> {
        self.notify.as_ref().map(Notify::variable)
    }

    /// The descriptor for news of the targets that the start waits for.
    pub fn news(&self) -> Option<BorrowedFd<'_>> {
        let (_, write_end) = self.draining.as_ref().filter(|_| self.before_start)?;
        write_end.as_ref().map(AsFd::as_fd)
    }

    /// The app has been started, or a stop was cancelled.
    pub fn begin(&mut self, config: &Config, companions: &Companions, now: Time) {
        if let Some(Listener { listen: ListenOn::Http(_), .. }) = &self.listener {
            // A running server reports the drain, and would do so for ever.
            self.server.drop(companions);
            self.draining = None;
            self.before_start = false;
            self.server.want(now);
        }
        self.is_on = true;
        self.look_for_ready(config, now);
    }

    /// Becomes ready, if that is known without asking. Otherwise starts to ask the app, if
    /// readiness has to be known before a probe.
    fn look_for_ready(&mut self, config: &Config, now: Time) {
        if self.notify.is_some() && !self.says_ready {
            return;
        }
        if config.ready_check.is_none() {
            self.ready(config, now);
        } else if config.ready_file.is_some() || self.opens_when_ready() {
            self.waiter.want(now);
        }
    }

    fn opens_when_ready(&self) -> bool {
        matches!(self.listener, Some(Listener { listen: ListenOn::Tcp(_), .. }))
    }

    fn ready(&mut self, config: &Config, now: Time) {
        if let Some(path) = config.ready_file {
            marker::create(path, config.log);
        }
        if self.opens_when_ready() {
            // The port opens when its companion is started; if that fails, when it is restarted.
            self.server.want(now);
        }
    }

    /// Withdraws readiness at once. Does nothing if that is done already.
    pub fn end(&mut self, config: &Config, companions: &Companions) {
        self.is_on = false;
        self.unready(config, companions);
        match &mut self.draining {
            Some((_, write_end)) => *write_end = None,
            // Without the pipe a running server would not notice the drain.
            None => self.server.drop(companions),
        }
    }

    /// Withdraws everything whose existence means ready.
    fn unready(&mut self, config: &Config, companions: &Companions) {
        if let Some(path) = config.ready_file {
            marker::remove(path, config.log);
        }
        self.waiter.drop(companions);
        if self.opens_when_ready() {
            self.server.drop(companions);
            self.refuse();
        }
    }

    /// The app has ended: probes are not answered any more.
    pub fn close(&mut self, companions: &Companions) {
        self.waiter.drop(companions);
        self.notified.drop(companions);
        self.server.drop(companions);
        self.refuse();
    }

    fn refuse(&self) {
        if let Some(listener) = &self.listener {
            listener.refuse();
        }
    }

    /// When to start a companion.
    pub fn deadline(&self) -> Option<Time> {
        let wanted = [&self.server, &self.waiter, &self.notified];
        wanted.into_iter().filter_map(Wanted::deadline).min()
    }

    /// Starts the companions that are due.
    pub fn due(&mut self, config: &Config, companions: &mut Companions, now: Time) {
        let is_due = |wanted: &Wanted| wanted.deadline().is_some_and(|deadline| deadline <= now);
        if is_due(&self.server)
            && let Some(listener) = &mut self.listener
        {
            let pid = if listener.is_open(config.log) {
                let notify = self.notify.as_ref().filter(|_| !self.before_start);
                let words = match &listener.listen {
                    ListenOn::Tcp(_) => words(c"accept", &[]),
                    ListenOn::Http(_) if self.before_start => words(c"waiting", &[]),
                    ListenOn::Http(_) if notify.is_some() => words(c"ready-notified", &self.target),
                    ListenOn::Http(_) => words(c"ready", &self.target),
                };
                let pid = start_server(listener, &mut self.draining, &words, notify, companions);
                tried(config.log, pid, &self.server)
            } else {
                None
            };
            self.server.started(pid, now);
        }
        if is_due(&self.waiter) {
            let words = words(c"await", &self.target);
            let pid = companions.start(&CompanionStart::own(&words));
            let pid = tried(config.log, pid, &self.waiter);
            self.waiter.started(pid, now);
        }
        if is_due(&self.notified)
            && let Some(notify) = &self.notify
        {
            let pid = start_notified(notify, self.says_ready, config.log, companions);
            let pid = tried(config.log, pid, &self.notified);
            self.notified.started(pid, now);
        }
    }

    /// Handles the end of a companion. One that exits with 0 has seen the app ready.
    pub fn companion_ended(
        &mut self,
        config: &Config,
        companions: &Companions,
        (pid, status): (Pid, Status),
        now: Time,
    ) {
        if self.waiter.ended(pid, now) && status == Status::Exited(0) {
            self.waiter.drop(companions);
            self.ready(config, now);
        } else if self.notified.ended(pid, now) {
            // A companion that failed or was killed has seen nothing.
            if status == Status::Exited(0) {
                self.has_changed(config, companions, now);
            }
        } else if self.server.ended(pid, now) {
            config.log.debug("ready", format_args!("the readiness server ended: started again"));
        }
    }

    /// The app has announced that it is ready, or not ready any more.
    fn has_changed(&mut self, config: &Config, companions: &Companions, now: Time) {
        self.says_ready = !self.says_ready;
        if self.says_ready {
            config.log.debug("ready", format_args!("the app has sent READY=1"));
        } else {
            // In a drain this is expected.
            let level = if self.is_on { Level::Info } else { Level::Debug };
            config.log.line(level, "ready", format_args!("the app has sent STOPPING=1: not ready"));
        }
        match (self.is_on, self.says_ready) {
            (true, true) => self.look_for_ready(config, now),
            (true, false) => self.unready(config, companions),
            (false, _) => {}
        }
    }
}

fn start_notified(
    notify: &Notify,
    says_ready: bool,
    log: Log,
    companions: &mut Companions,
) -> io::Result<Pid> {
    let believed = if says_ready { c"ready" } else { c"starting" };
    let mut words = vec![c"companion", c"notify", believed];
    if log.level == Level::Debug {
        words.push(if log.format == Format::Json { c"json" } else { c"text" });
    }
    companions.start(&CompanionStart {
        input: Some(notify.socket()),
        second_input: Some(notify.slate()),
        ..CompanionStart::own(&words)
    })
}

fn words<'a>(verb: &'a CStr, target: &'a [CString]) -> Vec<&'a CStr> {
    let mut words = vec![c"companion", verb];
    words.extend(target.iter().map(CString::as_c_str));
    words
}

/// Logs a failure once; the start is tried again.
fn tried(log: Log, started: io::Result<Pid>, wanted: &Wanted) -> Option<Pid> {
    let level = if wanted.has_failed() { Level::Debug } else { Level::Error };
    started
        .map_err(|error| {
            let what =
                format_args!("cannot start a companion: {}, trying again", Described(&error));
            log.line(level, "ready", what);
        })
        .ok()
}

fn start_server(
    listener: &Listener,
    draining: &mut Option<Pipe>,
    words: &[&CStr],
    notify: Option<&Notify>,
    companions: &mut Companions,
) -> io::Result<Pid> {
    let second_input = match listener.listen {
        ListenOn::Http(_) => {
            let (read_end, _) = match draining {
                Some(pipe) => pipe,
                None => draining.insert(pipe()?),
            };
            Some(&*read_end)
        }
        ListenOn::Tcp(_) => None,
    };
    companions.start(&CompanionStart {
        input: Some(listener.socket()),
        second_input: second_input.map(AsFd::as_fd),
        third_input: second_input.and(notify).map(Notify::slate),
        ..CompanionStart::own(words)
    })
}

/// The read end, and the write end until the drain begins.
type Pipe = (OwnedFd, Option<OwnedFd>);

/// A pipe whose descriptors are above those of a companion.
fn pipe() -> io::Result<Pipe> {
    let (read_end, write_end) = io::pipe()?;
    Ok((sys::above_inputs(read_end.into())?, Some(sys::above_inputs(write_end.into())?)))
}
