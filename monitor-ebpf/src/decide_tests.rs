//! Tables of the decisions.

use super::*;
use crate::abi::record::end_flag as flag;

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

#[test]
fn births_openings_and_ends_carry_more_than_a_step() {
    let check = |newstate, kind| assert_eq!(record_kind(newstate), kind, "to state {newstate}");
    check(state::SYN_SENT, kind::START);
    check(state::LISTEN, kind::START);
    check(state::ESTABLISHED, kind::OPEN);
    check(state::CLOSE, kind::END);
    for newstate in [state::SYN_RECV, state::FIN_WAIT1, state::FIN_WAIT2, state::CLOSE_WAIT, state::CLOSING] {
        check(newstate, kind::STEP);
    }
}

#[test]
fn system_calls_and_packets_are_told_apart() {
    let check = |old, new, expected| assert_eq!(share(u32::from(old), u32::from(new)), expected, "{old} to {new}");
    check(state::CLOSE, state::SYN_SENT, Share::Process);
    check(state::CLOSE, state::LISTEN, Share::Process);
    check(state::LISTEN, state::CLOSE, Share::Process);
    check(state::ESTABLISHED, state::FIN_WAIT1, Share::Process);
    check(state::CLOSE_WAIT, state::LAST_ACK, Share::Process);
    check(state::SYN_SENT, state::ESTABLISHED, Share::Process);
    check(state::SYN_RECV, state::ESTABLISHED, Share::Softirq);
    check(state::LISTEN, state::SYN_RECV, Share::Softirq);
    check(state::LAST_ACK, state::CLOSE, Share::Softirq);
}

#[test]
fn each_program_stands_in_for_the_other() {
    use Share::{Process, Softirq};
    let check = |me, owner, running, backs_up, expected| {
        let plan = if owner == Process { Plan(0) } else { Plan(Plan::SOFTIRQ) };
        assert_eq!(handles(me, plan, running, backs_up), expected);
    };
    check(Process, Process, false, true, true);
    check(Process, Softirq, false, true, false);
    check(Softirq, Process, true, true, true);
    check(Softirq, Process, true, false, false);
    check(Softirq, Softirq, true, true, true);
    assert_eq!((Process.other(), Softirq.other()), (Softirq, Process));
}

#[test]
fn states_outside_the_table_are_told_apart() {
    assert_eq!((place(7, 2), is_state(7, 2)), (7 * 16 + 2, true));
    assert_eq!((place(15, 15), is_state(15, 15)), (255, true));
    assert!(!is_state(16, 1) && !is_state(1, u32::MAX));
    assert!(place(u32::MAX, u32::MAX) < PLANS.len());
}

#[test]
fn the_plans_are_those_of_the_single_decisions() {
    for (old, new) in (0..counters::ROW as u32).flat_map(|old| (0..counters::ROW as u32).map(move |new| (old, new))) {
        let plan = PLANS[place(old, new)];
        assert_eq!(plan.kind(), record_kind(new as u8), "{old} to {new}");
        assert_eq!(plan.is_told_by_next(), is_told_by_next(old, new), "{old} to {new}");
        let owner = share(old, new);
        assert!(plan.is_of(owner) && !plan.is_of(owner.other()), "{old} to {new}");
    }
}

#[test]
fn namespace_zero_watches_all() {
    assert!(is_watched(0, 5) && is_watched(5, 5) && !is_watched(5, 6));
}

#[test]
fn every_record_looks_when_the_mask_is_zero() {
    assert!(looks_at_ring(3, 0));
    assert!(looks_at_ring(64, 63) && !looks_at_ring(65, 63));
}

#[test]
fn a_record_does_not_cross_a_page() {
    let check = |position, length, start| assert_eq!(record_start(position, length), start, "{length} at {position}");
    check(0, 96, 0);
    check(4000, 96, 4000);
    check(4032, 96, 4096);
    check(4064, 32, 4064);
    check(8192 + 4064, 96, 12_288);
}

#[test]
fn the_daemon_is_woken_from_a_quarter_of_a_lane_on() {
    let check = |end, taken, fits, wake, look_at| {
        assert_eq!(room(end, taken, 4096), Room { fits, wake, look_at }, "{end} of which {taken} are taken");
    };
    check(32, 0, true, false, 1024);
    check(9000, 8000, true, false, 9024);
    check(1024, 0, true, true, 1536);
    check(4000, 0, true, true, 4096);
    check(4096, 0, true, true, 4096);
    check(4128, 0, false, false, 4096);
    check(12_288, 8000, false, false, 12_096);
}

#[test]
fn only_the_birth_of_a_child_is_told_by_the_next_record() {
    use crate::abi::state::{CLOSE, ESTABLISHED, LISTEN, SYN_RECV, SYN_SENT};
    let check = |old, new, told| assert_eq!(is_told_by_next(u32::from(old), u32::from(new)), told);
    check(LISTEN, SYN_RECV, true);
    check(SYN_SENT, SYN_RECV, false);
    check(SYN_RECV, ESTABLISHED, false);
    check(LISTEN, CLOSE, false);
}

#[test]
fn timers_that_are_due_have_nothing_left() {
    let check = |left, hz, ms| assert_eq!(jiffies_to_ms(left, hz), ms, "{left} jiffies at {hz} Hz");
    check(250, 250, 1000);
    check(15_000, 250, 60_000);
    check(0, 250, 0);
    check(u64::MAX, 250, 0);
    check(5, 0, 0);
    check(1 << 40, 1000, 86_400_000);
}

#[test]
fn flags_of_a_dying_socket() {
    let check = |dying, flags| assert_eq!(end_flags(dying), flags);
    let acked = Dying::default();
    check(acked, flag::ALL_ACKED);
    check(Dying { write_seq: 1, sk_shutdown: 3, ..acked }, 3);
    check(Dying { write_seq: 1, sk_flags: 0b11, ..acked }, flag::DEAD | flag::DONE);
    check(Dying { write_seq: 1, sk_flags: 1 << 4, ..acked }, flag::LINGER_ZERO);
    check(Dying { write_seq: 1, sk_flags: 1 << 4, sk_lingertime: 9, ..acked }, 0);
    check(Dying { write_seq: 1, linger2: -1, ..acked }, flag::LINGER2_NEGATIVE);
    check(Dying { write_seq: 1, has_socket: true, retrans_stamp: 1, ..acked }, flag::HAS_SOCKET | flag::SYN_LEFT);
}
