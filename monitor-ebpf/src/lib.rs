//! The contract between the probes in the kernel and the daemon: all that crosses the boundary is declared here, once.
//!
//! Integers and byte arrays only; enums are born in the daemon's decoder. No record has padding. Addresses are 16 bytes in
//! network order, IPv4 as IPv4-mapped; ports are in host order; names of times end in their unit.
#![cfg_attr(not(feature = "user"), no_std)]

pub mod abi;
pub mod cause;
pub mod decide;

#[cfg(feature = "user")]
mod pod {
    use crate::abi::{CensusSocket, CpuEnds, Offsets};

    // SAFETY: all are repr(C) structs of integers and byte arrays without padding.
    unsafe impl aya::Pod for Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for CensusSocket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for CpuEnds {}
}
