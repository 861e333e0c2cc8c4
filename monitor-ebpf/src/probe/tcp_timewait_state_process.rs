//! `tcp_timewait_state_process(tw, skb, th, …)`: a packet for a small socket. It may turn it from FIN_WAIT2 to TIME_WAIT, end
//! it, or have its caller end it; in each case on this CPU, before any other packet is looked at here.
//!
//! Its further arguments change from kernel to kernel, the first three do not (net/ipv4/tcp_minisocks.c).

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use synfin_ebpf::{abi::state, cause, decide};

use crate::{
    access::{Access, Direct},
    ends, globals,
    sock::Sock,
};

/// Where the flags lie in a TCP header (RFC 9293, 3.1).
const FLAGS: u32 = 13;

#[fentry(function = "tcp_timewait_state_process")]
fn tcp_timewait_state_process(ctx: FEntryContext) -> i32 {
    let (tw, th) = (ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(2));
    if let Some(cpu) = ends::cpu() {
        // SAFETY: typed pointers.
        let (substate, flags) = unsafe { (Sock::<Direct>::new(tw).tw_substate(), Direct::read(th, FLAGS)) };
        cpu.at_hand.packet_tw = tw as u64;
        cpu.at_hand.packet_substate = u64::from(substate);
        cpu.at_hand.packet_opens = u64::from(cause::opens(flags));
    }
    0
}

#[fexit(function = "tcp_timewait_state_process")]
fn tcp_timewait_state_process_exit(ctx: FExitContext) -> i32 {
    let tw = ctx.arg::<*const u8>(0);
    let Some(cpu) = ends::cpu() else { return 0 };
    // An end takes the note away, so this one is alive.
    if cpu.at_hand.packet_tw != tw as u64 || cpu.at_hand.packet_substate != u64::from(state::FIN_WAIT2) {
        return 0;
    }
    // SAFETY: a typed pointer.
    let small = unsafe { Sock::<Direct>::new(tw) };
    if small.tw_substate() == state::TIME_WAIT && decide::is_watched(globals::netns(), small.netns()) {
        cpu.at_hand.packet_substate = u64::from(state::TIME_WAIT);
        ends::add_one(|ends| &mut ends.turned);
    }
    0
}
