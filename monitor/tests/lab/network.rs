//! Two hosts and a network between them that delays and loses packets as it is told to (`sch_netem`).
//!
//! The network is a namespace of its own and forwards: what is lost or late in it has been sent by the one host and has not
//! arrived at the other, so that a capture on a host's own device sees what the host's kernel saw.

use super::netns::Netns;
use super::place;
use std::net::Ipv4Addr;

/// Device of either host.
pub const DEVICE: &str = "veth0";

pub struct Network {
    pub client: Netns,
    pub server: Netns,
    between: Netns,
}

impl Network {
    pub fn new() -> Self {
        let network = Self { client: Netns::new(), server: Netns::new(), between: Netns::new() };
        network.between.sysctl("net.ipv4.ip_forward", "1");
        network.join(&network.client, 1);
        network.join(&network.server, 2);
        network
    }

    /// Address of the server.
    pub fn server_address() -> Ipv4Addr {
        host_address(2)
    }

    /// Connects `host` by a veth pair. Neighbours are written down: requests for them would be lost like other packets.
    fn join(&self, host: &Netns, number: u8) {
        let (inside, address, gateway) = (device(number), host_address(number), gateway_address(number));
        let (host_mac, gateway_mac) = (format!("02:00:00:00:{number:02}:01"), format!("02:00:00:00:{number:02}:02"));
        host.ip(&format!(
            "link add {DEVICE} address {host_mac} type veth peer name {inside} address {gateway_mac} netns {}",
            self.between.path()
        ));
        for (netns, name, address) in [(host, DEVICE, address), (&self.between, &inside, gateway)] {
            netns.ip(&format!("addr add {address}/24 dev {name}"));
            netns.ip(&format!("link set {name} up"));
        }
        host.ip(&format!("neigh add {gateway} lladdr {gateway_mac} dev {DEVICE} nud permanent"));
        self.between.ip(&format!("neigh add {address} lladdr {host_mac} dev {inside} nud permanent"));
        host.ip(&format!("route add 10.{}.0.0/16 via {gateway}", place::octet()));
    }

    /// Does `netem` (`delay 50ms loss 2%`) to what the network hands either host, from now on.
    ///
    /// # Errors
    /// The kernel has no `sch_netem`.
    pub fn impair(&self, netem: &str) -> Result<(), String> {
        for number in [1, 2] {
            let line = format!("tc qdisc replace dev {} root netem {netem} limit 10000", device(number));
            let output = self.between.try_command(&line);
            let said = String::from_utf8_lossy(&output.stderr);
            if said.contains("qdisc kind is unknown") {
                return Err("this kernel has no sch_netem".to_owned());
            }
            assert!(output.status.success(), "`{line}`: {said}");
        }
        Ok(())
    }
}

fn device(number: u8) -> String {
    format!("net{number}")
}

fn host_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, place::octet(), number, 1)
}

fn gateway_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, place::octet(), number, 2)
}
