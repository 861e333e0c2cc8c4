//! What crosses the boundary between kernel and daemon.

pub mod census;
pub mod counters;
pub mod cpu;
pub mod ends;
pub mod names;
pub mod offsets;
pub mod record;
pub mod state;

pub use census::CensusSocket;
pub use counters::Counters;
pub use cpu::CpuPage;
pub use ends::{CpuEnds, Ends};
pub use offsets::Offsets;
pub use record::{End, Header, Open, Start, Step, SynackRetransmit, Tuple};

/// Raised whenever a record, a counter slot or the offset table changes meaning; written in the head of trace files.
pub const ABI_VERSION: u32 = 1;

/// Address families as the kernel numbers them (include/linux/socket.h).
pub const AF_INET: u8 = 2;
pub const AF_INET6: u8 = 10;

/// Protocol number of TCP (RFC 9293, IANA protocol numbers).
pub const IPPROTO_TCP: u16 = 6;
