//! The edge to the kernel: preflight, load, attach, read.

pub mod preflight;
