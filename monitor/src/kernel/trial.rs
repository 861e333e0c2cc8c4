//! Trial loads: every way to attach every probe, one after the other, for real and for a moment.

use std::path::Path;

use aya::Btf;

use super::attach::{self, Attempt, POINTS, Way};
use super::load::{LoadError, LoadOptions, Probes, load_object};

/// A namespace number that none has (the kernel's begin at 0xF0000000, `PROC_DYNAMIC_FIRST`): trials hand over no record.
const NOBODY: u32 = 1;

/// Tries all ways, each with an object of its own that is gone when this returns; a daemon at work does not notice.
/// An object that cannot be loaded is the reason why none of its ways works. `btf`: the kernel's type information.
pub fn try_all(btf: &Path) -> Vec<Attempt> {
    let options = LoadOptions { ring_bytes: page_bytes(), netns: Some(NOBODY), btf: btf.to_owned(), only: None };
    let mut attempts = try_census(&options);
    attempts.extend(Way::ALL.into_iter().flat_map(|way| try_way(&options, way)));
    attempts
}

fn try_census(options: &LoadOptions) -> Vec<Attempt> {
    match open(options) {
        Ok((mut probes, btf)) => {
            probes.attach_census(&btf);
            probes.attempts().to_vec()
        }
        Err(error) => {
            vec![Attempt { probe: "iter_tcp", kind: "iterator", result: Some(Err(error.to_string())) }]
        }
    }
}

fn try_way(options: &LoadOptions, way: Way) -> Vec<Attempt> {
    let points = POINTS.iter().filter(|point| point.ways.iter().any(|&(offered, _)| offered == way));
    match open(options) {
        Ok((mut probes, btf)) => points
            .flat_map(|point| attach::attach(&mut probes.ebpf, &btf, point, Some(way)).1)
            .filter(|attempt| attempt.result.is_some())
            .collect(),
        Err(error) => {
            let refused = |probe| Attempt { probe, kind: way.label(), result: Some(Err(error.to_string())) };
            points.map(|point| refused(point.probe)).collect()
        }
    }
}

fn open(options: &LoadOptions) -> Result<(Probes, Btf), LoadError> {
    let (ebpf, btf, _) = load_object(options)?;
    Ok((Probes::new(ebpf), btf))
}

/// The smallest ring there is.
pub(super) fn page_bytes() -> u32 {
    // SAFETY: asks for a constant of the running system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(1 << 16)
}
