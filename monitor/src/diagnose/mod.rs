//! From evidence to findings: one pure function a rule, one file a family. No clock, no I/O.
//!
//! [`diagnose`] runs every rule of [`RULES`]; [`report`] presents what they say. A rule whose evidence is missing says so
//! ([`Unchecked`]) instead of guessing. A rule is one function here and one family of cases in its file.

mod bound_early;
mod buckets;
mod close_wait;
mod evidence;
mod exhausted;
mod fin_wait2;
mod finding;
#[cfg(test)]
pub(crate) mod fixture;
mod folklore;
pub mod formulas;
mod handshake;
mod harmless;
mod inbound;
mod namespaces;
mod no_pool;
mod outlook;
mod port_advice;
pub mod report;
mod resets;
mod reuse_idle;
mod subject;
pub mod sysctl_file;
pub mod text;
mod tuples;

pub use evidence::*;
pub use finding::*;
pub use subject::{Subject, subjects};

/// A rule: evidence in, verdict out.
pub type Rule = fn(&Evidence) -> Verdict;

/// Every rule by its stable id, in the order in which equally severe findings are shown.
pub const RULES: [(&str, Rule); 17] = [
    ("TW-003", exhausted::exhausted),
    ("TW-005", buckets::overflow),
    ("TW-002", tuples::past_the_knee),
    ("TW-004", bound_early::bound_early),
    ("TW-008", no_pool::no_pool),
    ("TW-007", inbound::one_client_near_its_range),
    ("TW-006", inbound::server_closes_first),
    ("HS-003", handshake::accept_queue_full),
    ("HS-002", handshake::slow_tail),
    ("HS-001", handshake::timeouts),
    ("CW-001", close_wait::leak),
    ("FW-001", fin_wait2::peers_do_not_close),
    ("TW-010", folklore::copied_advice),
    ("TW-009", reuse_idle::reuse_idle),
    ("RS-001", resets::instead_of_closes),
    ("NS-001", namespaces::others_exist),
    ("TW-001", harmless::harmless),
];

/// What all rules said of one evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The most severe first; never two with the same id.
    pub findings: Vec<Finding>,
    /// Rules that could not be checked, and why.
    pub unchecked: Vec<Unchecked>,
    /// The numbers of the line that says that all is well.
    pub facts: Facts,
}

/// Numbers worth saying even when nothing is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Facts {
    pub window_seconds: Option<f64>,
    pub time_wait_sockets: Option<u64>,
    pub ephemeral_ports_available: Option<u64>,
    /// Ports in use towards the busiest destination.
    pub busiest_destination_ports: Option<u64>,
    /// Records lost in the window: counts made from events are lower bounds unless it is 0.
    pub lost_records: Option<u64>,
    /// Connections that found the table full in the window.
    pub table_full_connections: Option<u64>,
    /// Sockets and transitions are of every network namespace of the host.
    pub all_namespaces: bool,
}

impl Diagnosis {
    /// The worst of the findings; `None` without any.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// Exit status of `synfin diagnose`: 1 when a finding is a warning or worse, else 0.
    pub fn exit_status(&self) -> u8 {
        u8::from(self.worst() >= Some(Severity::Warning))
    }

    /// The same of one rule alone.
    pub fn exit_status_of(&self, id: &str) -> u8 {
        let found = self.findings.iter().find(|finding| finding.id == id);
        u8::from(found.is_some_and(|finding| finding.severity >= Severity::Warning))
    }
}

/// Runs every rule.
pub fn diagnose(evidence: &Evidence) -> Diagnosis {
    let (mut findings, mut unchecked) = (vec![], vec![]);
    for (id, rule) in RULES {
        match rule(evidence) {
            Ok(Some(finding)) => findings.push(finding),
            Ok(None) => {}
            Err(Missing(why)) => unchecked.push(Unchecked { id, why }),
        }
    }
    // Stable: within a severity the order of the table stays.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    unchecked.sort_by_key(|unchecked| unchecked.id);
    let facts = Facts {
        window_seconds: evidence.window_seconds,
        time_wait_sockets: evidence.time_wait.as_ref().map(|time_wait| time_wait.total),
        ephemeral_ports_available: evidence.ports_available,
        busiest_destination_ports: evidence
            .tuples
            .as_ref()
            .map(|tuples| tuples.iter().map(|tuple| tuple.used).max().unwrap_or(0)),
        lost_records: evidence.lost.map(|lost| lost.records),
        table_full_connections: evidence.lost.map(|lost| lost.table_full),
        all_namespaces: evidence.namespaces.is_some_and(|namespaces| namespaces.all_watched),
    };
    Diagnosis { findings, unchecked, facts }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_has_its_own_id() {
        let ids: BTreeSet<_> = RULES.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), RULES.len());
    }

    #[test]
    fn a_host_in_order_has_no_finding_and_nothing_unchecked() {
        let diagnosis = diagnose(&fixture::in_order());
        assert_eq!((diagnosis.findings, diagnosis.unchecked), (vec![], vec![]));
    }

    #[test]
    fn without_evidence_every_rule_says_that_it_could_not_be_checked() {
        let diagnosis = diagnose(&Evidence::default());
        assert_eq!(diagnosis.findings, vec![]);
        assert_eq!(diagnosis.unchecked.len(), RULES.len());
        assert!(diagnosis.unchecked.iter().all(|unchecked| !unchecked.why.is_empty()));
    }

    #[test]
    fn the_exit_status_is_1_from_a_warning_on() {
        let check = |severities: &[Severity], status| {
            let findings = severities.iter().map(|&severity| fixture::finding(severity)).collect();
            let diagnosis = Diagnosis { findings, unchecked: vec![], facts: Facts::default() };
            assert_eq!(diagnosis.exit_status(), status, "{severities:?}");
        };
        check(&[], 0);
        check(&[Severity::Info], 0);
        check(&[Severity::Info, Severity::Warning], 1);
        check(&[Severity::Critical], 1);
    }

    #[test]
    fn the_most_severe_comes_first() {
        let diagnosis = diagnose(&fixture::a_bad_night());
        let severities: Vec<_> = diagnosis.findings.iter().map(|finding| finding.severity).collect();
        assert!(severities.is_sorted_by(|a, b| a >= b), "{severities:?}");
        assert!(severities.len() > 5);
    }
}
