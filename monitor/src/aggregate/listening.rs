//! Roles of connections older than the daemon, from the listening ports of their namespace.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::ports::EphemeralRange;
use crate::event::{Endpoint, NetnsId, Tuple, mapped};
use crate::lifecycle::Role;

/// The listening sockets of a census.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    bound: HashSet<(NetnsId, Endpoint), RandomState>,
    /// Listeners on all addresses. One on `::` is taken to serve IPv4 as well.
    any: HashSet<(NetnsId, u16), RandomState>,
}

impl Listening {
    pub fn add(&mut self, netns: NetnsId, local: Endpoint) {
        if local.addr == [0; 16] || local.addr == mapped(std::net::Ipv4Addr::UNSPECIFIED) {
            self.any.insert((netns, local.port));
        } else {
            self.bound.insert((netns, local));
        }
    }

    fn serves(&self, netns: NetnsId, local: Endpoint) -> bool {
        self.any.contains(&(netns, local.port)) || self.bound.contains(&(netns, local))
    }

    /// The role of a connection whose opening was not seen; [`Role::Unknown`] where it is not certain.
    ///
    /// A local port that is listened on was not chosen by connect(). A local port that connect() may choose, without a
    /// listener and towards a port that it may not choose, was. The rest could be either: the listener may be gone.
    pub fn role_of(&self, netns: NetnsId, tuple: &Tuple, range: Option<&EphemeralRange>) -> Role {
        let here = self.serves(netns, tuple.source());
        let there = self.serves(netns, tuple.destination());
        // Only then are the listeners of this namespace the other end's as well.
        let same_host = tuple.saddr == tuple.daddr;
        let chosen = |port| range.is_some_and(|range| range.contains(port));
        match (here, there) {
            (true, true) => Role::Unknown,
            (true, false) => Role::Server,
            (false, true) if same_host => Role::Client,
            (false, _) if chosen(tuple.sport) && !chosen(tuple.dport) => Role::Client,
            (false, _) => Role::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::Family;

    #[test]
    fn a_role_is_told_only_where_it_is_certain() {
        const HERE: NetnsId = NetnsId(1);
        let addr = |host| mapped(Ipv4Addr::new(10, 0, 0, host));
        let range = EphemeralRange::parse("32768 60999", "").unwrap();
        let mut listening = Listening::default();
        listening.add(HERE, Endpoint { addr: [0; 16], port: 80 });
        listening.add(HERE, Endpoint { addr: mapped(Ipv4Addr::UNSPECIFIED), port: 81 });
        listening.add(HERE, Endpoint { addr: addr(1), port: 82 });
        listening.add(HERE, Endpoint { addr: addr(1), port: 45_000 });
        let check = |name, sport, (peer, dport), role| {
            let tuple = Tuple { family: Family::Inet, saddr: addr(1), daddr: addr(peer), sport, dport };
            assert_eq!(listening.role_of(HERE, &tuple, Some(&range)), role, "{name}");
        };
        check("a port listened on over IPv6 any", 80, (9, 50_000), Role::Server);
        check("a port listened on over IPv4 any", 81, (9, 50_000), Role::Server);
        check("a port listened on at this address", 82, (9, 50_000), Role::Server);
        check("a listener inside the range", 45_000, (9, 50_000), Role::Server);
        check("both ends listen", 80, (1, 82), Role::Unknown);
        check("towards a listener on this host", 50_000, (1, 45_000), Role::Client);
        check("an ephemeral port towards a service", 50_000, (9, 443), Role::Client);
        check("ephemeral on both ends: the listener may be gone", 50_000, (9, 50_001), Role::Unknown);
        check("no ephemeral port", 900, (9, 443), Role::Unknown);
        let tuple = Tuple { family: Family::Inet, saddr: addr(1), daddr: addr(9), sport: 80, dport: 50_000 };
        assert_eq!(
            listening.role_of(NetnsId(2), &tuple, Some(&range)),
            Role::Unknown,
            "listeners of another namespace"
        );
        assert_eq!(listening.role_of(HERE, &tuple, None), Role::Server, "a listener tells without the range");
    }
}
