//! Measures what a rolling update does to requests, on one machine and without a cluster: `cargo
//! run --release --example rolling-update`.
//!
//! A pod is replaced by another one under load, in real network and PID namespaces, behind a
//! Service as kube-proxy sets it up, or behind HAProxy. The balancer learns of the stop only after
//! a lag. The run compares ways to run the app, and counts the failed requests of each.
//!
//! Exit code: 0, or 1 if --until-quiet lost a request or the run proves nothing
//! (`report::verdict`).

#[path = "../support/cargo.rs"]
mod cargo;
mod cell;
mod client;
mod clock;
mod haproxy;
mod load;
mod network;
mod outside;
mod picture;
mod plan;
mod pod;
mod report;
mod run;
mod service;

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const USAGE: &str = "\
usage: rolling-update [OPTIONS]
  --quick        a few of the cells, in less than two minutes
  --only TEXT    only cells with TEXT in their name, as printed
  --jobs N       so many cells at a time (8)
  --out FOLDER   where the CSV, the picture and the logs go (rolling-update in cargo's target folder)";

struct Options {
    quick: bool,
    only: String,
    jobs: usize,
    out: PathBuf,
}

impl Options {
    /// None if any argument is not in USAGE.
    fn parse(mut arguments: impl Iterator<Item = String>, out: PathBuf) -> Option<Options> {
        let mut options = Options { quick: false, only: String::new(), jobs: 8, out };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--quick" => options.quick = true,
                "--only" => options.only = arguments.next()?,
                "--jobs" => options.jobs = arguments.next()?.parse().ok().filter(|n| *n > 0)?,
                "--out" => options.out = arguments.next()?.into(),
                _ => return None,
            }
        }
        Some(options)
    }
}

fn main() -> ExitCode {
    match rolling_update() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rolling-update: {error}");
            ExitCode::FAILURE
        }
    }
}

fn rolling_update() -> Result<ExitCode> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let inside = arguments.first().is_some_and(|first| first == outside::INSIDE);
    if inside {
        outside::end_with_the_one_outside();
        arguments.remove(0);
    }
    let out = cargo::target()?.join("rolling-update");
    let Some(options) = Options::parse(arguments.iter().cloned(), out) else {
        eprintln!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    if inside {
        return run::run(&options);
    }
    outside::check_tools()?;
    println!("Building drain-init and the server; the first time takes a minute.");
    outside::build()?;
    let status = outside::enter(&arguments)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
