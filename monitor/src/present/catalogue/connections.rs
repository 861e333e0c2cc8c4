//! Rows about connections: transitions, openings, ends, handshakes, durations.

use crate::aggregate::OTHER;
use crate::event::TcpState;
use crate::lifecycle::{self, ConnectFailure, DWELL_STATES, Role, TransitionKind, Unmeasured, transition_kind};
use crate::present::{Kind, Metric};

/// Whether Linux (5.10 to 6.18) can make this transition for TCP; others are exported once they are counted.
fn can_follow(from: TcpState, to: TcpState) -> bool {
    transition_kind(from, to) != TransitionKind::Odd
}

/// Which handshakes can go unmeasured, and why.
fn can_be_unmeasured(role: Role, reason: Unmeasured) -> bool {
    match (role, reason) {
        (Role::Server, _) => true,
        // Cookies and SYN-ACKs are the server's.
        (Role::Client, Unmeasured::SynCookie | Unmeasured::SynackRetransmitted) => false,
        (Role::Client, Unmeasured::Preexisting | Unmeasured::EventLost | Unmeasured::NoSample) => true,
        (Role::Unknown, _) => false,
    }
}

/// The two roles of a handshake.
const SIDES: [Role; 2] = [Role::Client, Role::Server];

pub const METRICS: &[Metric] = &[
    Metric {
        name: "synfin_tcp_transitions_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["from", "to"],
        help: "TCP state changes that the kernel reported, counted in the kernel: exact even when records are lost. \
               The kernel reports no change to TIME_WAIT; a change to CLOSE may begin one.",
        read: |reading, samples| {
            for from in TcpState::ALL {
                for to in TcpState::ALL {
                    let count = reading.snapshot.transitions[from.index()][to.index()];
                    samples.count_if(can_follow(from, to), &[from.label(), to.label()], count);
                }
            }
        },
    },
    Metric {
        name: "synfin_tcp_connections_opened_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["role"],
        help: "Connections that reached ESTABLISHED; role client opened actively, server passively.",
        read: |reading, samples| {
            for role in Role::ALL {
                samples.count(&[role.label()], reading.snapshot.opened[role.index()]);
            }
        },
    },
    Metric {
        name: "synfin_tcp_connections_closed_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["role", "close"],
        help: "Connections that left the synchronized states, by who closed first or what cut them short: \
               local means that this side's FIN went first.",
        read: |reading, samples| {
            for role in Role::ALL {
                for close in lifecycle::Close::ALL {
                    let count = reading.snapshot.closed[role.index()][close.index()];
                    samples.count(&[role.label(), close.label()], count);
                }
            }
        },
    },
    Metric {
        name: "synfin_tcp_endpoint_closes_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["role", "endpoint", "unit", "close"],
        help: "The same by endpoint (remote for role client, local for role server) and unit: those that closed the most, \
               the rest in other, which also takes what a row had counted that lost its place. The sum is \
               synfin_tcp_connections_closed_total; a connection whose opening was not seen may have its role by the listening ports.",
        read: |reading, samples| {
            for row in &reading.snapshot.figures.closes.rows {
                for role in Role::ALL {
                    let counts = row.closed.0[role.index()];
                    // An endpoint has one role, as a rule.
                    if row.endpoint != OTHER && counts == [0; lifecycle::Close::COUNT] {
                        continue;
                    }
                    for close in lifecycle::Close::ALL {
                        samples.count(&[role.label(), &row.endpoint, &row.unit, close.label()], counts[close.index()]);
                    }
                }
            }
        },
    },
    Metric {
        name: "synfin_tcp_connect_attempts_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Sockets that entered SYN_SENT: counted in the kernel, as all transitions are, so exact whatever the ring loses. Connects that were under way when the daemon \
               started are not in it, though their openings and failures are counted.",
        read: |reading, samples| samples.count(&[], reading.snapshot.connect_attempts()),
    },
    Metric {
        name: "synfin_tcp_connect_failures_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["reason"],
        help: "Sockets that left SYN_SENT without reaching ESTABLISHED, by reason.",
        read: |reading, samples| {
            for reason in ConnectFailure::ALL {
                samples.count(&[reason.label()], reading.snapshot.connect_failures[reason.index()]);
            }
        },
    },
    Metric {
        name: "synfin_tcp_handshake_seconds",
        kind: Kind::Histogram,
        unit: Some("seconds"),
        labels: &["role"],
        help: "Duration of handshakes: client from the SYN to ESTABLISHED, server from the first SYN-ACK to the last ACK.",
        read: |reading, samples| {
            for role in SIDES {
                samples.histogram(&[role.label()], &reading.snapshot.handshake[role.index()]);
            }
        },
    },
    Metric {
        name: "synfin_tcp_handshake_unmeasured_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["role", "reason"],
        help: "Handshakes that have no honest duration and are in no bucket of synfin_tcp_handshake_seconds, by reason.",
        read: |reading, samples| {
            for role in Role::ALL {
                for reason in Unmeasured::ALL {
                    let count = reading.snapshot.handshake_unmeasured[role.index()][reason.index()];
                    samples.count_if(can_be_unmeasured(role, reason), &[role.label(), reason.label()], count);
                }
            }
        },
    },
    Metric {
        name: "synfin_tcp_handshake_retransmits_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["role"],
        help: "SYN (client) and SYN-ACK (server) retransmissions of connections that opened or failed.",
        read: |reading, samples| {
            for role in Role::ALL {
                let count = reading.snapshot.handshake_retransmits[role.index()];
                samples.count_if(SIDES.contains(&role), &[role.label()], count);
            }
        },
    },
    Metric {
        name: "synfin_tcp_state_duration_seconds",
        kind: Kind::Histogram,
        unit: Some("seconds"),
        labels: &["state"],
        help: "Time that a socket spent in a state, taken when it left; only where both entry and exit were seen.",
        read: |reading, samples| {
            for state in TcpState::ALL {
                let histogram = &reading.snapshot.state_duration[state.index()];
                if DWELL_STATES.contains(&state) || histogram.count() > 0 {
                    samples.histogram(&[state.label()], histogram);
                }
            }
        },
    },
    Metric {
        name: "synfin_tcp_connection_duration_seconds",
        kind: Kind::Histogram,
        unit: Some("seconds"),
        labels: &["role"],
        help: "Life of a connection, from ESTABLISHED to its end; only where ESTABLISHED was seen.",
        read: |reading, samples| {
            for role in Role::ALL {
                samples.histogram(&[role.label()], &reading.snapshot.connection_duration[role.index()]);
            }
        },
    },
];
