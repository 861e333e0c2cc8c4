//! Facts about the host and this process, read from `/proc` and the kernel: pure parsers, and readers at the edge.

pub mod open_files;
pub mod process;
