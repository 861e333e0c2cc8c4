//! `inet_twsk_kill(tw)`: a small socket ends. Every end comes through here, once, with softirqs off; who calls, and so the
//! cause, is told by the socket itself and by what the other programs noted on the way here.
//!
//! Static in net/ipv4/inet_timewait_sock.c: a compiler may build it into its two callers, and then there is no such function
//! to attach to. Rejected: `inet_twsk_deschedule_put`, which two CPUs may call for one socket of which one ends it.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use synfin_ebpf::{
    abi::ends::substate,
    cause::{self, Ending},
    decide,
};

use crate::{access::Direct, ends, globals, sock::Sock};

#[fentry(function = "inet_twsk_kill")]
fn inet_twsk_kill(ctx: FEntryContext) -> i32 {
    let tw = ctx.arg::<*const u8>(0);
    let Some(cpu) = ends::cpu() else { return 0 };
    // SAFETY: a typed pointer.
    let small = unsafe { Sock::<Direct>::new(tw) };
    // Notes are used up, whatever comes of them: the next socket may have this address.
    let by_timer = cpu.at_hand.timer == small.tw_timer();
    let by_packet = cpu.at_hand.packet_tw == tw as u64;
    if by_timer {
        cpu.at_hand.timer = 0;
    }
    if by_packet {
        cpu.at_hand.packet_tw = 0;
    }
    if !decide::is_watched(globals::netns(), small.netns()) || !small.is_tcp() {
        return 0;
    }
    let substate = cause::substate_of(small.tw_substate());
    let ending = Ending {
        unhashed: small.is_unhashed(),
        by_timer,
        netns_dying: small.netns_is_dying(),
        by_packet,
        packet_opens: cpu.at_hand.packet_opens != 0,
        is_time_wait: substate == substate::TIME_WAIT,
    };
    let cause = cause::cause_of(ending, || ends::is_requested(tw as u64));
    ends::add_one(|ends| &mut ends.left[substate][cause]);
    0
}
