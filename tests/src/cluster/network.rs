//! The node's own network: a bridge for pods, and one link to the machine.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail};

use super::process::{output, run};
use crate::wait::eventually;

/// Address of the bridge, which is the node's address.
pub const BRIDGE: &str = "10.88.0.1";
/// Addresses of Services.
const SERVICES: &str = "10.96.0.0/16";
/// Most nodes that run on one machine at the same time.
const LINKS: u8 = 250;

/// The link between the machine and one node: `relayN`, at 198.18.N.1 here and 198.18.N.2 there.
///
/// The range 198.18.0.0/15 is for measuring devices (RFC 2544), so that no real network has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uplink(u8);

impl Uplink {
    /// Makes the first link that no other node has, from here into the network of a process.
    ///
    /// # Errors
    ///
    /// If none can be made.
    pub fn make(process: u32) -> Result<Self> {
        let mut refused = String::new();
        for link in (0..LINKS).map(Self) {
            let name = link.name();
            let peer = format!("type veth peer name uplink netns {process}");
            let made =
                output(Command::new("ip").args(["link", "add", &name]).args(peer.split(' ')));
            match made {
                Ok(_) => {
                    let address = format!("{}/30", link.machine_address());
                    run(Command::new("ip").args(["address", "add", &address, "dev", &name]))?;
                    run(Command::new("ip").args(["link", "set", &name, "up"]))?;
                    return Ok(link);
                }
                Err(error) if error.to_string().contains("File exists") => {}
                Err(error) => return Err(error),
            }
            refused = name;
        }
        bail!("all links up to {refused} are taken")
    }

    /// As it was written down by [`number`](Self::number).
    ///
    /// # Errors
    ///
    /// If that is no number.
    pub fn parse(number: &str) -> Result<Self> {
        Ok(Self(number.trim().parse()?))
    }

    /// What sets it apart from those of other nodes.
    #[must_use]
    pub fn number(self) -> String {
        self.0.to_string()
    }

    /// Where a node finds the machine.
    #[must_use]
    pub fn machine_address(self) -> IpAddr {
        Ipv4Addr::new(198, 18, self.0, 1).into()
    }

    /// Where the machine finds the node: its API server at port 6443, and ports of Services.
    #[must_use]
    pub fn node_address(self) -> IpAddr {
        Ipv4Addr::new(198, 18, self.0, 2).into()
    }

    fn name(self) -> String {
        format!("relay{}", self.0)
    }

    /// Waits until it is gone with the network of its node, which the kernel removes a moment after the last process.
    pub fn wait_until_gone(self) {
        let path = format!("/sys/class/net/{}", self.name());
        eventually(Duration::from_secs(30), "the link is gone", || !Path::new(&path).exists());
    }
}

/// Sets the network up, inside of it.
///
/// # Errors
///
/// If the kernel has no bridges.
pub fn set_up(uplink: Uplink) -> Result<()> {
    let outside = format!("{}/30", uplink.node_address());
    let bridge = format!("{BRIDGE}/16");
    for words in [
        "link set lo up",
        "link add cni0 type bridge",
        &format!("address add {bridge} dev cni0"),
        "link set cni0 up",
        &format!("address add {outside} dev uplink"),
        "link set uplink up",
        // The API server calls webhooks at addresses of Services, which are translated once they have a way to go.
        &format!("route add {SERVICES} dev cni0"),
    ] {
        run(Command::new("ip").args(words.split(' ')))?;
    }
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    // Answers between two pods of the bridge go the way back through the rules that chose the pod. Absent without the kernel's br_netfilter.
    drop(std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1"));
    Ok(())
}
