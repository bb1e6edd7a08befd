//! HAProxy in front of the pods, set up like an ingress controller's: it routes to the pods' own
//! addresses, and endpoints are added and removed through its runtime API.
//!
//! An endpoint is removed by `set server ... state maint`, as ingress controllers do: from then on
//! no request is routed there, while those in flight may finish. (`drain` would be the same here,
//! and differs for requests with a persistence cookie.)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::clock::{becomes_true, now};
use crate::network::Network;
use crate::plan::Retries;
use crate::pod::Name;
use crate::service::ADDRESS;

/// Only inside the node's own namespace.
const RUNTIME_API: &str = "127.0.0.1:9999";
const START: Duration = Duration::from_secs(10);

pub struct HaProxy<'a> {
    node: &'a Network,
    process: Child,
}

impl<'a> HaProxy<'a> {
    pub fn start(node: &'a Network, http_reuse: &str, retries: Retries) -> Result<Self> {
        let address: SocketAddr = ADDRESS.parse()?;
        node.ip(&format!("link set lo up\naddress add {}/32 dev lo\n", address.ip()))?;
        let process = node.within(|| {
            let mut process = Command::new("haproxy")
                .args(["-q", "-f", "/dev/stdin"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()?;
            let mut stdin = process.stdin.take().expect("it is piped");
            stdin.write_all(configuration(http_reuse, retries).as_bytes())?;
            Ok(process)
        })?;
        let proxy = HaProxy { node, process };
        proxy.wait_until_ready(address)?;
        Ok(proxy)
    }

    fn wait_until_ready(&self, address: SocketAddr) -> Result<()> {
        let accepts = || TcpStream::connect(address).is_ok();
        match self.node.within(|| Ok(becomes_true(now() + START, accepts)))? {
            true => Ok(()),
            false => Err("haproxy does not start".into()),
        }
    }

    pub fn add(&mut self, name: Name) -> Result<()> {
        self.ask(&format!("set server pods/{} state ready", name.text()))
    }

    pub fn remove(&mut self, name: Name) -> Result<()> {
        self.ask(&format!("set server pods/{} state maint", name.text()))
    }

    /// HAProxy answers with an empty line if it has done the command, otherwise with a reason.
    fn ask(&self, command: &str) -> Result<()> {
        let answer = self.node.within(|| {
            let mut api = TcpStream::connect(RUNTIME_API)?;
            api.write_all(format!("{command}\n").as_bytes())?;
            let mut answer = String::new();
            api.read_to_string(&mut answer)?;
            Ok(answer)
        })?;
        match answer.trim() {
            "" => Ok(()),
            why => Err(format!("haproxy: {command}: {why}").into()),
        }
    }
}

impl Drop for HaProxy<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// There are no health checks: the removal of an endpoint is measured, and checks would notice by
/// themselves that a pod has ended.
fn configuration(http_reuse: &str, retries: Retries) -> String {
    let retries = match retries {
        Retries::Redispatch => "option redispatch",
        Retries::None => "retries 0",
    };
    let server = |name: Name| format!("    server {} {} disabled\n", name.text(), name.address());
    format!(
        "global\n    \
             stats socket ipv4@{RUNTIME_API} level admin\n\
         defaults\n    \
             mode http\n    \
             {retries}\n    \
             timeout connect 5s\n    \
             timeout client 50s\n    \
             timeout server 50s\n\
         frontend service\n    \
             bind {ADDRESS}\n    \
             default_backend pods\n\
         backend pods\n    \
             balance roundrobin\n    \
             http-reuse {http_reuse}\n\
         {}{}",
        server(Name::Old),
        server(Name::New)
    )
}
