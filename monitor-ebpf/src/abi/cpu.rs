//! What each CPU has of its own: a page of totals and positions, and the lanes that its records travel in. Both are arrays
//! that the daemon maps into its memory, so neither side makes a system call to hand anything over.
//!
//! A **lane** is a ring of bytes with one writer, one program on one CPU, which nothing interrupts to write to the same lane.
//! So the writer needs no atomic operation: it fills the record in and then moves [`CpuPage::lanes`]'s `position` past it.
//! That order is kept by processors that keep the order of stores (x86); elsewhere, and where the kernel may run a
//! program inside itself, records go through the kernel's own ring buffer instead.
//!
//! Positions count bytes since the start and only grow. A record starts at a multiple of [`UNIT`], never crosses a page, and
//! takes its size rounded up to whole units. Where the next one does not fit in the page, a unit of kind
//! [`super::record::kind::NONE`] says that the rest of the page is empty.

use super::counters::{Counters, writer};

/// Bytes of an element of the array of lanes; a lane is a power of two of them.
pub const PAGE: usize = 4096;
/// Records start at multiples of this.
pub const UNIT: usize = 32;

/// The value of one entry of the array [`super::names::CPUS`], by the number of the CPU.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPage {
    /// Whether each of the two programs of the state tracepoint is running on this CPU, by [`crate::decide::Share`].
    pub running: [u64; 2],
    /// Of each [`writer`].
    pub lanes: [Lane; writer::COUNT],
    /// By [`writer`].
    pub writers: [Counters; writer::COUNT],
    /// Up to which position the daemon has taken the records of each lane: the only words that the daemon writes, in a
    /// cache line of their own.
    pub taken: Taken,
    pub unused: [u64; 216],
}

/// The writer's end of a lane.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Up to where records are written.
    pub position: u64,
    /// A record that would end behind this position looks first what the daemon has taken.
    pub look_at: u64,
}

/// The daemon's words of [`CpuPage`].
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken(pub [u64; writer::COUNT]);

/// Place of a lane's first page in the array of lanes, of `pages` each.
#[inline(always)]
pub const fn first_page(cpu: u32, writer: usize, pages: u32) -> u32 {
    (cpu * writer::COUNT as u32 + writer as u32) * pages
}

const _: () = assert!(size_of::<CpuPage>() == 2 * PAGE);
const _: () = assert!(core::mem::offset_of!(CpuPage, writers) == 64);
const _: () = assert!(PAGE.is_multiple_of(UNIT) && size_of::<super::Header>() == UNIT);
