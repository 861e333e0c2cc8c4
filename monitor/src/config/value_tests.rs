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
fn more_cpus_get_more_of_a_ring_and_no_lane_less_than_its_least() {
    let check = |cpus: u32, mib: u32| {
        let bytes = RingBytes::default_for(cpus).get();
        assert_eq!(bytes, mib << 20, "{cpus} CPUs");
        assert!(bytes / (3 * cpus) >= 256 << 10 || mib == 1024, "{cpus} CPUs");
    };
    check(1, 8);
    check(2, 8);
    check(3, 16);
    check(21, 16);
    check(22, 32);
    check(64, 64);
    check(128, 128);
    check(4096, 1024);
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
