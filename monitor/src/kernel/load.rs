//! Loads the object with this kernel's constants and attaches its probes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{Iter, Program};
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use aya_log::EbpfLogger;
use synfin_ebpf::abi::{CpuEnds, Ends, Offsets, names};

use super::attach::{self, Attempt, POINTS, TW_ENDS, Way};
use super::cpus::Cpus;
use super::ends::EndsReader;
use super::lanes::LaneReader;
use super::log::ProbeLog;
use super::merge::Merge;
use super::ring::RingReader;
use super::transport::Transport;
use super::trial::page_bytes;
use super::{BtfError, CounterReader, NoProbes, OffsetError, Records, Types, btf, object, resolve_offsets, sys};
use crate::aggregate::ProbeStatus;
use crate::host::{KernelRelease, read_release};

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// A power of two, at least a page.
    pub ring_bytes: u32,
    /// The only namespace to watch, or all.
    pub netns: Option<u32>,
    /// Type information of the running kernel.
    pub btf: PathBuf,
    /// Attach this way or not at all; `None`: the best way that works.
    pub only: Option<Way>,
}

impl LoadOptions {
    /// The default place of the kernel's type information.
    pub fn kernel_btf() -> PathBuf {
        PathBuf::from(btf::KERNEL_BTF)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    NoProbes(#[from] NoProbes),
    #[error(
        "cannot read the kernel's type information {path}: {source}; a kernel with CONFIG_DEBUG_INFO_BTF=y is needed"
    )]
    BtfUnreadable { path: PathBuf, source: io::Error },
    #[error("cannot use the kernel's type information {path}: {source}; is it that of the running kernel?")]
    BtfInvalid { path: PathBuf, source: BtfError },
    #[error("cannot use the kernel's type information {path}: {source}; this kernel is not supported")]
    Offsets { path: PathBuf, source: OffsetError },
    #[error(
        "cannot create the maps of the probes: {0}; CAP_BPF is needed, and before Linux 5.11 a high RLIMIT_MEMLOCK"
    )]
    Maps(String),
    #[error(
        "cannot attach to the tracepoint {probe}: {reasons}; CAP_BPF and CAP_PERFMON are needed (`synfin check` tells more)"
    )]
    Attach { probe: &'static str, reasons: String },
    #[error("cannot use the map {name}: {reason}")]
    Map { name: &'static str, reason: String },
}

/// The loaded and attached probes. Dropping it detaches them.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    attempts: Vec<Attempt>,
    attached: Vec<Attached>,
    census_link: Option<OwnedFd>,
    /// `Some` while ends of TIME_WAIT are counted by cause.
    ends: Option<EndsReader>,
    log: Option<EbpfLogger<ProbeLog>>,
    /// Programs refer to them by their descriptors until they are loaded.
    arrays: Vec<MapData>,
}

/// Nested runs that the kernel's recursion guard skipped; 0 on kernels that do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Of the first program of the state tracepoint, see [`super::Missed`].
    pub state_changes: u64,
    /// Of the other probes: each is a lost record, or an end of TIME_WAIT that was not counted.
    pub others: u64,
}

/// An attached probe with its programs.
struct Attached {
    probe: &'static str,
    kind: &'static str,
    programs: &'static [&'static str],
}

/// The kernel's type information and what the probes need of it; nothing is loaded without.
///
/// # Errors
/// When the file cannot be read, is not what it should be, or lacks a field.
pub(super) fn read_types(path: &Path) -> Result<(Offsets, Btf), LoadError> {
    let here = || path.to_owned();
    let data = std::fs::read(path).map_err(|source| LoadError::BtfUnreadable { path: here(), source })?;
    let types = Types::parse(&data).map_err(|source| LoadError::BtfInvalid { path: here(), source })?;
    let offsets = resolve_offsets(&types).map_err(|source| LoadError::Offsets { path: here(), source })?;
    let btf = Btf::parse(&data, Endianness::default()).map_err(|error| LoadError::Maps(attach::one_line(&error)))?;
    Ok((offsets, btf))
}

/// Loads the object, made for this kernel, without attaching anything.
pub(super) fn load_object(options: &LoadOptions) -> Result<(Ebpf, Btf, Transport), LoadError> {
    let (offsets, btf) = read_types(&options.btf)?;

    let transport = Transport::of_this_host(options.ring_bytes, running_release(), page_bytes())
        .map_err(|error| LoadError::Maps(format!("the CPUs cannot be counted: {error}")))?;
    let (netns, hz, nests) = (options.netns.unwrap_or(0), timer_hz(), u32::from(transport.nests));
    let ebpf = EbpfLoader::new()
        .btf(Some(&btf))
        .override_global(names::OFFSETS, &offsets, true)
        .override_global(names::NETNS, &netns, true)
        .override_global(names::WAKE_MASK, &transport.wake.mask, true)
        .override_global(names::WAKE_BYTES, &transport.wake.bytes, true)
        .override_global(names::HZ, &hz, true)
        .override_global(names::NESTS, &nests, true)
        .override_global(names::LANE_PAGES, &transport.lane_pages(), true)
        .map_max_entries(names::CPUS, transport.cpus)
        .map_max_entries(names::LANES, transport.pages())
        .map_max_entries(names::RING, transport.ring_bytes)
        .load(object::probes()?)
        .map_err(|error| LoadError::Maps(attach::one_line(&error)))?;
    Ok((ebpf, btf, transport))
}

/// Loads and attaches all that this kernel allows. The first result holds the probes, the second reads their records.
pub fn load(options: &LoadOptions) -> Result<(Probes, Records, CounterReader), LoadError> {
    let (mut ebpf, btf, transport) = load_object(options)?;
    let (records, cpus, arrays) = readers(&mut ebpf, &transport)?;
    let ends: PerCpuArray<_, CpuEnds> = take(&mut ebpf, names::ENDS)?;

    let mut probes = Probes::new(ebpf);
    probes.arrays = arrays;
    probes.log = ProbeLog::of(&mut probes.ebpf);
    probes.attach_census(&btf);
    for point in &POINTS {
        let (programs, attempts) = attach::attach(&mut probes.ebpf, &btf, point, options.only);
        let kind = attempts.iter().find(|attempt| attempt.result == Some(Ok(()))).map(|attempt| attempt.kind);
        if let Some(kind) = kind {
            probes.attached.push(Attached { probe: point.probe, kind, programs });
        } else if point.required {
            return Err(LoadError::Attach { probe: point.probe, reasons: reasons(&attempts) });
        }
        probes.attempts.extend(attempts);
    }
    probes.ends = probes.is_attached(TW_ENDS).then(|| EndsReader::new(ends));
    drop(btf);
    return_memory();
    Ok((probes, records, CounterReader::new(cpus)))
}

/// The kernel's type information takes some 40 MB while it is searched, which the allocator would keep for ever.
fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives unused pages back; no pointer of ours changes.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The maps of the records and of the totals, mapped; and what must live until the programs are loaded.
fn readers(ebpf: &mut Ebpf, transport: &Transport) -> Result<(Records, Arc<Cpus>, Vec<MapData>), LoadError> {
    let failed = |name: &'static str| move |error: io::Error| LoadError::Map { name, reason: error.to_string() };
    let (totals, pages) = (take_array(ebpf, names::CPUS)?, take_array(ebpf, names::LANES)?);
    let cpus = Arc::new(Cpus::map(totals.fd().as_fd(), transport.cpus as usize).map_err(failed(names::CPUS))?);
    let ring: RingBuf<_> = take(ebpf, names::RING)?;
    let records = match transport.lanes {
        None => Records::of_ring(RingReader::new(ring, transport.ring_bytes as usize).map_err(failed(names::RING))?),
        Some(lanes) => {
            let merge = Merge::new(cpus.clone(), pages.fd().as_fd(), lanes.count as usize, lanes.bytes_of_one());
            Records::of_lanes(LaneReader::new(merge.map_err(failed(names::LANES))?, ring))
        }
    };
    Ok((records, cpus, vec![totals, pages]))
}

fn take_array(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, LoadError> {
    match ebpf.take_map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => Err(LoadError::Map { name, reason: "the object has no array of this name".into() }),
    }
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError> {
    let map = ebpf.take_map(name).ok_or(LoadError::Map { name, reason: "the object has none of this name".into() })?;
    M::try_from(map).map_err(|error| LoadError::Map { name, reason: attach::one_line(&error) })
}

fn reasons(attempts: &[Attempt]) -> String {
    let failed = attempts.iter().filter_map(|attempt| match &attempt.result {
        Some(Err(error)) => Some(format!("{}: {error}", attempt.kind)),
        _ => None,
    });
    failed.collect::<Vec<_>>().join("; ")
}

impl Probes {
    pub(super) fn new(ebpf: Ebpf) -> Self {
        let arrays = Vec::new();
        Self { ebpf, attempts: Vec::new(), attached: Vec::new(), census_link: None, ends: None, log: None, arrays }
    }

    pub(super) fn attach_census(&mut self, btf: &Btf) {
        let result = (|| {
            let program = self.ebpf.program_mut(names::CENSUS).ok_or("the object has no census program")?;
            let program: &mut Iter =
                program.try_into().map_err(|e: aya::programs::ProgramError| attach::one_line(&e))?;
            program.load("tcp", btf).map_err(|error| attach::one_line(&error))?;
            let fd = program.fd().map_err(|error| attach::one_line(&error))?;
            sys::create_iterator_link(fd.as_fd()).map_err(|error| error.to_string())
        })();
        let result = result.map(|link| self.census_link = Some(link));
        if result.is_ok() {
            self.attached.push(Attached { probe: "iter_tcp", kind: "iterator", programs: &[names::CENSUS] });
        }
        self.attempts.push(Attempt { probe: "iter_tcp", kind: "iterator", result: Some(result) });
    }

    /// Every attempt to attach something, in order.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Whether SYN-ACK retransmissions are seen.
    pub fn sees_synack_retransmits(&self) -> bool {
        self.is_attached("tcp_retransmit_synack")
    }

    fn is_attached(&self, probe: &str) -> bool {
        self.attached.iter().any(|attached| attached.probe == probe)
    }

    /// TIME_WAIT sockets made and ended by cause; `None` where the kernel refuses the probes for it.
    ///
    /// # Errors
    /// Those of reading a map.
    pub fn ends(&self) -> Option<Result<Ends, MapError>> {
        self.ends.as_ref().map(EndsReader::read)
    }

    /// From this link walks are made ([`create_census`]); `None` where the kernel has no such iterator.
    pub fn census_link(&self) -> Option<io::Result<OwnedFd>> {
        self.census_link.as_ref().map(OwnedFd::try_clone)
    }

    /// Detaches the probes, one after the other; what is in the ring stays there.
    pub fn detach(&mut self) {
        // From the first one on causes are missing.
        self.ends = None;
        for attached in &self.attached {
            attach::detach(&mut self.ebpf, attached.programs);
        }
    }

    /// Runs and nanoseconds of all programs of a probe together. The runs that the kernel skipped are the first one's at a
    /// tracepoint, where all are run by the same event, and those of all at functions.
    fn figures(&self, attached: &Attached) -> sys::ProgramFigures {
        let mut sum = sys::ProgramFigures::default();
        for (place, name) in attached.programs.iter().enumerate() {
            let Some(Ok(figures)) = self.ebpf.program(name).map(figures) else { continue };
            if place == 0 || attached.kind == Way::Function.label() {
                sum.recursion_misses += figures.recursion_misses;
            }
            sum.run_count += figures.run_count;
            sum.run_time_ns += figures.run_time_ns;
        }
        sum
    }

    /// Attached or not, and the kernel's figures of each.
    pub fn status(&self) -> Vec<ProbeStatus> {
        let statistics = statistics_enabled();
        let status = self.attempts.iter().map(|attempt| {
            let attached = attempt.result == Some(Ok(()));
            let this = |attached: &&Attached| attached.probe == attempt.probe && attached.kind == attempt.kind;
            let figures = self.attached.iter().find(this).filter(|_| statistics).map(|attached| self.figures(attached));
            ProbeStatus {
                probe: attempt.probe,
                kind: attempt.kind,
                attached,
                runs: figures.map(|figures| (figures.run_count, figures.run_time_ns)),
            }
        });
        status.collect()
    }

    /// Nested runs that the kernel skipped so far.
    pub fn skipped(&self) -> Skipped {
        let mut skipped = Skipped::default();
        for attached in &self.attached {
            let misses = self.figures(attached).recursion_misses;
            match attached.probe {
                "inet_sock_set_state" => skipped.state_changes += misses,
                _ => skipped.others += misses,
            }
        }
        skipped
    }

    /// Passes on what the probes had to say: rare, and only about what should not happen.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }
}

/// A new walk over the socket tables of the calling thread's network namespace: reading the file runs it.
///
/// # Errors
/// Those of the kernel, such as missing rights on kernels before 5.19.
pub fn create_census(link: BorrowedFd<'_>) -> io::Result<File> {
    sys::create_iterator(link)
}

fn figures(program: &Program) -> io::Result<sys::ProgramFigures> {
    let fd = match program {
        Program::BtfTracePoint(program) => program.fd(),
        Program::RawTracePoint(program) => program.fd(),
        Program::TracePoint(program) => program.fd(),
        Program::Iter(program) => program.fd(),
        Program::FEntry(program) => program.fd(),
        Program::FExit(program) => program.fd(),
        other => return Err(io::Error::other(format!("no figures for a program of type {:?}", other.prog_type()))),
    };
    sys::program_figures(fd.map_err(io::Error::other)?.as_fd())
}

/// Whether the operator has the kernel count runs and time of programs.
fn statistics_enabled() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|text| text.trim() == "1")
}

fn running_release() -> Option<KernelRelease> {
    read_release().ok().and_then(|text| KernelRelease::parse(&text))
}

/// Timer ticks a second: the coarse clocks advance once a tick (include/linux/jiffies.h, TICK_NSEC).
fn timer_hz() -> u32 {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the resolution into our own variable.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
    u32::try_from(resolution.tv_nsec).ok().filter(|ns| *ns > 0).map_or(0, |ns| (1_000_000_000 + ns / 2) / ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_one_of_the_usual_lengths() {
        assert!([100, 250, 300, 1000].contains(&timer_hz()), "{}", timer_hz());
    }
}
