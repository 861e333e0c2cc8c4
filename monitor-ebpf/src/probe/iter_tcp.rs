//! `iter/tcp`: the census. One pass over the kernel's socket tables, all families, one [`CensusSocket`] a socket.

use aya_ebpf::helpers::generated::{
    bpf_jiffies64, bpf_seq_write, bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_sock, bpf_skc_to_tcp_timewait_sock,
};
use synfin_ebpf::abi::{CensusSocket, Tuple, census::census_flag, state};

use crate::{access::Direct, globals, sock::Sock};

/// `struct bpf_iter__tcp` (net/ipv4/tcp_ipv4.c): every member sits in eight bytes.
#[repr(C)]
struct Context {
    meta: *const *const u8,
    sk_common: *const u8,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
fn iter_tcp(ctx: *const Context) -> i32 {
    // SAFETY: the context of this program type; both members are loads that the verifier types.
    let (meta, sk) = unsafe { ((*ctx).meta, (*ctx).sk_common) };
    if sk.is_null() {
        return 0;
    }
    // SAFETY: `struct bpf_iter_meta` starts with its seq_file.
    let seq = unsafe { core::ptr::read_volatile(meta) };
    if let Some(socket) = describe(sk) {
        // SAFETY: the record is on the stack, initialized, without padding.
        unsafe { bpf_seq_write(seq.cast_mut().cast(), (&raw const socket).cast(), size_of::<CensusSocket>() as u32) };
    }
    0
}

#[inline(always)]
fn describe(sk: *const u8) -> Option<CensusSocket> {
    // SAFETY: a typed socket, not null.
    let common = unsafe { Sock::<Direct>::new(sk) };
    let mut socket = CensusSocket {
        skaddr: sk as u64,
        netns: common.netns(),
        state: common.state(),
        family: common.family(),
        tuple: Tuple::default(),
        ..CensusSocket::default()
    };
    match socket.state {
        state::TIME_WAIT => {
            // SAFETY: the helper gives a typed pointer or null.
            let tw = unsafe { bpf_skc_to_tcp_timewait_sock(sk.cast_mut().cast()) };
            if tw.is_null() {
                return None;
            }
            // SAFETY: not null.
            let tw = unsafe { Sock::<Direct>::new(tw.cast()) };
            socket.state = tw.tw_substate();
            socket.tuple = common.tuple(tw.tw_sport());
            // SAFETY: a helper without arguments.
            let left = tw.tw_expires().wrapping_sub(unsafe { bpf_jiffies64() });
            socket.remaining_ms_plus_1 = globals::jiffies_to_ms(left) + 1;
        }
        state::NEW_SYN_RECV => {
            // SAFETY: the helper gives a typed pointer or null.
            let request = unsafe { bpf_skc_to_tcp_request_sock(sk.cast_mut().cast()) };
            if request.is_null() {
                return None;
            }
            // SAFETY: not null.
            let request = unsafe { Sock::<Direct>::new(request.cast()) };
            socket.tuple = common.tuple(common.num());
            socket.listener = common.listener();
            socket.retransmits = request.num_retrans();
        }
        _ => {
            // SAFETY: the helper gives a typed pointer or null.
            let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) };
            if tcp.is_null() {
                return None;
            }
            // SAFETY: not null.
            let tcp = unsafe { Sock::<Direct>::new(tcp.cast()) };
            socket.cgroup_id = tcp.cgroup_id();
            socket.tuple = common.tuple(tcp.sport());
            socket.flags = (if tcp.has_socket() { 0 } else { census_flag::NO_SOCKET })
                | (if tcp.sk_flags() & 1 != 0 { census_flag::DEAD } else { 0 });
            if socket.state == state::LISTEN {
                (socket.ack_backlog, socket.max_ack_backlog) = tcp.backlog();
            }
        }
    }
    Some(socket)
}
