//! `drain-init explain [OPTIONS]`: the timeline that these options give, for a person.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::Duration;

use super::{ENTRYPOINT, configured};
use crate::cli::Verb;
use crate::config::Config;
use crate::config::Surroundings;
use crate::duration::Short;
use crate::lifecycle::HeldBy;
use crate::print;
use crate::sys::Arguments;
use crate::target::ListenOn;

/// What `docker stop` waits if it is not told.
const DOCKER_GRACE: Duration = Duration::from_secs(10);

/// Prints the timeline, or what `run` would refuse, with the exit code that it would have.
pub fn explain(arguments: Arguments) -> u8 {
    let verb = Verb { name: "explain", options: ENTRYPOINT, operand: None, command: true };
    match configured(&verb, arguments, Surroundings::Checked) {
        Ok((_, config)) => print(&timeline(&config)),
        Err(code) => code,
    }
}

pub fn timeline(config: &Config) -> String {
    let plan = &config.plan;
    let stops: Vec<String> = plan.stop_on.iter().map(|signal| signal.to_string()).collect();
    let forward = match plan.stop_signal {
        Some(signal) => signal.to_string(),
        None if stops.len() == 1 => stops.concat(),
        None => "the same signal".to_owned(),
    };
    let told = if config.group { "the app's process group" } else { "the app" };
    let mut lines = Timeline::default();
    lines.push((Duration::ZERO, format!("{} comes", stops.join(" or "))));
    if let Some(path) = &config.drain_file {
        lines.push((Duration::ZERO, format!("the drain begins: {} is made", path.display())));
    }
    for handler in &config.handlers {
        lines.push((Duration::ZERO, format!("{handler}: the drain goes on until it is done")));
    }
    if let Some(watched) = &config.watched {
        let quiet = Short(watched.until_quiet);
        let line = format!("the drain goes on until {quiet} without {}", watched.quiet_on);
        lines.push((Duration::ZERO, line));
    }
    if !plan.delay.is_zero() || plan.held_by != HeldBy::Nothing {
        lines.push((Duration::ZERO, "the app is not told and goes on serving".to_owned()));
    }
    unready(config).for_each(|line| lines.push((plan.unready_delay, line)));
    let stops = "it stops, and its exit ends this";
    match plan.held_by {
        HeldBy::Nothing => lines.push((plan.delay, format!("{forward} to {told}: {stops}"))),
        HeldBy::Handlers | HeldBy::Traffic => {
            lines.push((plan.delay, format!("{forward} to {told} if that is over: {stops}")));
            lines.push((plan.max_delay, format!("{forward} to {told} whatever goes on")));
        }
    }
    for escalation in &plan.escalate {
        let at = plan.kill_after().saturating_sub(escalation.before_kill);
        lines.push((at, format!("{} to {told}, if it is still there", escalation.signal)));
    }
    lines.push((plan.kill_after(), "SIGKILL to all that is left, exit code 137".to_owned()));
    let outside = format!(
        "the kubelet (terminationGracePeriodSeconds: {0}) or `docker stop -t {0}` would kill",
        plan.grace.as_secs()
    );
    lines.push((plan.grace, outside));

    let mut text = String::new();
    if let Some(target) = &config.ready_check {
        let _ = writeln!(text, "{:>8}  ready only when {target} is", "start");
    }
    for (at, what) in lines.0 {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:>8}  {what}", Short(at).to_string());
    }
    let _ = writeln!(
        text,
        "\nA second stop signal ends the drain at once. Processes that the app leaves get SIGTERM\n\
         and {} to end.",
        Short(plan.orphan_grace)
    );
    if !plan.unready_delay.is_zero() {
        let stays = Short(plan.unready_delay);
        let _ = writeln!(text, "Readiness stays for {stays} of the drain.");
    }
    if let Some(path) = &config.termination_log {
        let _ = writeln!(text, "{} gets a line on how the stop goes.", path.display());
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

/// What goes when readiness goes.
fn unready(config: &Config) -> impl Iterator<Item = String> {
    let file = config.ready_file.as_ref();
    let file = file.map(|path| format!("not ready: {} is removed", path.display()));
    let listen = config.ready_listen.map(|listen| match listen {
        ListenOn::Http(_) => format!("not ready: {listen}/readyz answers 503"),
        ListenOn::Tcp(_) => format!("not ready: {listen} refuses connections"),
    });
    file.into_iter().chain(listen)
}

/// What happens when, in its order; what happens at one instant, in the order in which it was said.
#[derive(Default)]
struct Timeline(Vec<(Duration, String)>);

impl Timeline {
    fn push(&mut self, line: (Duration, String)) {
        let place = self.0.partition_point(|(at, _)| *at <= line.0);
        self.0.insert(place, line);
    }
}
