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

use crate::{access::Probe, emit::Place, globals, maps::Writer, sock::Sock};

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
    let Some(writer) = Writer::of_this_cpu(writer::SYNACK) else { return };
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
    if let Some(place) = Place::<SynackRetransmit>::reserve(writer) {
        let record = SynackRetransmit {
            header,
            tuple: request.tuple(request.num()),
            num_retrans: u32::from(request.num_retrans()),
            snt_synack_us: request.snt_synack_us(),
        };
        // SAFETY: a place for a whole record, aligned to 8, and ours until it is submitted.
        unsafe { place.record.write(record) };
        place.submit(writer);
    }
}
