//! The part outside the namespaces: builds the programs, looks for the tools, and starts this
//! program again in namespaces of its own, where everything else happens.
//!
//! Nothing created there has a name or outlives its processes, and all of them end with the first
//! process of their PID namespace. That process ends when its standard input does: a pipe whose
//! other end only this process has. So the end of this process, even by SIGKILL, ends everything.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread;

use nix::unistd::geteuid;

use crate::Result;
use crate::cargo;
use crate::plan::find;

/// The first argument of the process inside.
pub const INSIDE: &str = "inside";

/// The tools, and their Debian packages.
const TOOLS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("haproxy", "haproxy"),
    ("sleep", "coreutils"),
];

/// Names another program that takes drain-init's options: the tests use one that loses requests.
const OTHER_INIT: &str = "ROLLING_UPDATE_INIT";

/// The programs to measure.
pub struct Programs {
    pub drain_init: PathBuf,
    pub server: PathBuf,
}

impl Programs {
    pub fn in_target() -> Result<Programs> {
        let release = cargo::target()?.join("release");
        let drain_init = match env::var_os(OTHER_INIT) {
            Some(other) => other.into(),
            None => release.join("drain-init"),
        };
        Ok(Programs { drain_init, server: release.join("examples/server") })
    }
}

pub fn build() -> Result<()> {
    let target = cargo::target()?;
    if env::var_os(OTHER_INIT).is_none() {
        cargo::build(&target, &["--bin", "drain-init"])?;
    }
    Ok(cargo::build(&target, &["--example", "server"])?)
}

/// PATH with the folders of `ip` and `nft`, which an ordinary user's lacks.
pub fn path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

pub fn check_tools() -> Result<()> {
    let missing: BTreeSet<&str> = (TOOLS.iter())
        .filter(|(tool, _)| find(tool, &path()).is_none())
        .map(|(_, package)| *package)
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let packages = Vec::from_iter(missing).join(" ");
            Err(format!("needs more tools: apt-get install {packages}").into())
        }
    }
}

/// Runs this program with these arguments in namespaces of its own.
pub fn enter(arguments: &[String]) -> Result<ExitStatus> {
    let mut unshare = Command::new("unshare");
    unshare.env("PATH", path()).stdin(Stdio::piped());
    if !geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let mut child = unshare.arg(env::current_exe()?).arg(INSIDE).args(arguments).spawn()?;
    // wait() would close it.
    let _lifeline = child.stdin.take();
    Ok(child.wait()?)
}

/// Ends this process, PID 1 of its namespace, when the one outside has ended.
pub fn end_with_the_one_outside() {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(1);
    });
}
