//! How long a handshake took, or why nobody can tell.

use super::{Bounded, HandshakeTime, Unmeasured};
use crate::event::{KernelTime, NetnsId, Open, SynackRetransmit, Tuple};

/// Requests whose SYN-ACK was retransmitted, waiting for their child. Rare: 16,384 of them is 1.2 MiB.
const SYNACKS_LIMIT: usize = 16_384;
/// A request that has not been retransmitted for so long is gone: with the default 5 retries its last timer, at most 120 s
/// (TCP_RTO_MAX), has run out.
const SYNACK_LIFE_NS: u64 = 130_000_000_000;

/// Client: SYN sent → ESTABLISHED. `started_at`: entry into SYN_SENT, if seen; `seeded`: the census found it in SYN_SENT.
pub fn client_handshake(
    at: KernelTime,
    started_at: Option<KernelTime>,
    seeded: bool,
    simultaneous: bool,
    open: &Open,
) -> HandshakeTime {
    // Exact whenever the SYN left at once, retransmissions included.
    if let (Some(started_at), false) = (started_at, open.fast_open) {
        return match at.since(started_at) {
            Some(ns) => HandshakeTime::Measured(ns),
            None => HandshakeTime::Unmeasured(Unmeasured::EventLost),
        };
    }
    // The kernel's own sample, SYN → SYN-ACK, true if neither was repeated. In a simultaneous open it is that of our SYN-ACK.
    match open.srtt_us {
        Some(us) if open.total_retrans == 0 && !simultaneous => HandshakeTime::Measured(u64::from(us) * 1000),
        Some(_) | None if started_at.is_some() => HandshakeTime::Unmeasured(Unmeasured::NoSample),
        Some(_) | None if seeded => HandshakeTime::Unmeasured(Unmeasured::Preexisting),
        Some(_) | None => HandshakeTime::Unmeasured(Unmeasured::EventLost),
    }
}

/// Server: first SYN-ACK sent → final ACK. `first_synack_at` is asked only for a handshake with retransmissions.
pub fn server_handshake(
    at: KernelTime,
    open: &Open,
    first_synack_at: impl FnOnce() -> Option<KernelTime>,
) -> HandshakeTime {
    if open.total_retrans > 0 {
        // The sample is of the last exchange only.
        return match first_synack_at().and_then(|first| at.since(first)) {
            Some(ns) => HandshakeTime::Measured(ns),
            None => HandshakeTime::Unmeasured(Unmeasured::SynackRetransmitted),
        };
    }
    match open.srtt_us {
        // A cookie cannot open a Fast Open child.
        Some(us) if us % 1000 == 0 && !open.fast_open => HandshakeTime::Suspect(u64::from(us)),
        Some(us) => HandshakeTime::Measured(u64::from(us) * 1000),
        None if open.fast_open => HandshakeTime::Unmeasured(Unmeasured::NoSample),
        // Without a repeated SYN-ACK only a cookie without timestamps leaves no sample.
        None => HandshakeTime::Unmeasured(Unmeasured::SynCookie),
    }
}

/// Without the family: the request of an IPv4 peer on an IPv6 listener may name the one, its child the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    netns: NetnsId,
    saddr: [u8; 16],
    daddr: [u8; 16],
    sport: u16,
    dport: u16,
}

impl Flow {
    fn new(netns: NetnsId, tuple: &Tuple) -> Self {
        Self { netns, saddr: tuple.saddr, daddr: tuple.daddr, sport: tuple.sport, dport: tuple.dport }
    }
}

#[derive(Clone, Copy, Debug)]
struct Synack {
    last_at: KernelTime,
    first_at: Option<KernelTime>,
}

impl Synack {
    fn is_gone(&self, now: KernelTime) -> bool {
        now.since(self.last_at).is_some_and(|age| age > SYNACK_LIFE_NS)
    }
}

/// When the first SYN-ACK of each retransmitted request left.
#[derive(Clone, Debug)]
pub struct Synacks {
    requests: Bounded<Flow, Synack>,
}

impl Default for Synacks {
    fn default() -> Self {
        Self { requests: Bounded::new(SYNACKS_LIMIT) }
    }
}

impl Synacks {
    pub fn handle_retransmit(&mut self, event: &SynackRetransmit) {
        while self.requests.oldest().is_some_and(|(_, synack)| synack.is_gone(event.at)) {
            self.requests.remove_oldest();
        }
        let synack = Synack { last_at: event.at, first_at: event.first_synack_at };
        self.requests.insert(Flow::new(event.netns, &event.tuple), synack);
    }

    /// Time of the first SYN-ACK of the request that became this child; forgets it.
    pub fn take(&mut self, now: KernelTime, netns: NetnsId, tuple: &Tuple) -> Option<KernelTime> {
        let synack = self.requests.remove(&Flow::new(netns, tuple))?;
        if synack.is_gone(now) { None } else { synack.first_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Family;
    use crate::lifecycle::samples::{self, OPEN};

    const MS: u64 = 1_000_000;

    #[test]
    fn clients_are_timed_from_their_syn() {
        let check = |started_ms: Option<u64>, seeded, simultaneous, open, expected| {
            let started_at = started_ms.map(|ms| KernelTime(ms * MS));
            assert_eq!(
                client_handshake(KernelTime(1000 * MS), started_at, seeded, simultaneous, &open),
                expected,
                "{open:?}"
            );
        };
        use HandshakeTime::{Measured, Unmeasured as Not};
        let srtt = Open { srtt_us: Some(138), ..OPEN };
        let repeated = Open { total_retrans: 1, ..srtt };

        check(Some(700), false, false, srtt, Measured(300 * MS));
        check(Some(700), false, true, srtt, Measured(300 * MS));
        check(Some(700), false, false, repeated, Measured(300 * MS));
        check(Some(700), false, false, Open { fast_open: true, ..srtt }, Measured(138_000));
        check(Some(700), false, false, Open { fast_open: true, ..repeated }, Not(Unmeasured::NoSample));
        check(Some(700), false, false, Open { fast_open: true, ..OPEN }, Not(Unmeasured::NoSample));
        check(Some(1001), false, false, srtt, Not(Unmeasured::EventLost));
        check(None, false, false, srtt, Measured(138_000));
        check(None, false, true, srtt, Not(Unmeasured::EventLost));
        check(None, false, false, repeated, Not(Unmeasured::EventLost));
        check(None, true, false, repeated, Not(Unmeasured::Preexisting));
        check(None, true, false, OPEN, Not(Unmeasured::Preexisting));
    }

    #[test]
    fn servers_are_timed_from_their_first_synack() {
        let check = |first_ms: Option<u64>, open, expected| {
            let first = || first_ms.map(|ms| KernelTime(ms * MS));
            assert_eq!(server_handshake(KernelTime(2000 * MS), &open, first), expected, "{open:?}");
        };
        use HandshakeTime::{Measured, Suspect, Unmeasured as Not};
        let srtt = |us| Open { srtt_us: Some(us), ..OPEN };

        check(None, srtt(31), Measured(31_000));
        check(None, srtt(1001), Measured(1_001_000));
        check(None, srtt(40_000), Suspect(40_000));
        check(None, Open { fast_open: true, ..srtt(40_000) }, Measured(40 * MS));
        check(None, Open { fast_open: true, ..OPEN }, Not(Unmeasured::NoSample));
        check(None, OPEN, Not(Unmeasured::SynCookie));
        check(Some(983), Open { total_retrans: 2, ..srtt(1000) }, Measured(1017 * MS));
        check(None, Open { total_retrans: 2, ..srtt(1000) }, Not(Unmeasured::SynackRetransmitted));
        check(Some(2001), Open { total_retrans: 1, ..srtt(1000) }, Not(Unmeasured::SynackRetransmitted));
    }

    #[test]
    fn requests_are_remembered_once_and_not_forever() {
        let event = |at_s: u64, sport| SynackRetransmit {
            at: KernelTime(at_s * 1000 * MS),
            netns: samples::NETNS,
            tuple: samples::tuple(sport),
            num_retrans: 0,
            first_synack_at: Some(KernelTime((at_s - 1) * 1000 * MS)),
        };
        let take = |synacks: &mut Synacks, at_s: u64, tuple| {
            synacks.take(KernelTime(at_s * 1000 * MS), samples::NETNS, &tuple)
        };
        let mut synacks = Synacks::default();

        synacks.handle_retransmit(&event(10, 1));
        let other_family = Tuple { family: Family::Inet6, ..samples::tuple(1) };
        assert_eq!(take(&mut synacks, 11, other_family), Some(KernelTime(9000 * MS)));
        assert_eq!(take(&mut synacks, 11, samples::tuple(1)), None);

        synacks.handle_retransmit(&event(20, 2));
        assert_eq!(take(&mut synacks, 151, samples::tuple(2)), None, "too old");

        synacks.handle_retransmit(&event(200, 3));
        synacks.handle_retransmit(&event(331, 4));
        assert_eq!(synacks.requests.len(), 1, "the old one makes room");

        for sport in 0..=u16::MAX {
            synacks.handle_retransmit(&event(400, sport));
        }
        assert_eq!(synacks.requests.len(), SYNACKS_LIMIT);
    }
}
