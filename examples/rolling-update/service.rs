//! The Service as kube-proxy's nftables mode sets it up on a node: a chain that sends each new
//! connection to a random endpoint. Existing connections stay with their endpoint even when it is
//! removed, since the kernel tracks them.

use std::net::SocketAddr;

use crate::Result;
use crate::network::Network;
use crate::pod::Name;

/// The Service's cluster address.
pub const ADDRESS: &str = "10.96.0.1:80";

pub struct KubeProxy<'a> {
    node: &'a Network,
    endpoints: Vec<Name>,
}

impl<'a> KubeProxy<'a> {
    pub fn start(node: &'a Network) -> Result<Self> {
        let address: SocketAddr = ADDRESS.parse()?;
        let (ip, port) = (address.ip(), address.port());
        let endpoint = |name: Name| {
            let (name, address) = (name.text(), name.address());
            format!(
                "add chain ip kube-proxy endpoint-{name}\n\
                 add rule ip kube-proxy endpoint-{name} meta l4proto tcp dnat to {address}\n"
            )
        };
        node.nft(&format!(
            "add table ip kube-proxy\n\
             {}{}\
             add chain ip kube-proxy service\n\
             add chain ip kube-proxy services {{ type nat hook prerouting priority dstnat; }}\n\
             add rule ip kube-proxy services ip daddr {ip} tcp dport {port} goto service\n",
            endpoint(Name::Old),
            endpoint(Name::New)
        ))?;
        Ok(Self { node, endpoints: Vec::new() })
    }

    pub fn add(&mut self, name: Name) -> Result<()> {
        self.endpoints.push(name);
        self.sync()
    }

    pub fn remove(&mut self, name: Name) -> Result<()> {
        self.endpoints.retain(|endpoint| *endpoint != name);
        self.sync()
    }

    /// In one transaction: there is no moment without a rule.
    fn sync(&self) -> Result<()> {
        let choices: Vec<String> = (self.endpoints.iter().enumerate())
            .map(|(number, name)| format!("{number} : goto endpoint-{}", name.text()))
            .collect();
        self.node.nft(&format!(
            "flush chain ip kube-proxy service\n\
             add rule ip kube-proxy service numgen random mod {} vmap {{ {} }}\n",
            choices.len(),
            choices.join(", ")
        ))
    }
}
