//! Trace files: the core's inputs, saved as they came, so that a run can be repeated without a kernel, to the byte.
//!
//! A file is the eight bytes of [`MAGIC`], the length of the head (u32), the head as JSON, and then frames: kind (u32),
//! length (u32), that many bytes. All numbers are little endian. The last frame is an end mark, so a cut file is known.

mod frame;
mod reader;
mod writer;

use serde::{Deserialize, Serialize};

pub use reader::{TraceError, TraceReader};
pub use writer::TraceWriter;

/// What every trace file starts with; the last character is the version of the frame format.
pub const MAGIC: [u8; 8] = *b"SYNFINT1";

/// What must be known to make sense of the frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`synfin_ebpf::abi::ABI_VERSION`] of the writer.
    pub abi: u32,
    /// Version of synfin that wrote it.
    pub synfin: String,
    /// `uname -r` of the host.
    pub kernel: String,
    /// Wall time less kernel monotonic time at the start, nanoseconds.
    pub wall_offset_ns: i64,
    /// Bound of the connection table.
    pub max_connections: u64,
    /// Whether SYN-ACK retransmissions were seen.
    pub synack_probe: bool,
    /// All network namespaces were watched.
    #[serde(default)]
    pub all_namespaces: bool,
}
