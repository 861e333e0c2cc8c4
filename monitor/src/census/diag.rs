//! The walk over the socket tables where the kernel has no `iter/tcp`: socket diagnosis over netlink, made into the same records.
//!
//! It names a full socket by its cookie and not by the address that its events carry ([`census_flag::NO_ADDRESS`]), and a half-open request
//! without its listener.

use std::io;

use synfin_ebpf::abi::census::census_flag;
use synfin_ebpf::abi::{AF_INET, AF_INET6, CensusSocket, Tuple, state};

use crate::event::{NetnsId, mapped};
use crate::host::dump_sock_diag;

/// All states but CLOSE, in which a socket is in no table.
const STATES: u32 = ((1 << (state::NEW_SYN_RECV + 1)) - 2) & !(1 << state::CLOSE);
/// Size of `struct inet_diag_msg` (linux/inet_diag.h).
const MESSAGE: usize = 72;
/// `idiag_timer` of a small socket that waits.
const TIMER_TIME_WAIT: u8 = 3;
/// `INET_DIAG_CGROUP_ID`, since Linux 5.9.
const CGROUP_ID: u16 = 21;

/// Appends a record for each TCP socket of the network namespace `netns`, in which the calling thread must be.
///
/// # Errors
/// Those of the netlink socket, and what the kernel answers.
pub fn read_diag(netns: NetnsId, records: &mut Vec<u8>) -> io::Result<()> {
    for family in [AF_INET, AF_INET6] {
        let mut take = |message: &[u8]| {
            if let Some(socket) = parse_message(message, netns) {
                // SAFETY: integers and byte arrays without padding, so all bytes are initialized.
                let bytes: [u8; super::RECORD] = unsafe { std::mem::transmute(socket) };
                records.extend_from_slice(&bytes);
            }
        };
        match dump_sock_diag(family, STATES, &mut take) {
            // A kernel without IPv6.
            Err(error) if family == AF_INET6 && error.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// One `struct inet_diag_msg` with its attributes.
fn parse_message(bytes: &[u8], netns: NetnsId) -> Option<CensusSocket> {
    let message: &[u8; MESSAGE] = bytes.first_chunk()?;
    let word = |at: usize| u32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let family = message[0];
    let address = |at: usize| -> Option<[u8; 16]> {
        match family {
            AF_INET => Some(mapped(<[u8; 4]>::try_from(&message[at..at + 4]).ok()?.into())),
            AF_INET6 => message[at..at + 16].try_into().ok(),
            _ => None,
        }
    };
    let tuple = Tuple { saddr: address(8)?, daddr: address(24)?, sport: port(4), dport: port(6) };
    let (number, timer, inode) = (message[1], message[2], word(68));
    let socket = CensusSocket { netns: netns.0, state: number, family, tuple, ..Default::default() };
    if timer == TIMER_TIME_WAIT {
        return Some(CensusSocket { remaining_ms_plus_1: word(52).saturating_add(1), ..socket });
    }
    // A request has no inode, and neither has the child of a Fast Open for as long as nobody accepts it: that is rare.
    if number == state::SYN_RECV && inode == 0 {
        return Some(CensusSocket { state: state::NEW_SYN_RECV, retransmits: message[3], ..socket });
    }
    let unheld = if inode == 0 { census_flag::NO_SOCKET } else { 0 };
    let (backlog, limit) = if number == state::LISTEN { (word(56), word(60)) } else { (0, 0) };
    Some(CensusSocket {
        skaddr: u64::from(word(48)) << 32 | u64::from(word(44)),
        cgroup_id: cgroup(&bytes[MESSAGE..]),
        flags: census_flag::NO_ADDRESS | unheld,
        ack_backlog: backlog,
        max_ack_backlog: limit,
        ..socket
    })
}

/// Of the attributes behind a message; 0 where it is not told.
fn cgroup(mut attributes: &[u8]) -> u64 {
    while let Some(&[len_low, len_high, kind_low, kind_high]) = attributes.first_chunk() {
        let (len, kind) = (u16::from_ne_bytes([len_low, len_high]), u16::from_ne_bytes([kind_low, kind_high]));
        let value = attributes.get(4..usize::from(len)).unwrap_or_default();
        if kind == CGROUP_ID {
            return value.first_chunk().map_or(0, |value| u64::from_ne_bytes(*value));
        }
        attributes = attributes.get(usize::from(len).next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    0
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::{Kind, decode_record};
    use super::*;
    use crate::event::TcpState;
    use crate::host::read_own_netns;

    fn message(state: u8, timer: u8, inode: u32, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![AF_INET, state, timer, 2, 0x1f, 0x90, 0, 80];
        bytes.extend([10, 0, 0, 1].into_iter().chain([0; 12]));
        bytes.extend([10, 0, 0, 2].into_iter().chain([0; 12]));
        bytes.extend([0, 7, 1, 5000, 3, 128, 1000, inode].into_iter().flat_map(u32::to_ne_bytes));
        assert_eq!(bytes.len(), MESSAGE);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn each_shape_is_told_apart() {
        let cgroup = [vec![5, 0, 8, 0, 3, 0, 0, 0, 12, 0, 21, 0], 77_u64.to_ne_bytes().to_vec()].concat();
        let check = |state: u8, timer, inode, expected: CensusSocket| {
            let [here, there] = [1, 2].map(|last| mapped([10, 0, 0, last].into()));
            let tuple = Tuple { saddr: here, daddr: there, sport: 8080, dport: 80 };
            let found = parse_message(&message(state, timer, inode, &cgroup), NetnsId(9));
            assert_eq!(found, Some(CensusSocket { netns: 9, family: AF_INET, tuple, ..expected }), "{state} {timer}");
        };
        let full = CensusSocket {
            skaddr: 1 << 32 | 7,
            cgroup_id: 77,
            flags: census_flag::NO_ADDRESS,
            ..CensusSocket::default()
        };
        let (established, listen, fin_wait2) = (state::ESTABLISHED, state::LISTEN, state::FIN_WAIT2);
        check(established, 0, 4, CensusSocket { state: established, ..full });
        check(fin_wait2, 2, 4, CensusSocket { state: fin_wait2, ..full });
        let flags = census_flag::NO_ADDRESS | census_flag::NO_SOCKET;
        check(established, 0, 0, CensusSocket { state: established, flags, ..full });
        check(listen, 0, 4, CensusSocket { state: listen, ack_backlog: 3, max_ack_backlog: 128, ..full });
        let small = CensusSocket { remaining_ms_plus_1: 5001, ..CensusSocket::default() };
        check(fin_wait2, 3, 0, CensusSocket { state: fin_wait2, ..small });
        check(state::TIME_WAIT, 3, 0, CensusSocket { state: state::TIME_WAIT, ..small });
        let request = CensusSocket { state: state::NEW_SYN_RECV, retransmits: 2, ..CensusSocket::default() };
        check(state::SYN_RECV, 1, 0, request);
        assert_eq!(parse_message(&message(1, 0, 4, &[])[..MESSAGE - 1], NetnsId(9)), None);
    }

    #[test]
    fn the_running_kernel_tells_of_a_listener_and_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut records = Vec::new();
        read_diag(read_own_netns().unwrap(), &mut records).unwrap();
        let (records, rest) = records.as_chunks();
        assert_eq!(rest.len(), 0);
        let mut found: Vec<_> = records.iter().filter_map(decode_record).collect();
        found.retain(|socket| socket.tuple.sport == port);
        let mut states: Vec<_> = found.iter().map(|socket| socket.kind).collect();
        states.sort_by_key(|kind| format!("{kind:?}"));
        let full =
            |state, unheld, backlog, backlog_limit| Kind::Full { state, unheld, dead: false, backlog, backlog_limit };
        assert_eq!(states[0], full(TcpState::Established, true, 0, 0));
        assert!(matches!(states[1], Kind::Full { state: TcpState::Listen, backlog: 1, .. }), "{states:?}");
        assert!(found.iter().all(|socket| !socket.has_address));
    }
}
