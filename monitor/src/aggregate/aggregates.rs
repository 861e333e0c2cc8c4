//! The tracker's outcomes, added up.

use super::bounds::{DURATION_NS, HANDSHAKE_NS};
use super::{CgroupSockets, Histogram, NetnsSockets, PerRole, PerState};
use crate::lifecycle::{Close, ConnectFailure, HandshakeTime, Outcome, Role, Unmeasured, is_attempt};

/// Handshakes that wait for the cookie counter. More of them between two looks at it than this can only be cookies.
const SUSPECTS_LIMIT: usize = 4096;

/// Counters and histograms since the start, and the followed sockets by cgroup.
#[derive(Clone, Debug)]
pub struct Aggregates {
    pub opened: PerRole<u64>,
    pub closed: PerRole<[u64; Close::COUNT]>,
    pub connect_failures: [u64; ConnectFailure::COUNT],
    pub handshake: PerRole<Histogram>,
    pub handshake_unmeasured: PerRole<[u64; Unmeasured::COUNT]>,
    pub handshake_retransmits: PerRole<u64>,
    pub state_duration: PerState<Histogram>,
    pub connection_duration: PerRole<Histogram>,
    /// Records that showed an earlier loss.
    pub healed: u64,
    /// Records with a pair of states that no known kernel makes.
    pub odd_transitions: u64,
    /// Sockets that the full table let go of or did not take.
    pub table_full: u64,
    pub cgroups: CgroupSockets,
    /// `Some` where several namespaces are watched.
    pub netns: Option<NetnsSockets>,
    /// Nanoseconds, with the role.
    suspects: Vec<(Role, u64)>,
}

impl Default for Aggregates {
    fn default() -> Self {
        Self {
            opened: [0; Role::COUNT],
            closed: [[0; Close::COUNT]; Role::COUNT],
            connect_failures: [0; ConnectFailure::COUNT],
            handshake: std::array::from_fn(|_| Histogram::new(&HANDSHAKE_NS)),
            handshake_unmeasured: [[0; Unmeasured::COUNT]; Role::COUNT],
            handshake_retransmits: [0; Role::COUNT],
            state_duration: std::array::from_fn(|_| Histogram::new(&DURATION_NS)),
            connection_duration: std::array::from_fn(|_| Histogram::new(&DURATION_NS)),
            healed: 0,
            odd_transitions: 0,
            table_full: 0,
            cgroups: CgroupSockets::default(),
            netns: None,
            suspects: Vec::with_capacity(SUSPECTS_LIMIT),
        }
    }
}

impl Aggregates {
    /// Counts sockets by namespace as well.
    pub fn by_netns(self) -> Self {
        Self { netns: Some(NetnsSockets::default()), ..self }
    }

    /// Takes in one outcome.
    pub fn apply(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Moved { netns, cgroup, from, to } => {
                self.cgroups.apply(*cgroup, *from, *to);
                if let Some(by_netns) = &mut self.netns {
                    by_netns.apply(*netns, *from, *to);
                }
            }
            Outcome::Opened { role, handshake } => {
                self.opened[role.index()] += 1;
                self.apply_handshake(*role, *handshake);
            }
            Outcome::HandshakeRetransmits { role, count } => {
                self.handshake_retransmits[role.index()] += u64::from(*count);
            }
            Outcome::Dwelt { state, duration_ns } => self.state_duration[state.index()].observe(*duration_ns),
            // A child that never reached a synchronized state was not opened, so it is not closed.
            Outcome::Finished(end) if end.from.is_synchronized() => {
                self.closed[end.role.index()][end.close.index()] += 1;
                if let Some(lifetime_ns) = end.lifetime_ns {
                    self.connection_duration[end.role.index()].observe(lifetime_ns);
                }
            }
            Outcome::Finished(_) => {}
            Outcome::Failed(end) => self.connect_failures[end.reason.index()] += 1,
            Outcome::Healed { .. } => self.healed += 1,
            Outcome::EndMissed { last, role } => {
                self.healed += 1;
                // Attempts and openings are counted, so their ends must be, however little is known of them.
                if last.is_synchronized() {
                    self.closed[role.index()][Close::Unknown.index()] += 1;
                } else if is_attempt(*last, *role) {
                    self.connect_failures[ConnectFailure::Other.index()] += 1;
                }
            }
            Outcome::Evicted { .. } | Outcome::TableFull => self.table_full += 1,
            Outcome::Odd { .. } => self.odd_transitions += 1,
        }
    }

    fn apply_handshake(&mut self, role: Role, handshake: HandshakeTime) {
        match handshake {
            HandshakeTime::Measured(ns) => self.handshake[role.index()].observe(ns),
            HandshakeTime::Unmeasured(reason) => self.handshake_unmeasured[role.index()][reason.index()] += 1,
            HandshakeTime::Suspect(us) if self.suspects.len() < SUSPECTS_LIMIT => {
                self.suspects.push((role, us.saturating_mul(1000)));
            }
            HandshakeTime::Suspect(_) => self.count_cookie(role),
        }
    }

    fn count_cookie(&mut self, role: Role) {
        self.handshake_unmeasured[role.index()][Unmeasured::SynCookie.index()] += 1;
    }

    /// Decides on the handshakes of whole milliseconds since the last call: `cookies` is by how much `SyncookiesRecv` grew meanwhile in the
    /// followed namespaces, `None` if it cannot be read. Without cookies they are true; otherwise nobody can tell which are.
    pub fn resolve_suspects(&mut self, cookies: Option<u64>) {
        let mut suspects = std::mem::take(&mut self.suspects);
        for (role, ns) in suspects.drain(..) {
            match cookies {
                Some(0) => self.handshake[role.index()].observe(ns),
                Some(_) | None => self.count_cookie(role),
            }
        }
        self.suspects = suspects;
    }

    /// Handshakes that wait for [`Self::resolve_suspects`].
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TcpState;
    use crate::lifecycle::samples::FINISHED;
    use crate::lifecycle::{Failed, Finished};

    /// Everything that is not zero, by name.
    fn counted(outcomes: &[Outcome]) -> Vec<String> {
        let mut aggregates = Aggregates::default();
        outcomes.iter().for_each(|outcome| aggregates.apply(outcome));
        said(&aggregates)
    }

    fn said(a: &Aggregates) -> Vec<String> {
        let mut said = Vec::new();
        let mut say = |name: String, value: u64| {
            if value > 0 {
                said.push(format!("{name} {value}"));
            }
        };
        for reason in ConnectFailure::ALL {
            say(format!("failed {}", reason.label()), a.connect_failures[reason.index()]);
        }
        for role in Role::ALL {
            let (at, role) = (role.index(), role.label());
            say(format!("opened {role}"), a.opened[at]);
            for close in Close::ALL {
                say(format!("closed {role} {}", close.label()), a.closed[at][close.index()]);
            }
            say(format!("handshake {role}"), a.handshake[at].count());
            for reason in Unmeasured::ALL {
                say(format!("unmeasured {role} {}", reason.label()), a.handshake_unmeasured[at][reason.index()]);
            }
            say(format!("retransmits {role}"), a.handshake_retransmits[at]);
            say(format!("lifetime {role}"), a.connection_duration[at].count());
        }
        for state in TcpState::ALL {
            say(format!("dwelt {}", state.label()), a.state_duration[state.index()].count());
        }
        say("healed".into(), a.healed);
        say("odd".into(), a.odd_transitions);
        say("table full".into(), a.table_full);
        said
    }

    #[test]
    fn every_outcome_has_its_number() {
        let check = |outcome, expected: &[&str]| assert_eq!(counted(&[outcome]), expected, "{outcome:?}");
        use Role::{Client, Server, Unknown};
        let opened = |role, handshake| Outcome::Opened { role, handshake };
        let failed = Failed {
            at: FINISHED.at,
            socket: FINISHED.socket,
            netns: FINISHED.netns,
            cgroup: FINISHED.cgroup,
            tuple: FINISHED.tuple,
            owner: FINISHED.owner,
            reason: ConnectFailure::NoLocalPort,
            sk_err: 0,
            lasted_ns: Some(1),
            retransmits: 0,
        };

        check(opened(Client, HandshakeTime::Measured(1)), &["opened client 1", "handshake client 1"]);
        check(
            opened(Server, HandshakeTime::Unmeasured(Unmeasured::SynCookie)),
            &["opened server 1", "unmeasured server syn_cookie 1"],
        );
        check(Outcome::HandshakeRetransmits { role: Server, count: 3 }, &["retransmits server 3"]);
        check(Outcome::Dwelt { state: TcpState::CloseWait, duration_ns: 1 }, &["dwelt close_wait 1"]);
        check(Outcome::Finished(FINISHED), &["closed client local 1", "lifetime client 1"]);
        check(Outcome::Finished(Finished { lifetime_ns: None, ..FINISHED }), &["closed client local 1"]);
        check(Outcome::Finished(Finished { from: TcpState::SynRecv, ..FINISHED }), &[]);
        check(Outcome::Failed(failed), &["failed no_local_port 1"]);
        check(Outcome::Healed { stored: TcpState::SynSent, reported: TcpState::Established }, &["healed 1"]);
        check(
            Outcome::EndMissed { last: TcpState::Established, role: Unknown },
            &["closed unknown unknown 1", "healed 1"],
        );
        check(Outcome::EndMissed { last: TcpState::SynSent, role: Client }, &["failed other 1", "healed 1"]);
        check(Outcome::EndMissed { last: TcpState::SynRecv, role: Server }, &["healed 1"]);
        check(Outcome::EndMissed { last: TcpState::Listen, role: Unknown }, &["healed 1"]);
        check(Outcome::Evicted { last: TcpState::Established, role: Client }, &["table full 1"]);
        check(Outcome::TableFull, &["table full 1"]);
        check(Outcome::Odd { from: TcpState::Close, to: TcpState::Closing }, &["odd 1"]);
    }

    #[test]
    fn suspects_wait_for_the_cookie_counter() {
        let check = |cookies, suspects: usize, expected: &[&str]| {
            let mut aggregates = Aggregates::default();
            let suspect = Outcome::Opened { role: Role::Server, handshake: HandshakeTime::Suspect(40_000) };
            (0..suspects).for_each(|_| aggregates.apply(&suspect));
            aggregates.resolve_suspects(cookies);
            assert_eq!(said(&aggregates)[1..], *expected);
            assert_eq!(aggregates.suspects(), 0);
        };
        check(Some(0), 2, &["handshake server 2"]);
        check(Some(1), 2, &["unmeasured server syn_cookie 2"]);
        check(None, 2, &["unmeasured server syn_cookie 2"]);
        check(Some(0), 4100, &["handshake server 4096", "unmeasured server syn_cookie 4"]);
    }
}
