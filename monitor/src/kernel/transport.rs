//! How records come from the kernel side to this process, decided before the load.

use std::io;

use synfin_ebpf::abi::counters::writer;
use synfin_ebpf::abi::cpu::PAGE;

use super::cpus;
use crate::host::KernelRelease;

/// From this release on the kernel does not run a program of a raw tracepoint inside itself on the same CPU. Stable series
/// before have it in some releases, and are taken for such as have not.
const GUARDED: KernelRelease = KernelRelease::new(6, 2, 0);

/// Sizes of the maps, and the constants of the kernel side that go with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transport {
    /// A program may run inside itself, so that counters need atomic additions, and the two programs of the state
    /// tracepoint must not stand in for each other, or events would count twice.
    pub(super) nests: bool,
    /// Entries of the array of totals.
    pub(super) cpus: u32,
    /// `None`: records go through the ring buffer.
    pub(super) lanes: Option<Lanes>,
    /// Of the ring buffer; where there are lanes it only wakes the reader.
    pub(super) ring_bytes: u32,
    pub(super) wake: WakeUps,
}

/// See [`synfin_ebpf::abi::cpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lanes {
    pub(super) count: u32,
    /// Of each, a power of two.
    pub(super) pages: u32,
}

/// What becomes of the size that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// As in the metric `synfin_ring_size_bytes`.
    pub bytes: u64,
    /// How many lanes they are, and CPUs; `None`: one ring for all.
    pub lanes: Option<(u32, u32)>,
}

/// What a ring of `asked` bytes would be here.
///
/// # Errors
/// Those of reading the lists of CPUs.
pub fn ring_layout(asked: u32, release: Option<KernelRelease>) -> io::Result<RingLayout> {
    Ok(Transport::of_this_host(asked, release, PAGE as u32)?.layout())
}

/// When the kernel side wakes the reader of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WakeUps {
    /// Each CPU looks at each record whose number has no bit of it.
    pub(super) mask: u32,
    pub(super) bytes: u32,
}

impl Transport {
    /// For this host. An unknown kernel is taken for an old one.
    ///
    /// # Errors
    /// Those of reading the lists of CPUs.
    pub(super) fn of_this_host(ring_bytes: u32, release: Option<KernelRelease>, page: u32) -> io::Result<Self> {
        let (possible, online) = (cpus::number_of("possible")?, cpus::number_of("online")?);
        Ok(Self::new(ring_bytes, release, keeps_order_of_stores(), (possible, online), page))
    }

    fn new(ring_bytes: u32, release: Option<KernelRelease>, ordered: bool, cpus: (u32, u32), page: u32) -> Self {
        let nests = release.is_none_or(|release| release < GUARDED);
        let (possible, online) = cpus;
        let lanes = (ordered && !nests).then(|| Lanes::share_out(ring_bytes, online));
        Self {
            nests,
            cpus: possible.max(online),
            lanes,
            ring_bytes: if lanes.is_some() { page } else { ring_bytes },
            wake: WakeUps::for_ring(ring_bytes),
        }
    }

    fn layout(&self) -> RingLayout {
        match self.lanes {
            None => RingLayout { bytes: u64::from(self.ring_bytes), lanes: None },
            Some(lanes) => RingLayout {
                bytes: u64::from(lanes.count) * lanes.bytes_of_one() as u64,
                lanes: Some((lanes.count, lanes.count / writer::COUNT as u32)),
            },
        }
    }

    /// The constant of the kernel side.
    pub(super) fn lane_pages(&self) -> u32 {
        self.lanes.map_or(0, |lanes| lanes.pages)
    }

    /// Entries of the array of lanes' pages.
    pub(super) fn pages(&self) -> u32 {
        self.lanes.map_or(1, |lanes| lanes.count * lanes.pages)
    }
}

impl Lanes {
    /// Each CPU that is there gets equal lanes of together at most `bytes`, but of at least a page each.
    fn share_out(bytes: u32, cpus: u32) -> Self {
        let count = cpus * writer::COUNT as u32;
        let pages = bytes / count / PAGE as u32;
        let largest = if pages == 0 { 1 } else { 1 << pages.ilog2() };
        Self { count, pages: largest }
    }

    pub(super) fn bytes_of_one(self) -> usize {
        self.pages as usize * PAGE
    }
}

impl WakeUps {
    /// The reader is woken when an eighth of the ring is pending; so that this is seen in time, each CPU looks so often
    /// that the records between two looks fill a sixteenth of the ring at most.
    fn for_ring(ring_bytes: u32) -> Self {
        let largest = synfin_ebpf::abi::record::LARGEST as u32 + 8;
        let every = (ring_bytes / 16 / largest).clamp(1, 256);
        Self { mask: (every + 1).next_power_of_two() / 2 - 1, bytes: ring_bytes / 8 }
    }
}

/// Whether another CPU sees stores in the order in which this one makes them; a lane's writer relies on it.
const fn keeps_order_of_stores() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "x86", target_arch = "s390x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_rings_are_watched_closely() {
        let check = |ring_bytes, mask, bytes| assert_eq!(WakeUps::for_ring(ring_bytes), WakeUps { mask, bytes });
        check(4096, 1, 512);
        check(1 << 16, 31, 1 << 13);
        check(8 << 20, 255, 1 << 20);
    }

    #[test]
    fn old_and_unknown_kernels_may_nest_and_have_no_lanes() {
        let check = |release, nests| {
            let found = Transport::new(1 << 20, release, true, (2, 2), 4096);
            assert_eq!((found.nests, found.lanes.is_none()), (nests, nests), "{release:?}");
            assert_eq!(found.ring_bytes, if nests { 1 << 20 } else { 4096 }, "{release:?}");
        };
        check(None, true);
        check(Some(KernelRelease::new(5, 10, 262)), true);
        check(Some(KernelRelease::new(6, 1, 192)), true);
        check(Some(KernelRelease::new(6, 2, 0)), false);
        check(Some(KernelRelease::new(6, 18, 44)), false);
        let unordered = Transport::new(1 << 20, Some(KernelRelease::new(6, 12, 0)), false, (2, 2), 4096);
        assert_eq!((unordered.nests, unordered.lanes), (false, None));
    }

    #[test]
    fn lanes_share_the_bytes() {
        let check = |bytes, cpus, count, pages| assert_eq!(Lanes::share_out(bytes, cpus), Lanes { count, pages });
        check(4096, 2, 6, 1);
        check(1 << 20, 1, 3, 64);
        check(2 << 20, 2, 6, 64);
        check(8 << 20, 64, 192, 8);
        check(8 << 20, 4096, 12_288, 1);
    }

    #[test]
    fn what_one_gets_is_said() {
        let check = |asked, release, bytes, lanes| {
            let found = Transport::new(asked, Some(release), true, (2, 2), 4096).layout();
            assert_eq!(found, RingLayout { bytes, lanes }, "{asked}");
        };
        check(4096, KernelRelease::new(6, 12, 0), 6 * 4096, Some((6, 2)));
        check(8 << 20, KernelRelease::new(6, 12, 0), 6 << 20, Some((6, 2)));
        check(8 << 20, KernelRelease::new(6, 1, 0), 8 << 20, None);
    }

    #[test]
    fn totals_are_kept_of_every_cpu_that_may_come() {
        let found = Transport::new(1 << 20, Some(KernelRelease::new(6, 18, 0)), true, (128, 2), 4096);
        assert_eq!((found.cpus, found.lanes.map(|lanes| lanes.count)), (128, Some(6)));
    }
}
