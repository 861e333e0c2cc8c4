//! Bytes of the ring to [`Event`]s: pure, never panics, and every refusal says why.

use synfin_ebpf::abi::record::{self, end_flag, kind, open_flag};
use synfin_ebpf::abi::{self, Header};

use crate::event::{
    CgroupId, Detail, End, Event, Family, KernelTime, NetnsId, Open, Owner, SocketId, SynackRetransmit, TcpState,
    Transition, Tuple,
};

/// A record that makes no sense. Counted as `undecodable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("record of {len} bytes is shorter than the {need} bytes of its kind")]
    Short { len: usize, need: usize },
    #[error("record of unknown kind {0}")]
    Kind(u8),
    #[error("state number {0} is not a TCP state")]
    State(u8),
    #[error("address family {0} is neither AF_INET nor AF_INET6")]
    Family(u8),
}

/// Reads `T` from the start of `bytes`.
fn read<T: Record>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() < size_of::<T>() {
        return Err(DecodeError::Short { len: bytes.len(), need: size_of::<T>() });
    }
    // SAFETY: the length was checked, `T` is one of the contract's records (integers and byte arrays without padding,
    // so every bit pattern is valid), and the read does not need alignment.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The contract's records, which alone [`read`] may produce.
trait Record: Copy {}
impl Record for Header {}
impl Record for abi::Start {}
impl Record for abi::Open {}
impl Record for abi::End {}
impl Record for abi::SynackRetransmit {}

/// Decodes one record. `bytes` may be longer than the record (the ring pads to 8).
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let header: Header = read(bytes)?;
    let detail = match header.kind {
        kind::STEP => Detail::Step,
        kind::START => {
            let start: abi::Start = read(bytes)?;
            Detail::Start { tuple: tuple(&header, &start.tuple)?, owner: Owner { tgid: start.tgid, comm: start.comm } }
        }
        kind::OPEN => {
            let open: abi::Open = read(bytes)?;
            Detail::Open(Open {
                tuple: tuple(&header, &open.tuple)?,
                srtt_us: (open.srtt_us != 0).then_some(open.srtt_us),
                total_retrans: open.total_retrans,
                fast_open: open.flags & open_flag::FAST_OPEN != 0,
            })
        }
        kind::END => {
            let end: abi::End = read(bytes)?;
            Detail::End(decode_end(tuple(&header, &end.tuple)?, &end))
        }
        kind::SYNACK_RETRANSMIT => {
            let record: abi::SynackRetransmit = read(bytes)?;
            return Ok(Event::SynackRetransmit(SynackRetransmit {
                at: KernelTime(header.time_ns),
                netns: NetnsId(header.netns),
                tuple: tuple(&header, &record.tuple)?,
                num_retrans: record.num_retrans,
                first_synack_at: (record.snt_synack_us != 0)
                    .then(|| KernelTime(record.snt_synack_us.saturating_mul(1000))),
            }));
        }
        other => return Err(DecodeError::Kind(other)),
    };
    Ok(Event::Transition(Transition {
        at: KernelTime(header.time_ns),
        socket: SocketId(header.skaddr),
        cgroup: CgroupId(header.cgroup_id),
        netns: NetnsId(header.netns),
        from: state(header.oldstate)?,
        to: state(header.newstate)?,
        detail,
    }))
}

fn state(number: u8) -> Result<TcpState, DecodeError> {
    TcpState::from_kernel(number).ok_or(DecodeError::State(number))
}

/// The address family by its kernel number.
pub fn family(number: u8) -> Result<Family, DecodeError> {
    match number {
        abi::AF_INET => Ok(Family::Inet),
        abi::AF_INET6 => Ok(Family::Inet6),
        other => Err(DecodeError::Family(other)),
    }
}

fn tuple(header: &Header, tuple: &record::Tuple) -> Result<Tuple, DecodeError> {
    Ok(Tuple {
        family: family(header.family)?,
        saddr: tuple.saddr,
        daddr: tuple.daddr,
        sport: tuple.sport,
        dport: tuple.dport,
    })
}

fn decode_end(tuple: Tuple, end: &abi::End) -> End {
    let is = |bit: u32| end.flags & bit != 0;
    End {
        tuple,
        sk_err: end.sk_err,
        shutdown_rcv: is(1),
        shutdown_send: is(2),
        dead: is(end_flag::DEAD),
        done: is(end_flag::DONE),
        linger_zero: is(end_flag::LINGER_ZERO),
        linger2_negative: is(end_flag::LINGER2_NEGATIVE),
        all_acked: is(end_flag::ALL_ACKED),
        has_socket: is(end_flag::HAS_SOCKET),
        syn_left: is(end_flag::SYN_LEFT),
        total_retrans: end.total_retrans,
        bytes_acked: end.bytes_acked,
        bytes_received: end.bytes_received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<T: Record>(record: &T) -> Vec<u8> {
        // SAFETY: the contract's records have no padding, so all their bytes are initialized.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) }.to_vec()
    }

    fn step() -> Header {
        Header {
            time_ns: 7,
            skaddr: 8,
            cgroup_id: 9,
            netns: 10,
            kind: kind::STEP,
            oldstate: 1,
            newstate: 4,
            family: abi::AF_INET,
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let check = |bytes: &[u8], error| assert_eq!(decode(bytes), Err(error));
        check(&[], DecodeError::Short { len: 0, need: 32 });
        check(&bytes_of(&Header { kind: 0, ..step() }), DecodeError::Kind(0));
        check(&bytes_of(&Header { oldstate: 13, ..step() }), DecodeError::State(13));
        check(&bytes_of(&Header { newstate: 0, ..step() }), DecodeError::State(0));
        check(&bytes_of(&Header { kind: kind::END, ..step() }), DecodeError::Short { len: 32, need: 96 });
        let odd = abi::Open { header: Header { kind: kind::OPEN, family: 1, ..step() }, ..Default::default() };
        check(&bytes_of(&odd), DecodeError::Family(1));
    }

    #[test]
    fn a_step_carries_header_only() {
        let expected = Transition {
            at: KernelTime(7),
            socket: SocketId(8),
            cgroup: CgroupId(9),
            netns: NetnsId(10),
            from: TcpState::Established,
            to: TcpState::FinWait1,
            detail: Detail::Step,
        };
        assert_eq!(decode(&bytes_of(&step())), Ok(Event::Transition(expected)));
    }

    #[test]
    fn flags_of_an_end_are_told_apart() {
        let record = abi::End {
            header: Header { kind: kind::END, newstate: 7, ..step() },
            flags: 2 | end_flag::DONE | end_flag::SYN_LEFT,
            sk_err: 104,
            bytes_received: 5,
            ..Default::default()
        };
        let Ok(Event::Transition(Transition { detail: Detail::End(end), .. })) = decode(&bytes_of(&record)) else {
            panic!("not an end");
        };
        assert!(end.shutdown_send && end.done && end.syn_left);
        assert!(!(end.shutdown_rcv || end.dead || end.linger_zero || end.all_acked || end.has_socket));
        assert_eq!((end.sk_err, end.bytes_received), (104, 5));
    }

    #[test]
    fn the_first_synack_is_in_microseconds() {
        let record = abi::SynackRetransmit {
            header: Header { kind: kind::SYNACK_RETRANSMIT, oldstate: 0, newstate: 0, ..step() },
            snt_synack_us: 3,
            num_retrans: 1,
            ..Default::default()
        };
        let Ok(Event::SynackRetransmit(event)) = decode(&bytes_of(&record)) else { panic!("not a retransmission") };
        assert_eq!((event.first_synack_at, event.num_retrans), (Some(KernelTime(3000)), 1));
    }
}
