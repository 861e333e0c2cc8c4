//! Accepted connections by local endpoint and peer address: which clients use up their own ports.

use super::majority::Majority;
use super::top::{Tally, Top, TopK};
use crate::event::{Endpoint, NetnsId};

/// The key of [`PeerTally`]: namespace, local endpoint and the peer's address.
pub type PeerKey = (NetnsId, Endpoint, [u8; 16]);

/// What is known of the connections of one peer to one local endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTally<U> {
    /// In all states.
    pub sockets: u64,
    pub time_wait: u64,
    pub unit: Majority<U>,
}

impl<U: PartialEq + Default> Tally for PeerTally<U> {
    fn weight(&self) -> u64 {
        self.sockets
    }
    fn add(&mut self, other: Self) {
        self.sockets += other.sockets;
        self.time_wait += other.time_wait;
        self.unit.add(other.unit);
    }
}

/// Counts the accepted connections of one census.
pub struct Inbound<U>(TopK<PeerKey, PeerTally<U>>);

impl<U: PartialEq + Default> Inbound<U> {
    /// `capacity`: (local endpoint, peer) pairs held at once.
    pub fn new(capacity: usize) -> Self {
        Self(TopK::new(capacity))
    }

    /// Counts one socket of role server.
    pub fn add(&mut self, key: PeerKey, time_wait: bool, unit: Option<U>) {
        let tally = PeerTally { sockets: 1, time_wait: u64::from(time_wait), unit: Majority::of(unit) };
        self.0.add(key, tally);
    }

    /// The `k` busiest.
    pub fn finish(self, k: usize) -> Top<PeerKey, PeerTally<U>> {
        self.0.finish(k)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::mapped;

    #[test]
    fn peers_are_counted_by_address_not_by_port() {
        let local = |port| Endpoint { addr: mapped(Ipv4Addr::LOCALHOST), port };
        let peer = |host| mapped(Ipv4Addr::new(10, 0, 0, host));
        let mut inbound = Inbound::new(16);
        for (port, host, time_wait) in [(80, 1, true), (80, 1, false), (80, 2, true), (81, 1, true)] {
            inbound.add((NetnsId(1), local(port), peer(host)), time_wait, Some('u'));
        }
        let top = inbound.finish(1);
        let unit = Majority::of(Some('u'));
        let mut two = unit.clone();
        two.add(unit);
        assert_eq!(
            top.entries,
            [((NetnsId(1), local(80), peer(1)), PeerTally { sockets: 2, time_wait: 1, unit: two })]
        );
        assert_eq!((top.other, top.total, top.folded), (2, 4, 2));
    }
}
