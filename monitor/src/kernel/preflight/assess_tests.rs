//! Hosts of every kind: each line changes one fact of a good host and says which item minds, and how much.

use std::path::PathBuf;

use super::*;
use crate::host::{PortRange, Sysctls};
use crate::kernel::preflight::{BtfProbes, ProbeTrial, Verdict};
use crate::privilege::Held;

const ALL_IN_BTF: BtfProbes =
    BtfProbes { inet_sock_set_state: true, tcp_retransmit_synack: true, iter_tcp: true, inet_twsk_kill: true };

fn good_host() -> Facts {
    Facts {
        release: Ok("6.12.0-test".to_owned()),
        btf_path: PathBuf::from("/sys/kernel/btf/vmlinux"),
        btf: BtfFact::Usable(ALL_IN_BTF),
        tracefs: false,
        held: Ok(Held { bpf: true, perfmon: true, ..Held::default() }),
        initial_user_namespace: Some(true),
        unprivileged_bpf_disabled: Some(2),
        lockdown: Lockdown::Unknown,
        bpf_jit_enable: Some(1),
        bpf_stats_enabled: Some(0),
        memlock: Ok((Some(8 << 20), Some(8 << 20))),
        sock_diag: Ok(()),
        sysctls: Sysctls {
            ip_local_port_range: Some(PortRange { low: 32768, high: 60999 }),
            tcp_max_tw_buckets: Some(262_144),
            tcp_syncookies: Some(1),
            ..Sysctls::default()
        },
        cgroup2: Some(PathBuf::from("/sys/fs/cgroup")),
        ports: vec![(":10060".to_owned(), PortState::Free)],
        netns: NetnsScope::Host,
        namespaces: 3,
        enter_netns: None,
        ring_bytes: 8 << 20,
        ring: Ok(RingLayout { bytes: 6 << 20, lanes: Some((6, 2)) }),
        trials: Vec::new(),
    }
}

/// Changes the good host; the items that are not ok must be exactly those `expected`.
#[track_caller]
fn check(change: impl FnOnce(&mut Facts), expected: &[(&str, Verdict)]) -> Report {
    let mut facts = good_host();
    change(&mut facts);
    let report = assess(&facts);
    let found: Vec<_> =
        report.items.iter().filter(|item| item.verdict != Verdict::Ok).map(|item| (item.id, item.verdict)).collect();
    assert_eq!(found, expected, "{}", report.to_text());
    for item in &report.items {
        assert_eq!(item.advice.is_some(), item.verdict != Verdict::Ok, "{item:?}");
        assert!(!item.finding.contains('\n'), "{item:?}");
    }
    report
}

use Verdict::{Degraded, Missing as Lacks};

#[test]
fn each_fact_has_its_verdict() {
    check(|_| {}, &[]);
    check(|f| f.release = Ok("5.7.19".into()), &[("kernel", Lacks), ("memlock", Lacks)]);
    check(|f| f.release = Ok("strange".into()), &[("kernel", Degraded), ("memlock", Lacks)]);
    check(|f| f.held = Ok(Held { sys_admin: true, ..Held::default() }), &[]);
    check(|f| f.held = Ok(Held { perfmon: true, ..Held::default() }), &[("capabilities", Lacks)]);
    let all = |f: &mut Facts, sys_admin, sys_ptrace, entered: Result<(), &str>| {
        f.netns = NetnsScope::All;
        f.held = Ok(Held { bpf: true, perfmon: true, sys_admin, sys_ptrace, ..Held::default() });
        f.enter_netns = Some(entered.map_err(str::to_owned));
    };
    check(|f| all(f, true, true, Ok(())), &[]);
    check(|f| all(f, true, false, Ok(())), &[("netns", Degraded)]);
    check(|f| all(f, false, false, Err("EPERM")), &[("capabilities", Lacks), ("netns", Lacks)]);
    check(|f| all(f, true, true, Err("seccomp")), &[("netns", Lacks)]);
    check(|f| f.initial_user_namespace = Some(false), &[("capabilities", Lacks)]);
    check(|f| f.initial_user_namespace = None, &[]);
    check(|f| f.lockdown = Lockdown::Integrity, &[]);
    check(|f| f.lockdown = Lockdown::Confidentiality, &[("lockdown", Lacks)]);
    check(|f| f.bpf_jit_enable = Some(0), &[("bpf_jit", Degraded)]);
    check(|f| f.bpf_jit_enable = None, &[]);
    check(|f| f.sock_diag = Err("ENOENT".into()), &[]);
    check(|f| f.cgroup2 = None, &[("cgroup2", Degraded)]);
    check(|f| f.sysctls.tcp_syncookies = Some(2), &[("sysctl.tcp_syncookies", Degraded)]);
    check(|f| f.sysctls.ip_local_port_range = None, &[("sysctl.ip_local_port_range", Degraded)]);
    check(|f| f.sysctls.tcp_max_tw_buckets = None, &[("sysctl.tcp_max_tw_buckets", Degraded)]);
    check(|f| f.ports[0].1 = PortState::Daemon, &[]);
    check(|f| f.ports[0].1 = PortState::Refused("in use".into()), &[("listen", Lacks)]);
}

#[test]
fn the_real_size_of_the_ring_is_said() {
    let report = check(|_| {}, &[]);
    let said = "6291456 bytes for --ring-bytes 8388608: 6 lanes of 1048576, three for each of 2 CPUs";
    assert!(report.to_text().contains(said), "{}", report.to_text());
    check(|f| f.ring = Err("EACCES".into()), &[("ring", Lacks)]);
}

#[test]
fn before_5_11_locked_memory_must_hold_the_ring() {
    let old = |memlock, sys_resource, ring_bytes| {
        move |f: &mut Facts| {
            f.release = Ok("5.10.0-28-amd64".into());
            f.memlock = Ok(memlock);
            f.ring_bytes = ring_bytes;
            f.held = Ok(Held { bpf: true, perfmon: true, sys_resource, ..Held::default() });
        }
    };
    check(old((Some(65_536), Some(65_536)), false, 8 << 20), &[("memlock", Lacks)]);
    check(old((Some(65_536), Some(65_536)), true, 8 << 20), &[]);
    check(old((Some(65_536), None), false, 8 << 20), &[]);
    check(old((None, None), false, 8 << 20), &[]);
    check(old((Some(65_536), Some(65_536)), false, 4096), &[]);
}

#[test]
fn without_trials_btf_and_tracefs_decide() {
    const STATE: &str = "probe.inet_sock_set_state";
    const SYNACK: &str = "probe.tcp_retransmit_synack";
    const CENSUS: &str = "probe.iter_tcp";
    const ENDS: &str = "probe.inet_twsk_kill";
    let none = || BtfFact::Unusable("no such file".into());
    let btf = |set: fn(&mut BtfProbes)| {
        let mut probes = ALL_IN_BTF;
        set(&mut probes);
        BtfFact::Usable(probes)
    };
    check(|f| f.btf = btf(|b| b.iter_tcp = false), &[(CENSUS, Degraded)]);
    check(|f| f.btf = btf(|b| b.inet_twsk_kill = false), &[(ENDS, Degraded)]);
    check(|f| f.btf = btf(|b| b.tcp_retransmit_synack = false), &[(SYNACK, Degraded)]);
    check(|f| f.btf = btf(|b| b.inet_sock_set_state = false), &[(STATE, Lacks)]);
    let lost = [("btf", Lacks), (STATE, Lacks), (SYNACK, Degraded), (CENSUS, Degraded), (ENDS, Degraded)];
    // The classic tracepoint needs it too.
    for tracefs in [false, true] {
        check(|f| (f.btf, f.tracefs) = (none(), tracefs), &lost);
    }
    for (sock_diag, said) in [
        (Ok(()), "counted but not followed one by one"),
        (Err("EPERM".to_owned()), "iter_tcp cannot be attached, so sockets older than the daemon are unknown"),
    ] {
        let report = check(|f| (f.btf, f.sock_diag) = (btf(|b| b.iter_tcp = false), sock_diag), &[(CENSUS, Degraded)]);
        assert!(report.to_text().contains(said), "{}", report.to_text());
    }
    let classic = |f: &mut Facts| (f.btf, f.tracefs) = (btf(|b| b.inet_sock_set_state = false), true);
    let report = check(classic, &[(STATE, Degraded)]);
    assert!(!report.to_text().contains("BTF there"), "{}", report.to_text());
}

#[test]
fn trials_win_over_what_btf_promises() {
    const STATE: &str = "inet_sock_set_state";
    let trial = |probe, kind, ok: bool| ProbeTrial { probe, kind, result: ok.then_some(()).ok_or("EPERM".to_owned()) };
    let raw =
        check(|f| f.trials = vec![trial(STATE, "btf_tracepoint", false), trial(STATE, "raw_tracepoint", true)], &[]);
    assert!(raw.to_text().contains("works as raw tracepoint (fallback)"), "{}", raw.to_text());
    let classic = [
        trial(STATE, "tracepoint", true),
        trial(STATE, "btf_tracepoint", false),
        trial(STATE, "raw_tracepoint", false),
    ];
    check(|f| f.trials = classic.to_vec(), &[("probe.inet_sock_set_state", Degraded)]);
    let none =
        check(|f| f.trials = vec![trial(STATE, "btf_tracepoint", false)], &[("probe.inet_sock_set_state", Lacks)]);
    assert!(none.to_text().contains("tried btf_tracepoint: EPERM; raw_tracepoint: not tried"), "{}", none.to_text());
    check(|f| f.trials = vec![trial("iter_tcp", "iterator", false)], &[("probe.iter_tcp", Degraded)]);
    check(|f| f.trials = vec![trial("iter_tcp", "iterator", true)], &[]);
    let by_cause = check(|f| f.trials = vec![trial("inet_twsk_kill", "fentry", true)], &[]);
    let said = "works as fentry: ends of TIME_WAIT are counted by cause; behind it derivation works";
    assert!(by_cause.to_text().contains(said), "{}", by_cause.to_text());
    let derived =
        check(|f| f.trials = vec![trial("inet_twsk_kill", "fentry", false)], &[("probe.inet_twsk_kill", Degraded)]);
    let said = "works as derivation (fallback): ends of TIME_WAIT are derived from the census";
    assert!(derived.to_text().contains(said) && derived.to_text().contains("fentry: EPERM"), "{}", derived.to_text());
}

#[test]
fn without_rights_one_line_names_the_capability_and_the_probe() {
    let report = check(|f| f.held = Ok(Held::default()), &[("capabilities", Lacks)]);
    assert!(report.to_text().contains("with the capabilities, would work as btf tracepoint"));
    let line = report.conclusion();
    for word in ["CAP_BPF", "CAP_PERFMON", "inet_sock_set_state", "iter_tcp", "tcp_retransmit_synack"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
}

#[test]
fn ids_are_unique_but_for_addresses() {
    let report = check(|_| {}, &[]);
    let mut ids: Vec<_> = report.items.iter().map(|item| item.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
