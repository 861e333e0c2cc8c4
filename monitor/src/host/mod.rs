//! What the host says of itself, read at the edge.

pub mod sysctl_files;
