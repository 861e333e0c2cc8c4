//! Which capability for what, and that dropping drops: run in threads of their own, to whom capabilities belong.

use super::*;
use Capability::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE};

#[test]
fn what_is_missing_is_named() {
    let check = |bpf, perfmon, sys_admin, all_netns, expected: &[Capability]| {
        let held = Held { bpf, perfmon, sys_admin, ..Held::default() };
        let found: Vec<_> = missing(held, all_netns).iter().map(|missing| missing.capability).collect();
        assert_eq!(found, expected, "{held:?} all_netns={all_netns}");
    };
    check(true, true, false, false, &[]);
    check(false, false, true, false, &[]);
    check(false, false, true, true, &[]);
    check(false, false, false, false, &[CAP_BPF, CAP_PERFMON]);
    check(true, false, false, false, &[CAP_PERFMON]);
    check(false, true, false, false, &[CAP_BPF]);
    check(true, true, false, true, &[CAP_SYS_ADMIN]);
}

#[test]
fn all_namespaces_are_found_with_ptrace_only() {
    let check = |sys_ptrace, all_netns, lost| {
        let held = Held { sys_admin: true, sys_ptrace, ..Held::default() };
        assert_eq!(lost_without_ptrace(held, all_netns).is_some(), lost, "{held:?} all_netns={all_netns}");
    };
    check(false, false, false);
    check(true, true, false);
    check(false, true, true);
}

#[test]
fn old_kernels_keep_what_their_bpf_call_asks_for() {
    let check = |release: Option<(u16, u16)>, disabled, all_netns, expected: &[Capability]| {
        let release = release.map(|(major, minor)| KernelRelease::new(major, minor, 3));
        assert_eq!(keep_set(release, disabled, all_netns), expected, "{release:?} {disabled:?} {all_netns}");
    };
    check(Some((6, 18)), Some(2), false, &[]);
    check(Some((5, 19)), Some(2), false, &[]);
    check(Some((5, 18)), Some(2), false, &[CAP_BPF]);
    check(Some((5, 10)), Some(1), false, &[CAP_BPF]);
    check(Some((5, 10)), Some(0), false, &[]);
    check(Some((5, 10)), None, false, &[CAP_BPF]);
    check(None, Some(2), false, &[CAP_BPF]);
    check(Some((6, 18)), Some(2), true, &[CAP_SYS_ADMIN, CAP_SYS_PTRACE]);
    check(Some((5, 10)), Some(2), true, &[CAP_BPF, CAP_SYS_ADMIN, CAP_SYS_PTRACE]);
}

/// Runs `keep` through [`drop_all`] in a thread of its own; answers what it said and what the kernel says after.
fn dropped_in_a_thread(keep: Vec<Capability>) -> (Dropped, CapsHashSet, [CapsHashSet; 4], bool) {
    std::thread::spawn(move || {
        let before = caps::read(None, CapSet::Permitted).unwrap();
        let dropped = drop_all(&keep).unwrap();
        let sets = [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient]
            .map(|set| caps::read(None, set).unwrap());
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        (dropped, before, sets, status.contains("NoNewPrivs:\t1"))
    })
    .join()
    .unwrap()
}

#[test]
fn dropping_leaves_nothing() {
    let (dropped, before, sets, no_new_privs) = dropped_in_a_thread(Vec::new());
    assert!(sets.iter().all(CapsHashSet::is_empty), "{sets:?}");
    assert!(no_new_privs);
    assert_eq!((dropped.dropped.len(), dropped.kept.len()), (before.len(), 0));
    assert!(dropped.other_threads >= 1, "the test runs beside the main thread");
    assert_eq!(dropped.bounding_cleared, before.contains(&Capability::CAP_SETPCAP));
}

#[test]
fn what_is_to_be_kept_is_kept_if_it_was_held() {
    let (dropped, before, sets, _) = dropped_in_a_thread(vec![CAP_BPF]);
    let expected: CapsHashSet = before.iter().copied().filter(|capability| *capability == CAP_BPF).collect();
    assert_eq!(sets[0], expected);
    assert_eq!(sets[1], expected);
    assert_eq!(dropped.kept.contains(&CAP_BPF), before.contains(&CAP_BPF));
}

#[test]
fn the_log_line_is_honest() {
    let plain = Dropped {
        dropped: vec![CAP_BPF, CAP_PERFMON],
        kept: vec![],
        bounding_cleared: true,
        uid_zero: false,
        other_threads: 0,
    };
    assert_eq!(plain.to_string(), "2 capabilities dropped, none kept, no_new_privs set");
    let odd = Dropped { kept: vec![CAP_BPF], bounding_cleared: false, uid_zero: true, other_threads: 3, ..plain };
    assert_eq!(
        odd.to_string(),
        "2 capabilities dropped, kept CAP_BPF, no_new_privs set, bounding set not cleared (no CAP_SETPCAP), \
         but still user 0: files owned by root stay open to it, 3 other threads not touched"
    );
}

#[test]
fn the_memlock_bound_is_never_lowered() {
    let (_, hard) = read_memlock().unwrap();
    let raised = raise_memlock().unwrap();
    assert!(raised.is_none_or(|now| hard.is_some_and(|hard| now >= hard)));
    assert_eq!(read_memlock().unwrap().0, raised);
}
