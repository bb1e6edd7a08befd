//! One cell of the table: a node with a Service, clients, and one pod that is replaced by another
//! under load. Everything is in namespaces of its own, so that cells can run side by side.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::client::Failure;
use crate::clock::{now, sleep, sleep_until};
use crate::haproxy::HaProxy;
use crate::load::{Load, Request};
use crate::network::Network;
use crate::outside::Programs;
use crate::plan::{Balancer, Cell};
use crate::pod::{Name, PORT, Pod, Stopped};
use crate::service::{ADDRESS, KubeProxy};

/// How long the clients run with the old pod alone, with both, and with the new one alone.
const ALONE: Duration = Duration::from_secs(1);
const BOTH: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(2);
/// If there is no lag: time for packets sent before the removal to reach the pod.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// The events of a cell, and their times.
pub struct Measured {
    pub requests: Vec<Request>,
    /// The beginning of the stop: preStop, or else SIGTERM.
    pub stop: Instant,
    pub sigterm: Instant,
    pub removed: Instant,
    pub gone: Instant,
    pub status: ExitStatus,
}

impl Measured {
    pub fn failed(&self) -> usize {
        self.requests.iter().filter(|request| request.by.is_err()).count()
    }

    pub fn failed_by(&self, failure: Failure) -> usize {
        self.requests.iter().filter(|request| request.by == Err(failure)).count()
    }

    pub fn retried(&self) -> usize {
        self.requests.iter().filter(|request| request.retried).count()
    }

    pub fn seconds_to_stop(&self) -> f64 {
        self.seconds_after_stop(self.gone)
    }

    /// When a stop that loses no request could have been over at the earliest, as the clients saw
    /// it: no request was routed to the old pod any more, and it had answered all earlier ones.
    pub fn shortest(&self) -> Instant {
        let asked_in_time = |request: &&Request| {
            request.sent <= self.removed && request.by != Ok(Name::New) && request.done > self.stop
        };
        let answers = self.requests.iter().filter(asked_in_time).map(|request| request.done);
        answers.max().unwrap_or(self.removed).max(self.removed).max(self.stop)
    }

    /// How much longer than that the stop took.
    pub fn excess_seconds(&self) -> f64 {
        self.seconds_to_stop() - self.seconds_after_stop(self.shortest())
    }

    /// Negative before it.
    pub fn seconds_after_stop(&self, at: Instant) -> f64 {
        (at - self.stop).as_secs_f64() - (self.stop - at).as_secs_f64()
    }
}

enum Service<'a> {
    KubeProxy(KubeProxy<'a>),
    HaProxy(HaProxy<'a>),
}

impl<'a> Service<'a> {
    fn start(balancer: Balancer, node: &'a Network) -> Result<Self> {
        Ok(match balancer {
            Balancer::KubeProxy => Service::KubeProxy(KubeProxy::start(node)?),
            Balancer::HaProxy { http_reuse, retries } => {
                Service::HaProxy(HaProxy::start(node, http_reuse, retries)?)
            }
        })
    }

    fn add(&mut self, name: Name) -> Result<()> {
        match self {
            Service::KubeProxy(proxy) => proxy.add(name),
            Service::HaProxy(proxy) => proxy.add(name),
        }
    }

    fn remove(&mut self, name: Name) -> Result<()> {
        match self {
            Service::KubeProxy(proxy) => proxy.remove(name),
            Service::HaProxy(proxy) => proxy.remove(name),
        }
    }
}

/// None if a program that the row needs is not installed.
pub fn measure(cell: &Cell, programs: &Programs, logs: &Path) -> Result<Option<Measured>> {
    let app = cell.app.command(&programs.server, PORT);
    let balancer = cell.column.balancer;
    let Some(command) = cell.row.command(balancer, &programs.drain_init, app) else {
        return Ok(None);
    };
    let file = cell.name().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let start_pod = |node: &Network, name: Name| {
        Pod::start(node, name, &command, &logs.join(format!("{file}-{}.log", name.text())))
    };

    let (node, clients) = (Network::new()?, Network::new()?);
    node.connect("clients", &clients, "10.245.0")?;
    forward(&node)?;
    let mut service = Service::start(cell.column.balancer, &node)?;
    let mut old = start_pod(&node, Name::Old)?;
    service.add(Name::Old)?;

    let address: SocketAddr = ADDRESS.parse()?;
    let load = Load::start(&clients, address, cell.column.traffic)?;
    sleep(ALONE);
    let _new = start_pod(&node, Name::New)?;
    service.add(Name::New)?;
    sleep(BOTH);

    let (stop, removed, stopped) = replace(cell, &mut service, &mut old)?;
    sleep(AFTER);
    let Stopped { sigterm, gone, status } = stopped;
    Ok(Some(Measured { requests: load.finish(), stop, sigterm, removed, gone, status }))
}

/// The two races of a stop: the kubelet stops the pod, and the balancer learns of it after the lag.
fn replace(
    cell: &Cell,
    service: &mut Service,
    old: &mut Pod,
) -> Result<(Instant, Instant, Stopped)> {
    let (lag, pre_stop) = (cell.column.lag, cell.row.pre_stop());
    if lag.is_zero() {
        service.remove(Name::Old)?;
        let removed = now();
        sleep(ON_ITS_WAY);
        return Ok((now(), removed, old.stop(pre_stop)?));
    }
    let stop = now();
    thread::scope(|scope| {
        let stopped = scope.spawn(|| old.stop(pre_stop));
        sleep_until(stop + lag);
        service.remove(Name::Old)?;
        let removed = now();
        Ok((stop, removed, stopped.join().expect("no panic")?))
    })
}

/// The node routes between the clients and the pods.
fn forward(node: &Network) -> Result<()> {
    node.within(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))
}
