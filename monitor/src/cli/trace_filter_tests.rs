//! What each filter lets pass, through the flags as they are typed.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::Parser;

use super::*;
use crate::event::{Family, mapped};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    filter: TraceFilter,
}

fn subject() -> Subject<'static> {
    Subject {
        tuple: Tuple {
            family: Family::Inet,
            saddr: mapped(Ipv4Addr::new(10, 0, 0, 5)),
            daddr: mapped(Ipv4Addr::new(192, 0, 2, 7)),
            sport: 40_000,
            dport: 5432,
        },
        role: Some(Role::Client),
        close: Some(Close::Local),
        pid: 77,
        unit: "web.service",
        handshake_ns: Some(200_000_000),
        lifetime_ns: Some(1_000_000_000),
    }
}

fn passes(flags: &str, subject: &Subject<'_>) -> bool {
    let flags = std::iter::once("trace").chain(flags.split_ascii_whitespace());
    match Flags::try_parse_from(flags) {
        Ok(flags) => flags.filter.matches(subject),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn each_flag_narrows_and_its_values_widen() {
    let check = |flags: &str, expected| assert_eq!(passes(flags, &subject()), expected, "{flags}");
    check("", true);
    check("--port 5432", true);
    check("--port 40000", true);
    check("--port 443", false);
    check("--port 443,5432", true);
    check("--port 443 --port 5432", true);
    check("--port 5000-5999", true);
    check("--local-port 40000", true);
    check("--local-port 5432", false);
    check("--remote-port 5432", true);
    check("--remote-port 40000", false);
    check("--addr 192.0.2.7", true);
    check("--addr 10.0.0.0/8", true);
    check("--addr 10.0.0.4/30", true);
    check("--addr 10.0.0.0/30", false);
    check("--addr 0.0.0.0/0", true);
    check("--addr ::/0", true);
    check("--addr 2001:db8::/32", false);
    check("--addr ::ffff:192.0.2.7", true);
    check("--role client", true);
    check("--role server", false);
    check("--role server,client", true);
    check("--close local", true);
    check("--close reset,timeout", false);
    check("--unit web.service", true);
    check("--unit web", true);
    check("--unit we", false);
    check("--pid 77", true);
    check("--pid 78", false);
    check("--min-lifetime 1s", true);
    check("--min-lifetime 1001ms", false);
    check("--slower-than 200ms", true);
    check("--slower-than 201ms", false);
    check("--role client --port 443", false);
}

#[test]
fn what_is_not_known_passes_no_filter_on_it() {
    let unknown = Subject {
        tuple: Tuple::UNKNOWN,
        role: None,
        close: None,
        pid: 0,
        unit: "unknown",
        handshake_ns: None,
        lifetime_ns: None,
    };
    let check = |flags: &str, expected| assert_eq!(passes(flags, &unknown), expected, "{flags}");
    check("", true);
    check("--role unknown", false);
    check("--close unknown", false);
    check("--pid 0", false);
    check("--min-lifetime 0s", false);
    check("--slower-than 0s", false);
    check("--port 1-65535", false);
    check("--addr 0.0.0.0/0", false);
    check("--unit unknown", true);
}

#[test]
fn an_ipv4_network_holds_no_ipv6_address() {
    let mut v6 = subject();
    v6.tuple.saddr = Ipv6Addr::LOCALHOST.octets();
    v6.tuple.daddr = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
    let check = |flags: &str, expected| assert_eq!(passes(flags, &v6), expected, "{flags}");
    check("--addr 0.0.0.0/0", false);
    check("--addr 2001:db8::/32", true);
    check("--addr ::1", true);
    check("--addr ::2", false);
}

#[test]
fn mistakes_are_refused() {
    let check = |flag: &str, value: &str| {
        assert!(Flags::try_parse_from(["trace", flag, value]).is_err(), "{flag} {value}");
    };
    check("--port", "0");
    check("--port", "70000");
    check("--port", "9-8");
    check("--port", "http");
    check("--addr", "10.0.0.0/33");
    check("--addr", "::/129");
    check("--addr", "host");
    check("--role", "peer");
    check("--close", "fin");
    check("--min-lifetime", "10");
    check("--pid", "-1");
}
