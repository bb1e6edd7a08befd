//! Unnamed network namespaces: each disappears with its last descriptor and its last process, so
//! there is nothing to clean up, however this program ends.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{self, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::Result;

pub struct Network(File);

impl Network {
    pub fn new() -> Result<Network> {
        let own = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Network(File::open("/proc/thread-self/ns/net")?))
        };
        // unshare(2) moves the calling thread, and this thread has to stay.
        thread::scope(|scope| scope.spawn(own).join().expect("no panic"))
    }

    /// Calls `run` on a new thread in this namespace, with all threads and processes that it
    /// starts.
    pub fn within<T: Send>(&self, run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let run = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            run()
        };
        thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
    }

    /// A pair of devices that joins this network and the other, where it is called `eth0`. The
    /// first address of a /24 is ours and the second theirs; we are their default route.
    pub fn connect(&self, device: &str, other: &Network, subnet: &str) -> Result<()> {
        self.ip(&format!(
            "link add {device} type veth peer name eth0 netns {}\n\
             address add {subnet}.1/24 dev {device}\n\
             link set {device} up\n",
            other.path()
        ))?;
        other.ip(&format!(
            "link set lo up\n\
             address add {subnet}.2/24 dev eth0\n\
             link set eth0 up\n\
             route add default via {subnet}.1\n"
        ))
    }

    /// Runs ip(8) in here, one command per line.
    pub fn ip(&self, commands: &str) -> Result<()> {
        self.feed(Command::new("ip").args(["-batch", "-"]), commands)
    }

    /// Runs nft(8) in here, all commands in one transaction.
    pub fn nft(&self, commands: &str) -> Result<()> {
        self.feed(Command::new("nft").args(["-f", "-"]), commands)
    }

    fn feed(&self, command: &mut Command, input: &str) -> Result<()> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = self.within(|| {
            let mut child = command.spawn()?;
            child.stdin.take().expect("it is piped").write_all(input.as_bytes())?;
            Ok(child.wait_with_output()?)
        })?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{command:?}: {why}of\n{input}").into());
        }
        Ok(())
    }

    /// For other processes, while this one exists.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd())
    }
}
