//! Evidence for tests: a busy host in perfect order, one on a bad night, and the table check of a rule.

use std::net::{IpAddr, Ipv4Addr};

use super::sysctl_file::{SysctlFiles, parse_sysctl_file};
use super::{
    CloseWait, Contact, Counters, Evidence, FailedConnects, Finding, HandshakeTail, InboundPeer, Level, Listener,
    LostDetail, Maker, NamespaceName, Namespaces, RULES, Rule, Severity, SourceUse, Sysctls, Threshold, TimeWait,
    Trend, TupleUse, Verify,
};
use crate::event::{Endpoint, mapped};
use crate::lifecycle::{Close, ConnectFailure, Role};

/// What a rule is expected to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Silent,
    Fires(Severity),
    Unchecked,
}

/// Changes a host in perfect order and compares what `rule` then says. A finding must carry the id of its rule, numbers,
/// fixes and ways to verify.
pub fn check_rule(rule: Rule, name: &str, change: impl FnOnce(&mut Evidence), expected: Expect) {
    let mut evidence = in_order();
    change(&mut evidence);
    let verdict = rule(&evidence);
    let said = match &verdict {
        Ok(None) => Expect::Silent,
        Ok(Some(finding)) => Expect::Fires(finding.severity),
        Err(_) => Expect::Unchecked,
    };
    assert_eq!(said, expected, "{name}: {verdict:?}");
    if let Ok(Some(finding)) = verdict {
        let (_, listed) = RULES.iter().find(|(id, _)| *id == finding.id).expect("a rule of the table");
        assert_eq!(listed(&evidence).unwrap().as_ref(), Some(&finding), "{} is another rule's id", finding.id);
        assert!(!finding.whose.is_empty() && !finding.measured.is_empty() && !finding.fixes.is_empty(), "{finding:?}");
        assert!(!finding.verify.promql.is_empty() && !finding.verify.ss.is_empty(), "{finding:?}");
        assert!(finding.title.chars().count() <= 88, "too long for a line: {}", finding.title);
    }
}

pub fn endpoint(port: u16) -> Endpoint {
    Endpoint { addr: mapped(Ipv4Addr::new(10, 0, 0, 9)), port }
}

/// `used` ports, all in TIME_WAIT, level.
pub fn tuple(used: u64) -> TupleUse {
    TupleUse {
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)),
        destination: endpoint(5432),
        used,
        time_wait: used,
        role: Role::Client,
        unit: "api.service".into(),
        opened: Some(used),
        opens_per_second: Some(used as f64 / 60.0),
        trend: Some(Trend { delta: 0, seconds: 60.0 }),
        namespace: None,
        ports_available: None,
    }
}

pub fn source(sockets: u64, distinct_ports: u64, busiest_destination: u64) -> SourceUse {
    let source = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
    SourceUse {
        source,
        sockets,
        distinct_ports,
        busiest_destination,
        unit: "proxy.service".into(),
        namespace: None,
        ports_available: None,
    }
}

/// A namespace that is not the daemon's own.
pub fn elsewhere(name: &str, inode: u32) -> NamespaceName {
    NamespaceName { name: name.into(), inode }
}

pub fn no_port(count: u64) -> FailedConnects {
    let reason = ConnectFailure::NoLocalPort;
    let unit = "api.service".into();
    FailedConnects { destination: endpoint(5432), reason, unit, namespace: None, count, opened: Some(3) }
}

pub fn maker(role: Role, port: Option<u16>, sockets: u64) -> Maker {
    Maker { role, endpoint: port.map(endpoint), unit: "api.service".into(), sockets }
}

pub fn contact(role: Role, port: u16, count: u64) -> Contact {
    Contact { role, endpoint: endpoint(port), unit: "web.service".into(), count }
}

pub fn inbound_peer(host: u8, port: u16, sockets: u64, time_wait: u64) -> InboundPeer {
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 1, host));
    InboundPeer { local: endpoint(port), peer, unit: "web.service".into(), sockets, time_wait }
}

pub fn finding(severity: Severity) -> Finding {
    Finding {
        id: "TW-001",
        severity,
        title: String::new(),
        whose: vec![],
        subjects: vec![],
        why: String::new(),
        measured: vec![],
        threshold: Threshold { value: 0_u64.into(), unit: "", formula: String::new() },
        fixes: vec![],
        not_helpful: vec![],
        verify: Verify { promql: String::new(), ss: String::new() },
    }
}

fn level(now: u64) -> Level {
    Level { now, trend: Some(Trend { delta: 0, seconds: 60.0 }) }
}

/// A host with 262,144 hash buckets, default sysctls, some traffic, and everything measured over a minute.
pub fn in_order() -> Evidence {
    let mut closes = [0; Close::COUNT];
    (closes[Close::Local.index()], closes[Close::Remote.index()]) = (600, 900);
    Evidence {
        window_seconds: Some(60.0),
        lost: Some(LostDetail::default()),
        sysctls: Sysctls {
            tcp_max_tw_buckets: Some(131_072),
            tcp_max_tw_buckets_default: Some(131_072),
            tcp_tw_reuse: Some(2),
            tcp_timestamps: Some(1),
            tcp_fin_timeout: Some(60),
            tcp_max_orphans: Some(131_072),
            somaxconn: Some(4096),
        },
        ports_available: Some(28_232),
        tuples: Some(vec![tuple(300)]),
        sources: Some(vec![source(450, 440, 300)]),
        time_wait: Some(TimeWait {
            total: 600,
            makers: vec![
                maker(Role::Client, Some(5432), 300),
                maker(Role::Server, Some(8080), 200),
                maker(Role::Client, None, 100),
            ],
        }),
        inbound: Some(vec![inbound_peer(1, 8080, 120, 100)]),
        small_fin_wait2: Some(1),
        fin_wait2: Some(level(3)),
        fin_wait2_makers: vec![maker(Role::Client, Some(5432), 1)],
        orphans: Some(level(2)),
        close_wait: Some(vec![CloseWait {
            unit: "api.service".into(),
            sockets: 1,
            oldest_seconds: Some(0.2),
            trend: Some(Trend { delta: 1, seconds: 60.0 }),
        }]),
        close_wait_makers: vec![maker(Role::Client, Some(5432), 1)],
        listeners: Some(vec![Listener {
            local: endpoint(8080),
            unit: "web.service".into(),
            backlog: 1,
            limit: 511,
            half_open: 2,
            namespace: None,
        }]),
        counters: Counters {
            time_wait_overflow: Some(0),
            tw_recycled: Some(0),
            listen_overflows: Some(0),
            listen_drops: Some(0),
            abort_on_close: Some(0),
            abort_on_data: Some(0),
        },
        failures: Some(vec![]),
        syns_again: Some(0),
        handshakes: Some(vec![HandshakeTail { role: Role::Server, measured: 900, steps: [0; 3] }]),
        slow_handshakes: vec![],
        resets: vec![],
        closes: Some(closes),
        time_wait_entered_per_second: Some(10.0),
        sysctl_files: Some(SysctlFiles {
            settings: parse_sysctl_file("/usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.all.rp_filter = 2"),
            unreadable: vec![],
        }),
        namespaces: Some(Namespaces { count: 1, all_watched: false, elsewhere_transitions: Some(0) }),
        by_namespace: None,
    }
}

/// One destination out of ports, a leak, a full accept queue, folklore, resets, another namespace.
pub fn a_bad_night() -> Evidence {
    let second = TupleUse {
        destination: endpoint(6379),
        opens_per_second: Some(240.0),
        unit: "cart.service".into(),
        ..tuple(12_500)
    };
    let exhausted = TupleUse {
        opens_per_second: Some(612.0),
        time_wait: 27_990,
        trend: Some(Trend { delta: 6120, seconds: 10.0 }),
        ..tuple(28_210)
    };
    let time_wait = vec![
        maker(Role::Client, Some(5432), 27_990),
        Maker { unit: "cart.service".into(), ..maker(Role::Client, Some(6379), 12_400) },
        maker(Role::Server, Some(8080), 200),
    ];
    let mut evidence = in_order();
    evidence.tuples = Some(vec![second, exhausted]);
    evidence.time_wait = Some(TimeWait { total: 40_590, makers: time_wait });
    evidence.failures = Some(vec![
        FailedConnects { opened: Some(6000), ..no_port(1417) },
        FailedConnects { destination: endpoint(9200), reason: ConnectFailure::Timeout, opened: Some(0), ..no_port(3) },
    ]);
    evidence.close_wait = Some(vec![CloseWait {
        unit: "worker.service".into(),
        sockets: 812,
        oldest_seconds: Some(11_060.0),
        trend: Some(Trend { delta: 40, seconds: 3600.0 }),
    }]);
    evidence.close_wait_makers = vec![Maker { unit: "worker.service".into(), ..maker(Role::Client, Some(9092), 812) }];
    evidence.listeners = Some(vec![Listener {
        local: endpoint(8080),
        unit: "web.service".into(),
        backlog: 129,
        limit: 128,
        half_open: 17,
        namespace: None,
    }]);
    evidence.counters.listen_overflows = Some(88);
    evidence.counters.listen_drops = Some(91);
    evidence.handshakes = Some(vec![HandshakeTail { role: Role::Server, measured: 900, steps: [40, 9, 2] }]);
    if let Some(closes) = &mut evidence.closes {
        closes[Close::Reset.index()] = 300;
    }
    evidence.counters.abort_on_data = Some(290);
    evidence.resets = vec![contact(Role::Server, 8080, 260), contact(Role::Client, 5432, 40)];
    evidence.slow_handshakes = vec![contact(Role::Server, 8080, 51)];
    evidence.syns_again = Some(18);
    evidence.sysctl_files = Some(SysctlFiles {
        settings: parse_sysctl_file(
            "/etc/sysctl.d/99-tuning.conf",
            "net.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_fin_timeout = 15\n",
        ),
        unreadable: vec![],
    });
    evidence.sysctls.tcp_fin_timeout = Some(15);
    evidence.namespaces = Some(Namespaces { count: 4, all_watched: false, elsewhere_transitions: Some(52_000) });
    evidence
}
