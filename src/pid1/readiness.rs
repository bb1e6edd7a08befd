//! Readiness, as far as PID 1 keeps it: the ready-file, the listener, and the companions that
//! answer on it, ask the app, and take its messages.
//!
//! It must not know what begins a drain and what ends it, nor what a message says.

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
    /// What the companions ask, and with which options.
    target: Vec<CString>,
    /// The app is not started yet. What `draining` carries are news of what is waited for.
    before_start: bool,
    listener: Option<Listener>,
    /// The read end is the server's, which is started with it; the write end closes when the drain
    /// begins.
    draining: Option<Pipe>,
    server: Wanted,
    /// Asks the app until it is ready for the first time.
    waiter: Wanted,
    notify: Option<Notify>,
    /// Takes the app's messages, for as long as it lives.
    notified: Wanted,
    /// The app has said that it is ready, and not since then that it stops.
    says_ready: bool,
    /// No drain has taken readiness away.
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
            // From the start on, and in a drain too: nobody else takes the app's messages.
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

    /// The app is to be started later: until then it is not ready, and whoever asks is told why.
    pub fn wait_for_start(&mut self, now: Time) {
        if let Some(Listener { listen: ListenOn::Http(_), .. }) = &self.listener {
            self.before_start = true;
            // Without it nobody knows what is waited for, and the server tries again.
            self.draining = pipe().ok();
            self.server.want(now);
        }
    }

    /// The variable that tells the app where its messages go, if they are taken.
    pub fn notify_socket(&self) -> Option<&CStr> {
        self.notify.as_ref().map(Notify::variable)
    }

    /// Where news of what is waited for go.
    pub fn news(&self) -> Option<BorrowedFd<'_>> {
        let (_, write_end) = self.draining.as_ref().filter(|_| self.before_start)?;
        write_end.as_ref().map(AsFd::as_fd)
    }

    /// The app has been started, or nobody has stopped it after all.
    pub fn begin(&mut self, config: &Config, companions: &Companions, now: Time) {
        if let Some(Listener { listen: ListenOn::Http(_), .. }) = &self.listener {
            // One that says that it drains would say so for ever.
            self.server.drop(companions);
            self.draining = None;
            self.before_start = false;
            self.server.want(now);
        }
        self.is_on = true;
        self.look_for_ready(config, now);
    }

    /// Ready, as far as that is known without asking; else the app is asked, where there is somebody
    /// who has to know beforehand.
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
            // The port is opened with its companion's start, and where that fails with the next one.
            self.server.want(now);
        }
    }

    /// Readiness goes, at once. That it has gone already is as good.
    pub fn end(&mut self, config: &Config, companions: &Companions) {
        self.is_on = false;
        self.unready(config, companions);
        match &mut self.draining {
            Some((_, write_end)) => *write_end = None,
            // One that is started now would not hear of it.
            None => self.server.drop(companions),
        }
    }

    /// What says by being there that the app is ready goes.
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

    /// The app has ended: nobody answers any more.
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

    /// When a companion is to be started.
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

    /// A companion was reaped. One that has seen the app ready says so by ending well.
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
            // One that has failed, or was killed, has seen nothing.
            if status == Status::Exited(0) {
                self.has_changed(config, companions, now);
            }
        } else if self.server.ended(pid, now) {
            config.log.debug("ready", format_args!("the readiness server ended: started again"));
        }
    }

    /// The app is ready by its own words, or not any more.
    fn has_changed(&mut self, config: &Config, companions: &Companions, now: Time) {
        self.says_ready = !self.says_ready;
        if self.says_ready {
            config.log.debug("ready", format_args!("the app has sent READY=1"));
        } else {
            // In a drain that is what it is expected to do.
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

/// What could not be done is said once; it is tried again.
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

/// A pipe whose ends are in no companion's way.
fn pipe() -> io::Result<Pipe> {
    let (read_end, write_end) = io::pipe()?;
    Ok((sys::above_inputs(read_end.into())?, Some(sys::above_inputs(write_end.into())?)))
}
