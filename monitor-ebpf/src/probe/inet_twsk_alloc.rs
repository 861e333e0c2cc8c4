//! `inet_twsk_alloc(sk, dr, state)`: a connection's end becomes a small socket, or none, if the kernel refuses one.
//!
//! The same three arguments and the small socket or null as the result on all kernels since 4.1
//! (net/ipv4/inet_timewait_sock.c).

use aya_ebpf::{macros::fexit, programs::FExitContext};
use synfin_ebpf::{abi::IPPROTO_TCP, cause, decide};

use crate::{access::Direct, ends, globals, sock::Sock};

#[fexit(function = "inet_twsk_alloc")]
fn inet_twsk_alloc_exit(ctx: FExitContext) -> i32 {
    // The result follows the arguments. Its type is checked: on a kernel with other arguments the program does not load.
    let (sk, tw) = (ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(3));
    // SAFETY: a typed pointer.
    let sock = unsafe { Sock::<Direct>::new(sk) };
    if sock.protocol() != IPPROTO_TCP || !decide::is_watched(globals::netns(), sock.netns()) {
        return 0;
    }
    if tw.is_null() {
        ends::add_one(|ends| &mut ends.refused);
        return 0;
    }
    // SAFETY: a typed pointer, not null.
    let substate = cause::substate_of(unsafe { Sock::<Direct>::new(tw) }.tw_substate());
    ends::add_one(|ends| &mut ends.made[substate]);
    0
}
