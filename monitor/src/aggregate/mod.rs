//! Outcomes and readings as plain numbers: counters, gauges, histograms. No metric names here, no text.

mod aggregates;
pub mod bounds;
mod cgroups;
mod counters;
mod fill;
mod histogram;
mod populations;
mod snapshot;
mod units;

pub use aggregates::Aggregates;
pub use cgroups::CgroupSockets;
pub use counters::{KernelCounters, Transitions};
pub use fill::Readings;
pub use histogram::Histogram;
pub use populations::{Audit, FULL_STATES, Populations, SmallSockets};
pub use snapshot::*;
pub use units::{OTHER, UNITS_DEFAULT, Units, is_owned};
