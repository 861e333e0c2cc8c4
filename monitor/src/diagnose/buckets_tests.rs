//! Both sides of each threshold of TW-005, and the limit that it names.

use super::super::fixture::{Expect, check_rule, in_order};
use super::*;
use crate::diagnose::NamespaceUse;
use Expect::{Fires, Silent, Unchecked};

#[test]
fn the_table_matters_from_half_full_on() {
    let check = |name, total, small_fin_wait2, overflowed, rate, expected| {
        check_rule(
            overflow,
            name,
            |e| {
                e.sysctls.tcp_max_tw_buckets = Some(1000);
                e.time_wait.as_mut().unwrap().total = total;
                e.small_fin_wait2 = Some(small_fin_wait2);
                e.counters.time_wait_overflow = overflowed;
                e.time_wait_entered_per_second = rate;
            },
            expected,
        );
    };
    check("just below half", 499, 0, Some(0), None, Silent);
    check("half", 500, 0, Some(0), None, Fires(Severity::Info));
    check("small FIN_WAIT2 sockets count too", 400, 100, Some(0), None, Fires(Severity::Info));
    check("half and a rate that fits", 500, 0, Some(0), Some(16.6), Fires(Severity::Info));
    check("half and a rate that does not", 500, 0, Some(0), Some(16.7), Fires(Severity::Warning));
    check("just below 90 %", 899, 0, Some(0), None, Fires(Severity::Info));
    check("90 %", 900, 0, Some(0), None, Fires(Severity::Warning));
    check("one overflow, half full", 500, 0, Some(1), None, Fires(Severity::Critical));
    check("one overflow, and room again", 499, 0, Some(1), None, Fires(Severity::Warning));
    check("full, overflows not watched", 1000, 0, None, None, Fires(Severity::Warning));
    check("overflows not watched", 10, 0, None, None, Unchecked);
    let namespaces = |name, overflowed, small, expected| {
        let one = |namespace: &str, small, time_wait_overflow| NamespaceUse {
            namespace: NamespaceName { name: namespace.into(), inode: 7 },
            small,
            tcp_max_tw_buckets: Some(1000),
            time_wait_overflow,
            ..NamespaceUse::default()
        };
        let both = vec![one("host", 10, Some(0)), one("blue", small, overflowed)];
        check_rule(overflow, name, |e| e.by_namespace = Some(both), expected);
    };
    namespaces("all in order", Some(0), 499, Silent);
    namespaces("one half full", Some(0), 500, Fires(Severity::Info));
    namespaces("one overflowed", Some(1), 500, Fires(Severity::Critical));
    namespaces("one overflowed and has room again", Some(1), 499, Fires(Severity::Warning));
    namespaces("one not watched", None, 0, Unchecked);
    check_rule(overflow, "limit not read", |e| e.sysctls.tcp_max_tw_buckets = None, Unchecked);
    check_rule(overflow, "sockets not counted", |e| e.time_wait = None, Unchecked);
    check_rule(
        overflow,
        "an overflow tells by itself",
        |e| {
            e.time_wait = None;
            e.sysctls.tcp_max_tw_buckets = None;
            e.counters.time_wait_overflow = Some(1);
        },
        Fires(Severity::Critical),
    );
}
#[test]
fn what_is_over_is_told_as_over() {
    let check = |small, title: &str| {
        let mut evidence = in_order();
        evidence.sysctls.tcp_max_tw_buckets = Some(1000);
        evidence.counters.time_wait_overflow = Some(4000);
        evidence.time_wait.as_mut().unwrap().total = small;
        evidence.small_fin_wait2 = Some(0);
        assert_eq!(overflow(&evidence).unwrap().unwrap().title, title);
    };
    check(500, "TIME_WAIT table full: the kernel dropped 4,000 TIME_WAIT sockets before their time");
    check(499, "TIME_WAIT table was full: 4,000 TIME_WAIT sockets dropped; now 49.9 % full");
}

#[test]
fn the_limit_to_set_has_a_reserve_and_is_never_below_the_default() {
    let check = |name, (max, default), small, entered_per_second, target, fixes: &[&str]| {
        let (small, overflowed) = (Some(small), Some(1));
        let table = Table { namespace: None, own: true, overflowed, small, max, default, entered_per_second };
        assert_eq!(table.target(), target, "{name}");
        let said = table.fixes();
        assert_eq!(said.len(), fixes.len() + 1, "{name}: {said:?}");
        fixes.iter().zip(&said).for_each(|(words, fix)| assert!(fix.contains(words), "{name}: {words}: {fix}"));
    };
    let default = Some(131_072);
    let restore = ["restore the default: sysctl -w net.ipv4.tcp_max_tw_buckets=131072 "];
    check("lowered", (Some(3000), default), 3000, None, default, &restore);
    check("lowered a little, twice is beyond", (Some(100_000), default), 10, None, default, &restore);
    check("lowered to 0", (Some(0), default), 0, None, default, &restore);
    let both = [restore[0], "tcp_max_tw_buckets=240000"];
    check("lowered, and the rate asks for more", (Some(3000), default), 3000, Some(2000.0), default, &both);
    check("the rate asks for the default", (Some(3000), default), 3000, Some(1092.0), default, &restore);
    check("at the default", (default, default), 131_072, None, Some(262_144), &["raise it: sysctl -w"]);
    check("at the default, and the rate decides", (default, default), 9, Some(3000.0), Some(360_000), &["=360000 "]);
    check("default not known", (Some(3000), None), 3000, None, Some(6000), &["=6000 "]);
    check("limit not known", (None, None), 500, None, Some(1000), &["=1000 "]);
    check("0, and nothing else is known", (Some(0), None), 0, None, None, &["twice the connections"]);
}

#[test]
fn a_lowered_limit_is_restored_to_the_value_that_tw_010_names() {
    let mut evidence = in_order();
    evidence.sysctls.tcp_max_tw_buckets = Some(3000);
    evidence.counters.time_wait_overflow = Some(1);
    let value = |rule: crate::diagnose::Rule| {
        let fixes = rule(&evidence).unwrap().unwrap().fixes.join(" ");
        let (_, rest) = fixes.split_once("net.ipv4.tcp_max_tw_buckets=").expect("a value");
        rest.split(' ').next().map(String::from)
    };
    assert_eq!(value(overflow), Some("131072".into()));
    assert_eq!(value(overflow), value(super::super::folklore::copied_advice));
}
