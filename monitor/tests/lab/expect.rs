//! What a scripted life must do to the counters, built from the paths of its sockets through the states.

use super::page::Page;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
    Unknown,
}

impl Role {
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Unknown => "unknown",
        }
    }
}

/// Usual paths, as the tracepoint shows them (TIME_WAIT has no event).
pub const CLIENT_CLOSES: &str = "close syn_sent established fin_wait1 fin_wait2 close";
pub const CLIENT_FOLLOWS: &str = "close syn_sent established close_wait last_ack close";
pub const CLIENT_RESET: &str = "close syn_sent established close";
pub const SERVER_CLOSES: &str = "listen syn_recv established fin_wait1 fin_wait2 close";
pub const SERVER_FOLLOWS: &str = "listen syn_recv established close_wait last_ack close";
pub const SERVER_RESET: &str = "listen syn_recv established close";
pub const LISTENER: &str = "close listen close";
pub const NO_CONNECTION: &str = "close syn_sent close";

/// Deltas of counters by series; a series that is not in it must not move.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect(pub BTreeMap<String, f64>);

impl Expect {
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds `count` to any series.
    pub fn series(mut self, series: String, count: u64) -> Self {
        *self.0.entry(series).or_default() += count as f64;
        self
    }

    /// The transitions of one socket, and nothing that follows from them.
    pub fn transitions(mut self, path: &str) -> Self {
        let states: Vec<&str> = path.split(' ').collect();
        for step in states.windows(2) {
            let series = format!("synfin_tcp_transitions_total{{from=\"{}\",to=\"{}\"}}", step[0], step[1]);
            self = self.series(series, 1);
        }
        self
    }

    pub fn listener(self) -> Self {
        self.transitions(LISTENER)
    }

    /// A whole connection that opened with a measured handshake and ended with `close`.
    pub fn connection(self, role: Role, path: &str, close: &str) -> Self {
        self.opened(role, path).measured(role).ended(role, close)
    }

    /// A connection that opened within the life: its transitions, the attempt of a client, and the opening.
    pub fn opened(self, role: Role, path: &str) -> Self {
        let role_label = role.label();
        let opened = self
            .transitions(path)
            .durations(role, path)
            .series(format!("synfin_tcp_connections_opened_total{{role=\"{role_label}\"}}"), 1);
        match role {
            Role::Client => opened.attempt(),
            Role::Server | Role::Unknown => opened,
        }
    }

    /// A connection that was open before the daemon looked: `path` starts with the state it was found in.
    pub fn found_open(self, path: &str, close: &str) -> Self {
        self.transitions(path).durations(Role::Unknown, path).ended(Role::Unknown, close)
    }

    /// One duration for each state of `path` that is both entered and left in it. Not for LISTEN, and not for the SYN_RECV of a
    /// listener's child, which lasts microseconds and measures nothing.
    fn durations(self, role: Role, path: &str) -> Self {
        let mut states: Vec<&str> = path.split(' ').collect();
        states.dedup();
        let inner = states.get(1..states.len() - 1).unwrap_or_default();
        let measured =
            inner.iter().filter(|state| **state != "listen" && (role != Role::Server || **state != "syn_recv"));
        measured.fold(self, |sum, state| sum.series(duration_of(state), 1))
    }

    pub fn attempt(self) -> Self {
        self.series("synfin_tcp_connect_attempts_total".to_owned(), 1)
    }

    pub fn measured(self, role: Role) -> Self {
        self.series(format!("synfin_tcp_handshake_seconds_count{{role=\"{}\"}}", role.label()), 1)
    }

    pub fn unmeasured(self, role: Role, reason: &str) -> Self {
        let role = role.label();
        self.series(format!("synfin_tcp_handshake_unmeasured_total{{reason=\"{reason}\",role=\"{role}\"}}"), 1)
    }

    /// A connection left the synchronized states; its duration is known when its opening was seen.
    pub fn ended(self, role: Role, close: &str) -> Self {
        let label = role.label();
        let closed =
            self.series(format!("synfin_tcp_connections_closed_total{{close=\"{close}\",role=\"{label}\"}}"), 1);
        match role {
            Role::Client | Role::Server => {
                closed.series(format!("synfin_tcp_connection_duration_seconds_count{{role=\"{label}\"}}"), 1)
            }
            Role::Unknown => closed,
        }
    }

    /// A connect() that entered SYN_SENT and did not reach ESTABLISHED.
    pub fn failed(self, path: &str, reason: &str) -> Self {
        self.transitions(path)
            .durations(Role::Client, path)
            .attempt()
            .series(format!("synfin_tcp_connect_failures_total{{reason=\"{reason}\"}}"), 1)
    }

    pub fn retransmits(self, role: Role, count: u64) -> Self {
        self.series(format!("synfin_tcp_handshake_retransmits_total{{role=\"{}\"}}", role.label()), count)
    }

    /// The same life `count` times over.
    pub fn times(self, count: u64) -> Self {
        Self(self.0.into_iter().map(|(series, value)| (series, value * count as f64)).collect())
    }

    pub fn and(self, other: Self) -> Self {
        other.0.into_iter().fold(self, |sum, (series, value)| sum.series(series, value as u64))
    }

    /// The transitions alone: what the witness can confirm.
    pub fn only_transitions(&self) -> BTreeMap<String, f64> {
        self.0
            .iter()
            .filter(|(series, _)| series.starts_with("synfin_tcp_transitions_total"))
            .map(|(s, v)| (s.clone(), *v))
            .collect()
    }

    /// One line for each series that differs from `seen`; empty when all is as expected.
    ///
    /// FIN_WAIT2 may be measured or not: whether a closed socket ends it itself or hands it to a small one, whose end has no
    /// event, depends on which of two segments the peer's kernel sends first.
    pub fn differences(&self, seen: &Page) -> Vec<String> {
        let mut expected = self.0.clone();
        let fin_wait2 = duration_of("fin_wait2");
        let most = expected.remove(&fin_wait2).unwrap_or(0.0);
        let measured = seen.0.get(&fin_wait2).copied().unwrap_or(0.0);
        expected.insert(fin_wait2, measured.min(most));
        differences(&expected, &seen.0)
    }
}

fn duration_of(state: &str) -> String {
    format!("synfin_tcp_state_duration_seconds_count{{state=\"{state}\"}}")
}

/// Lines `series: expected 2, seen 3` for all series in which the two maps differ.
pub fn differences(expected: &BTreeMap<String, f64>, seen: &BTreeMap<String, f64>) -> Vec<String> {
    let mut series: Vec<&String> = expected.keys().chain(seen.keys()).collect();
    series.sort_unstable();
    series.dedup();
    let line = |series: &String| {
        let (want, got) = (expected.get(series).unwrap_or(&0.0), seen.get(series).unwrap_or(&0.0));
        (want != got).then(|| format!("{series}: expected {want}, seen {got}"))
    };
    series.into_iter().filter_map(line).collect()
}
