//! `tcp:tcp_retransmit_synack`: a SYN-ACK goes out again. Rare, and the only place that shows the request while its
//! first SYN-ACK is still known, so that retransmitted server handshakes get their true duration.
//!
//! The tracepoint's arguments are (sk, req) on all kernels since 4.16 (include/trace/events/tcp.h).

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use synfin_ebpf::{
    abi::{Header, SynackRetransmit, counters::writer, record::kind},
    decide,
};

use crate::{access::Probe, emit, globals, maps, sock::Sock};

#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn tcp_retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    on_retransmit(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1));
    0
}

#[raw_tracepoint(tracepoint = "tcp_retransmit_synack")]
fn tcp_retransmit_synack_raw(ctx: RawTracePointContext) -> i32 {
    on_retransmit(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1));
    0
}

/// Rare enough for the untyped reads, which serve both attachments.
#[inline(always)]
fn on_retransmit(sk: *const u8, req: *const u8) {
    // SAFETY: the tracepoint hands over a listener (or Fast Open child) and its request; reads are checked.
    let (sock, request) = unsafe { (Sock::<Probe>::new(sk), Sock::<Probe>::new(req)) };
    let netns = request.netns();
    let Some(cpu) = maps::cpu() else { return };
    // SAFETY: points to the map value.
    let counters = unsafe { maps::counters_of(cpu, writer::SYNACK) };
    if !decide::is_watched(globals::netns(), netns) {
        return;
    }
    let header = Header {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        skaddr: sk as u64,
        cgroup_id: sock.cgroup_id(),
        netns,
        kind: kind::SYNACK_RETRANSMIT,
        oldstate: 0,
        newstate: 0,
        family: request.family(),
    };
    if let Some(mut entry) = emit::reserve::<SynackRetransmit>(counters) {
        entry.write(SynackRetransmit {
            header,
            tuple: request.tuple(request.num()),
            num_retrans: u32::from(request.num_retrans()),
            snt_synack_us: request.snt_synack_us(),
        });
        emit::submit(entry, counters);
    }
}
