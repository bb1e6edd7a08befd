//! A pod of one container, and the kubelet's part: starts it in namespaces of its own, waits until
//! it is ready, and stops it within its grace period.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use crate::Result;
use crate::clock::{becomes_true, now};
use crate::network::Network;

pub const PORT: u16 = 8080;
const START: Duration = Duration::from_secs(20);
/// Kubernetes' default, terminationGracePeriodSeconds.
pub const GRACE: Duration = Duration::from_secs(30);
/// The time that the kubelet leaves a container after SIGTERM, even if preStop has used up the
/// grace period.
const LEAST: Duration = Duration::from_secs(2);

/// The pod to replace, and its replacement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Old,
    New,
}

impl Name {
    pub fn text(self) -> &'static str {
        match self {
            Name::Old => "old",
            Name::New => "new",
        }
    }

    fn subnet(self) -> &'static str {
        match self {
            Name::Old => "10.244.1",
            Name::New => "10.244.2",
        }
    }

    pub fn address(self) -> SocketAddr {
        let address = format!("{}.2", self.subnet()).parse::<Ipv4Addr>().expect("an address");
        (address, PORT).into()
    }
}

/// The network stays until this is dropped, as a pod's does while its other containers run: packets
/// to a container that has ended are refused. (If the whole pod is gone, they are lost.)
pub struct Pod {
    _network: Network,
    container: Child,
}

/// How a pod ended.
pub struct Stopped {
    pub sigterm: Instant,
    pub gone: Instant,
    pub status: ExitStatus,
}

impl Pod {
    /// The container's output goes to the log.
    pub fn start(node: &Network, name: Name, command: &[String], log: &Path) -> Result<Pod> {
        let network = Network::new()?;
        node.connect(name.text(), &network, name.subnet())?;
        let log = File::create(log)?;
        let (program, arguments) = command.split_first().ok_or("no command")?;
        let mut command = Command::new(program);
        command.args(arguments).args(["--name", name.text()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: between fork and exec only setsid(2) and mount(2) are called, both
        // async-signal-safe, and the paths are short enough for nix not to allocate.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                let none: Option<&str> = None;
                mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
                Ok(())
            });
        }
        let container = network.within(|| {
            // For children of this thread: the next process is PID 1 in there.
            unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
            Ok(command.spawn()?)
        })?;
        let pod = Pod { _network: network, container };
        pod.wait_until_ready(node, name)?;
        Ok(pod)
    }

    /// Like a readiness probe with tcpSocket.
    fn wait_until_ready(&self, node: &Network, name: Name) -> Result<()> {
        let deadline = now() + START;
        let accepts =
            || TcpStream::connect_timeout(&name.address(), Duration::from_secs(1)).is_ok();
        match node.within(|| Ok(becomes_true(deadline, accepts)))? {
            true => Ok(()),
            false => Err(format!("the {} pod does not become ready", name.text()).into()),
        }
    }

    /// preStop runs inside the grace period; SIGTERM follows, and SIGKILL at the period's end.
    pub fn stop(&mut self, pre_stop: Option<&[&str]>) -> Result<Stopped> {
        let deadline = now() + GRACE;
        if let Some(hook) = pre_stop {
            self.run_hook(hook, deadline)?;
        }
        let sigterm = now();
        self.send(Signal::SIGTERM)?;
        let deadline = deadline.max(sigterm + LEAST);
        let mut status = self.container.try_wait()?;
        becomes_true(deadline, || {
            status = self.container.try_wait().unwrap_or_default();
            status.is_some()
        });
        let status = match status {
            Some(status) => status,
            None => {
                self.send(Signal::SIGKILL)?;
                self.container.wait()?
            }
        };
        Ok(Stopped { sigterm, gone: now(), status })
    }

    /// Runs in the container, like an exec hook. A hook that outlives the grace period is killed
    /// with the container.
    fn run_hook(&self, command: &[&str], deadline: Instant) -> Result<()> {
        let target = self.container.id().to_string();
        let mut hook = Command::new("nsenter")
            .args(["--pid", "--mount", "--net", "--target", &target])
            .args(command)
            .stdin(Stdio::null())
            .spawn()?;
        becomes_true(deadline, || hook.try_wait().is_ok_and(|status| status.is_some()));
        Ok(())
    }

    fn send(&mut self, signal: Signal) -> Result<()> {
        // The pid is the container's until it is reaped.
        if self.container.try_wait()?.is_none() {
            kill(Pid::from_raw(self.container.id().cast_signed()), signal)?;
        }
        Ok(())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // PID 1 takes every process of its namespace with it.
        let _ = self.send(Signal::SIGKILL);
        let _ = self.container.wait();
    }
}
