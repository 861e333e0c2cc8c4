//! The arithmetic of TIME_WAIT and ephemeral ports: every threshold of the rules is one of these.
//!
//! `P` is the size of the ephemeral range less the reserved ports inside it. Rates are per second, times in seconds.

/// Seconds that a socket stays in TIME_WAIT: `TCP_TIMEWAIT_LEN` of include/net/tcp.h, fixed when the kernel is built.
pub const TIME_WAIT_SECONDS: f64 = 60.0;

/// P of a host that nobody has tuned: 32768..=60999, nothing reserved (net/ipv4/af_inet.c).
/// What a *peer* uses cannot be measured from here; this is taken for it, and said.
pub const DEFAULT_PORTS: u64 = 28_232;

/// P: `high - low + 1 - reserved_inside`; 0 for a range that is upside down or wholly reserved.
pub fn ports_available(low: u16, high: u16, reserved_inside: u64) -> u64 {
    (u64::from(high) + 1).saturating_sub(u64::from(low)).saturating_sub(reserved_inside)
}

/// TIME_WAIT sockets that a steady rate of closes by this side keeps alive.
pub fn steady_time_wait(closes_per_second: f64) -> f64 {
    closes_per_second * TIME_WAIT_SECONDS
}

/// New connections per second that one (source, destination, port) can sustain.
pub fn max_connects_per_second(ports: u64) -> f64 {
    ports as f64 / TIME_WAIT_SECONDS
}

/// New connections per second below which connect() finds a port of its first parity at once.
pub fn knee_connects_per_second(ports: u64) -> f64 {
    max_connects_per_second(ports) / 2.0
}

/// Ports in use towards one destination from which connect() scans a whole parity in vain: half of P.
pub fn knee_ports(ports: u64) -> u64 {
    ports / 2
}

/// (source, destination, port) combinations needed to stay below the knee. `None` without ports or for an odd rate.
pub fn tuples_needed(connects_per_second: f64, ports: u64) -> Option<u64> {
    let needed = (steady_time_wait(connects_per_second) / (0.5 * ports as f64)).ceil();
    (needed.is_finite() && needed >= 0.0).then_some((needed as u64).max(1))
}

/// Seconds until the last port is taken; `None` when the number does not grow.
pub fn seconds_to_exhaustion(ports: u64, used: u64, opens_per_second: f64, expiries_per_second: f64) -> Option<f64> {
    let growth = opens_per_second - expiries_per_second;
    (growth > 0.0).then(|| ports.saturating_sub(used) as f64 / growth)
}

/// Whether a steady rate of closes fills the bucket table.
pub fn overflows_buckets(closes_per_second: f64, max_tw_buckets: u64) -> bool {
    steady_time_wait(closes_per_second) > max_tw_buckets as f64
}

/// New connections per second with keep-alive; `None` for less than one request a connection.
pub fn connects_with_keep_alive(requests_per_second: f64, requests_per_connection: f64) -> Option<f64> {
    (requests_per_connection >= 1.0).then(|| requests_per_second / requests_per_connection)
}

/// Ports that `sockets` would occupy had each been picked at random out of `ports`: the rest are shared.
pub fn expected_distinct_ports(ports: u64, sockets: u64) -> f64 {
    let ports = ports as f64;
    if ports == 0.0 { 0.0 } else { ports * (1.0 - (-(sockets as f64) / ports).exp()) }
}

/// `part / whole`; 0 when the whole is 0.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The smallest count that is at least `share` of `whole`.
pub fn at_least(share: f64, whole: u64) -> u64 {
    (share * whole as f64).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_the_range_less_reserved_ports() {
        let check = |low, high, reserved, ports| assert_eq!(ports_available(low, high, reserved), ports);
        check(32_768, 60_999, 0, 28_232);
        check(32_768, 60_999, 32, 28_200);
        check(0, 65_535, 0, 65_536);
        check(1024, 1024, 0, 1);
        check(1024, 1024, 1, 0);
        check(60_999, 32_768, 0, 0);
    }

    #[test]
    fn the_default_range_carries_470_a_second_and_is_fast_below_235() {
        assert_eq!(max_connects_per_second(DEFAULT_PORTS).floor(), 470.0);
        assert_eq!(knee_connects_per_second(DEFAULT_PORTS).floor(), 235.0);
        assert_eq!(knee_ports(DEFAULT_PORTS), 14_116);
        assert_eq!(steady_time_wait(470.0), 28_200.0);
    }

    #[test]
    fn tuples_needed_keep_each_below_the_knee() {
        let check = |rate, ports, needed| assert_eq!(tuples_needed(rate, ports), needed, "{rate}/s over {ports}");
        check(235.0, 28_232, Some(1));
        check(236.0, 28_232, Some(2));
        check(1000.0, 28_232, Some(5));
        check(0.0, 28_232, Some(1));
        check(1.0, 0, None);
        check(f64::NAN, 28_232, None);
    }

    #[test]
    fn exhaustion_comes_only_while_ports_are_taken_faster_than_freed() {
        let check = |used, opens, expiries, seconds| {
            assert_eq!(seconds_to_exhaustion(28_232, used, opens, expiries), seconds, "{used} {opens} {expiries}");
        };
        check(0, 28_232.0, 0.0, Some(1.0));
        check(14_116, 600.0, 0.0, Some(14_116.0 / 600.0));
        check(28_000, 500.0, 471.0, Some(8.0));
        check(28_232, 500.0, 0.0, Some(0.0));
        check(40_000, 500.0, 0.0, Some(0.0));
        check(14_116, 470.0, 470.0, None);
        check(14_116, 1.0, 470.0, None);
    }

    #[test]
    fn buckets_overflow_above_a_sixtieth_of_the_limit() {
        assert!(!overflows_buckets(1000.0, 60_000));
        assert!(overflows_buckets(1000.1, 60_000));
    }

    #[test]
    fn keep_alive_divides_the_rate() {
        assert_eq!(connects_with_keep_alive(500.0, 10.0), Some(50.0));
        assert_eq!(connects_with_keep_alive(500.0, 1.0), Some(500.0));
        assert_eq!(connects_with_keep_alive(500.0, 0.5), None);
    }

    #[test]
    fn ports_picked_at_random_are_shared() {
        assert_eq!(expected_distinct_ports(28_232, 11_293).round(), 9308.0);
        assert_eq!(expected_distinct_ports(28_232, 0), 0.0);
        assert_eq!(expected_distinct_ports(0, 5), 0.0);
    }
}
