//! `sock:inet_sock_set_state`: every state change of a full socket, before the new state is stored.
//!
//! The tracepoint's arguments are (sk, oldstate, newstate) on all kernels since 4.16 (include/trace/events/sock.h).

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_skc_to_tcp_sock},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::warn;
use synfin_ebpf::{
    abi::{
        Counters, End, Header, IPPROTO_TCP, Open, Start, Step,
        counters::writer,
        record::{kind, open_flag},
    },
    decide::{self, Share},
};

use crate::{
    access::{Access, Direct, Probe},
    emit, globals, maps,
    sock::Sock,
};

/// The usual attachment: the socket is typed, its fields are plain loads.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    typed(&ctx, Share::Process);
    0
}

/// Its other half, see [`decide::share`].
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state_softirq(ctx: BtfTracePointContext) -> i32 {
    typed(&ctx, Share::Softirq);
    0
}

/// For kernels that refuse the typed attachment.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn inet_sock_set_state_raw(ctx: RawTracePointContext) -> i32 {
    raw(&ctx, Share::Process);
    0
}

/// Its other half.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn inet_sock_set_state_raw_softirq(ctx: RawTracePointContext) -> i32 {
    raw(&ctx, Share::Softirq);
    0
}

/// Where not even raw tracepoints are to be had. Needs tracefs and a perf event. One program: here any nested run is lost.
#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn inet_sock_set_state_classic(ctx: TracePointContext) -> u32 {
    // The record starts with eight common bytes, then `const void *skaddr; int oldstate; int newstate;`.
    // SAFETY: reads inside the tracepoint's record, which the kernel checks at attach.
    let fields = unsafe { (ctx.read_at::<u64>(8), ctx.read_at::<i32>(16), ctx.read_at::<i32>(20)) };
    if let (Ok(sk), Ok(old), Ok(new)) = fields {
        untyped(&ctx, Share::Process, sk as *const u8, old as u32, new as u32);
    }
    0
}

#[inline(always)]
fn typed(ctx: &BtfTracePointContext, share: Share) {
    let (sk, old, new) = (ctx.arg::<*const u8>(0), ctx.arg::<i32>(1) as u32, ctx.arg::<i32>(2) as u32);
    if decide::share(old, new) != share {
        return;
    }
    // SAFETY: the first argument is a `struct sock` that the verifier knows as such.
    let sock = unsafe { Sock::<Direct>::new(sk) };
    if sock.protocol() != IPPROTO_TCP {
        return count_other_protocol(share);
    }
    let whole = || {
        // SAFETY: the helper takes any socket and gives its `tcp_sock`, or null when it is none.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) };
        // SAFETY: a typed pointer, not null.
        if tcp.is_null() { None } else { Some(unsafe { Sock::<Direct>::new(tcp.cast()) }) }
    };
    on_transition(ctx, share, sk, &sock, whole, old, new);
}

#[inline(always)]
fn raw(ctx: &RawTracePointContext, share: Share) {
    let (sk, old, new) = (ctx.arg::<*const u8>(0), ctx.arg::<i32>(1) as u32, ctx.arg::<i32>(2) as u32);
    if decide::share(old, new) == share {
        untyped(ctx, share, sk, old, new);
    }
}

#[inline(always)]
fn untyped<C: EbpfContext>(ctx: &C, share: Share, sk: *const u8, old: u32, new: u32) {
    // SAFETY: the tracepoint hands over a socket; the reads go through the checking helper.
    let sock = unsafe { Sock::<Probe>::new(sk) };
    if sock.protocol() != IPPROTO_TCP {
        return count_other_protocol(share);
    }
    // SAFETY: as above.
    on_transition(ctx, share, sk, &sock, || Some(unsafe { Sock::<Probe>::new(sk) }), old, new);
}

#[inline(always)]
const fn writer(share: Share) -> u32 {
    match share {
        Share::Process => writer::PROCESS,
        Share::Softirq => writer::SOFTIRQ,
    }
}

#[inline(always)]
fn count_other_protocol(share: Share) {
    if let Some(counters) = maps::counters(writer(share)) {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*counters).other_protocol) };
    }
}

/// `sock` is good for the fields of `struct sock`; `whole` gives it with those of TCP, which cost a helper's call to get
/// at and which half of the records do without.
#[inline(always)]
fn on_transition<A: Access, C: EbpfContext>(
    ctx: &C,
    share: Share,
    sk: *const u8,
    sock: &Sock<A>,
    whole: impl FnOnce() -> Option<Sock<A>>,
    old: u32,
    new: u32,
) {
    let Some(counters) = maps::counters(writer(share)) else { return };
    let netns = sock.netns();
    if !decide::is_watched(globals::netns(), netns) {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*counters).other_netns) };
        return;
    }
    let Some(slot) = decide::slot(old, new) else {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*counters).odd_state) };
        warn!(ctx, "state change {} -> {} is outside of TCP's states", old, new);
        return;
    };
    // SAFETY: points to the map value.
    unsafe { maps::add_transition(counters, slot) };
    let kind = decide::record_kind(new as u8);
    let header = Header {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        skaddr: sk as u64,
        cgroup_id: sock.cgroup_id(),
        netns,
        kind,
        oldstate: old as u8,
        newstate: new as u8,
        family: sock.family(),
    };
    if kind == kind::STEP {
        return step(header, counters);
    }
    let Some(sock) = whole() else { return };
    match kind {
        kind::START => start(header, &sock, counters),
        kind::OPEN => open(header, &sock, counters),
        _ => end(header, &sock, counters),
    }
}

#[inline(always)]
fn step(header: Header, counters: *mut Counters) {
    if let Some(mut entry) = emit::reserve::<Step>(counters) {
        entry.write(Step { header });
        emit::submit(entry, counters);
    }
}

#[inline(always)]
fn start<A: Access>(header: Header, sock: &Sock<A>, counters: *mut Counters) {
    let comm = bpf_get_current_comm().unwrap_or_default();
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if let Some(mut entry) = emit::reserve::<Start>(counters) {
        entry.write(Start { header, tuple: sock.tuple(sock.sport()), tgid, comm });
        emit::submit(entry, counters);
    }
}

#[inline(always)]
fn open<A: Access>(header: Header, sock: &Sock<A>, counters: *mut Counters) {
    if let Some(mut entry) = emit::reserve::<Open>(counters) {
        entry.write(Open {
            header,
            tuple: sock.tuple(sock.sport()),
            srtt_us: sock.srtt_us(),
            total_retrans: sock.total_retrans(),
            flags: if sock.fast_open() { open_flag::FAST_OPEN } else { 0 },
        });
        emit::submit(entry, counters);
    }
}

#[inline(always)]
fn end<A: Access>(header: Header, sock: &Sock<A>, counters: *mut Counters) {
    if let Some(mut entry) = emit::reserve::<End>(counters) {
        entry.write(End {
            header,
            tuple: sock.tuple(sock.sport()),
            sk_err: sock.sk_err(),
            flags: sock.end_flags(),
            total_retrans: sock.total_retrans(),
            bytes_acked: sock.bytes_acked(),
            bytes_received: sock.bytes_received(),
        });
        emit::submit(entry, counters);
    }
}
