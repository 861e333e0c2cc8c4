//! A [`Snapshot`] out of what the core has added up and what the edges have read.

use super::{
    Aggregates, CensusStatus, Figures, KernelCounters, Lost, PerState, Populations, ProbeStatus, SmallSockets,
    Snapshot, Units,
};
use crate::event::{CgroupId, TcpState};

/// What the core cannot know of itself, as read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    pub counters: KernelCounters,
    /// Runs of the probes that the kernel skipped.
    pub probe_missed: u64,
    pub undecodable: u64,
    pub ring_pending_bytes: u64,
    pub ring_size_bytes: u64,
    pub tracked_connections: u64,
    pub tracked_connections_limit: u64,
    pub census: CensusStatus,
    pub probes: Vec<ProbeStatus>,
    /// Unix seconds.
    pub started_unix_seconds: f64,
    /// As of the last census, brought up to date by [`SmallSockets::with_sockstat`].
    pub small: SmallSockets,
    /// Half-open requests of the last census by the cgroup of their listener.
    pub requests: Vec<(CgroupId, u64)>,
}

impl Aggregates {
    /// Puts a snapshot together, all but its figures. `name_unit` gives the value of label `unit` for a cgroup. Before the first census the numbers of sockets
    /// are 0 and `census.success` is false.
    pub fn fill(
        &self,
        readings: Readings,
        populations: &Populations,
        units: &mut Units,
        mut name_unit: impl FnMut(CgroupId) -> String,
    ) -> Snapshot {
        let sockets = match populations.full_sockets(&readings.counters.transitions) {
            Some(full) => readings.small.add_to(&full),
            None => [0; TcpState::COUNT],
        };
        let requests = readings.requests.iter().map(|&(cgroup, requests)| {
            let mut row: PerState<u64> = [0; TcpState::COUNT];
            row[TcpState::SynRecv.index()] = requests;
            (cgroup, row)
        });
        let rows = self.cgroups.rows().iter().copied().chain(requests);
        // A cgroup without sockets may be gone by now: nobody needs its name.
        let rows = rows.filter(|(_, row)| row.iter().any(|&sockets| sockets > 0));
        let unit_sockets = units.fold(rows.map(|(cgroup, row)| (name_unit(cgroup), row)), &sockets);
        Snapshot {
            transitions: readings.counters.transitions,
            other_protocol_transitions: readings.counters.other_protocol,
            other_netns_transitions: readings.counters.other_netns,
            odd_transitions: self.odd_transitions + readings.counters.odd_state,
            opened: self.opened,
            closed: self.closed,
            connect_failures: self.connect_failures,
            handshake: self.handshake.clone(),
            handshake_unmeasured: self.handshake_unmeasured,
            handshake_retransmits: self.handshake_retransmits,
            state_duration: self.state_duration.clone(),
            connection_duration: self.connection_duration.clone(),
            sockets,
            unit_sockets,
            events: readings.counters.records,
            lost: Lost {
                ring_full: readings.counters.ring_full,
                probe_missed: readings.probe_missed,
                undecodable: readings.undecodable,
                table_full: self.table_full,
            },
            healed: self.healed,
            ring_pending_bytes: readings.ring_pending_bytes,
            ring_size_bytes: readings.ring_size_bytes,
            ring_wakeups: readings.counters.wakeups,
            tracked_connections: readings.tracked_connections,
            tracked_connections_limit: readings.tracked_connections_limit,
            census: readings.census,
            probes: readings.probes,
            started_unix_seconds: readings.started_unix_seconds,
            units_folded: units.folded_total(),
            figures: Figures::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NetnsId;
    use crate::lifecycle::Outcome;

    fn row(cells: &[(TcpState, u64)]) -> PerState<u64> {
        let mut row = [0; TcpState::COUNT];
        cells.iter().for_each(|&(state, sockets)| row[state.index()] = sockets);
        row
    }

    #[test]
    fn sockets_come_from_counters_census_and_moves() {
        let mut aggregates = Aggregates::default();
        for cgroup in [1, 1, 2] {
            let to = Some(TcpState::Established);
            aggregates.apply(&Outcome::Moved { netns: NetnsId(1), cgroup: CgroupId(cgroup), from: None, to });
        }
        let mut readings = Readings {
            small: SmallSockets { time_wait: 7, fin_wait2: 1, requests: 3 },
            requests: vec![(CgroupId(2), 3)],
            ..Readings::default()
        };
        let (mut populations, mut units) = (Populations::default(), Units::new(9));
        let name = |cgroup: CgroupId| format!("unit{}", cgroup.0);
        assert_eq!(aggregates.fill(readings.clone(), &populations, &mut units, name).sockets, [0; TcpState::COUNT]);

        populations.audit(&row(&[(TcpState::Established, 4)]), &Default::default(), &Default::default(), true, None);
        readings.counters.transitions[TcpState::SynSent.index()][TcpState::Established.index()] = 2;
        let snapshot = aggregates.fill(readings, &populations, &mut units, name);
        let (established, requests) = (TcpState::Established, TcpState::SynRecv);
        assert_eq!(
            snapshot.sockets,
            row(&[(established, 6), (TcpState::FinWait2, 1), (TcpState::TimeWait, 7), (requests, 3)])
        );
        assert_eq!(
            snapshot.unit_sockets,
            [
                ("unit1".to_owned(), row(&[(established, 2)])),
                ("unit2".to_owned(), row(&[(established, 1), (requests, 3)])),
                ("other".to_owned(), row(&[(established, 3), (TcpState::FinWait2, 1)])),
            ]
        );
    }
}
