//! Outcomes and readings as plain numbers: counters, gauges, histograms. No metric names here, no text.

mod histogram;
mod snapshot;

pub use histogram::Histogram;
pub use snapshot::*;
