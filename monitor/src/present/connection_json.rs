//! The same as one JSON object: what `synfin trace --json` prints, one a line. Fields are a contract: they may be added, never renamed.
//!
//! What is not known is `null`; ports in host order, IPv4 in dotted form; durations in nanoseconds (`_ns`).

use std::net::Ipv6Addr;

use serde::Serialize;

use super::{WallTime, comm_text};
use crate::event::{Detail, Owner, Transition, Tuple};
use crate::lifecycle::{Failed, Finished};

/// Fields that every line has.
#[derive(Serialize)]
struct Common<'a> {
    /// `connection`, `connect_failure` or `transition`.
    event: &'static str,
    /// When it ended or changed, RFC 3339, UTC.
    time: String,
    /// systemd unit, or path of the cgroup.
    unit: &'a str,
    cgroup_id: Option<u64>,
    /// Inode number of the network namespace.
    netns: u32,
    /// Address of the kernel's socket, hexadecimal; unique among the living only.
    skaddr: String,
    /// Of whoever called connect() or listen().
    pid: Option<u32>,
    comm: Option<String>,
    saddr: Option<String>,
    sport: Option<u16>,
    daddr: Option<String>,
    dport: Option<u16>,
}

#[derive(Serialize)]
struct Connection<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    /// `client`, `server`, `unknown`.
    role: &'static str,
    /// `local`, `remote`, `simultaneous`, `reset`, `timeout`, `unknown`.
    close: &'static str,
    /// Whose FIN went first: `local`, `remote`, `both`, `none`.
    first_fin: &'static str,
    /// The small socket that follows: `time_wait`, `fin_wait2`, `none`.
    wait: &'static str,
    /// The last state; `syn_recv` for a passive child that never opened.
    oldstate: &'static str,
    /// The errno it ended with, or 0.
    sk_err: u32,
    handshake_ns: Option<u64>,
    lifetime_ns: Option<u64>,
    half_closed_ns: Option<u64>,
    bytes_sent: u64,
    bytes_received: u64,
    retransmits: u32,
}

#[derive(Serialize)]
struct ConnectFailure<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    /// As label `reason` of `synfin_tcp_connect_failures_total`.
    reason: &'static str,
    sk_err: u32,
    /// From the SYN on.
    lasted_ns: Option<u64>,
    retransmits: u32,
}

#[derive(Serialize)]
struct StateChange<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    oldstate: &'static str,
    newstate: &'static str,
    /// Nanoseconds since boot, by the kernel's monotonic clock.
    kernel_time_ns: u64,
}

impl<'a> Common<'a> {
    fn new(
        event: &'static str,
        wall: WallTime,
        unit: &'a str,
        ids: (u64, u64, u32),
        tuple: Option<&Tuple>,
        owner: Option<&Owner>,
    ) -> Self {
        let (skaddr, cgroup_id, netns) = ids;
        let tuple = tuple.filter(|tuple| **tuple != Tuple::UNKNOWN);
        let owner = owner.filter(|owner| owner.tgid != 0);
        Self {
            event,
            time: wall.to_string(),
            unit,
            cgroup_id: (cgroup_id != 0).then_some(cgroup_id),
            netns,
            skaddr: format!("{skaddr:#x}"),
            pid: owner.map(|owner| owner.tgid),
            comm: owner.map(|owner| comm_text(&owner.comm)),
            saddr: tuple.map(|tuple| address(tuple.saddr)),
            sport: tuple.map(|tuple| tuple.sport).filter(|&port| port != 0),
            daddr: tuple.map(|tuple| address(tuple.daddr)),
            dport: tuple.map(|tuple| tuple.dport).filter(|&port| port != 0),
        }
    }
}

fn address(bytes: [u8; 16]) -> String {
    let addr = Ipv6Addr::from(bytes);
    addr.to_ipv4_mapped().map_or_else(|| addr.to_string(), |v4| v4.to_string())
}

/// A connection that has ended, at `wall`. Without a line break.
pub fn finished_json(end: &Finished, unit: &str, wall: WallTime) -> serde_json::Result<String> {
    let ids = (end.socket.0, end.cgroup.0, end.netns.0);
    serde_json::to_string(&Connection {
        common: Common::new("connection", wall, unit, ids, Some(&end.tuple), Some(&end.owner)),
        role: end.role.label(),
        close: end.close.label(),
        first_fin: end.first_fin().label(),
        wait: end.wait.label(),
        oldstate: end.from.label(),
        sk_err: end.sk_err,
        handshake_ns: end.handshake_ns,
        lifetime_ns: end.lifetime_ns,
        half_closed_ns: end.half_closed_ns,
        bytes_sent: end.bytes_sent,
        bytes_received: end.bytes_received,
        retransmits: end.retransmits,
    })
}

/// A connect() that failed, at `wall`. Without a line break.
pub fn failed_json(end: &Failed, unit: &str, wall: WallTime) -> serde_json::Result<String> {
    let ids = (end.socket.0, end.cgroup.0, end.netns.0);
    serde_json::to_string(&ConnectFailure {
        common: Common::new("connect_failure", wall, unit, ids, Some(&end.tuple), Some(&end.owner)),
        reason: end.reason.label(),
        sk_err: end.sk_err,
        lasted_ns: end.lasted_ns,
        retransmits: end.retransmits,
    })
}

/// One state change, at `wall`. Without a line break.
pub fn transition_json(t: &Transition, unit: &str, wall: WallTime) -> serde_json::Result<String> {
    let (tuple, owner) = match &t.detail {
        Detail::Step => (None, None),
        Detail::Start { tuple, owner } => (Some(tuple), Some(owner)),
        Detail::Open(open) => (Some(&open.tuple), None),
        Detail::End(end) => (Some(&end.tuple), None),
    };
    serde_json::to_string(&StateChange {
        common: Common::new("transition", wall, unit, (t.socket.0, t.cgroup.0, t.netns.0), tuple, owner),
        oldstate: t.from.label(),
        newstate: t.to.label(),
        kernel_time_ns: t.at.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, TcpState};
    use crate::lifecycle::samples::{self, FINISHED};

    const WALL: WallTime = WallTime { unix_ms: 1_795_317_165_123 };

    #[test]
    fn a_connection_is_one_object() {
        let end = Finished { tuple: samples::tuple(40_000), ..FINISHED };
        let expected = concat!(
            r#"{"event":"connection","time":"2026-11-22T03:12:45.123Z","unit":"curl.service","cgroup_id":25,"#,
            r#""netns":4026531840,"skaddr":"0xffff888100004000","pid":7,"comm":"curl","#,
            r#""saddr":"192.0.2.1","sport":40000,"daddr":"198.51.100.2","dport":443,"#,
            r#""role":"client","close":"local","first_fin":"local","wait":"time_wait","oldstate":"fin_wait2","sk_err":0,"#,
            r#""handshake_ns":2000000,"lifetime_ns":1500000000,"half_closed_ns":52000000,"#,
            r#""bytes_sent":100,"bytes_received":500,"retransmits":0}"#,
        );
        assert_eq!(finished_json(&end, "curl.service", WALL).expect("plain values"), expected);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let end = Finished { tuple: Tuple::UNKNOWN, owner: Owner::default(), handshake_ns: None, ..FINISHED };
        let line = finished_json(&end, "a\"b\n", WALL).expect("plain values");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        for field in ["pid", "comm", "saddr", "sport", "daddr", "dport", "handshake_ns"] {
            assert!(value[field].is_null(), "{field}: {line}");
        }
        assert_eq!(value["unit"], "a\"b\n");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn a_transition_is_one_object() {
        let Event::Transition(t) = samples::transition(9, TcpState::Established, TcpState::CloseWait, Detail::Step)
        else {
            panic!("not a transition");
        };
        let expected = concat!(
            r#"{"event":"transition","time":"2026-11-22T03:12:45.123Z","unit":"/","cgroup_id":25,"netns":4026531840,"#,
            r#""skaddr":"0xffff888100004000","pid":null,"comm":null,"saddr":null,"sport":null,"daddr":null,"dport":null,"#,
            r#""oldstate":"established","newstate":"close_wait","kernel_time_ns":9}"#,
        );
        assert_eq!(transition_json(&t, "/", WALL).expect("plain values"), expected);
    }

    #[test]
    fn a_failed_connect_is_one_object() {
        let end = Failed {
            at: FINISHED.at,
            socket: FINISHED.socket,
            netns: FINISHED.netns,
            cgroup: FINISHED.cgroup,
            tuple: samples::tuple(0),
            owner: FINISHED.owner,
            reason: crate::lifecycle::ConnectFailure::NoLocalPort,
            sk_err: 0,
            lasted_ns: Some(5),
            retransmits: 0,
        };
        let line = failed_json(&end, "/", WALL).expect("plain values");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&value["event"], &value["reason"]), (&"connect_failure".into(), &"no_local_port".into()));
        assert_eq!((&value["lasted_ns"], value["sport"].is_null(), &value["dport"]), (&5.into(), true, &443.into()));
    }
}
