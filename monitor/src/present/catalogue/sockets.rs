//! Rows about the sockets that exist now.

use std::collections::BTreeMap;

use crate::aggregate::PerState;
use crate::event::TcpState::{self, *};
use crate::present::{Kind, Metric};

/// States whose sockets have an owner. TIME_WAIT sockets have none, and sockets in CLOSE are in no table of the kernel.
const OWNED: [TcpState; 9] = [Established, SynSent, SynRecv, FinWait1, FinWait2, CloseWait, LastAck, Listen, Closing];

pub const METRICS: &[Metric] = &[
    Metric {
        name: "synfin_tcp_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["state"],
        help: "TCP sockets in each state now, as ss counts them: TIME_WAIT is included, and half-open requests \
               (NEW_SYN_RECV) are in syn_recv.",
        read: |reading, samples| {
            for state in TcpState::ALL.into_iter().filter(|state| *state != NewSynRecv) {
                samples.count(&[state.label()], reading.snapshot.sockets[state.index()]);
            }
        },
    },
    Metric {
        name: "synfin_tcp_unit_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["unit", "state"],
        help: "TCP sockets by systemd unit or cgroup, in the states that have an owner; what is beyond the bound is \
               in unit other, so that the sum over units is synfin_tcp_sockets.",
        read: |reading, samples| {
            // Two cgroups may have names that read alike; a page with a series twice would be refused.
            let mut units: BTreeMap<&str, PerState<u64>> = BTreeMap::new();
            for (unit, sockets) in &reading.snapshot.unit_sockets {
                let sums = units.entry(unit).or_default();
                for (sum, count) in sums.iter_mut().zip(sockets) {
                    *sum += count;
                }
            }
            for (unit, sockets) in units {
                for state in OWNED {
                    samples.count(&[unit, state.label()], sockets[state.index()]);
                }
            }
        },
    },
];
