//! `drain-init explain [OPTIONS]`: the timeline that these options give, for a person.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::Duration;

use super::options;
use crate::config::Config;
use crate::duration::Short;
use crate::print;
use crate::sys::Arguments;

/// What `docker stop` waits if it is not told.
const DOCKER_GRACE: Duration = Duration::from_secs(10);

/// Prints the timeline, or what `run` would refuse, with the exit code that it would have.
pub fn explain(arguments: Arguments) -> u8 {
    match options("explain", arguments) {
        Ok((_, config, _)) => print(&timeline(&config)),
        Err(code) => code,
    }
}

fn timeline(config: &Config) -> String {
    let plan = &config.plan;
    let stops: Vec<String> = plan.stop_on.iter().map(|signal| signal.to_string()).collect();
    let forward = match plan.stop_signal {
        Some(signal) => signal.to_string(),
        None if stops.len() == 1 => stops.concat(),
        None => "the same signal".to_owned(),
    };
    let told = if config.group { "the app's process group" } else { "the app" };
    let mut lines = vec![(Duration::ZERO, format!("{} comes", stops.join(" or ")))];
    if let Some(path) = &config.ready_file {
        lines.push((Duration::ZERO, format!("not ready: {} is removed", path.display())));
    }
    if let Some(path) = &config.drain_file {
        lines.push((Duration::ZERO, format!("the drain begins: {} is made", path.display())));
    }
    if !plan.delay.is_zero() {
        lines.push((Duration::ZERO, "the app is not told and goes on serving".to_owned()));
    }
    lines.push((plan.delay, format!("{forward} to {told}: it stops, and its exit ends this")));
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
    for (at, what) in lines {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:>8}  {what}", Short(at).to_string());
    }
    let _ = writeln!(
        text,
        "\nA second stop signal ends the drain at once. Processes that the app leaves get SIGTERM\n\
         and {} to end.",
        Short(plan.orphan_grace)
    );
    if plan.grace != DOCKER_GRACE {
        let _ = writeln!(
            text,
            "`docker stop` without -t, and Compose without stop_grace_period, kill at 10s."
        );
    }
    text
}
