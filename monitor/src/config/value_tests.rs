//! What each kind of value accepts and refuses.

use super::*;

#[test]
fn a_ring_is_a_power_of_two_of_at_least_a_page() {
    let check = |bytes, page, ok| assert_eq!(RingBytes::new(bytes, page).is_ok(), ok, "{bytes} with pages of {page}");
    check(4096, 4096, true);
    check(8 << 20, 4096, true);
    check(1 << 30, 4096, true);
    check(1 << 31, 4096, false);
    check(2048, 4096, false);
    check(4096, 65_536, false);
    check(65_536, 65_536, true);
    check(3 * 4096, 4096, false);
    check(0, 4096, false);
}

#[test]
fn sizes_take_binary_units() {
    let check = |text: &str, bytes: Option<u32>| {
        assert_eq!(text.parse::<RingBytes>().ok().map(RingBytes::get), bytes, "{text}")
    };
    check("8388608", Some(8 << 20));
    check("8MiB", Some(8 << 20));
    check("8 MiB", Some(8 << 20));
    check("512K", Some(512 << 10));
    check("8MB", None);
    check("MiB", None);
    check("-1", None);
    check("99999999999999999999", None);
    check("99999999999999GiB", None);
}

#[test]
fn listen_addresses_are_the_exporters() {
    let check = |text: &str, host: Option<Host>| {
        let parsed = text.parse::<ListenAddress>();
        assert_eq!(parsed.clone().ok().map(|address| address.host), host, "{text}");
        if let Ok(address) = parsed {
            assert_eq!(address.to_string(), text);
        }
    };
    check(":10060", Some(Host::Any));
    check(":0", Some(Host::Any));
    check("127.0.0.1:10060", Some(Host::Ip(Ipv4Addr::LOCALHOST.into())));
    check("[::1]:10060", Some(Host::Ip(Ipv6Addr::LOCALHOST.into())));
    check("localhost:10060", Some(Host::Name("localhost".to_owned())));
    check("10060", None);
    check(":+80", None);
    check(":65536", None);
    check("::1:10060", None);
    check("[::1:10060", None);
    check("[127.0.0.1]:1", None);
    check("1.2.3:80", None);
    check("http://host:80", None);
    check("", None);
}

#[test]
fn the_wildcard_serves_both_families_and_falls_back_to_ipv4() {
    let address: ListenAddress = ":7".parse().unwrap();
    assert_eq!(address.candidates().unwrap(), ["[::]:7".parse().unwrap(), "0.0.0.0:7".parse().unwrap()]);
}

#[test]
fn paths_are_plain_and_not_taken() {
    let check = |text: &str, ok| assert_eq!(text.parse::<TelemetryPath>().is_ok(), ok, "{text}");
    check("/metrics", true);
    check("/a/b-c", true);
    check("metrics", false);
    check("/", false);
    check("/-/ready", false);
    check("/a b", false);
    check("/a?b", false);
    check("/é", false);
}

#[test]
fn a_misspelt_level_is_no_target() {
    let check = |text: &str, ok| assert_eq!(text.parse::<LogFilter>().is_ok(), ok, "{text}");
    check("info", true);
    check("warn,synfin::kernel=trace", true);
    check("synfin=debug", true);
    check("off", true);
    check("inof", false);
    check("info,loud", false);
    check("synfin=loud", false);
    check("", false);
}

#[test]
fn durations_are_read_as_people_write_them() {
    let check =
        |text: &str, nanos: Option<u128>| assert_eq!(parse_duration(text).ok().map(|d| d.as_nanos()), nanos, "{text}");
    check("10s", Some(10_000_000_000));
    check("1.5s", Some(1_500_000_000));
    check("1m30s", Some(90_000_000_000));
    check("250us", Some(250_000));
    check("1ms", Some(1_000_000));
    check("2h", Some(7_200_000_000_000));
    check("1d", Some(86_400_000_000_000));
    check("0s", Some(0));
    check("10", None);
    check("s", None);
    check("1x", None);
    check("1.2.3s", None);
    check("-1s", None);
    check("9999999999999999999999d", None);
    check("", None);
}
