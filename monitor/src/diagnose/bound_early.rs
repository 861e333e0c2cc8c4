//! Ports that bind() reserved for all destinations: TW-004.

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{at_least, expected_distinct_ports, share};
use super::port_advice::not_helpful;
use super::text::{count, in_namespace, inside, percent, thousands, unit_name};
use super::tuples::{CENSUS, KNEE_SHARE, NO_POOL};
use super::{Evidence, SourceUse};

/// No destination may hold more than this, so that at least four share the ports. Ports picked by connect() for four
/// destinations or more hardly ever avoid each other by chance; for two they may.
const SMALL_SHARE: f64 = 0.1;
/// Of the ports that chance would share, no more than this may be: a few are, where some of the connections bind and others do not.
const SHARED_SHARE: f64 = 0.25;

/// Sockets less distinct ports.
fn shared(source: &SourceUse) -> u64 {
    source.sockets.saturating_sub(source.distinct_ports)
}

/// The same had connect() picked each of the ports at random: n - P (1 - exp(-n / P)).
fn shared_by_chance(source: &SourceUse, ports: u64) -> f64 {
    source.sockets as f64 - expected_distinct_ports(ports, source.sockets)
}

/// TW-004: ports reserved for all destinations at once.
///
/// The kernel shows no flag for it, and a bind() that fails makes no state change, so the sign is indirect: ports that
/// connect() picks are shared between destinations, ports that bind() picked are not.
pub fn bound_early(e: &Evidence) -> Verdict {
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let sources = e.sources.as_ref().or_missing("ports in use per source address are not known: no census")?;
    let mut over: Vec<&SourceUse> = (sources.iter())
        .filter(|source| {
            let ports = source.ports_available.unwrap_or(ports);
            source.distinct_ports >= at_least(KNEE_SHARE, ports).max(1)
                && source.busiest_destination <= at_least(SMALL_SHARE, ports)
                && shared(source) as f64 <= SHARED_SHARE * shared_by_chance(source, ports)
        })
        .collect();
    over.sort_by_key(|source| (std::cmp::Reverse(source.distinct_ports), source.source));
    let Some(first) = over.first() else { return Ok(None) };
    let ports = first.ports_available.unwrap_or(ports);
    let from = at_least(KNEE_SHARE, ports).max(1);
    Ok(Some(Finding {
        id: "TW-004",
        severity: Severity::Warning,
        title: format!(
            "{} uses up {} of its local ports on many small destinations",
            first.source,
            percent(share(first.distinct_ports, ports))
        ),
        whose: worst(&over, |source| {
            format!(
                "{} (client) from {}: {}, {} shared between destinations{}",
                unit_name(&source.unit),
                source.source,
                count(source.distinct_ports, "port"),
                if shared(source) == 0 { "none".into() } else { thousands(shared(source)) },
                in_namespace(source.namespace.as_ref())
            )
        }),
        why: "Hardly a port serves two destinations, so most were probably reserved by bind() with port 0 before connect(): \
              such a port is taken for all destinations. A bind() that fails for it cannot be seen from here."
            .into(),
        measured: vec![
            Measured { name: "ports in use", value: first.distinct_ports.into(), unit: "ports", source: CENSUS },
            Measured { name: "sockets on them", value: first.sockets.into(), unit: "sockets", source: CENSUS },
            Measured { name: "shared", value: shared(first).into(), unit: "ports", source: "computed: sockets - ports" },
            Measured {
                name: "that would be shared had connect() picked them",
                value: (shared_by_chance(first, ports).round() as u64).into(),
                unit: "ports",
                source: "computed: n - P (1 - exp(-n / P))",
            },
            Measured {
                name: "ports towards the busiest destination",
                value: first.busiest_destination.into(),
                unit: "ports",
                source: CENSUS,
            },
        ],
        threshold: Threshold {
            value: from.into(),
            unit: "ports",
            formula: format!(
                "{} of P over all destinations, at most {} of P for one, and at most {} of those shared that chance would \
                 share, n - P (1 - exp(-n / P))",
                percent(KNEE_SHARE),
                percent(SMALL_SHARE),
                percent(SHARED_SHARE)
            ),
        },
        fixes: vec![
            "set IP_BIND_ADDRESS_NO_PORT on the socket before bind(); proxies do it in their source-address setting".into(),
            "drop the explicit source address where routing picks the same one".into(),
            "keep connections open or use a pool".into(),
        ],
        not_helpful: not_helpful(),
        verify: Verify {
            promql: "sum by (source) (synfin_ephemeral_ports_used)".into(),
            ss: inside(
                first.namespace.as_ref(),
                &format!("ss -Htan src {} | awk '{{print $4}}' | sort -u | wc -l", first.source),
            ),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule, in_order, source};
    use super::*;
    use Expect::{Fires, Silent, Unchecked};

    #[test]
    fn ports_hardly_shared_between_many_destinations_were_bound_early() {
        let check = |name, sockets, distinct, busiest, expected| {
            check_rule(bound_early, name, |e| e.sources = Some(vec![source(sockets, distinct, busiest)]), expected);
        };
        check("40 % of P, none shared", 11_293, 11_293, 2824, Fires(Severity::Warning));
        check("just below 40 %", 11_292, 11_292, 2000, Silent);
        check("one port is shared", 11_294, 11_293, 2000, Fires(Severity::Warning));
        check("a quarter of what chance would share", 11_834, 11_293, 2000, Fires(Severity::Warning));
        check("more than a quarter", 11_835, 11_293, 2000, Silent);
        check("one destination holds more than a tenth", 11_293, 11_293, 2825, Silent);
        let narrow = |name, sockets, distinct, expected| {
            let source = SourceUse { ports_available: Some(1000), ..source(sockets, distinct, 90) };
            check_rule(bound_early, name, |e| e.sources = Some(vec![source]), expected);
        };
        narrow("460 bound early", 460, 460, Fires(Severity::Warning));
        narrow("and 80 that connect() picked beside", 540, 535, Fires(Severity::Warning));
        narrow("a quarter of 123 shared", 540, 510, Fires(Severity::Warning));
        narrow("more", 540, 509, Silent);
        narrow("540 that connect() picked", 540, 417, Silent);
        check_rule(bound_early, "sources not counted", |e| e.sources = None, Unchecked);
        check_rule(bound_early, "range not known", |e| e.ports_available = None, Unchecked);
    }
    #[test]
    fn how_many_are_shared_is_said() {
        let check = |sockets, distinct, words: &str| {
            let evidence = Evidence { sources: Some(vec![source(sockets, distinct, 2000)]), ..in_order() };
            let said = bound_early(&evidence).unwrap().unwrap().whose;
            assert_eq!(
                said,
                [format!("proxy.service (client) from 10.0.0.5: 12,000 ports, {words} between destinations")]
            );
        };
        check(12_000, 12_000, "none shared");
        check(12_005, 12_000, "5 shared");
    }
}
