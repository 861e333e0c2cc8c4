//! `tcp_abort(sk, err)`: somebody asks the kernel to end a socket (`ss -K`). Up to 6.0 it refuses small sockets.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use synfin_ebpf::abi::state;

use crate::{access::Direct, ends, sock::Sock};

#[fentry(function = "tcp_abort")]
fn tcp_abort(ctx: FEntryContext) -> i32 {
    let sk = ctx.arg::<*const u8>(0);
    // SAFETY: a typed pointer; every kind of socket starts with its state.
    if unsafe { Sock::<Direct>::new(sk) }.state() == state::TIME_WAIT {
        ends::request(sk as u64);
    }
    0
}

#[fexit(function = "tcp_abort")]
fn tcp_abort_exit(ctx: FExitContext) -> i32 {
    ends::forget_request(ctx.arg::<*const u8>(0) as u64);
    0
}
