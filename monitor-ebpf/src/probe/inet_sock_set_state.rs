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
    if let ((Ok(sk), Ok(old), Ok(new)), Some(counters)) = (fields, maps::counters()) {
        // SAFETY: points to the map value.
        unsafe { (*counters).runs += 1 };
        untyped(&ctx, sk as *const u8, old as u32, new as u32, counters);
    }
    0
}

#[inline(always)]
fn typed(ctx: &BtfTracePointContext, me: Share) {
    let (sk, old, new) = (ctx.arg::<*const u8>(0), ctx.arg::<i32>(1) as u32, ctx.arg::<i32>(2) as u32);
    shared(me, old, new, |counters| {
        // SAFETY: the first argument is a `struct sock` that the verifier knows as such.
        let sock = unsafe { Sock::<Direct>::new(sk) };
        if sock.protocol() != IPPROTO_TCP {
            // SAFETY: points to the map value.
            return unsafe { maps::add_one(&raw mut (*counters).other_protocol) };
        }
        // SAFETY: the helper takes any socket and gives its `tcp_sock`, or null when it is none.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) };
        if tcp.is_null() {
            // SAFETY: points to the map value.
            return unsafe { maps::add_one(&raw mut (*counters).other_protocol) };
        }
        // SAFETY: a typed pointer, not null.
        on_transition(ctx, sk, &unsafe { Sock::<Direct>::new(tcp.cast()) }, old, new, counters);
    });
}

#[inline(always)]
fn raw(ctx: &RawTracePointContext, me: Share) {
    let (sk, old, new) = (ctx.arg::<*const u8>(0), ctx.arg::<i32>(1) as u32, ctx.arg::<i32>(2) as u32);
    shared(me, old, new, |counters| untyped(ctx, sk, old, new, counters));
}

/// Runs `handle` if this transition is for the program `me`, and lets the other program see that this one is running.
#[inline(always)]
fn shared(me: Share, old: u32, new: u32, handle: impl FnOnce(*mut Counters)) {
    let Some(counters) = maps::counters() else { return };
    // SAFETY: points to the map value. Only the first program counts its runs, and it does not run inside itself where
    // this figure is used.
    let other_is_running = unsafe {
        maps::set_running(counters, me, true);
        if me as u8 == Share::Softirq as u8 {
            (*counters).runs += 1;
        }
        maps::is_running(counters, me.other())
    };
    if decide::handles(me, decide::share(old, new), other_is_running, globals::backs_up()) {
        handle(counters);
    }
    // SAFETY: points to the map value.
    unsafe { maps::set_running(counters, me, false) };
}

#[inline(always)]
fn untyped<C: EbpfContext>(ctx: &C, sk: *const u8, old: u32, new: u32, counters: *mut Counters) {
    // SAFETY: the tracepoint hands over a socket; the reads go through the checking helper.
    let sock = unsafe { Sock::<Probe>::new(sk) };
    if sock.protocol() != IPPROTO_TCP {
        // SAFETY: points to the map value.
        return unsafe { maps::add_one(&raw mut (*counters).other_protocol) };
    }
    on_transition(ctx, sk, &sock, old, new, counters);
}

#[inline(always)]
fn on_transition<A: Access, C: EbpfContext>(
    ctx: &C,
    sk: *const u8,
    sock: &Sock<A>,
    old: u32,
    new: u32,
    counters: *mut Counters,
) {
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
    match kind {
        kind::START => start(header, sock, counters),
        kind::OPEN => open(header, sock, counters),
        kind::END => end(header, sock, counters),
        _ => step(header, counters),
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
