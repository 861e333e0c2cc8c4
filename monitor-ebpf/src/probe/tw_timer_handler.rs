//! `tw_timer_handler(timer)`: the time of a small socket is over. It calls `inet_twsk_kill` and does nothing else.

use aya_ebpf::{macros::fentry, programs::FEntryContext};

use crate::ends;

#[fentry(function = "tw_timer_handler")]
fn tw_timer_handler(ctx: FEntryContext) -> i32 {
    if let Some(cpu) = ends::cpu() {
        cpu.at_hand.timer = ctx.arg::<*const u8>(0) as u64;
    }
    0
}
