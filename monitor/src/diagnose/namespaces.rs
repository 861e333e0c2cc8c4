//! Connections in namespaces that are not looked at: NS-001.

use super::Evidence;
use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify};
use super::text::{count, thousands};

/// NS-001: containers have TCP traffic of their own. Namespaces without any are no subject.
pub fn others_exist(e: &Evidence) -> Verdict {
    let namespaces = e.namespaces.or_missing("network namespaces were not counted")?;
    if namespaces.all_watched || namespaces.count <= 1 {
        return Ok(None);
    }
    let elsewhere = namespaces.elsewhere_transitions.or_missing("traffic of other namespaces was not watched")?;
    if elsewhere == 0 {
        return Ok(None);
    }
    Ok(Some(Finding {
        id: "NS-001",
        severity: Severity::Info,
        title: format!(
            "there is traffic outside these numbers, in {}",
            count(namespaces.count - 1, "other network namespace")
        ),
        whose: vec![format!("{} network namespaces on this host, one is watched", thousands(namespaces.count))],
        subjects: vec![],
        why: "A container counts its own sockets and has its own port range and limits. These numbers are of one namespace, \
              so they differ from what a container shows."
            .into(),
        measured: vec![
            Measured {
                name: "network namespaces",
                value: namespaces.count.into(),
                unit: "namespaces",
                source: "namespaces of the running processes",
            },
            Measured {
                name: "state changes elsewhere",
                value: elsewhere.into(),
                unit: "transitions",
                source: "counted by the probe over the window",
            },
        ],
        threshold: Threshold {
            value: 1_u64.into(),
            unit: "transitions",
            formula: "more than one namespace, not all watched, and TCP state changes outside".into(),
        },
        fixes: vec![
            "nothing, if this namespace is the one you ask about".into(),
            "synfin run --netns all, to watch them all (needs CAP_SYS_ADMIN)".into(),
            "or look into one container: nsenter -n -t PID synfin diagnose --socket ''".into(),
        ],
        not_helpful: vec!["changing sysctls of the host for a container: each namespace has its own".into()],
        verify: Verify {
            promql: "sum(synfin_time_wait_sockets)".into(),
            ss: "lsns -t net   # then, for one of them: nsenter -n -t PID ss -s".into(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule};
    use super::*;
    use crate::diagnose::Namespaces;
    use Expect::{Fires, Silent, Unchecked};

    #[test]
    fn other_namespaces_matter_when_they_have_traffic_and_are_not_watched() {
        let check = |name, count, all_watched, elsewhere_transitions, expected| {
            let namespaces = Namespaces { count, all_watched, elsewhere_transitions };
            check_rule(others_exist, name, |e| e.namespaces = Some(namespaces), expected);
        };
        check("one", 1, false, Some(0), Silent);
        check("two with traffic", 2, false, Some(1), Fires(Severity::Info));
        check("two without", 2, false, Some(0), Silent);
        check("all watched", 2, true, Some(1), Silent);
        check("traffic not watched", 2, false, None, Unchecked);
        check_rule(others_exist, "not counted", |e| e.namespaces = None, Unchecked);
    }
}
