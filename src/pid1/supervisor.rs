//! The main loop of PID 1: deadlines, signals and reaping. It performs the actions that `lifecycle`
//! returns.
//!
//! From here on nothing returns an error and nothing panics. Each turn does what is due by the
//! clock, then takes one signal or waits for one until the next deadline. On SIGCHLD it reaps every
//! child that has ended, and lends the drain companion the sockets that it asked for. Only this
//! file reads the clock in PID 1.
//!
//! Longer than 300 lines because it is the one place that turns events into actions.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fmt::{self, Write as _};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::duration::{self, Rounded};
use crate::exit_code::NOT_READY;
use crate::log::{Level, Log};
use crate::marker;
use crate::options::config::Config;
use crate::pid1::account::Account;
use crate::pid1::app::{App, Found};
use crate::pid1::companions::Companions;
use crate::pid1::hooks::Hooks;
use crate::pid1::lender::Lender;
use crate::pid1::lifecycle::{Action, Actions, Came, Event, Left, Note, State, Told, Waited};
use crate::pid1::readiness::Readiness;
use crate::pid1::termination::TerminationLog;
use crate::processes;
use crate::signal::Signal;
use crate::sys::{self, Arguments, CompanionStart, Described, Pid, Reaped, Received, Status};

/// How many of the remaining processes a log line names.
const NAMED: usize = 5;

/// How many children are reaped before the clock and the signals are checked again.
const REAPED_AT_ONCE: u32 = 1000;

pub struct Supervisor<'a> {
    config: &'a Config,
    /// The words of the options: companions parse them again.
    words: Arguments,
    command: Arguments,
    /// The signals found ignored at the start, until the app is started.
    found: Found,
    /// Present from the app's start on.
    app: Option<App>,
    state: State,
    clock: Clock,
    companions: Companions,
    readiness: Readiness,
    /// The companion that waits for the targets of --start-after.
    start: Option<StartCompanion>,
    /// That companion has seen all targets ready. The app is started once all pending signals are
    /// taken, as one of them may request a stop.
    all_ready: bool,
    drain: Option<DrainCompanion<'a>>,
    /// The companion that runs the exit handlers.
    exit: Option<Pid>,
    /// Why the drain is over, or which targets were not ready, as the companion reported.
    why: String,
    hooks: Hooks,
    termination_log: TerminationLog,
    /// More children may have ended.
    more_to_reap: bool,
    exit_code: Option<u8>,
    /// A signal of the current event could not be sent.
    is_unsent: bool,
    /// It was logged that a signal could not be sent.
    refusal_said: bool,
}

/// The companion that waits for the app's start, from its own start until it has ended.
struct StartCompanion {
    pid: Pid,
    account: Option<Account>,
}

/// The companion of a drain, from its start until it has ended or is no longer waited for.
struct DrainCompanion<'a> {
    pid: Pid,
    account: Option<Account>,
    /// Lends it the app's sockets.
    lender: Option<Lender<'a>>,
}

impl<'a> Supervisor<'a> {
    /// Takes over an app that was just started, or one that it has to start itself.
    pub fn new(
        config: &'a Config,
        words: Arguments,
        app: Result<App, (Arguments, Found)>,
        readiness: Readiness,
    ) -> Self {
        let termination_log = TerminationLog::new(config.termination_log, config.log);
        let (app, command, found) = match app {
            Ok(app) => (Some(app), words.head(0), Found::default()),
            Err((command, found)) => (None, command, found),
        };
        let mut supervisor = Self {
            config,
            words,
            command,
            found,
            app,
            state: State::Running(None),
            clock: Clock::start(),
            companions: Companions::default(),
            readiness,
            start: None,
            all_ready: false,
            drain: None,
            exit: None,
            why: String::new(),
            hooks: Hooks::default(),
            termination_log,
            more_to_reap: false,
            exit_code: None,
            is_unsent: false,
            refusal_said: false,
        };
        let now = supervisor.now();
        if supervisor.app.is_some() {
            supervisor.started(now);
        } else {
            supervisor.readiness.wait_for_start(now);
            let begun = config.plan.begin(now);
            supervisor.apply(begun, now);
        }
        supervisor
    }

    /// Runs until the app and the processes that it left have ended.
    pub fn run(mut self) -> u8 {
        loop {
            let mut now = self.now();
            let mut deadline = self.config.plan.deadline(self.state);
            while deadline.is_some_and(|deadline| deadline <= now) {
                // The scan for processes to kill may have taken the time that they had to end.
                if let State::Killing { .. } = self.state {
                    self.reap();
                }
                self.handle(Event::Wake, now);
                now = self.now();
                deadline = self.config.plan.deadline(self.state);
            }
            if let Some(code) = self.exit_code {
                return code;
            }
            self.readiness.due(self.config, &mut self.companions, now);
            let deadline = deadline.into_iter().chain(self.readiness.deadline()).min();
            // Starting a companion takes time.
            let mut timeout = deadline.map(|deadline| deadline.saturating_sub(self.now()));
            let more_to_reap = std::mem::take(&mut self.more_to_reap);
            if more_to_reap || self.all_ready || self.lends_at_once() {
                timeout = Some(Duration::ZERO);
            }
            let received = sys::wait_for_signal(timeout);
            // If signals cannot be read, this SIGCHLD is made up.
            let is_made_up = |it: Received| it.signal == Signal::CHLD && it.sender == 0;
            if self.all_ready && received.is_none_or(is_made_up) {
                self.all_ready = false;
                self.handle(Event::Waited(Waited::Ready), self.now());
            }
            if let Some(received) = received {
                self.received(received);
            }
            if more_to_reap {
                self.reap();
            }
            self.lend();
            if let Some(code) = self.exit_code {
                return code;
            }
        }
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn received(&mut self, Received { signal, sender, by_kernel }: Received) {
        match signal {
            Signal::CHLD => {
                if let Some(lender) = self.lender() {
                    lender.wake();
                }
                return self.reap();
            }
            Signal::DRAIN => {
                // The app lives as long as the drain, so waiting for its end would mean nothing.
                if !self.is_app(sender) {
                    self.hooks.asked(sender);
                }
                return self.handle(Event::DrainAsked, self.now());
            }
            // The log has lost its reader. That is no signal for the app.
            Signal::PIPE if sender == nix::unistd::getpid().as_raw() => return,
            _ if signal.excepted().is_some() => return,
            _ => {}
        }
        let came = match signal {
            // Ctrl-C, at a terminal whose foreground drain-init has.
            Signal::INT if by_kernel => Came::ByHand,
            _ if self.hooks.any_waits() => Came::WhileHookWaits,
            _ => Came::Sent,
        };
        self.handle(Event::Signal { signal, came }, self.now());
    }

    /// Reaps all children that have ended, since signals of one kind merge. The number is bounded:
    /// children may end as fast as they are reaped, and the deadline has to be checked.
    fn reap(&mut self) {
        let mut app_ended: Option<Status> = None;
        let mut orphans = 0_u32;
        let mut companions = 0_u32;
        let any_left = loop {
            if orphans >= REAPED_AT_ONCE {
                self.more_to_reap = true;
                break true;
            }
            match sys::reap(self.app.as_ref().is_some_and(App::has_terminal)) {
                Reaped::Ended(pid, status) if self.is_app(pid) => {
                    self.app.iter_mut().for_each(App::ended);
                    app_ended = Some(status);
                }
                Reaped::Ended(pid, status) if self.companions.ended(pid) => {
                    companions = companions.saturating_add(1);
                    self.companion_ended(pid, status);
                }
                Reaped::Ended(..) => orphans = orphans.saturating_add(1),
                Reaped::Stopped(pid, by) if self.is_app(pid) => {
                    self.handle(Event::AppStopped { by }, self.now());
                }
                Reaped::Stopped(..) => {}
                Reaped::NoneEnded => break true,
                Reaped::NoChild => break false,
            }
        };
        if orphans > 0 {
            self.config.log.debug("reaped", format_args!("{orphans} orphans reaped"));
        }
        let left = match any_left {
            false => Left::Nobody,
            true if self.companions.any() => Left::Companions,
            true => Left::Orphans,
        };
        match app_ended {
            Some(status) => self.handle(Event::AppEnded { status, left }, self.now()),
            None if orphans + companions > 0 => {
                self.handle(Event::OthersReaped { left }, self.now());
            }
            None => {}
        }
    }

    fn lender(&mut self) -> Option<&mut Lender<'a>> {
        self.drain.as_mut()?.lender.as_mut()
    }

    fn lends_at_once(&mut self) -> bool {
        self.lender().is_some_and(|lender| lender.is_awake())
    }

    /// The last part of a turn; bounded.
    fn lend(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.lender.take_if(|lender| lender.is_awake() && !lender.serve());
        }
    }

    fn is_app(&self, pid: Pid) -> bool {
        self.app.as_ref().is_some_and(|app| app.is(pid))
    }

    fn companion_ended(&mut self, pid: Pid, status: Status) {
        let now = self.now();
        if let Some(start) = self.start.take_if(|start| start.pid == pid) {
            match status {
                Status::Exited(0) => self.all_ready = true,
                Status::Exited(NOT_READY) => {
                    self.why = start.account.map(Account::read).unwrap_or_default();
                    self.handle(Event::Waited(Waited::NotReady), now);
                }
                _ => {
                    let what = format_args!("the start companion failed: started again");
                    self.config.log.error("starting", what);
                    self.handle(Event::Waited(Waited::Failed), now);
                }
            }
        } else if self.exit.take_if(|exit| *exit == pid).is_some() {
            self.handle(Event::HandlersDone, now);
        } else if let Some(drain) = self.drain.take_if(|drain| drain.pid == pid) {
            let well = status == Status::Exited(0);
            if well {
                self.why = drain.account.map(Account::read).unwrap_or_default();
            } else {
                let what = format_args!("the drain companion failed: draining by the clock");
                self.config.log.error("draining", what);
            }
            self.handle(Event::CompanionEnded { well }, now);
        } else {
            let ended = (pid, status);
            self.readiness.companion_ended(self.config, &self.companions, ended, now);
        }
    }

    fn handle(&mut self, event: Event, now: Time) {
        self.is_unsent = false;
        let step = self.config.plan.step(self.state, event, now);
        self.apply(step, now);
    }

    fn apply(&mut self, (state, actions): (State, Actions), now: Time) {
        self.state = state;
        let mut failure = None;
        for action in actions {
            match action {
                Action::AwaitStart(left) if !self.await_start(left) => {
                    failure = Some(Event::Waited(Waited::Failed));
                }
                Action::StartApp => {
                    failure = self.start_app(now).err().map(|code| Event::NotStarted { code });
                }
                Action::StartCompanion(after) if !self.start_drain(after) => {
                    failure = Some(Event::CompanionEnded { well: false });
                }
                Action::TellExit(left) if !self.tell_exit(left) => {
                    failure = Some(Event::HandlersDone);
                }
                action => self.perform(action, now),
            }
        }
        if let Some(failure) = failure {
            self.handle(failure, now);
        }
    }

    /// The listening sockets that the app inherits, as `PORT:INODE,...`. The companion has no
    /// duplicates, and cannot see sockets of another network namespace in the kernel's table.
    fn given(&self) -> String {
        let mut words = String::new();
        if self.config.watched.is_some() {
            for (port, inode) in sys::listening() {
                let comma = if words.is_empty() { "" } else { "," };
                let _ = write!(words, "{comma}{port}:{inode}");
            }
        }
        words
    }

    /// The error is the exit code.
    fn start_app(&mut self, now: Time) -> Result<(), u8> {
        match App::start(self.command, self.config, self.found, self.readiness.notify_socket()) {
            Ok(app) => {
                self.app = Some(app);
                sys::take_closed();
                // Relative paths have been made absolute already.
                let _ = sys::leave_folder();
                self.started(now);
                Ok(())
            }
            Err(error) => {
                self.config.log.error("refused", format_args!("{error}"));
                self.termination_log.write(format_args!("{error}"));
                Err(error.exit_code())
            }
        }
    }

    /// The app has been started.
    fn started(&mut self, now: Time) {
        sys::show_that_it_takes(Signal::DRAIN);
        self.readiness.begin(self.config, &self.companions, now);
    }

    /// Starts the companion that waits for the app's targets. Returns whether it is running.
    fn await_start(&mut self, left: Duration) -> bool {
        let left = CString::new(duration::millis(left).to_string()).unwrap_or_default();
        let news = self.readiness.news();
        let tells = if news.is_some() { c"tells" } else { c"-" };
        let mut words = vec![c"companion", c"start", left.as_c_str(), tells];
        for word in self.words.iter() {
            words.push(word);
        }
        let (account, their_end) = Account::open().ok().unzip();
        let second_input = their_end.as_ref().map(AsFd::as_fd);
        let start = CompanionStart { input: news, second_input, ..CompanionStart::own(&words) };
        let pid = said(self.companions.start(&start), "start", self.config.log);
        self.start = pid.map(|pid| StartCompanion { pid, account });
        self.start.is_some()
    }

    /// Starts the companion that runs the exit handlers. Returns whether it is running.
    fn tell_exit(&mut self, left: Duration) -> bool {
        let left = CString::new(duration::millis(left).to_string()).unwrap_or_default();
        let folder = CString::new(self.config.folder.unwrap_or(".")).unwrap_or_default();
        let mut words = vec![c"companion", c"exit", left.as_c_str(), folder.as_c_str()];
        for word in self.words.iter() {
            words.push(word);
        }
        let started = self.companions.start_last(&CompanionStart::own(&words));
        self.exit = said(started, "exit", self.config.log);
        self.exit.is_some()
    }

    /// Starts the drain companion. Returns whether it is running; if not, the clock alone ends the
    /// drain.
    fn start_drain(&mut self, after: Duration) -> bool {
        let after = CString::new(duration::millis(after).to_string()).unwrap_or_default();
        let folder = CString::new(self.config.folder.unwrap_or(".")).unwrap_or_default();
        let given = CString::new(self.given()).unwrap_or_default();
        let mut words =
            vec![c"companion", c"drain", after.as_c_str(), folder.as_c_str(), given.as_c_str()];
        for word in self.words.iter() {
            words.push(word);
        }
        // Without a pipe the companion logs the reason itself.
        let (account, their_end) = Account::open().ok().unzip();
        let second_input = their_end.as_ref().map(AsFd::as_fd);
        // Without a lender it tries to take the sockets itself.
        let lends = self.config.watched.as_ref().filter(|watched| watched.close_idle.is_some());
        let lends = lends.zip(self.app.as_ref());
        let pair = lends.and_then(|(watched, app)| Lender::new(app.parent(), &watched.ports).ok());
        let (lender, borrower) = pair.unzip();
        let third_input = borrower.as_ref().map(AsFd::as_fd);
        let start = CompanionStart { second_input, third_input, ..CompanionStart::own(&words) };
        let pid = said(self.companions.start(&start), "drain", self.config.log);
        self.drain = pid.map(|pid| DrainCompanion { pid, account, lender });
        self.drain.is_some()
    }

    fn perform(&mut self, action: Action, now: Time) {
        let log = self.config.log;
        match action {
            Action::Unready => self.readiness.end(self.config, &self.companions),
            Action::Ready => {
                if let Some(path) = self.config.drain_file {
                    marker::remove(path, log);
                }
                self.hooks.forget();
                self.readiness.begin(self.config, &self.companions, now);
            }
            Action::BeginDrain => {
                self.why.clear();
                if let Some(path) = self.config.drain_file {
                    marker::create(path, log);
                }
            }
            // `apply` has started it, since a failure becomes an event.
            Action::AwaitStart(_)
            | Action::StartApp
            | Action::StartCompanion(_)
            | Action::TellExit(_) => {}
            Action::EndCompanion => {
                if let Some(drain) = self.drain.take() {
                    self.companions.kill(drain.pid);
                }
            }
            Action::EndCompanions => {
                self.readiness.close(&self.companions);
                self.kill_companions();
            }
            Action::Forward(signal) => self.send(|app| app.forward(signal)),
            Action::TerminateRest => self.send(|app| app.signal_rest(Signal::TERM)),
            Action::KillRest => {
                self.kill_companions();
                self.send(|app| app.signal_rest(Signal::KILL));
            }
            Action::Suspend { by } => self.send(|app| app.stopped(by)),
            Action::NameRest { kill_in } => self.name_rest(kill_in),
            Action::Say(note) => self.say(note),
            Action::Exit(code) => {
                self.termination_log.settle();
                log.line(Level::Debug, "ended", format_args!("exit code {code}"));
                self.exit_code = Some(code);
            }
        }
    }

    /// Kills the companions; their results are no longer needed.
    fn kill_companions(&mut self) {
        (self.start, self.drain) = (None, None);
        self.companions.kill_all();
    }

    /// Sends a signal to the app, or to the processes that it left. Returns whether that was
    /// permitted.
    fn send(&mut self, signal: impl Fn(&App) -> bool) {
        let Some(app) = &self.app else {
            return;
        };
        let is_permitted = signal(app);
        self.is_unsent |= !is_permitted;
        if !is_permitted && !std::mem::replace(&mut self.refusal_said, true) {
            let whom = if app.has_ended() { "what the app left" } else { "the app" };
            let why = "Operation not permitted (another user, and no CAP_KILL)";
            self.config.log.error("signal", format_args!("cannot signal {whom}: {why}"));
        }
    }

    fn say(&mut self, note: Note) {
        let is_unsent = match note {
            // It was not forwarded, which has been logged.
            Note::Forwarded(_) if self.is_unsent => return,
            Note::Unkillable => self.app.as_ref().is_some_and(App::is_any_out_of_reach),
            _ => self.is_unsent,
        };
        let (level, event) = note.class();
        let told = Told { note, why: &self.why, is_unsent };
        self.config.log.line(level, event, format_args!("{told}"));
        self.termination_log.note(&told);
    }

    fn name_rest(&mut self, kill_in: Duration) {
        let rest = processes::named(nix::unistd::getpid().as_raw());
        // Without a /proc there are no names to log.
        if rest.is_empty() {
            return;
        }
        let (rest, kill_in) = (Named(&rest), Rounded(kill_in));
        let text = format_args!("waiting for {rest}, SIGKILL in {kill_in}");
        self.config.log.line(Level::Info, "orphaned", text);
        self.termination_log.add(text);
    }
}

/// The pid of the companion; a failure to start it is logged.
fn said(started: io::Result<Pid>, name: &str, log: Log) -> Option<Pid> {
    started
        .map_err(|error| {
            let what = format_args!("cannot start the {name} companion: {}", Described(&error));
            log.error("companion", what);
        })
        .ok()
}

/// `node (17), sh (18) and 3 more`.
struct Named<'a>(&'a [(Pid, String)]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut between = "";
        for (pid, name) in self.0.iter().take(NAMED) {
            write!(f, "{between}{name} ({pid})")?;
            between = ", ";
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
