//! `sock:inet_sock_set_state`: every state change of a full socket, before the new state is stored.
//!
//! The tracepoint's arguments are (sk, oldstate, newstate) on all kernels since 4.16 (include/trace/events/sock.h).

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_ktime_get_ns,
        generated::{bpf_get_current_comm, bpf_skc_to_tcp_sock},
    },
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::warn;
use synfin_ebpf::{
    abi::{
        End, Header, IPPROTO_TCP, Open, Start, Step,
        counters::writer,
        record::{kind, open_flag},
    },
    decide::{self, Share},
};

use crate::{
    access::{Access, Direct, Probe},
    emit::Place,
    globals,
    maps::{self, Writer},
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
    if let ((Ok(sk), Ok(old), Ok(new)), Some(writer)) = (fields, Writer::of_this_cpu(writer::SOFTIRQ)) {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*writer.counters()).runs) };
        untyped(&ctx, sk as *const u8, old as u32, new as u32, writer);
    }
    0
}

#[inline(always)]
fn typed(ctx: &BtfTracePointContext, me: Share) {
    let (sk, old, new) = (ctx.arg::<*const u8>(0), ctx.arg::<i32>(1) as u32, ctx.arg::<i32>(2) as u32);
    let Some(writer) = Writer::of_this_cpu(me as usize) else { return };
    if enter(writer, me, old, new) {
        // SAFETY: the first argument is a `struct sock` that the verifier knows as such.
        let sock = unsafe { Sock::<Direct>::new(sk) };
        if sock.protocol() == IPPROTO_TCP {
            let whole = || {
                // SAFETY: the helper takes any socket and gives its `tcp_sock`, or null when it is none.
                let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) };
                // SAFETY: a typed pointer, not null.
                if tcp.is_null() { None } else { Some(unsafe { Sock::<Direct>::new(tcp.cast()) }) }
            };
            on_transition(ctx, sk, &sock, whole, old, new, writer);
        } else {
            // SAFETY: points to the map value.
            unsafe { maps::add_one(&raw mut (*writer.counters()).other_protocol) };
        }
    }
    leave(writer, me);
}

#[inline(always)]
fn raw(ctx: &RawTracePointContext, me: Share) {
    let (sk, old, new) = (ctx.arg::<*const u8>(0), ctx.arg::<i32>(1) as u32, ctx.arg::<i32>(2) as u32);
    let Some(writer) = Writer::of_this_cpu(me as usize) else { return };
    if enter(writer, me, old, new) {
        untyped(ctx, sk, old, new, writer);
    }
    leave(writer, me);
}

/// Lets the other program see that `me` is running, and says whether this transition is for it. [`leave`] must follow.
#[inline(always)]
fn enter(writer: Writer, me: Share, old: u32, new: u32) -> bool {
    // SAFETY: points to the map value.
    let other_is_running = unsafe {
        maps::set_running(writer.page, me, true);
        maps::is_running(writer.page, me.other())
    };
    if me as u8 == Share::Softirq as u8 {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*writer.counters()).runs) };
    }
    decide::handles(me, globals::plan(old, new), other_is_running, !globals::nests())
}

#[inline(always)]
fn leave(writer: Writer, me: Share) {
    // SAFETY: points to the map value.
    unsafe { maps::set_running(writer.page, me, false) };
}

#[inline(always)]
fn untyped<C: EbpfContext>(ctx: &C, sk: *const u8, old: u32, new: u32, writer: Writer) {
    // SAFETY: the tracepoint hands over a socket; the reads go through the checking helper.
    let sock = unsafe { Sock::<Probe>::new(sk) };
    if sock.protocol() != IPPROTO_TCP {
        // SAFETY: points to the map value.
        return unsafe { maps::add_one(&raw mut (*writer.counters()).other_protocol) };
    }
    // SAFETY: as above.
    on_transition(ctx, sk, &sock, || Some(unsafe { Sock::<Probe>::new(sk) }), old, new, writer);
}

/// `sock` is good for the fields of `struct sock`; `whole` gives it with those of TCP, which cost a helper's call to get
/// at and which half of the records do without.
#[inline(always)]
fn on_transition<A: Access, C: EbpfContext>(
    ctx: &C,
    sk: *const u8,
    sock: &Sock<A>,
    whole: impl FnOnce() -> Option<Sock<A>>,
    old: u32,
    new: u32,
    writer: Writer,
) {
    let (netns, counters) = (sock.netns(), writer.counters());
    if !decide::is_watched(globals::netns(), netns) {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*counters).other_netns) };
        return;
    }
    if !decide::is_state(old, new) {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*counters).odd_state) };
        warn!(ctx, "state change {} -> {} is outside of TCP's states", old, new);
        return;
    }
    // SAFETY: points to the map value.
    unsafe { maps::add_transition(counters, decide::place(old, new)) };
    let plan = globals::plan(old, new);
    if plan.is_told_by_next() {
        // SAFETY: points to the map value.
        return unsafe { maps::add_one(&raw mut (*counters).records) };
    }
    let change = Change { sk: sk as u64, netns, kind: plan.kind(), old: old as u8, new: new as u8 };
    if change.kind == kind::STEP {
        return step(sock, &change, writer);
    }
    // A socket of protocol 6 that is no TCP socket is not known to exist; its transition is counted all the same.
    let Some(whole) = whole() else { return step(sock, &Change { kind: kind::STEP, ..change }, writer) };
    let Some(place) = Place::<End>::reserve(writer) else { return };
    // SAFETY: a place for the largest of the records, and each starts with its header.
    unsafe {
        header(place.record.cast(), sock, &change);
        match change.kind {
            kind::START => start(place.record.cast(), &whole),
            kind::OPEN => open(place.record.cast(), &whole),
            _ => end(place.record, &whole),
        }
    }
    place.submit(writer);
}

/// What every record says.
struct Change {
    sk: u64,
    netns: u32,
    kind: u8,
    old: u8,
    new: u8,
}

#[inline(always)]
fn step<A: Access>(sock: &Sock<A>, change: &Change, writer: Writer) {
    if let Some(place) = Place::<Step>::reserve(writer) {
        // SAFETY: a step is its header.
        unsafe { header(place.record.cast(), sock, change) };
        place.submit(writer);
    }
}

// Records are written field by field as the fields are read: what a program has to keep until later goes over its stack, and
// that is what costs most in programs as short as these.

/// # Safety
/// `at` must be a place for a header.
#[inline(always)]
unsafe fn header<A: Access>(at: *mut Header, sock: &Sock<A>, change: &Change) {
    // SAFETY: the caller's promise; the helper has no arguments.
    unsafe {
        (&raw mut (*at).time_ns).write(bpf_ktime_get_ns());
        (&raw mut (*at).skaddr).write(change.sk);
        (&raw mut (*at).cgroup_id).write(sock.cgroup_id());
        (&raw mut (*at).netns).write(change.netns);
        (&raw mut (*at).kind).write(change.kind);
        (&raw mut (*at).oldstate).write(change.old);
        (&raw mut (*at).newstate).write(change.new);
        (&raw mut (*at).family).write(sock.family());
    }
}

/// # Safety
/// `at` must be a place for such a record.
#[inline(always)]
unsafe fn start<A: Access>(at: *mut Start, sock: &Sock<A>) {
    // SAFETY: the caller's promise; the helpers write as much as they are told.
    unsafe {
        sock.write_tuple(&raw mut (*at).tuple);
        (&raw mut (*at).tgid).write((bpf_get_current_pid_tgid() >> 32) as u32);
        bpf_get_current_comm((&raw mut (*at).comm).cast(), size_of_val(&(*at).comm) as u32);
    }
}

/// # Safety
/// As of [`start`].
#[inline(always)]
unsafe fn open<A: Access>(at: *mut Open, sock: &Sock<A>) {
    // SAFETY: the caller's promise.
    unsafe {
        sock.write_tuple(&raw mut (*at).tuple);
        (&raw mut (*at).srtt_us).write(sock.srtt_us());
        (&raw mut (*at).total_retrans).write(sock.total_retrans());
        (&raw mut (*at).flags).write(if sock.fast_open() { open_flag::FAST_OPEN } else { 0 });
    }
}

/// # Safety
/// As of [`start`].
#[inline(always)]
unsafe fn end<A: Access>(at: *mut End, sock: &Sock<A>) {
    // SAFETY: the caller's promise.
    unsafe {
        sock.write_tuple(&raw mut (*at).tuple);
        (&raw mut (*at).sk_err).write(sock.sk_err());
        (&raw mut (*at).flags).write(sock.end_flags());
        (&raw mut (*at).total_retrans).write(sock.total_retrans());
        (&raw mut (*at).bytes_acked).write(sock.bytes_acked());
        (&raw mut (*at).bytes_received).write(sock.bytes_received());
    }
}
