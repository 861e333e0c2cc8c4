//! The process's own capabilities and limits: what is missing and for what, and giving up what is no longer needed.

use std::fmt;

use caps::{CapSet, Capability, CapsHashSet};

use crate::host::KernelRelease;

/// What this thread may do now (its effective set).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub bpf: bool,
    pub perfmon: bool,
    pub sys_admin: bool,
    pub sys_resource: bool,
    pub sys_ptrace: bool,
    pub uid_zero: bool,
}

/// Reads [`Held`] of the calling thread.
pub fn read_held() -> Result<Held, caps::errors::CapsError> {
    let effective = caps::read(None, CapSet::Effective)?;
    let has = |capability| effective.contains(&capability);
    Ok(Held {
        bpf: has(Capability::CAP_BPF),
        perfmon: has(Capability::CAP_PERFMON),
        sys_admin: has(Capability::CAP_SYS_ADMIN),
        sys_resource: has(Capability::CAP_SYS_RESOURCE),
        sys_ptrace: has(Capability::CAP_SYS_PTRACE),
        // SAFETY: geteuid has no arguments and cannot fail.
        uid_zero: unsafe { libc::geteuid() } == 0,
    })
}

/// A capability that is not held, and what cannot be done without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub capability: Capability,
    pub needed_for: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (to {})", self.capability, self.needed_for)
    }
}

/// What is missing to load and attach the probes. CAP_SYS_ADMIN stands for both others, as in the kernel.
/// `all_netns` asks for entering other network namespaces too.
pub fn missing(held: Held, all_netns: bool) -> Vec<Missing> {
    let mut missing = Vec::new();
    if !held.bpf && !held.sys_admin {
        missing.push(Missing {
            capability: Capability::CAP_BPF,
            needed_for: "create the maps and the ring, and load inet_sock_set_state, tcp_retransmit_synack and iter_tcp",
        });
    }
    if !held.perfmon && !held.sys_admin {
        missing.push(Missing {
            capability: Capability::CAP_PERFMON,
            needed_for: "let inet_sock_set_state, tcp_retransmit_synack and iter_tcp read kernel memory",
        });
    }
    if all_netns && !held.sys_admin {
        missing.push(Missing {
            capability: Capability::CAP_SYS_ADMIN,
            needed_for: "enter other network namespaces for --netns all; without it their sockets, limits and counters are lost, and \
                         --netns host watches this one alone",
        });
    }
    missing
}

/// What `--netns all` loses without CAP_SYS_PTRACE, which finding namespaces asks for; `None` when nothing is lost.
pub fn lost_without_ptrace(held: Held, all_netns: bool) -> Option<&'static str> {
    (all_netns && !held.sys_ptrace).then_some(
        "CAP_SYS_PTRACE is missing: namespaces that have no name and only processes of other users are not found, so their sockets \
         and counters are in no figure",
    )
}

/// Capabilities that must outlive the attaching.
///
/// Until Linux 5.19 every `bpf()` call asked for CAP_BPF while `kernel.unprivileged_bpf_disabled` is set; later ones only
/// the calls that create or load. Entering namespaces asks for CAP_SYS_ADMIN every time.
/// An unknown release or sysctl counts as the careful case.
pub fn keep_set(
    release: Option<KernelRelease>,
    unprivileged_bpf_disabled: Option<u8>,
    all_netns: bool,
) -> Vec<Capability> {
    let old = release.is_none_or(|release| release < KernelRelease::new(5, 19, 0));
    let mut keep = Vec::new();
    if old && unprivileged_bpf_disabled != Some(0) {
        keep.push(Capability::CAP_BPF);
    }
    if all_netns {
        keep.push(Capability::CAP_SYS_ADMIN);
        // To open the namespaces of other processes.
        keep.push(Capability::CAP_SYS_PTRACE);
    }
    keep
}

/// What [`drop_all`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Given up for good, in the kernel's order.
    pub dropped: Vec<Capability>,
    /// Still permitted and effective.
    pub kept: Vec<Capability>,
    /// Cleared, so that no program started from here regains any; it takes CAP_SETPCAP.
    pub bounding_cleared: bool,
    /// Still user 0: without capabilities, but the owner of root's files, with what their mode bits allow an owner.
    pub uid_zero: bool,
    /// Threads of this process that were not touched: capabilities belong to a thread, and a thread can change only its own.
    pub other_threads: usize,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = match self.kept.as_slice() {
            [] => "none kept".to_owned(),
            kept => format!("kept {}", kept.iter().map(Capability::to_string).collect::<Vec<_>>().join(" ")),
        };
        write!(f, "{} capabilities dropped, {kept}, no_new_privs set", self.dropped.len())?;
        if !self.bounding_cleared {
            f.write_str(", bounding set not cleared (no CAP_SETPCAP)")?;
        }
        if self.uid_zero {
            f.write_str(", but still user 0: files owned by root stay open to it")?;
        }
        if self.other_threads > 0 {
            write!(f, ", {} other threads not touched", self.other_threads)?;
        }
        Ok(())
    }
}

/// Clears the permitted, effective, inheritable, ambient and (if it can) bounding sets but for `keep`, and sets no_new_privs.
///
/// Of the calling thread and of those it starts later: call it while the process has one thread.
pub fn drop_all(keep: &[Capability]) -> Result<Dropped, caps::errors::CapsError> {
    let before = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = before.iter().copied().filter(|capability| keep.contains(capability)).collect();

    // SAFETY: prctl with PR_SET_NO_NEW_PRIVS takes integers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(format!("PR_SET_NO_NEW_PRIVS: {}", std::io::Error::last_os_error()).as_str().into());
    }
    // The bounding set first: changing it takes CAP_SETPCAP, which goes with the others.
    let bounding = caps::read(None, CapSet::Bounding)?;
    let can_clear = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)?;
    let mut bounding_cleared = bounding.is_empty();
    if can_clear {
        for capability in bounding.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
        bounding_cleared = true;
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;

    let after = caps::read(None, CapSet::Permitted)?;
    let in_order = |set: &mut dyn Iterator<Item = Capability>| {
        let mut list: Vec<_> = set.collect();
        list.sort_by_key(|capability| capability.index());
        list
    };
    Ok(Dropped {
        dropped: in_order(&mut before.difference(&after).copied()),
        kept: in_order(&mut after.iter().copied()),
        bounding_cleared,
        // SAFETY: geteuid has no arguments and cannot fail.
        uid_zero: unsafe { libc::geteuid() } == 0,
        other_threads: std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count().saturating_sub(1)),
    })
}

/// Lifts the bound on locked memory, which kernels before 5.11 count maps against; with CAP_SYS_RESOURCE to infinity,
/// without it to the hard limit. Returns the limit now in force, in bytes; `None` is infinity.
pub fn raise_memlock() -> std::io::Result<Option<u64>> {
    let infinite = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `infinite` outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &infinite) } == 0 {
        return Ok(None);
    }
    let (_, hard) = read_memlock()?;
    let raised =
        libc::rlimit { rlim_cur: hard.unwrap_or(libc::RLIM_INFINITY), rlim_max: hard.unwrap_or(libc::RLIM_INFINITY) };
    // SAFETY: `raised` outlives the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raised) } {
        0 => Ok(hard),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Soft and hard bound on locked memory, in bytes; `None` is infinity.
pub fn read_memlock() -> std::io::Result<(Option<u64>, Option<u64>)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call and is of the type that getrlimit fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let bytes = |value| (value != libc::RLIM_INFINITY).then_some(value);
    Ok((bytes(limit.rlim_cur), bytes(limit.rlim_max)))
}

#[cfg(test)]
#[path = "privilege_tests.rs"]
mod tests;
