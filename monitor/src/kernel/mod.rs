//! The edge to the kernel: load the probes, attach them, read the ring, the counters and the census. The only user of aya.

mod attach;
mod btf;
mod counters;
mod cpus;
mod ends;
mod lanes;
mod load;
mod log;
mod mapping;
mod merge;
mod object;
pub mod preflight;
mod reader;
mod ring;
mod sys;
mod transport;
mod trial;

pub use attach::{Attempt, Way};
pub use btf::{BtfError, OffsetError, Types, resolve_offsets};
pub use counters::{CounterReader, Missed};
use load::read_types;
pub use load::{LoadError, LoadOptions, Probes, Skipped, create_census, load};
pub use object::{NoProbes, probes};
pub use reader::Records;
pub use transport::{RingLayout, ring_layout};
pub use trial::try_all;
