//! Facts to verdicts: pure, so that every kernel and every want can be a line in a table of tests.

use super::facts::{BtfFact, Facts, Lockdown, PortState};
use super::probes::assess_probes;
use super::report::{Item, Report};
use crate::config::NetnsScope;
use crate::host::KernelRelease;
use crate::kernel::RingLayout;
use crate::privilege::{Missing, keep_set, lost_without_ptrace, missing};

/// The ring buffer came with this release; there is no fallback for it.
const OLDEST: KernelRelease = KernelRelease::new(5, 8, 0);
/// From here on maps are charged to the memory cgroup and no longer to RLIMIT_MEMLOCK.
const MEMLOCK_FREE: KernelRelease = KernelRelease::new(5, 11, 0);

/// Judges a host.
pub fn assess(facts: &Facts) -> Report {
    let release = facts.release.as_deref().ok().and_then(KernelRelease::parse);
    let mut items = vec![kernel(facts, release), btf(facts), capabilities(facts)];
    items.extend(assess_probes(facts));
    items.extend([
        unprivileged_bpf(facts, release),
        lockdown(facts),
        jit(facts),
        memlock(facts, release),
        ring(facts),
        sock_diag(facts),
        cgroup2(facts),
        netns(facts),
    ]);
    items.extend(sysctls(facts));
    items.extend(facts.ports.iter().map(|(address, state)| port(address, state)));
    Report { items }
}

fn kernel(facts: &Facts, release: Option<KernelRelease>) -> Item {
    const ID: &str = "kernel";
    match (&facts.release, release) {
        (Ok(text), Some(release)) if release < OLDEST => Item::missing(
            ID,
            format!("Linux {text} has no BPF ring buffer, which came with {}.{}", OLDEST.major, OLDEST.minor),
            "run a newer kernel; 5.10 is the oldest that is tested",
        ),
        (Ok(text), Some(_)) => Item::ok(ID, format!("Linux {text}")),
        (Ok(text), None) => Item::degraded(
            ID,
            format!("release `{text}` is no version, so CAP_BPF is kept as on old kernels"),
            "none is needed if the probes below load",
        ),
        (Err(reason), _) => Item::degraded(
            ID,
            format!("the release cannot be read: {reason}"),
            "see whether the sandbox refuses uname()",
        ),
    }
}

fn btf(facts: &Facts) -> Item {
    const ID: &str = "btf";
    match &facts.btf {
        BtfFact::Usable(_) => Item::ok(ID, format!("{} is usable", facts.btf_path.display())),
        BtfFact::Unusable(reason) => Item::missing(
            ID,
            reason.clone(),
            "run a kernel with CONFIG_DEBUG_INFO_BTF=y and let the sandbox see /sys/kernel/btf, or name a file of this \
             kernel's types with --btf",
        ),
    }
}

fn capabilities(facts: &Facts) -> Item {
    const ID: &str = "capabilities";
    let held = match facts.held {
        Ok(held) => held,
        Err(ref reason) => {
            return Item::missing(ID, format!("capabilities cannot be read: {reason}"), "mount /proc");
        }
    };
    // A trial that succeeded knows better (BPF tokens).
    let proven = facts.trials.iter().any(|trial| trial.result.is_ok());
    if facts.initial_user_namespace == Some(false) && !proven {
        return Item::missing(
            ID,
            "this is a user namespace of its own, whose capabilities do not count for BPF",
            "run in the initial user namespace: without --userns, user-namespace remapping or PrivateUsers",
        );
    }
    let missing = missing(held, facts.netns == NetnsScope::All);
    if missing.is_empty() {
        let by = if held.bpf && held.perfmon { "CAP_BPF and CAP_PERFMON" } else { "CAP_SYS_ADMIN" };
        let after = match facts.netns {
            NetnsScope::Host => "dropped once the probes are attached",
            NetnsScope::All => "what entering namespaces does not take is dropped once the probes are attached",
        };
        return Item::ok(ID, format!("{by} held; {after}"));
    }
    let names: Vec<_> = missing.iter().map(|missing| missing.capability.to_string()).collect();
    let wants: Vec<_> = missing.iter().map(Missing::to_string).collect();
    Item::missing(
        ID,
        format!("missing {}", wants.join(" and ")),
        format!("run as root, or as a service with AmbientCapabilities={}", names.join(" ")),
    )
}

fn unprivileged_bpf(facts: &Facts, release: Option<KernelRelease>) -> Item {
    const ID: &str = "unprivileged_bpf_disabled";
    let value = facts.unprivileged_bpf_disabled.map_or("absent".to_owned(), |value| value.to_string());
    let keep = keep_set(release, facts.unprivileged_bpf_disabled, facts.netns == NetnsScope::All);
    match keep.as_slice() {
        [] => Item::ok(ID, format!("{value}: no capability is kept after the probes are attached")),
        keep => {
            let names: Vec<_> = keep.iter().map(ToString::to_string).collect();
            Item::ok(ID, format!("{value}: {} kept while the daemon runs", names.join(" and ")))
        }
    }
}

fn lockdown(facts: &Facts) -> Item {
    const ID: &str = "lockdown";
    match facts.lockdown {
        Lockdown::Off => Item::ok(ID, "off"),
        Lockdown::Integrity => Item::ok(ID, "integrity: probes may read kernel memory"),
        Lockdown::Unknown => Item::ok(ID, "not shown (securityfs is not mounted)"),
        Lockdown::Confidentiality => Item::missing(
            ID,
            "kernel lockdown `confidentiality` keeps every probe from reading kernel memory",
            "boot with lockdown=integrity or without it",
        ),
    }
}

fn jit(facts: &Facts) -> Item {
    const ID: &str = "bpf_jit";
    match facts.bpf_jit_enable {
        Some(0) => Item::degraded(
            ID,
            "net.core.bpf_jit_enable is 0: the probes are interpreted and cost several times more",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => Item::ok(ID, "probes are compiled"),
        None => Item::ok(ID, "net.core.bpf_jit_enable is not shown"),
    }
}

fn memlock(facts: &Facts, release: Option<KernelRelease>) -> Item {
    const ID: &str = "memlock";
    if release.is_some_and(|release| release >= MEMLOCK_FREE) {
        return Item::ok(ID, "not counted by this kernel: maps are charged to the memory cgroup");
    }
    let can_lift = facts.held.as_ref().is_ok_and(|held| held.sys_resource);
    match facts.memlock {
        Ok((None, _) | (_, None)) => Item::ok(ID, "unlimited"),
        Ok(_) if can_lift => Item::ok(ID, "lifted at start (CAP_SYS_RESOURCE)"),
        // The ring's pages, its two control pages, and the maps beside it.
        Ok((_, Some(hard))) if hard >= 2 * u64::from(facts.ring_bytes) => {
            Item::ok(ID, format!("{hard} bytes, enough for a ring of {}", facts.ring_bytes))
        }
        Ok((_, Some(hard))) => Item::missing(
            ID,
            format!(
                "RLIMIT_MEMLOCK of {hard} bytes holds no ring of {} bytes on a kernel before 5.11",
                facts.ring_bytes
            ),
            "LimitMEMLOCK=infinity in the unit, or a smaller --ring-bytes",
        ),
        Err(ref reason) => {
            Item::degraded(ID, format!("RLIMIT_MEMLOCK cannot be read: {reason}"), "LimitMEMLOCK=infinity")
        }
    }
}

fn ring(facts: &Facts) -> Item {
    const ID: &str = "ring";
    match &facts.ring {
        Ok(RingLayout { bytes, lanes: None }) => Item::ok(ID, format!("{bytes} bytes for all CPUs together")),
        Ok(RingLayout { bytes, lanes: Some((lanes, cpus)) }) => Item::ok(
            ID,
            format!(
                "{bytes} bytes for --ring-bytes {}: {lanes} lanes of {}, three for each of {cpus} CPUs",
                facts.ring_bytes,
                bytes / u64::from(*lanes).max(1)
            ),
        ),
        Err(reason) => Item::missing(
            ID,
            format!("the CPUs cannot be counted: {reason}"),
            "let the sandbox see /sys/devices/system/cpu",
        ),
    }
}

/// The census needs it only where there is no `iter/tcp`: that is said there.
fn sock_diag(facts: &Facts) -> Item {
    const ID: &str = "sock_diag";
    match &facts.sock_diag {
        Ok(()) => Item::ok(ID, "socket diagnosis over netlink answers: the fallback of the census"),
        Err(reason) => Item::ok(
            ID,
            format!("socket diagnosis over netlink does not answer ({reason}): the census has no fallback"),
        ),
    }
}

fn cgroup2(facts: &Facts) -> Item {
    const ID: &str = "cgroup2";
    match &facts.cgroup2 {
        Some(mount) => Item::ok(ID, format!("mounted on {}", mount.display())),
        None => Item::degraded(
            ID,
            "cgroup v2 is not mounted, so the label `unit` reads `unknown`, and `root` for the root cgroup alone",
            "mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, show it /sys/fs/cgroup read-only",
        ),
    }
}

fn netns(facts: &Facts) -> Item {
    const ID: &str = "netns";
    let lost = facts.held.as_ref().ok().and_then(|held| lost_without_ptrace(*held, facts.netns == NetnsScope::All));
    match (facts.netns, &facts.enter_netns, facts.namespaces) {
        (NetnsScope::Host, _, 0 | 1) => Item::ok(ID, "this network namespace, the only one that can be seen"),
        (NetnsScope::Host, _, seen) => Item::ok(
            ID,
            format!(
                "this network namespace alone; {} more can be seen, which --netns all would watch too (with CAP_SYS_ADMIN \
                 and CAP_SYS_PTRACE)",
                seen - 1
            ),
        ),
        (NetnsScope::All, Some(Err(reason)), seen) => Item::missing(
            ID,
            format!(
                "no other network namespace can be entered ({reason}): the sockets, limits and counters of {} would be lost",
                match seen {
                    0 | 1 => "all but this one".to_owned(),
                    seen => format!("{} namespaces", seen - 1),
                }
            ),
            "give it CAP_SYS_ADMIN and let its sandbox allow setns(), or run it with --netns host",
        ),
        (NetnsScope::All, Some(Ok(())) | None, seen) => match lost {
            Some(lost) => Item::degraded(ID, lost, "give it CAP_SYS_PTRACE too"),
            None => Item::ok(ID, format!("all network namespaces, {seen} now: each is entered and told apart")),
        },
    }
}

fn sysctls(facts: &Facts) -> Vec<Item> {
    let sysctls = &facts.sysctls;
    let hidden = |id, metric: &str| {
        Item::degraded(
            id,
            format!("cannot be read, so {metric} is not exported"),
            "mount /proc with the sysctls of net.ipv4",
        )
    };
    let ports = match (sysctls.ip_local_port_range, sysctls.ephemeral_ports_available()) {
        (Some(range), Some(available)) => Item::ok(
            "sysctl.ip_local_port_range",
            format!("{}–{}: {available} ports for connections to one address and port", range.low, range.high),
        ),
        _ => hidden("sysctl.ip_local_port_range", "synfin_ephemeral_ports_available"),
    };
    let buckets = match sysctls.tcp_max_tw_buckets {
        Some(limit) => Item::ok("sysctl.tcp_max_tw_buckets", format!("{limit} TIME_WAIT sockets at most")),
        None => hidden("sysctl.tcp_max_tw_buckets", "synfin_time_wait_limit_sockets"),
    };
    let reuse = match sysctls.tcp_tw_reuse {
        Some(0) => "0: connect() never takes over a port in TIME_WAIT",
        Some(1) => "1: connect() may take over a port in TIME_WAIT",
        Some(2) => "2: connect() may take over a port in TIME_WAIT on loopback only",
        Some(_) | None => "not shown",
    };
    let cookies = match sysctls.tcp_syncookies {
        Some(2) => Item::degraded(
            "sysctl.tcp_syncookies",
            "2: every server handshake uses a SYN cookie, so none of their times can be measured",
            "sysctl -w net.ipv4.tcp_syncookies=1",
        ),
        Some(1) => Item::ok("sysctl.tcp_syncookies", "1: only under pressure; such handshakes count as unmeasured"),
        Some(0) => Item::ok("sysctl.tcp_syncookies", "0: never"),
        Some(_) | None => Item::ok("sysctl.tcp_syncookies", "not shown"),
    };
    let timestamps = match sysctls.tcp_timestamps {
        Some(0) => "0: tcp_tw_reuse has no effect",
        Some(_) => "on",
        None => "not shown",
    };
    let stats = match facts.bpf_stats_enabled {
        Some(1) => "1: runs and seconds of the probes are exported, at some cost each",
        Some(_) => "0: runs and seconds of the probes are not counted",
        None => "not shown",
    };
    vec![
        ports,
        buckets,
        Item::ok("sysctl.tcp_tw_reuse", reuse),
        cookies,
        Item::ok("sysctl.tcp_timestamps", timestamps),
        Item::ok("sysctl.bpf_stats_enabled", stats),
    ]
}

fn port(address: &str, state: &PortState) -> Item {
    const ID: &str = "listen";
    match state {
        PortState::Free => Item::ok(ID, format!("{address} is free")),
        PortState::Daemon => Item::ok(ID, format!("{address} is in use, and a synfin daemon is running")),
        PortState::Refused(reason) => Item::missing(
            ID,
            format!("{address} cannot be listened on: {reason}"),
            "stop what holds it (ss -ltnp), or choose another with --web.listen-address",
        ),
    }
}

#[cfg(test)]
#[path = "assess_tests.rs"]
mod tests;
