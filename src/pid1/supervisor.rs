//! The loop of PID 1: deadlines, signals, reaping; it performs what `lifecycle` says.
//!
//! From here on nothing returns an error and nothing panics. In this order, again and again: what
//! is due by the clock is done; one signal is taken, or waited for until the next deadline; if it
//! is SIGCHLD, everything that has ended is reaped, and the drain companion is lent what it asked
//! for. The one reader of the clock in PID 1.

#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fmt::{self, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::duration::{self, Rounded};
use crate::log::Level;
use crate::marker;
use crate::options::config::Config;
use crate::pid1::account::Account;
use crate::pid1::app::App;
use crate::pid1::companions::Companions;
use crate::pid1::hooks::Hooks;
use crate::pid1::lender::Lender;
use crate::pid1::lifecycle::{Action, Came, Event, Left, Note, State, Told};
use crate::pid1::readiness::Readiness;
use crate::pid1::termination::TerminationLog;
use crate::processes;
use crate::signal::Signal;
use crate::sys::{self, Arguments, CompanionStart, Described, Pid, Reaped, Received, Status};

/// So many of those that are waited for are named.
const NAMED: usize = 5;

/// After so many orphans the clock and the signals are looked at.
const REAPED_AT_ONCE: u32 = 1000;

pub struct Supervisor<'a> {
    config: &'a Config,
    /// What the options were typed in: companions read them again.
    words: Arguments,
    app: App,
    state: State,
    clock: Clock,
    companions: Companions,
    readiness: Readiness,
    drain: Option<DrainCompanion<'a>>,
    /// Why the drain is over, as its companion told.
    why_over: String,
    hooks: Hooks,
    termination_log: TerminationLog,
    /// There may be more that have ended.
    more_to_reap: bool,
    exit_code: Option<u8>,
    /// A signal of the event at hand could not be sent.
    is_unsent: bool,
    /// That one could not be sent was said.
    refusal_said: bool,
}

/// The companion that a drain has, from its start until it has ended or nobody waits for it.
struct DrainCompanion<'a> {
    pid: Pid,
    account: Option<Account>,
    /// Where it may borrow.
    lender: Option<Lender<'a>>,
}

impl<'a> Supervisor<'a> {
    /// Takes over an app that was just started.
    pub fn new(config: &'a Config, words: Arguments, app: App, readiness: Readiness) -> Self {
        let termination_log = TerminationLog::new(config.termination_log, config.log);
        let mut supervisor = Self {
            config,
            words,
            app,
            state: State::Running(None),
            clock: Clock::start(),
            companions: Companions::default(),
            readiness,
            drain: None,
            why_over: String::new(),
            hooks: Hooks::default(),
            termination_log,
            more_to_reap: false,
            exit_code: None,
            is_unsent: false,
            refusal_said: false,
        };
        sys::show_that_it_takes(Signal::DRAIN);
        let now = supervisor.now();
        supervisor.readiness.begin(supervisor.config, &supervisor.companions, now);
        supervisor
    }

    /// Until the app has ended, and what it left.
    pub fn run(mut self) -> u8 {
        loop {
            let mut now = self.now();
            let mut deadline = self.config.plan.deadline(self.state);
            while deadline.is_some_and(|deadline| deadline <= now) {
                // The scan for those that were killed may have taken the time that they had to end.
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
            // Starting a companion takes its time.
            let mut timeout = deadline.map(|deadline| deadline.saturating_sub(self.now()));
            let more_to_reap = std::mem::take(&mut self.more_to_reap);
            if more_to_reap || self.lends_at_once() {
                timeout = Some(Duration::ZERO);
            }
            if let Some(received) = sys::wait_for_signal(timeout) {
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
                // The app is there for as long as the drain: that it is says nothing.
                if !self.app.is(sender) {
                    self.hooks.asked(sender);
                }
                return self.handle(Event::DrainAsked, self.now());
            }
            // A log that nobody reads any more, and nothing that the app should hear of.
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

    /// Reaps all who have ended, as signals of one kind merge and children don't; not without end,
    /// as they may come as fast as they are reaped, and the deadline is to be looked at.
    fn reap(&mut self) {
        let mut app_ended: Option<Status> = None;
        let mut orphans = 0_u32;
        let mut companions = 0_u32;
        let any_left = loop {
            if orphans >= REAPED_AT_ONCE {
                self.more_to_reap = true;
                break true;
            }
            match sys::reap(self.app.has_terminal()) {
                Reaped::Ended(pid, status) if self.app.is(pid) => {
                    self.app.ended();
                    app_ended = Some(status);
                }
                Reaped::Ended(pid, status) if self.companions.ended(pid) => {
                    companions = companions.saturating_add(1);
                    self.companion_ended(pid, status);
                }
                Reaped::Ended(..) => orphans = orphans.saturating_add(1),
                Reaped::Stopped(pid, by) if self.app.is(pid) => {
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

    /// Last of all in a turn, and a bounded part of it.
    fn lend(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.lender.take_if(|lender| lender.is_awake() && !lender.serve());
        }
    }

    fn companion_ended(&mut self, pid: Pid, status: Status) {
        let now = self.now();
        if let Some(drain) = self.drain.take_if(|drain| drain.pid == pid) {
            let well = status == Status::Exited(0);
            if well {
                self.why_over = drain.account.map(Account::read).unwrap_or_default();
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
        let (state, actions) = self.config.plan.step(self.state, event, now);
        self.state = state;
        let mut without_companion = false;
        for action in actions {
            match action {
                Action::StartCompanion(after) => without_companion = !self.start_drain(after),
                action => self.perform(action, now),
            }
        }
        if without_companion {
            self.handle(Event::CompanionEnded { well: false }, now);
        }
    }

    /// Listening sockets that the app was given, `PORT:INODE,...`: the companion has no copies, and
    /// cannot see them in the kernel's table if they are of another network.
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

    /// Whether the drain has a companion now. Where it has none, the clock is what is left.
    fn start_drain(&mut self, after: Duration) -> bool {
        let after = CString::new(duration::millis(after).to_string()).unwrap_or_default();
        let folder = CString::new(self.config.folder.unwrap_or(".")).unwrap_or_default();
        let given = CString::new(self.given()).unwrap_or_default();
        let mut words =
            vec![c"companion", c"drain", after.as_c_str(), folder.as_c_str(), given.as_c_str()];
        for word in self.words.iter() {
            words.push(word);
        }
        // Without one it says by itself what it has seen.
        let (account, their_end) = Account::open().ok().unzip();
        let second_input = their_end.as_ref().map(AsFd::as_fd);
        // Where there is none, it tries by itself.
        let lends = self.config.watched.as_ref().filter(|watched| watched.close_idle.is_some());
        let pair = lends.and_then(|watched| Lender::new(self.app.parent(), &watched.ports).ok());
        let (lender, borrower) = pair.unzip();
        let third_input = borrower.as_ref().map(AsFd::as_fd);
        let start = CompanionStart { second_input, third_input, ..CompanionStart::own(&words) };
        match self.companions.start(&start) {
            Ok(pid) => self.drain = Some(DrainCompanion { pid, account, lender }),
            Err(error) => {
                let what = format_args!("cannot start the drain companion: {}", Described(&error));
                self.config.log.error("draining", what);
                self.drain = None;
            }
        }
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
                self.why_over.clear();
                if let Some(path) = self.config.drain_file {
                    marker::create(path, log);
                }
            }
            // `handle` has done it: it makes an event of a failure.
            Action::StartCompanion(_) => {}
            Action::EndCompanion => {
                if let Some(drain) = self.drain.take() {
                    self.companions.kill(drain.pid);
                }
            }
            Action::EndCompanions => {
                self.readiness.close(&self.companions);
                self.kill_companions();
            }
            Action::Forward(signal) => self.sent(self.app.forward(signal)),
            Action::TerminateRest => self.sent(self.app.signal_rest(Signal::TERM)),
            Action::KillRest => {
                self.kill_companions();
                self.sent(self.app.signal_rest(Signal::KILL));
            }
            Action::Suspend { by } => self.sent(self.app.stopped(by)),
            Action::NameRest { kill_in } => self.name_rest(kill_in),
            Action::Say(note) => self.say(note),
            Action::Exit(code) => {
                self.termination_log.settle();
                log.line(Level::Debug, "ended", format_args!("exit code {code}"));
                self.exit_code = Some(code);
            }
        }
    }

    /// Nobody waits for what becomes of them.
    fn kill_companions(&mut self) {
        self.drain = None;
        self.companions.kill_all();
    }

    fn sent(&mut self, is_permitted: bool) {
        self.is_unsent |= !is_permitted;
        if !is_permitted && !std::mem::replace(&mut self.refusal_said, true) {
            let whom = if self.app.has_ended() { "what the app left" } else { "the app" };
            let why = "Operation not permitted (another user, and no CAP_KILL)";
            self.config.log.error("signal", format_args!("cannot signal {whom}: {why}"));
        }
    }

    fn say(&mut self, note: Note) {
        let is_unsent = match note {
            // Nothing has become of it, and that was said.
            Note::Forwarded(_) if self.is_unsent => return,
            Note::Unkillable => self.app.is_any_out_of_reach(),
            _ => self.is_unsent,
        };
        let (level, event) = note.class();
        let told = Told { note, why: &self.why_over, is_unsent };
        self.config.log.line(level, event, format_args!("{told}"));
        self.termination_log.note(&told);
    }

    fn name_rest(&mut self, kill_in: Duration) {
        let rest = processes::named(nix::unistd::getpid().as_raw());
        // Without a /proc nobody has a name, and all that there is to say has been said.
        if rest.is_empty() {
            return;
        }
        let (rest, kill_in) = (Named(&rest), Rounded(kill_in));
        let text = format_args!("waiting for {rest}, SIGKILL in {kill_in}");
        self.config.log.line(Level::Info, "orphaned", text);
        self.termination_log.add(text);
    }
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
