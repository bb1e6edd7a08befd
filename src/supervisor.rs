//! The loop of PID 1: deadlines, signals, reaping; it performs what `lifecycle` says.
//!
//! From here on nothing returns an error and nothing panics. In this order, again and again: what
//! is due by the clock is done; one signal is taken, or waited for until the next deadline; if it
//! is SIGCHLD, everything that has ended is reaped. The one reader of the clock in PID 1.

#![forbid(unsafe_code)]

use crate::app::App;
use crate::clock::{Clock, Time};
use crate::config::Config;
use crate::lifecycle::{Action, Event, State};
use crate::log::Level;
use crate::marker;
use crate::signal::Signal;
use crate::sys::{self, Reaped, Received, Status};
use crate::terminal;

pub struct Supervisor {
    config: Config,
    app: App,
    state: State,
    clock: Clock,
    exit_code: Option<u8>,
}

impl Supervisor {
    /// Takes over an app that was just started.
    pub fn new(config: Config, app: App) -> Self {
        if let Some(path) = &config.ready_file {
            marker::create(path, config.log);
        }
        Self { config, app, state: State::Running, clock: Clock::start(), exit_code: None }
    }

    /// Until the app has ended, and what it left.
    pub fn run(mut self) -> u8 {
        loop {
            let mut now = self.now();
            let mut deadline = self.config.plan.deadline(self.state);
            while deadline.is_some_and(|deadline| deadline <= now) {
                self.handle(Event::Wake, now);
                now = self.now();
                deadline = self.config.plan.deadline(self.state);
            }
            if let Some(code) = self.exit_code {
                return code;
            }
            let timeout = deadline.map(|deadline| deadline.saturating_sub(now));
            if let Some(received) = sys::wait_for_signal(timeout) {
                self.received(received);
            }
            if let Some(code) = self.exit_code {
                return code;
            }
        }
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn received(&mut self, Received { signal, sender }: Received) {
        if signal == Signal::CHLD {
            return self.reap();
        }
        // A log that nobody reads any more, and nothing that the app should hear of.
        let own_pipe = signal == Signal::PIPE && sender == nix::unistd::getpid().as_raw();
        if own_pipe || signal.excepted().is_some() {
            return;
        }
        let by_hand = signal == Signal::INT && terminal::on_standard_input();
        self.handle(Event::Signal { signal, by_hand }, self.now());
    }

    /// Reaps until nobody is left who has ended: signals of one kind merge, children don't.
    fn reap(&mut self) {
        let mut app_ended: Option<Status> = None;
        let mut others = 0_u32;
        let left = loop {
            match sys::reap(self.app.has_terminal()) {
                Reaped::Ended(pid, status) if self.app.is(pid) => {
                    self.app.ended();
                    app_ended = Some(status);
                }
                Reaped::Ended(..) => others = others.saturating_add(1),
                Reaped::Stopped(pid, by) if self.app.is(pid) => {
                    self.handle(Event::AppStopped { by }, self.now());
                }
                Reaped::Stopped(..) => {}
                Reaped::NoneEnded => break true,
                Reaped::NoChild => break false,
            }
        };
        if others > 0 {
            self.config.log.debug("reaped", format_args!("{others} orphans reaped"));
        }
        match app_ended {
            Some(status) => self.handle(Event::AppEnded { status, left }, self.now()),
            None if others > 0 => self.handle(Event::OrphansReaped { left }, self.now()),
            None => {}
        }
    }

    fn handle(&mut self, event: Event, now: Time) {
        let (state, actions) = self.config.plan.step(self.state, event, now);
        self.state = state;
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        let log = self.config.log;
        match action {
            Action::Unready => {
                if let Some(path) = &self.config.ready_file {
                    marker::remove(path, log);
                }
            }
            Action::BeginDrain => {
                if let Some(path) = &self.config.drain_file {
                    marker::create(path, log);
                }
            }
            Action::Forward(signal) => self.app.forward(signal),
            Action::TerminateRest => self.app.signal_rest(Signal::TERM),
            Action::KillRest => self.app.signal_rest(Signal::KILL),
            Action::Suspend { by } => self.app.stopped(by),
            Action::Say(note) => log.note(note),
            Action::Exit(code) => {
                log.line(Level::Debug, "ended", format_args!("exit code {code}"));
                self.exit_code = Some(code);
            }
        }
    }
}
