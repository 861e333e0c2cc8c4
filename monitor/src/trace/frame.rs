//! Inputs as bytes and back.

use synfin_ebpf::abi::{Counters, Ends};

use crate::event::{CgroupId, KernelTime};
use crate::input::{HostFigures, Input, NamespaceReading, Walk};

/// Kinds of frames.
pub mod kind {
    pub const RECORD: u32 = 1;
    pub const TOTALS: u32 = 2;
    pub const HOST: u32 = 3;
    pub const WALK_BEGINS: u32 = 4;
    pub const WALK: u32 = 5;
    pub const WALK_FAILED: u32 = 6;
    pub const END: u32 = 7;
    pub const UNIT: u32 = 8;
    pub const PORTS: u32 = 9;
    pub const ENDS: u32 = 10;
    pub const NAMESPACES: u32 = 12;
}

/// No host counts further: a million a second for nine years. A damaged file does, and sums of such numbers would overflow.
const LARGEST_COUNT: u64 = 1 << 48;

/// Appends the payload of `input` to `out` and gives its kind.
pub fn encode(input: &Input<'_>, out: &mut Vec<u8>) -> u32 {
    match input {
        Input::Record(bytes) => {
            out.extend_from_slice(bytes);
            kind::RECORD
        }
        Input::Totals { counters, probe_missed } => {
            put(out, *probe_missed);
            put_counters(out, counters);
            kind::TOTALS
        }
        Input::Ends(ends) => {
            put_ends(out, ends);
            kind::ENDS
        }
        Input::Host(figures) => {
            put_host(out, figures);
            kind::HOST
        }
        Input::Ports { range, reserved } => {
            out.extend_from_slice(range.as_bytes());
            out.push(0);
            out.extend_from_slice(reserved.as_bytes());
            kind::PORTS
        }
        Input::Unit { cgroup, name } => {
            put(out, cgroup.0);
            out.extend_from_slice(name.as_bytes());
            kind::UNIT
        }
        Input::Namespaces { readings, refused } => {
            put(out, *refused);
            // Plain values under names of their own; writing to memory does not fail.
            let _ = serde_json::to_writer(out, readings);
            kind::NAMESPACES
        }
        Input::WalkBegins { at, counters } => {
            put(out, at.0);
            put_counters(out, counters);
            kind::WALK_BEGINS
        }
        Input::Walk(walk) => {
            put(out, walk.began.0);
            put(out, walk.ended.0);
            put(out, walk.unix_seconds.to_bits());
            put_counters(out, walk.counters);
            put_host(out, &walk.host);
            out.extend_from_slice(walk.sockets);
            kind::WALK
        }
        Input::WalkFailed => kind::WALK_FAILED,
    }
}

/// Calls `handle` with the input that a frame holds; `None` when the payload does not fit its kind.
pub fn decode<R>(kind: u32, mut payload: &[u8], handle: impl FnOnce(Input<'_>) -> R) -> Option<R> {
    let from = &mut payload;
    Some(match kind {
        kind::RECORD => handle(Input::Record(from)),
        kind::TOTALS => {
            let probe_missed = take_count(from)?;
            handle(Input::Totals { counters: &take_counters(from)?, probe_missed })
        }
        kind::ENDS => handle(Input::Ends(&take_ends(from)?)),
        kind::HOST => handle(Input::Host(take_host(from)?)),
        kind::PORTS => {
            let (range, reserved) = std::str::from_utf8(from).ok()?.split_once('\0')?;
            handle(Input::Ports { range, reserved })
        }
        kind::UNIT => {
            let cgroup = CgroupId(take(from)?);
            handle(Input::Unit { cgroup, name: std::str::from_utf8(from).ok()? })
        }
        kind::NAMESPACES => {
            let refused = take_count(from)?;
            let readings: Vec<NamespaceReading> = serde_json::from_slice(from).ok()?;
            let figures = readings.iter().flat_map(|reading| reading.host.to_row());
            figures.flatten().all(is_credible).then_some(())?;
            handle(Input::Namespaces { readings: &readings, refused })
        }
        kind::WALK_BEGINS => {
            let at = KernelTime(take(from)?);
            handle(Input::WalkBegins { at, counters: &take_counters(from)? })
        }
        kind::WALK => {
            let (began, ended) = (KernelTime(take(from)?), KernelTime(take(from)?));
            let unix_seconds = f64::from_bits(take(from)?);
            let counters = take_counters(from)?;
            let host = take_host(from)?;
            handle(Input::Walk(Walk { began, ended, counters: &counters, host, sockets: from, unix_seconds }))
        }
        kind::WALK_FAILED => handle(Input::WalkFailed),
        _ => return None,
    })
}

fn put(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = from.split_first_chunk::<8>()?;
    *from = rest;
    Some(u64::from_le_bytes(*bytes))
}

fn is_credible(count: u64) -> bool {
    count <= LARGEST_COUNT
}

fn take_count(from: &mut &[u8]) -> Option<u64> {
    take(from).filter(|count| is_credible(*count))
}

fn put_counters(out: &mut Vec<u8>, counters: &Counters) {
    let Counters { transitions, records, ring_full, other_protocol, other_netns, odd_state, wakeups, runs } = counters;
    for value in transitions.iter().chain([records, ring_full, other_protocol, other_netns, odd_state, wakeups, runs]) {
        put(out, *value);
    }
}

fn take_counters(from: &mut &[u8]) -> Option<Counters> {
    let mut counters = Counters::ZERO;
    let Counters { transitions, records, ring_full, other_protocol, other_netns, odd_state, wakeups, runs } =
        &mut counters;
    for value in
        transitions.iter_mut().chain([records, ring_full, other_protocol, other_netns, odd_state, wakeups, runs])
    {
        *value = take_count(from)?;
    }
    Some(counters)
}

fn put_ends(out: &mut Vec<u8>, ends: &Ends) {
    let Ends { made, turned, refused, left } = ends;
    for value in made.iter().chain([turned, refused]).chain(left.as_flattened()) {
        put(out, *value);
    }
}

fn take_ends(from: &mut &[u8]) -> Option<Ends> {
    let mut ends = Ends::default();
    let Ends { made, turned, refused, left } = &mut ends;
    for value in made.iter_mut().chain([turned, refused]).chain(left.as_flattened_mut()) {
        *value = take_count(from)?;
    }
    Some(ends)
}

/// Figures that may be missing are kept as their value plus one, 0 for none.
fn put_host(out: &mut Vec<u8>, figures: &HostFigures) {
    for value in figures.to_row() {
        put(out, value.map_or(0, |value| value.saturating_add(1)));
    }
}

fn take_host(from: &mut &[u8]) -> Option<HostFigures> {
    let mut row = [None; HostFigures::COUNT];
    for value in &mut row {
        *value = take_count(from)?.checked_sub(1);
    }
    Some(HostFigures::from_row(row))
}
