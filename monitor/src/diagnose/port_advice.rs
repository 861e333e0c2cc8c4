//! What to do when local ports towards one destination are short, and what does not help.

use super::formulas::tuples_needed;
use super::text::{in_namespace, inside, thousands, unit_name};
use super::{Evidence, NamespaceName, TupleUse};

/// Closed connections hold most of the ports, not open ones.
pub fn is_churn(tuple: &TupleUse) -> bool {
    tuple.time_wait >= tuple.used.div_ceil(2)
}

/// For a tuple with `ports` to choose from, in its namespace.
pub fn fixes(tuple: &TupleUse, ports: u64) -> Vec<String> {
    let mut fixes = general_fixes(&tuple.unit, tuple.namespace.as_ref());
    if !is_churn(tuple) {
        fixes[0] = format!("bound the number of open connections{}: a pool of fixed size, and close idle ones", {
            in_unit(&tuple.unit)
        });
        fixes.retain(|fix| !fix.contains("tcp_tw_reuse"));
    }
    let needed = tuple.opens_per_second.and_then(|rate| Some((rate, tuples_needed(rate, ports)?)));
    if let Some((rate, needed @ 2..)) = needed {
        fixes[1] = format!(
            "more destination or source addresses: {} connects/s need {} (source, destination, port) combinations = \
             ceil(rate x 60 / (P / 2))",
            thousands(rate.round() as u64),
            thousands(needed)
        );
    }
    fixes
}

/// Where nothing is known of the tuple but who connects.
pub fn general_fixes(unit: &str, namespace: Option<&NamespaceName>) -> Vec<String> {
    vec![
        format!("keep connections open{}: HTTP keep-alive, or a connection pool", in_unit(unit)),
        "more addresses: each (source, destination, port) has its own P ports".into(),
        format!(
            "widen net.ipv4.ip_local_port_range{}, after listing the ports your services listen on in \
             net.ipv4.ip_local_reserved_ports",
            in_namespace(namespace)
        ),
        format!("{}: connect() may take over a port after 1 s", reuse(namespace)),
        "set IP_LOCAL_PORT_RANGE in the application (Linux 6.8 and later): then connect() tries all ports in one go"
            .into(),
    ]
}

/// The switch that lets connect() take over ports in TIME_WAIT, in that namespace.
pub fn reuse(namespace: Option<&NamespaceName>) -> String {
    const SWITCH: &str = "net.ipv4.tcp_tw_reuse=1";
    let switch = match namespace {
        None => SWITCH.to_owned(),
        // Set here it would change nothing there.
        Some(_) => inside(namespace, &format!("sysctl -w {SWITCH}")),
    };
    format!("{switch}, with TCP timestamps on at both ends")
}

/// What frees ports within a second, before anything is built anew: where it is known to be off and to work once on.
pub fn first_aid(e: &Evidence, namespace: Option<&NamespaceName>) -> Option<String> {
    if namespace.is_some() {
        // The sysctls are those of the daemon's own namespace.
        return None;
    }
    match (e.sysctls.tcp_tw_reuse, e.sysctls.tcp_timestamps) {
        (Some(0 | 2), Some(1..)) => Some(
            "at once: sysctl -w net.ipv4.tcp_tw_reuse=1; connect() then takes over ports after 1 s, if the other end \
             uses TCP timestamps too"
                .into(),
        ),
        (Some(_) | None, Some(_) | None) => None,
    }
}

pub fn not_helpful() -> Vec<String> {
    vec![
        "tcp_fin_timeout: does not shorten TIME_WAIT, which is fixed at 60 s".into(),
        "tcp_tw_recycle: gone since Linux 4.12; it broke clients behind NAT".into(),
        "tcp_max_tw_buckets: lowering it breaks TCP, raising it gives no ports".into(),
    ]
}

fn in_unit(unit: &str) -> String {
    if unit == "unknown" { String::new() } else { format!(" in {}", unit_name(unit)) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{elsewhere, in_order, tuple};
    use super::*;

    #[test]
    fn a_fix_counts_the_tuples_that_the_rate_needs() {
        let check = |rate, words: Option<&str>| {
            let fixes = fixes(&TupleUse { opens_per_second: Some(rate), ..tuple(20_000) }, 28_232);
            let counted = fixes.iter().find(|fix| fix.contains("connects/s need"));
            assert_eq!(counted.is_some(), words.is_some(), "{fixes:?}");
            assert!(counted.is_none_or(|fix| words.is_some_and(|words| fix.contains(words))), "{fixes:?}");
        };
        check(600.0, Some(" 600 connects/s need 3 "));
        check(1552.4, Some(" 1,552 connects/s need 7 "));
        check(200.0, None);
    }

    #[test]
    fn open_connections_are_bounded_not_kept_open() {
        let open = fixes(&TupleUse { time_wait: 9999, ..tuple(20_000) }, 28_232);
        assert!(open[0].contains("pool of fixed size") && !open.iter().any(|fix| fix.contains("tcp_tw_reuse")));
        let churn = fixes(&TupleUse { time_wait: 10_000, ..tuple(20_000) }, 28_232);
        assert!(churn[0].contains("keep-alive") && churn.iter().any(|fix| fix.contains("tcp_tw_reuse")));
    }

    #[test]
    fn sysctls_are_set_where_the_ports_are() {
        let check = |namespace: Option<(&str, u32)>, range: &str, switch: &str| {
            let namespace = namespace.map(|(name, inode)| elsewhere(name, inode));
            let fixes = fixes(&TupleUse { namespace, ..tuple(20_000) }, 28_232);
            for start in [range, switch] {
                assert!(fixes.iter().any(|fix| fix.starts_with(start)), "{start}: {fixes:?}");
            }
        };
        check(None, "widen net.ipv4.ip_local_port_range, after", "net.ipv4.tcp_tw_reuse=1, with TCP timestamps");
        check(
            Some(("blue", 7)),
            "widen net.ipv4.ip_local_port_range, in network namespace blue, after",
            "ip netns exec blue sysctl -w net.ipv4.tcp_tw_reuse=1, with TCP timestamps",
        );
        check(
            Some(("net:[7]", 7)),
            "widen net.ipv4.ip_local_port_range, in network namespace net:[7], after",
            "nsenter -n -t $(lsns -n -o PID 7 | head -1) sysctl -w net.ipv4.tcp_tw_reuse=1, with",
        );
    }

    #[test]
    fn first_aid_is_given_where_it_is_known_to_work() {
        let blue = elsewhere("blue", 7);
        let check = |name, tcp_tw_reuse, tcp_timestamps, namespace, expected| {
            let mut evidence = in_order();
            (evidence.sysctls.tcp_tw_reuse, evidence.sysctls.tcp_timestamps) = (tcp_tw_reuse, tcp_timestamps);
            assert_eq!(first_aid(&evidence, namespace).is_some(), expected, "{name}");
        };
        check("off", Some(0), Some(1), None, true);
        check("loopback only", Some(2), Some(2), None, true);
        check("on already", Some(1), Some(1), None, false);
        check("no timestamps", Some(0), Some(0), None, false);
        check("not known", None, Some(1), None, false);
        check("timestamps not known", Some(0), None, None, false);
        check("another namespace, whose sysctls are not known", Some(0), Some(1), Some(&blue), false);
    }
}
