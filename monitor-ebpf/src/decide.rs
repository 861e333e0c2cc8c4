//! Decisions of the probes on plain values, so that they can be tested without a kernel.

use crate::abi::{
    counters,
    cpu::PAGE,
    ends::{cause, substate},
    record::kind,
    state,
};

/// Which record a transition to `newstate` makes.
const fn record_kind(newstate: u8) -> u8 {
    match newstate {
        state::SYN_SENT | state::LISTEN => kind::START,
        state::ESTABLISHED => kind::OPEN,
        state::CLOSE => kind::END,
        _ => kind::STEP,
    }
}

/// Whether a change makes no record of its own: the birth of a listener's child, which leaves SYN_RECV within microseconds, in
/// the same softirq unless it is one of Fast Open. That next record says that there was a birth.
pub const fn is_told_by_next(oldstate: u32, newstate: u32) -> bool {
    oldstate == state::LISTEN as u32 && newstate == state::SYN_RECV as u32
}

/// Which of the two programs of a kind handles a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Changes that a system call makes. A softirq may interrupt the program that handles them.
    Process,
    /// Changes that arriving packets and timers make, nearly always in softirq context, which no other softirq interrupts.
    Softirq,
}

impl Share {
    pub const fn other(self) -> Self {
        match self {
            Self::Process => Self::Softirq,
            Self::Softirq => Self::Process,
        }
    }
}

/// The kernel does not run a program that is running already on the same CPU: a softirq that interrupts it goes unseen.
/// So the transitions that can be interrupted and those that can interrupt belong to two programs, and each of them
/// leaves the other's at once, unless it finds the other one running beneath it ([`handles`]).
const fn share(oldstate: u32, newstate: u32) -> Share {
    match newstate as u8 {
        state::SYN_SENT | state::LISTEN | state::FIN_WAIT1 | state::LAST_ACK => Share::Process,
        // A blocking connect() holds its socket, so the answer waits for it and is handled by the call itself.
        state::ESTABLISHED if oldstate == state::SYN_SENT as u32 => Share::Process,
        state::CLOSE if oldstate == state::LISTEN as u32 || oldstate == state::SYN_SENT as u32 => Share::Process,
        _ => Share::Softirq,
    }
}

/// What is to be done with a transition: found in [`PLANS`], since a chain of comparisons at every event costs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan(u8);

impl Plan {
    const KIND: u8 = 0b0111;
    const SOFTIRQ: u8 = 0b1000;
    const TOLD: u8 = 0b1_0000;

    /// By [`share`], [`record_kind`] and [`is_told_by_next`].
    const fn new(old: u32, new: u32) -> Self {
        let share = if share(old, new) as u8 == Share::Softirq as u8 { Self::SOFTIRQ } else { 0 };
        let told = if is_told_by_next(old, new) { Self::TOLD } else { 0 };
        Self(record_kind(new as u8) | share | told)
    }

    /// Of [`kind`].
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        self.0 & Self::KIND
    }

    #[inline(always)]
    pub const fn is_of(self, share: Share) -> bool {
        (self.0 & Self::SOFTIRQ != 0) == (share as u8 == Share::Softirq as u8)
    }

    #[inline(always)]
    pub const fn is_told_by_next(self) -> bool {
        self.0 & Self::TOLD != 0
    }
}

/// By [`place`].
pub const PLANS: [Plan; counters::ROW * counters::ROW] = {
    let mut plans = [Plan(0); counters::ROW * counters::ROW];
    let mut place = 0;
    while place < plans.len() {
        plans[place] = Plan::new((place / counters::ROW) as u32, (place % counters::ROW) as u32);
        place += 1;
    }
    plans
};

/// Place of a transition in [`PLANS`] and in `Counters::transitions`. Numbers outside the table share a place with others:
/// see [`is_state`].
#[inline(always)]
pub const fn place(oldstate: u32, newstate: u32) -> usize {
    const MASK: u32 = counters::ROW as u32 - 1;
    (((oldstate & MASK) * counters::ROW as u32) | (newstate & MASK)) as usize
}

/// Whether both numbers are inside the table.
#[inline(always)]
pub const fn is_state(oldstate: u32, newstate: u32) -> bool {
    (oldstate | newstate) < counters::ROW as u32
}

/// Whether the program `me` handles a transition. It does when it is its own; and when the other program has been interrupted
/// on this CPU and so was skipped, if the kernel skips (`backs_up`).
#[inline(always)]
pub fn handles(me: Share, plan: Plan, other_is_running: bool, backs_up: bool) -> bool {
    plan.is_of(me) || (other_is_running && backs_up)
}

/// Whether a socket in namespace `netns` is watched; `watched` 0 stands for all.
#[inline(always)]
pub const fn is_watched(watched: u32, netns: u32) -> bool {
    watched == 0 || watched == netns
}

/// Whether record number `count` (of its CPU) is one of those that look how full the ring is. `mask` is a power of two less one.
#[inline(always)]
pub const fn looks_at_ring(count: u64, mask: u32) -> bool {
    count & mask as u64 == 0
}

/// Where a record of `length` bytes goes that follows `position` in a lane: there, or at the start of the next page.
#[inline(always)]
pub const fn record_start(position: u64, length: usize) -> u64 {
    let offset = position % PAGE as u64;
    if offset > (PAGE - length) as u64 { position - offset + PAGE as u64 } else { position }
}

/// What a lane's writer learns when it looks what the daemon has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// A record that ends at `end` fits.
    pub fits: bool,
    /// So much is pending that the daemon should be woken.
    pub wake: bool,
    /// The position from which on the writer looks again.
    pub look_at: u64,
}

/// `size` is that of the lane, in bytes. The daemon is woken when a quarter of the lane is pending, and again each eighth more.
#[inline(always)]
pub const fn room(end: u64, taken: u64, size: u64) -> Room {
    let (pending, full) = (end.wrapping_sub(taken), taken.wrapping_add(size));
    if pending < size / 4 {
        return Room { fits: true, wake: false, look_at: taken.wrapping_add(size / 4) };
    }
    let next = end.wrapping_add(size / 8);
    Room { fits: pending <= size, wake: pending <= size, look_at: if next < full { next } else { full } }
}

/// The bits of [`crate::abi::record::end_flag`] from the fields of a dying socket.
#[derive(Clone, Copy, Default)]
pub struct Dying {
    pub sk_shutdown: u8,
    pub sk_flags: u64,
    pub sk_lingertime: u64,
    pub linger2: i32,
    pub snd_una: u32,
    pub write_seq: u32,
    pub has_socket: bool,
    pub retrans_stamp: u32,
}

/// Bits of `skc_flags` (enum sock_flags in include/net/sock.h; the first five have never moved).
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;
const SOCK_LINGER: u64 = 1 << 4;

#[inline(always)]
pub const fn end_flags(dying: Dying) -> u32 {
    use crate::abi::record::end_flag as flag;
    let mut flags = dying.sk_shutdown as u32 & flag::SHUTDOWN_MASK;
    if dying.sk_flags & SOCK_DEAD != 0 {
        flags |= flag::DEAD;
    }
    if dying.sk_flags & SOCK_DONE != 0 {
        flags |= flag::DONE;
    }
    if dying.sk_flags & SOCK_LINGER != 0 && dying.sk_lingertime == 0 {
        flags |= flag::LINGER_ZERO;
    }
    if dying.linger2 < 0 {
        flags |= flag::LINGER2_NEGATIVE;
    }
    if dying.snd_una == dying.write_seq {
        flags |= flag::ALL_ACKED;
    }
    if dying.has_socket {
        flags |= flag::HAS_SOCKET;
    }
    if dying.retrans_stamp != 0 {
        flags |= flag::SYN_LEFT;
    }
    flags
}

/// Milliseconds until a timer fires. `left` is `expires - now` in jiffies, wrapped below zero when it is due already;
/// such a one is 0. Bounded to a day, far above the minute that such timers run.
#[inline(always)]
pub const fn jiffies_to_ms(left: u64, hz: u32) -> u32 {
    const DAY_S: u64 = 86_400;
    if hz == 0 || left > i64::MAX as u64 {
        return 0;
    }
    // Bounded before the multiplication: this target has no 128-bit product to detect an overflow with.
    if left >= DAY_S * hz as u64 {
        return DAY_S as u32 * 1000;
    }
    (left * 1000 / hz as u64) as u32
}

/// A small socket at its end, as [`cause_of`] sees it.
#[derive(Clone, Copy, Default)]
pub struct Ending {
    /// Somebody took it out of the table of connections before: only connect() does, to have its ports.
    pub unhashed: bool,
    /// The handler of its own timer ends it.
    pub by_timer: bool,
    /// Nobody holds its network namespace any more.
    pub netns_dying: bool,
    /// It is ended on the same CPU on which a packet for it was looked at last.
    pub by_packet: bool,
    /// That packet asks for a new connection.
    pub packet_opens: bool,
    /// TIME_WAIT; otherwise FIN_WAIT2, in which a SYN is answered with a reset.
    pub is_time_wait: bool,
}

/// The [`cause`] of an end. `requested` says whether somebody asked for it; only called when nothing else explains the end.
///
/// connect() comes first, since whatever else reaches the socket afterwards ends what was already taken; so the count is
/// that of the kernel's `TWRecycled`. The note of a packet outlives a packet that ended nothing, so it comes last.
#[inline(always)]
pub fn cause_of(ending: Ending, requested: impl FnOnce() -> bool) -> usize {
    if ending.unhashed {
        cause::REUSED
    } else if ending.by_timer {
        cause::EXPIRED
    } else if ending.netns_dying {
        cause::PURGED
    } else if requested() {
        cause::EVICTED
    } else if !ending.by_packet {
        cause::UNKNOWN
    } else if ending.packet_opens && ending.is_time_wait {
        cause::REPLACED
    } else {
        cause::RESET
    }
}

/// The [`substate`] that counts for a small socket's state.
#[inline(always)]
pub const fn substate_of(tw_substate: u8) -> usize {
    if tw_substate == state::FIN_WAIT2 { substate::FIN_WAIT2 } else { substate::TIME_WAIT }
}

/// Whether the flags of a TCP header (its byte 13) are those of a SYN alone.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;
    flags & (SYN | RST | ACK) == SYN
}

/// Whether a protocol's name in `struct proto` is `TCP` or `TCPv6`; `start` are its first four bytes. DCCP, up to 6.12,
/// has the same small sockets.
#[inline(always)]
pub const fn is_tcp(start: u32) -> bool {
    start & 0x00ff_ffff == u32::from_ne_bytes(*b"TCP\0")
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
