//! Outcomes and readings as plain numbers: counters, gauges, histograms. No metric names here, no text.

mod aggregates;
pub mod bounds;
mod cgroups;
mod counters;
mod fill;
mod histogram;
mod inbound;
mod listening;
mod majority;
mod makers;
mod owners;
mod populations;
mod ports;
mod snapshot;
mod top;
mod units;

pub use aggregates::Aggregates;
pub use cgroups::CgroupSockets;
pub use counters::{KernelCounters, Transitions};
pub use fill::Readings;
pub use histogram::Histogram;
pub use inbound::{Inbound, PeerKey, PeerTally};
pub use listening::Listening;
pub use majority::Majority;
pub use makers::{MakerRow, Makers, Population, REMAINING_MS, SmallByMaker, SmallSocket, Substate, Unit};
pub use owners::{OwnedBy, Owners};
pub use populations::{Audit, FULL_STATES, Populations, SmallSockets};
pub use ports::{EphemeralRange, PortKey, PortSocket, PortTally, PortUsage, Ports, RangeError, SourceTally};
pub use snapshot::*;
pub use top::{Tally, Top, TopK};
pub use units::{OTHER, UNITS_DEFAULT, Units, is_owned};
