//! One connection, one failed connect or one transition as one line of aligned columns: what `synfin trace` prints for people.
//!
//! No value has a space in it and `-` stands for "not known" or "none", so that every line splits into the columns of its header.
//! Values longer than their column are printed whole. Bytes are exact; durations are cut to three digits ([`human_duration`]).

use super::{WallTime, comm_text, human_duration};
use crate::event::{Detail, Owner, Transition, Tuple};
use crate::lifecycle::{Close, Failed, Finished, FirstFin, Role, Wait};

/// A column: its title and its width; negative for numbers, which stand to the right.
type Column = (&'static str, i8);

/// * `TIME`: when it ended, UTC; `UNIT`: systemd unit or cgroup; `PROCESS`: name and process id of who called connect() or listen().
/// * `HANDSHAKE`: client, SYN → ESTABLISHED; server, SYN-ACK → ACK. `LIFETIME`: ESTABLISHED → end; of a failed connect, SYN → failure.
/// * `HALF`: first FIN → second FIN. `FIRST`: whose FIN went first. `END`: how it ended: `fin`, `reset`, `timeout`, `unknown`, `unopened`
///   (a passive child that died before ESTABLISHED) or `failed:` with the reason. `WAIT`: the small socket that follows.
const CONNECTION: [Column; 15] = [
    ("TIME", 24),
    ("UNIT", 20),
    ("PROCESS", 20),
    ("ROLE", 7),
    ("LOCAL", 21),
    ("REMOTE", 21),
    ("HANDSHAKE", -9),
    ("LIFETIME", -9),
    ("HALF", -8),
    ("FIRST", 6),
    ("END", 14),
    ("WAIT", 9),
    ("SENT", -10),
    ("RECEIVED", -10),
    ("RETRANS", -7),
];

/// `SOCKET` is the kernel's address: the same as long as one life lasts, reused afterwards.
const TRANSITION: [Column; 8] = [
    ("TIME", 24),
    ("UNIT", 20),
    ("PROCESS", 20),
    ("SOCKET", 16),
    ("FROM", 12),
    ("TO", 12),
    ("LOCAL", 21),
    ("REMOTE", 21),
];

/// Titles over [`finished_line`] and [`failed_line`].
pub fn connection_header() -> String {
    row(&CONNECTION, CONNECTION.map(|(title, _)| title.to_owned()))
}

/// Titles over [`transition_line`].
pub fn transition_header() -> String {
    row(&TRANSITION, TRANSITION.map(|(title, _)| title.to_owned()))
}

/// A connection that has ended, at `wall`.
pub fn finished_line(end: &Finished, unit: &str, wall: WallTime) -> String {
    let (local, remote) = ends(&end.tuple);
    row(
        &CONNECTION,
        [
            wall.to_string(),
            word(unit),
            process(&end.owner),
            end.role.label().to_owned(),
            local,
            remote,
            duration(end.handshake_ns),
            duration(end.lifetime_ns),
            duration(end.half_closed_ns),
            match end.first_fin() {
                FirstFin::None => "-",
                known => known.label(),
            }
            .to_owned(),
            how(end).to_owned(),
            match end.wait {
                Wait::None => "-",
                known => known.label(),
            }
            .to_owned(),
            end.bytes_sent.to_string(),
            end.bytes_received.to_string(),
            end.retransmits.to_string(),
        ],
    )
}

/// A connect() that failed, at `wall`.
pub fn failed_line(end: &Failed, unit: &str, wall: WallTime) -> String {
    let (local, remote) = ends(&end.tuple);
    let none = || "-".to_owned();
    row(
        &CONNECTION,
        [
            wall.to_string(),
            word(unit),
            process(&end.owner),
            Role::Client.label().to_owned(),
            local,
            remote,
            none(),
            duration(end.lasted_ns),
            none(),
            none(),
            format!("failed:{}", end.reason.label()),
            none(),
            "0".to_owned(),
            "0".to_owned(),
            end.retransmits.to_string(),
        ],
    )
}

/// One state change, at `wall`.
pub fn transition_line(t: &Transition, unit: &str, wall: WallTime) -> String {
    let (tuple, owner) = match t.detail {
        Detail::Step => (None, None),
        Detail::Start { tuple, owner } => (Some(tuple), Some(owner)),
        Detail::Open(open) => (Some(open.tuple), None),
        Detail::End(end) => (Some(end.tuple), None),
    };
    let (local, remote) = tuple.as_ref().map_or_else(|| ("-".to_owned(), "-".to_owned()), ends);
    row(
        &TRANSITION,
        [
            wall.to_string(),
            word(unit),
            owner.as_ref().map_or_else(|| "-".to_owned(), process),
            format!("{:016x}", t.socket.0),
            t.from.label().to_owned(),
            t.to.label().to_owned(),
            local,
            remote,
        ],
    )
}

const ECONNRESET: u32 = libc::ECONNRESET as u32;
const EPIPE: u32 = libc::EPIPE as u32;

/// How the connection ended, in one word.
fn how(end: &Finished) -> &'static str {
    match end.close {
        _ if !end.from.is_synchronized() => "unopened",
        Close::Local | Close::Remote | Close::Simultaneous => "fin",
        // A reset that arrives leaves ECONNRESET, or EPIPE once the peer's FIN was seen; ours leaves no error.
        Close::Reset if matches!(end.sk_err, ECONNRESET | EPIPE) => "reset:received",
        Close::Reset => "reset:sent",
        Close::Timeout | Close::Unknown => end.close.label(),
    }
}

fn ends(tuple: &Tuple) -> (String, String) {
    if *tuple == Tuple::UNKNOWN {
        return ("-".to_owned(), "-".to_owned());
    }
    (tuple.source().to_string(), tuple.destination().to_string())
}

fn process(owner: &Owner) -> String {
    if owner.tgid == 0 { "-".to_owned() } else { format!("{}[{}]", comm_text(&owner.comm), owner.tgid) }
}

fn duration(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), human_duration)
}

/// One word for the name of a unit: names of cgroups may hold anything but `/`.
fn word(name: &str) -> String {
    if name.is_empty() {
        return "-".to_owned();
    }
    name.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

fn row<const N: usize>(columns: &[Column; N], values: [String; N]) -> String {
    let mut line = String::with_capacity(256);
    for ((_, width), value) in columns.iter().zip(values) {
        if !line.is_empty() {
            line.push_str("  ");
        }
        let columns = usize::from(width.unsigned_abs());
        line.push_str(&if *width < 0 { format!("{value:>columns$}") } else { format!("{value:<columns$}") });
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, TcpState};
    use crate::lifecycle::ConnectFailure;
    use crate::lifecycle::samples::{self, FINISHED};

    const WALL: WallTime = WallTime { unix_ms: 1_795_317_165_123 };

    /// What stands under each title must start (or, for numbers, end) where the title does.
    fn check(header: &str, line: &str, words: &[&str]) {
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), words);
        assert_eq!(header.split_whitespace().count(), words.len());
        for (title, word) in header.split_whitespace().zip(words) {
            let at = header.find(title).expect("a title");
            let end = at + title.len();
            let aligned = line.get(at..).is_some_and(|rest| rest.starts_with(word))
                || line.get(..end).is_some_and(|rest| rest.ends_with(word));
            assert!(aligned, "{title}: {word}\n{header}\n{line}");
        }
    }

    #[test]
    fn a_connection_is_one_line() {
        let end = Finished { tuple: samples::tuple(40_000), ..FINISHED };
        check(
            &connection_header(),
            &finished_line(&end, "curl.service", WALL),
            &[
                "2026-11-22T03:12:45.123Z",
                "curl.service",
                "curl[7]",
                "client",
                "192.0.2.1:40000",
                "198.51.100.2:443",
                "2.00ms",
                "1.50s",
                "52.0ms",
                "local",
                "fin",
                "time_wait",
                "100",
                "500",
                "0",
            ],
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let end = Finished {
            tuple: Tuple::UNKNOWN,
            owner: Owner::default(),
            role: Role::Unknown,
            close: Close::Timeout,
            from: TcpState::Established,
            wait: Wait::None,
            handshake_ns: None,
            lifetime_ns: None,
            half_closed_ns: None,
            ..FINISHED
        };
        check(
            &connection_header(),
            &finished_line(&end, "", WALL),
            &[
                "2026-11-22T03:12:45.123Z",
                "-",
                "-",
                "unknown",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                "timeout",
                "-",
                "100",
                "500",
                "0",
            ],
        );
    }

    #[test]
    fn a_failed_connect_is_one_line() {
        let end = Failed {
            at: FINISHED.at,
            socket: FINISHED.socket,
            netns: FINISHED.netns,
            cgroup: FINISHED.cgroup,
            tuple: samples::tuple(40_000),
            owner: FINISHED.owner,
            reason: ConnectFailure::Timeout,
            sk_err: 110,
            lasted_ns: Some(7_000_000_000),
            retransmits: 2,
        };
        check(
            &connection_header(),
            &failed_line(&end, "a b\u{1b}[2J", WALL),
            &[
                "2026-11-22T03:12:45.123Z",
                "a_b_[2J",
                "curl[7]",
                "client",
                "192.0.2.1:40000",
                "198.51.100.2:443",
                "-",
                "7.00s",
                "-",
                "-",
                "failed:timeout",
                "-",
                "0",
                "0",
                "2",
            ],
        );
    }

    #[test]
    fn ends_are_one_word() {
        let check = |close, from, word, first| {
            let end = Finished { close, from, ..FINISHED };
            assert_eq!((how(&end), end.first_fin()), (word, first));
        };
        check(Close::Remote, TcpState::LastAck, "fin", FirstFin::Remote);
        check(Close::Simultaneous, TcpState::Closing, "fin", FirstFin::Both);
        check(Close::Reset, TcpState::CloseWait, "reset:sent", FirstFin::Remote);
        check(Close::Timeout, TcpState::FinWait1, "timeout", FirstFin::Local);
        check(Close::Unknown, TcpState::Established, "unknown", FirstFin::None);
        check(Close::Reset, TcpState::SynRecv, "unopened", FirstFin::None);
    }

    #[test]
    fn a_transition_is_one_line() {
        let of = |event| match event {
            Event::Transition(t) => t,
            Event::SynackRetransmit(_) => panic!("not a transition"),
        };
        let line = |event| transition_line(&of(event), "curl.service", WALL);
        check(
            &transition_header(),
            &line(samples::start(1, TcpState::SynSent, 0)),
            &[
                "2026-11-22T03:12:45.123Z",
                "curl.service",
                "curl[7]",
                "ffff888100004000",
                "close",
                "syn_sent",
                "192.0.2.1:0",
                "198.51.100.2:443",
            ],
        );
        let step = samples::transition(1, TcpState::Established, TcpState::FinWait1, Detail::Step);
        check(
            &transition_header(),
            &line(step),
            &[
                "2026-11-22T03:12:45.123Z",
                "curl.service",
                "-",
                "ffff888100004000",
                "established",
                "fin_wait1",
                "-",
                "-",
            ],
        );
    }
}
