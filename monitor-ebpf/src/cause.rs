//! Why a small socket of TIME_WAIT ends, from plain values: decisions of the probes, tested without a kernel.

use crate::abi::{
    ends::{cause, substate},
    state,
};

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
mod tests {
    use super::*;

    #[test]
    fn each_end_has_one_cause() {
        let check = |ending, requested: bool, expected| assert_eq!(cause_of(ending, || requested), expected);
        let (no, yes) = (Ending::default(), true);
        check(no, false, cause::UNKNOWN);
        check(no, true, cause::EVICTED);
        check(Ending { by_timer: yes, ..no }, false, cause::EXPIRED);
        check(Ending { unhashed: yes, ..no }, false, cause::REUSED);
        check(Ending { unhashed: yes, by_timer: yes, ..no }, false, cause::REUSED);
        check(Ending { netns_dying: yes, ..no }, false, cause::PURGED);
        check(Ending { netns_dying: yes, by_timer: yes, ..no }, false, cause::EXPIRED);
        let packet = Ending { by_packet: yes, is_time_wait: yes, ..no };
        check(packet, false, cause::RESET);
        check(packet, true, cause::EVICTED);
        check(Ending { netns_dying: yes, ..packet }, false, cause::PURGED);
        check(Ending { packet_opens: yes, ..packet }, false, cause::REPLACED);
        check(Ending { packet_opens: yes, is_time_wait: false, ..packet }, false, cause::RESET);
    }

    #[test]
    fn only_a_syn_alone_opens() {
        let check = |flags, expected| assert_eq!(opens(flags), expected, "{flags:#x}");
        check(0x02, true);
        check(0xc2, true);
        check(0x12, false);
        check(0x06, false);
        check(0x10, false);
        check(0x04, false);
    }

    #[test]
    fn tcp_is_told_from_its_neighbours_by_name() {
        let check = |name: &[u8; 4], expected| assert_eq!(is_tcp(u32::from_ne_bytes(*name)), expected, "{name:?}");
        check(b"TCP\0", true);
        check(b"TCPv", true);
        check(b"DCCP", false);
        check(&[0; 4], false);
    }

    #[test]
    fn the_last_program_of_the_ends_is_the_one_that_counts_them() {
        use crate::abi::names;
        let mut functions = names::TW_ENDS.iter().map(|name| names::function_of(name));
        assert_eq!(functions.next(), Some("inet_twsk_alloc"));
        assert_eq!(functions.next_back(), Some("inet_twsk_kill"));
    }
}
