//! Builds the programs that an example runs.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target folder of this program, which is TARGET/PROFILE/examples/NAME.
pub fn target() -> io::Result<PathBuf> {
    let exe = env::current_exe()?;
    let target = exe
        .ancestors()
        .nth(3)
        .ok_or_else(|| io::Error::other("not started from a target folder"))?;
    Ok(target.to_owned())
}

/// Builds `what` as it ships.
pub fn build(target: &Path, what: &[&str]) -> io::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(what)
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("cargo build {}: {status}", what.join(" ")))),
    }
}
