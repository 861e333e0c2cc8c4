//! Inbound TIME_WAIT: the server closes first (TW-006); a client address runs out of ports (TW-007).

use std::net::{IpAddr, Ipv6Addr};

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{DEFAULT_PORTS, TIME_WAIT_SECONDS, at_least, share};
use super::outlook::is_loopback;
use super::text::{count, percent, thousands, unit_name};
use super::tuples::{CENSUS, KNEE_SHARE, NO_CENSUS};
use super::{Evidence, InboundPeer};
use crate::event::Endpoint;
use crate::lifecycle::Role;

/// TW-006: a service port is noticed at this share of the ports that one client address has.
const SERVICE_SHARE: f64 = 0.25;
/// TW-006: an address is a busy peer (a proxy, not a person) at this share of its ports.
const BUSY_PEER_SHARE: f64 = 0.05;
/// TW-006: "few addresses" means that busy peers make at least this share of the port's TIME_WAIT.
const MAJORITY: f64 = 0.5;

/// Both ends are on this host: its ports are counted at the client, where they are free once the server has closed.
fn is_here(local: Endpoint, peer: IpAddr) -> bool {
    is_loopback(peer) || IpAddr::from(Ipv6Addr::from(local.addr)).to_canonical() == peer.to_canonical()
}

/// TW-006: a service closes the connections of a few busy peers. Harmless (info) while they are on this host.
pub fn server_closes_first(e: &Evidence) -> Verdict {
    let time_wait = e.time_wait.as_ref().or_missing("TIME_WAIT sockets were not counted")?;
    let inbound = e.inbound.as_ref().or_missing("sockets per client address were not counted")?;
    let from = at_least(SERVICE_SHARE, DEFAULT_PORTS);
    let busy = at_least(BUSY_PEER_SHARE, DEFAULT_PORTS);
    let mut services: Vec<_> = (time_wait.makers.iter())
        .filter(|maker| maker.role == Role::Server && maker.sockets >= from)
        .filter_map(|maker| {
            let local = maker.endpoint?;
            let peers = inbound.iter().filter(|peer| peer.local == local && peer.time_wait >= busy);
            let (count, sum) = peers.fold((0_u64, 0), |(count, sum), peer| (count + 1, sum + peer.time_wait));
            (share(sum, maker.sockets) >= MAJORITY).then_some((maker, local, count, sum))
        })
        .collect();
    services.sort_by_key(|(maker, local, _, _)| (std::cmp::Reverse(maker.sockets), *local));
    services.sort_by_key(|(maker, local, _, _)| all_peers_here(inbound, *local, busy, maker.sockets));
    let Some(&(first, local, peers, by_peers)) = services.first() else { return Ok(None) };
    let all_here = all_peers_here(inbound, local, busy, first.sockets);
    Ok(Some(Finding {
        id: "TW-006",
        severity: if all_here { Severity::Info } else { Severity::Warning },
        title: format!(
            "{} on {local} closes first: {} in TIME_WAIT from {}",
            unit_name(&first.unit),
            thousands(first.sockets),
            if all_here { "this host itself".into() } else { count_addresses(peers) }
        ),
        whose: worst(&services, |(maker, local, peers, sum)| {
            format!(
                "{} (server) on {local}: {} from {} of {} in TIME_WAIT",
                unit_name(&maker.unit),
                thousands(*sum),
                count_addresses(*peers),
                thousands(maker.sockets)
            )
        }),
        why: {
            let cause = "The side that closes first keeps the TIME_WAIT. This service closes, after each request or at a low \
                         limit, while a few busy peers keep coming back.";
            let harm = if all_here {
                "They are on this host, so their ports are seen (TW-002, TW-003) and not short: no harm, only handshakes that \
                 could be saved."
            } else {
                "Here it takes no local port; but each peer has only its own range of ports for this address and port, and \
                 each connection costs it a handshake."
            };
            format!("{cause} {harm}")
        },
        measured: vec![
            Measured {
                name: "TIME_WAIT on the service port",
                value: first.sockets.into(),
                unit: "sockets",
                source: CENSUS,
            },
            Measured { name: "busy peer addresses", value: peers.into(), unit: "addresses", source: CENSUS },
            Measured { name: "TIME_WAIT from them", value: by_peers.into(), unit: "sockets", source: CENSUS },
            Measured {
                name: "closes by this side",
                value: (first.sockets as f64 / TIME_WAIT_SECONDS).into(),
                unit: "1/s",
                source: "computed: TIME_WAIT sockets / 60 s",
            },
        ],
        threshold: Threshold {
            value: from.into(),
            unit: "sockets",
            formula: format!(
                "{} of a peer's ports ({} assumed) on one service port, at least {} of it from peers with {} of theirs",
                percent(SERVICE_SHARE),
                thousands(DEFAULT_PORTS),
                percent(MAJORITY),
                percent(BUSY_PEER_SHARE)
            ),
        },
        fixes: vec![
            "turn on keep-alive between the peers and this service; raise its idle time and requests per connection"
                .into(),
            "let the client close first".into(),
        ],
        not_helpful: vec![
            "tcp_tw_reuse: only for outgoing connections".into(),
            "a wider ip_local_port_range here: inbound TIME_WAIT takes no local port".into(),
        ],
        verify: Verify {
            promql: "topk(5, synfin_time_wait_sockets{role=\"server\"})".into(),
            ss: format!("ss -Htan state time-wait src {local} | wc -l"),
        },
    }))
}

/// Without the peers on this host there would be too few.
fn all_peers_here(inbound: &[InboundPeer], local: Endpoint, busy: u64, sockets: u64) -> bool {
    let away =
        inbound.iter().filter(|peer| peer.local == local && peer.time_wait >= busy && !is_here(local, peer.peer));
    share(away.map(|peer| peer.time_wait).sum(), sockets) < MAJORITY
}

fn count_addresses(number: u64) -> String {
    match number {
        1 => "1 address".into(),
        _ => format!("{} addresses", thousands(number)),
    }
}

/// Sockets whose ports the client still holds.
///
/// TIME_WAIT here means that this side closed first: the client's port is free, and no hard limit is near, since Linux lets a new
/// SYN with a later timestamp or sequence number replace a TIME_WAIT socket (tcp_timewait_state_process). TW-006 tells of those.
fn held(peer: &InboundPeer) -> u64 {
    peer.sockets.saturating_sub(peer.time_wait)
}

/// TW-007: one client address uses much of the ports that it can have.
pub fn one_client_near_its_range(e: &Evidence) -> Verdict {
    let inbound = e.inbound.as_ref().or_missing(NO_CENSUS)?;
    let from = at_least(KNEE_SHARE, DEFAULT_PORTS);
    let here = |peer: &InboundPeer| is_here(peer.local, peer.peer);
    let mut over: Vec<&InboundPeer> = inbound.iter().filter(|peer| held(peer) >= from).collect();
    over.sort_by_key(|peer| (here(peer), std::cmp::Reverse(held(peer)), peer.peer, peer.local));
    let Some(first) = over.first() else { return Ok(None) };
    let harmless = here(first);
    Ok(Some(Finding {
        id: "TW-007",
        severity: if harmless { Severity::Info } else { Severity::Warning },
        title: if harmless {
            format!("client {} is this host: {} to {}", first.peer, count(held(first), "socket"), first.local)
        } else {
            let used = thousands(held(first));
            format!("client {} may run out of ports towards {}: {used} in use", first.peer, first.local)
        },
        whose: worst(&over, |peer| {
            format!(
                "{} (server) on {} from {}: {} that the client holds too, {} in TIME_WAIT",
                unit_name(&peer.unit),
                peer.local,
                peer.peer,
                count(held(peer), "socket"),
                thousands(peer.time_wait)
            )
        }),
        why: if harmless {
            "The client is on this host, so its ports are counted where they are taken: TW-002 and TW-003 would say if they \
             were short."
                .into()
        } else {
            "One address, often a load balancer or NAT, has only its own range of ports for this address and port. Its \
             connects slow down at half of the range and fail at the end of it. Ports that wait in TIME_WAIT at the client \
             come on top: they are not seen from here."
                .into()
        },
        measured: vec![
            Measured {
                name: "sockets from this address, less those in TIME_WAIT",
                value: held(first).into(),
                unit: "sockets",
                source: CENSUS,
            },
            Measured {
                name: "in TIME_WAIT here, their ports free at the client",
                value: first.time_wait.into(),
                unit: "sockets",
                source: CENSUS,
            },
            Measured {
                name: "share of its ports",
                value: share(held(first), DEFAULT_PORTS).into(),
                unit: "1",
                source: "computed: the peer's range cannot be seen, the Linux default is assumed",
            },
        ],
        threshold: Threshold {
            value: from.into(),
            unit: "sockets",
            formula: format!(
                "{} of {} ports, the default range; TIME_WAIT on this side not counted",
                percent(KNEE_SHARE),
                thousands(DEFAULT_PORTS)
            ),
        },
        fixes: vec![
            "keep-alive between the client and this service, and few connections that stay idle".into(),
            "more source addresses on the client".into(),
            "more listening addresses or ports here".into(),
        ],
        not_helpful: vec!["sysctls on this host: the ports are the client's".into()],
        verify: Verify {
            promql: "topk(5, synfin_tcp_unit_sockets{state=\"established\"})".into(),
            ss: format!("ss -Htan exclude time-wait src {} dst {} | wc -l", first.local, first.peer.to_canonical()),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule, inbound_peer, maker};
    use super::*;
    use crate::diagnose::TimeWait;
    use Expect::{Fires, Silent, Unchecked};

    #[test]
    fn a_service_that_closes_first_on_few_busy_peers_is_named() {
        let check = |name, role, on_port, peers: &[u64], expected| {
            check_rule(
                server_closes_first,
                name,
                |e| {
                    e.time_wait = Some(TimeWait { total: on_port, makers: vec![maker(role, Some(8080), on_port)] });
                    e.inbound = Some((1..).zip(peers).map(|(n, &tw)| inbound_peer(n, 8080, tw, tw)).collect());
                },
                expected,
            );
        };
        let warning = Fires(Severity::Warning);
        check("just below a quarter", Role::Server, 7057, &[7057], Silent);
        check("a quarter from one", Role::Server, 7058, &[7058], warning);
        check("a client's TIME_WAIT is no matter", Role::Client, 7058, &[7058], Silent);
        check("half from busy peers", Role::Server, 7058, &[1412, 2117], warning);
        check("less than half", Role::Server, 7058, &[1412, 2116], Silent);
        check("peers just below busy", Role::Server, 7058, &[1411, 1411, 1411, 1411, 1411], Silent);
        check("many people", Role::Server, 90_000, &[5; 100], Silent);
        check_rule(server_closes_first, "peers not counted", |e| e.inbound = None, Unchecked);
        check_rule(server_closes_first, "sockets not counted", |e| e.time_wait = None, Unchecked);
    }

    #[test]
    fn peers_on_this_host_are_told_without_alarm() {
        let check = |name, peer: &str, severity| {
            let peer: IpAddr = peer.parse().unwrap();
            let from = |time_wait| vec![InboundPeer { peer, ..inbound_peer(1, 8080, 12_000, time_wait) }];
            let makers = vec![maker(Role::Server, Some(8080), 12_000)];
            let set = |e: &mut Evidence| {
                (e.time_wait, e.inbound) = (Some(TimeWait { total: 12_000, makers }), Some(from(12_000)));
            };
            check_rule(server_closes_first, name, set, Fires(severity));
            check_rule(one_client_near_its_range, name, |e| e.inbound = Some(from(0)), Fires(severity));
        };
        check("another host", "10.0.1.1", Severity::Warning);
        check("loopback", "127.0.0.1", Severity::Info);
        check("mapped loopback", "::ffff:127.0.0.1", Severity::Info);
        check("the listener's own address", "10.0.0.9", Severity::Info);
    }

    #[test]
    fn a_client_address_is_near_its_range_when_it_holds_40_percent() {
        let check = |name, sockets, time_wait, expected| {
            let peers = vec![inbound_peer(1, 8080, sockets, time_wait), inbound_peer(2, 8080, 5, 5)];
            check_rule(one_client_near_its_range, name, |e| e.inbound = Some(peers), expected);
        };
        check("just below", 11_292, 0, Silent);
        check("40 %", 11_293, 0, Fires(Severity::Warning));
        check("all in TIME_WAIT here, so free at the client", 12_000, 12_000, Silent);
        check("TIME_WAIT beside, just below", 12_000, 708, Silent);
        check("TIME_WAIT beside", 12_000, 707, Fires(Severity::Warning));
        check_rule(one_client_near_its_range, "not counted", |e| e.inbound = None, Unchecked);
    }

    #[test]
    fn the_client_that_holds_most_is_named_not_the_one_with_most_in_time_wait() {
        let mut evidence = super::super::fixture::in_order();
        evidence.inbound = Some(vec![inbound_peer(1, 8080, 40_000, 28_000), inbound_peer(2, 8080, 13_000, 0)]);
        let finding = one_client_near_its_range(&evidence).unwrap().unwrap();
        assert!(
            finding.title.starts_with("client 10.0.1.2 ") && finding.title.ends_with("13,000 in use"),
            "{finding:?}"
        );
        assert_eq!(finding.measured[1].value, 0_u64.into());
    }
}
