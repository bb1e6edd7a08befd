//! `drain-init explain [OPTIONS]`: prints the timeline that these options give.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};
use std::time::Duration;

use super::{configured, print};
use crate::duration::Short;
use crate::options::command_line::Verb;
use crate::options::config::Config;
use crate::options::config::Surroundings;
use crate::options::plan::{EXIT_HANDLERS, Escalation, HeldBy, ORPHAN_GRACE, SAME_REQUEST};
use crate::options::target::ListenOn;
use crate::options::watched::InFlight;
use crate::signal::SignalSet;
use crate::sys::Arguments;

/// The time that `docker stop` waits by default.
const DOCKER_GRACE: Duration = Duration::from_secs(10);

/// Prints the timeline. If `run` would refuse the options, prints its messages and returns its exit
/// code.
pub fn explain(arguments: Arguments) -> u8 {
    let verb = Verb { name: "explain", only: None, command: true };
    match configured(&verb, arguments, Surroundings::Checked) {
        Ok((_, config)) => print(&timeline(&config)),
        Err(code) => code,
    }
}

pub fn timeline(config: &Config) -> String {
    let plan = &config.plan;
    let mut text = String::new();
    // Writing to a String does not fail.
    let mut line = |at: &str, what: fmt::Arguments| {
        let _ = writeln!(text, "{at:>8}  {what}");
    };
    for target in &config.start_after {
        let longest = Short(plan.start_timeout.unwrap_or_default());
        line("start", format_args!("when {target} is ready; exit code 125 after {longest}"));
    }
    if config.ready_notify {
        line("start", format_args!("ready only when the app has sent READY=1 by sd_notify"));
    }
    if let Some(target) = &config.ready_check {
        line("start", format_args!("ready only when {target} is"));
    }
    // Instants in order; events of the same instant in the order of `events`.
    let mut instant = Some(Duration::ZERO);
    while let Some(now) = instant {
        instant = None;
        events(config, &mut |at, what| {
            if at == now {
                line(&Short(at).to_string(), what);
            } else if at > now && instant.is_none_or(|next| at < next) {
                instant = Some(at);
            }
        });
    }
    let _ = writeln!(
        text,
        "\nA second stop signal, {} or more after the first, ends the drain at once.",
        Short(SAME_REQUEST)
    );
    let _ = match plan.orphan_grace {
        Some(given) => writeln!(
            text,
            "Processes that the app leaves get SIGTERM and {} to end, never past the SIGKILL.",
            Short(given)
        ),
        None => writeln!(
            text,
            "Processes that the app leaves get SIGTERM and have until the SIGKILL to end, or {}\n\
             where no stop was requested.",
            Short(ORPHAN_GRACE)
        ),
    };
    for handler in &config.exit_handlers {
        let longest = Short(EXIT_HANDLERS);
        let _ = writeln!(
            text,
            "{handler} is run when the app and what it left have ended: at most {longest}, and never\n\
             past the grace period."
        );
    }
    if !plan.unready_delay.is_zero() {
        let stays = Short(plan.unready_delay);
        let _ = writeln!(text, "Readiness stays for {stays} of the drain.");
    }
    if let Some(path) = config.termination_log {
        let _ = writeln!(text, "{path} gets a line on how the stop goes.");
    }
    if let Some(listen) = config.ready_listen
        && listen.address().ip().is_loopback()
    {
        let _ = writeln!(
            text,
            "{listen} is not reached by the kubelet, whose probes come to the pod's address:\n\
             listen on 0.0.0.0 or [::] for these."
        );
    }
    if plan.grace != DOCKER_GRACE {
        let _ = writeln!(
            text,
            "`docker stop` without -t, and Compose without stop_grace_period, kill at 10s."
        );
    }
    text
}

/// Passes on every event with its time.
fn events(config: &Config, say: &mut dyn FnMut(Duration, fmt::Arguments)) {
    let plan = &config.plan;
    let begin = Duration::ZERO;
    say(begin, format_args!("{} arrives", AnyOf(plan.stop_on)));
    if let Some(path) = config.drain_file {
        say(begin, format_args!("the drain begins: {path} is created"));
    }
    for handler in &config.handlers {
        say(begin, format_args!("{handler}: the drain goes on until it is done"));
    }
    if let Some(watched) = &config.watched {
        let (quiet, of) = (Short(watched.until_quiet), watched.quiet_on);
        match (watched.in_flight, watched.close_idle) {
            (InFlight::App, _) => say(
                begin,
                format_args!(
                    "the drain goes on until {quiet} without new connections; requests in flight are \
                     the app's to finish"
                ),
            ),
            (InFlight::DrainInit, None) => {
                say(begin, format_args!("the drain goes on until {quiet} without {of}"));
            }
            (InFlight::DrainInit, Some(idle)) => {
                let idle = Short(idle);
                say(
                    begin,
                    format_args!(
                        "the drain goes on until {quiet} without new connections; from then on kept \
                         ones that are idle for {idle} are closed, until none is left"
                    ),
                );
                say(
                    plan.max_delay - plan.max_delay / 10,
                    format_args!("kept connections are closed as soon as they are idle at all"),
                );
            }
        }
    }
    if !plan.delay.is_zero() || plan.held_by != HeldBy::Nothing {
        say(begin, format_args!("the app is not told and keeps serving"));
    }
    if let Some(path) = config.ready_file {
        say(plan.unready_delay, format_args!("not ready: {path} is removed"));
    }
    if let Some(listen) = config.ready_listen {
        let how = match listen {
            ListenOn::Http(_) => "/readyz answers 503",
            ListenOn::Tcp(_) => " refuses connections",
        };
        say(plan.unready_delay, format_args!("not ready: {listen}{how}"));
    }
    let told = if config.group { "the app's process group" } else { "the app" };
    let forward = Forward(config);
    let stops = "it stops, and drain-init exits with it";
    match plan.held_by {
        HeldBy::Nothing => say(plan.delay, format_args!("{forward} to {told}: {stops}")),
        HeldBy::Handlers | HeldBy::Traffic => {
            if plan.delay < plan.max_delay {
                say(plan.delay, format_args!("{forward} to {told} if that is over: {stops}"));
            }
            say(plan.max_delay, format_args!("{forward} to {told} whatever happens"));
        }
    }
    for Escalation { signal, before_kill } in &plan.escalate {
        let at = plan.kill_after().saturating_sub(*before_kill);
        say(at, format_args!("{signal} to {told}, if it is still there"));
    }
    say(plan.kill_after(), format_args!("SIGKILL to all that is left, exit code 137"));
    // Tools that kill from outside take whole seconds.
    let (seconds, rest) = (plan.grace.as_secs(), plan.grace.subsec_nanos());
    let grace = seconds.saturating_add(u64::from(rest > 0));
    say(
        Duration::from_secs(grace),
        format_args!(
            "the kubelet (terminationGracePeriodSeconds: {grace}) or `docker stop -t {grace}` would \
             kill"
        ),
    );
}

/// `SIGINT or SIGTERM`.
struct AnyOf(SignalSet);

impl fmt::Display for AnyOf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut between = "";
        self.0.iter().try_for_each(|signal| {
            let between = std::mem::replace(&mut between, " or ");
            write!(f, "{between}{signal}")
        })
    }
}

/// The signal that the app is sent.
struct Forward<'a>(&'a Config);

impl fmt::Display for Forward<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let plan = &self.0.plan;
        match (plan.stop_signal, plan.stop_on.iter().count()) {
            (Some(signal), _) => write!(f, "{signal}"),
            (None, 1) => write!(f, "{}", AnyOf(plan.stop_on)),
            (None, _) => f.write_str("the same signal"),
        }
    }
}
