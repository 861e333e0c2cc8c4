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
mod inbound;
mod listening;
mod majority;
mod makers;
mod owners;
mod ports;
mod snapshot;
mod top;

pub use aggregates::Aggregates;
pub use cgroups::CgroupSockets;
pub use counters::{KernelCounters, Transitions};
pub use fill::Readings;
pub use histogram::Histogram;
pub use populations::{Audit, FULL_STATES, Populations, SmallSockets};
pub use snapshot::*;
pub use units::{OTHER, UNITS_DEFAULT, Units, is_owned};
pub use inbound::{Inbound, PeerKey, PeerTally};
pub use listening::Listening;
pub use majority::Majority;
pub use makers::{MakerRow, Makers, Population, REMAINING_MS, SmallSocket, SmallSockets, Substate, Unit};
pub use owners::{OwnedBy, Owners};
pub use ports::{EphemeralRange, PortKey, PortSocket, PortTally, PortUsage, Ports, RangeError, SourceTally};
pub use snapshot::*;
pub use top::{Tally, Top, TopK};
