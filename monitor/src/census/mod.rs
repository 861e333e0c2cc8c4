//! The look at the kernel's socket tables: reading a walk, and its records as the daemon's types. The decoding is pure.

mod diag;

use std::io::{self, Read};

use synfin_ebpf::abi::CensusSocket;
use synfin_ebpf::abi::census::census_flag;

use crate::decode;
use crate::event::{CgroupId, NetnsId, SocketId, TcpState, Tuple};

pub use diag::read_diag;

/// What a walk found of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of small TIME_WAIT sockets and requests their own address, which no event ever names.
    pub socket: SocketId,
    /// `socket` is the one of its events.
    pub has_address: bool,
    /// 0 for small TIME_WAIT sockets, which have none, and for requests, whose owner is the listener's.
    pub cgroup: CgroupId,
    pub netns: NetnsId,
    pub tuple: Tuple,
    pub kind: Kind,
}

/// The three shapes of sockets in the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole socket in `state`.
    Full {
        state: TcpState,
        /// No process holds it: not accepted yet, or closed by its owner.
        unheld: bool,
        /// Closed by its owner.
        dead: bool,
        /// For listeners: length of the accept queue, and its bound.
        backlog: u32,
        backlog_limit: u32,
    },
    /// The small socket that waits after the end: TIME_WAIT, or FIN_WAIT2 whose owner has closed.
    Waiting { substate: TcpState, remaining_ms: u32 },
    /// A half-open request.
    Request { listener: SocketId, retransmits: u8 },
}

/// Size of one record of the walk.
pub const RECORD: usize = size_of::<CensusSocket>();

/// Decodes one record; `None` when it makes no sense (counted by the caller).
pub fn decode_record(bytes: &[u8; RECORD]) -> Option<Found> {
    // SAFETY: integers and byte arrays without padding, so any bytes make one; the read needs no alignment.
    let raw = unsafe { bytes.as_ptr().cast::<CensusSocket>().read_unaligned() };
    let state = TcpState::from_kernel(raw.state)?;
    let tuple = Tuple {
        family: decode::family(raw.family).ok()?,
        saddr: raw.tuple.saddr,
        daddr: raw.tuple.daddr,
        sport: raw.tuple.sport,
        dport: raw.tuple.dport,
    };
    let kind = match (raw.remaining_ms_plus_1.checked_sub(1), state) {
        (Some(remaining_ms), substate) => Kind::Waiting { substate, remaining_ms },
        (None, TcpState::NewSynRecv) => {
            Kind::Request { listener: SocketId(raw.listener), retransmits: raw.retransmits }
        }
        (None, state) => Kind::Full {
            state,
            unheld: raw.flags & census_flag::NO_SOCKET != 0,
            dead: raw.flags & census_flag::DEAD != 0,
            backlog: raw.ack_backlog,
            backlog_limit: raw.max_ack_backlog,
        },
    };
    Some(Found {
        socket: SocketId(raw.skaddr),
        has_address: raw.flags & census_flag::NO_ADDRESS == 0,
        cgroup: CgroupId(raw.cgroup_id),
        netns: NetnsId(raw.netns),
        tuple,
        kind,
    })
}

/// Reads a whole walk and hands over each socket. Gives the number of records that made no sense.
///
/// # Errors
/// Those of reading; a walk that ends within a record is one (`UnexpectedEof`).
pub fn read(mut walk: impl Read, mut found: impl FnMut(Found)) -> io::Result<u64> {
    let mut buffer = vec![0; 800 * RECORD];
    let (mut filled, mut odd) = (0, 0);
    loop {
        match walk.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(odd),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => filled += more,
            // The walk asks to be read again after a signal, or when one bucket held too much at once.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => continue,
            Err(error) => return Err(error),
        }
        let (records, rest) = buffer[..filled].as_chunks::<RECORD>();
        for record in records {
            match decode_record(record) {
                Some(socket) => found(socket),
                None => odd += 1,
            }
        }
        let (start, left) = (filled - rest.len(), rest.len());
        buffer.copy_within(start..filled, 0);
        filled = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synfin_ebpf::abi::{AF_INET, state};

    fn bytes(socket: CensusSocket) -> [u8; RECORD] {
        // SAFETY: no padding, so every byte is initialized.
        unsafe { std::mem::transmute(socket) }
    }

    fn raw() -> CensusSocket {
        CensusSocket { skaddr: 1, netns: 2, family: AF_INET, state: state::ESTABLISHED, ..CensusSocket::default() }
    }

    #[test]
    fn each_shape_is_told_apart() {
        let check = |raw, expected| assert_eq!(decode_record(&bytes(raw)).map(|found| found.kind), expected);
        let full = |state| Kind::Full { state, unheld: false, dead: false, backlog: 0, backlog_limit: 0 };
        check(raw(), Some(full(TcpState::Established)));
        check(CensusSocket { state: state::FIN_WAIT2, ..raw() }, Some(full(TcpState::FinWait2)));
        let small = CensusSocket { state: state::FIN_WAIT2, remaining_ms_plus_1: 1, ..raw() };
        check(small, Some(Kind::Waiting { substate: TcpState::FinWait2, remaining_ms: 0 }));
        let request = CensusSocket { state: state::NEW_SYN_RECV, listener: 9, retransmits: 2, ..raw() };
        check(request, Some(Kind::Request { listener: SocketId(9), retransmits: 2 }));
        check(CensusSocket { state: 77, ..raw() }, None);
        check(CensusSocket { family: 1, ..raw() }, None);
    }

    #[test]
    fn records_split_over_reads_are_joined() {
        /// Hands out seven bytes at a time.
        struct Dribble(Vec<u8>);
        impl Read for Dribble {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let n = self.0.len().min(7).min(out.len());
                out[..n].copy_from_slice(&self.0[..n]);
                self.0.drain(..n);
                Ok(n)
            }
        }
        let mut walk = Vec::new();
        for skaddr in 0..5 {
            walk.extend(bytes(CensusSocket { skaddr, state: if skaddr == 3 { 0 } else { 1 }, ..raw() }));
        }
        let mut seen = Vec::new();
        let odd = read(Dribble(walk.clone()), |found| seen.push(found.socket.0)).expect("whole walk");
        assert_eq!((seen, odd), (vec![0, 1, 2, 4], 1));
        walk.pop();
        let error = read(Dribble(walk), |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
