//! A lane: memory that the daemon has mapped, written by one program on one CPU. See [`synfin_ebpf::abi::cpu`].

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use synfin_ebpf::{
    abi::{
        Header,
        cpu::{PAGE, UNIT, first_page},
        record::kind,
    },
    decide,
};

use crate::{
    globals,
    maps::{self, Writer},
};

/// Room for a `T`, null when there is none; `end` becomes the position behind it.
#[inline(always)]
pub fn reserve<T>(writer: Writer, end: &mut u64) -> *mut T {
    let length = const { size_of::<T>().next_multiple_of(UNIT) };
    // SAFETY: inside the map value.
    let lane = unsafe { &raw mut (*writer.page).lanes[writer.number] };
    // SAFETY: as above; this program is the only writer.
    let (position, look_at) = unsafe { ((&raw const (*lane).position).read_volatile(), (*lane).look_at) };
    let start = decide::record_start(position, length);
    *end = start + length as u64;
    if *end > look_at && !has_room(writer, *end) {
        return core::ptr::null_mut();
    }
    if start != position {
        close_page(writer, position);
    }
    inside(page_of(writer, start), start)
}

/// Hands over the record before `end`.
#[inline(always)]
pub fn submit(writer: Writer, end: u64) {
    // The daemon must not see the position before the record.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: inside the map value; this program is the only writer.
    unsafe { (&raw mut (*writer.page).lanes[writer.number].position).write_volatile(end) };
}

/// Looks what the daemon has taken, and wakes it when much is pending. Once in half a lane, or when there is no room.
#[inline(always)]
fn has_room(writer: Writer, end: u64) -> bool {
    // SAFETY: inside the map value; the daemon writes the word.
    let taken = unsafe { (&raw const (*writer.page).taken.0[writer.number]).read_volatile() };
    let room = decide::room(end, taken, u64::from(globals::lane_pages()) * PAGE as u64);
    // SAFETY: inside the map value.
    unsafe { (*writer.page).lanes[writer.number].look_at = room.look_at };
    if room.wake {
        wake(writer);
    }
    room.fits
}

/// A discarded record of the ring buffer wakes who waits for it.
#[inline(always)]
fn wake(writer: Writer) {
    if let Some(bell) = maps::RING.reserve::<u64>(0) {
        bell.discard(u64::from(BPF_RB_FORCE_WAKEUP));
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*writer.counters()).wakeups) };
    }
}

/// Says that the rest of the page of `position` is empty.
#[inline(always)]
fn close_page(writer: Writer, position: u64) {
    let header: *mut Header = inside(page_of(writer, position), position);
    if !header.is_null() {
        // SAFETY: `inside` gives a place that holds a whole header.
        unsafe { (&raw mut (*header).kind).write_volatile(kind::NONE) };
    }
}

#[inline(always)]
fn page_of(writer: Writer, position: u64) -> *mut u8 {
    let pages = globals::lane_pages();
    let page = (position / PAGE as u64) as u32 & pages.wrapping_sub(1);
    maps::lane_page(first_page(writer.cpu, writer.number, pages) + page)
}

/// The place of `position` in its page. Null only for a null page, but the verifier wants to see that a `T` fits.
#[inline(always)]
fn inside<T>(page: *mut u8, position: u64) -> *mut T {
    let mut offset = position;
    // SAFETY: changes one register, in a way that the compiler does not look through.
    unsafe { core::arch::asm!("{0} &= 4064", inout(reg) offset) };
    if page.is_null() || offset > (PAGE - size_of::<T>()) as u64 {
        return core::ptr::null_mut();
    }
    // SAFETY: inside the page, by the comparison.
    unsafe { page.add(offset as usize) }.cast()
}
