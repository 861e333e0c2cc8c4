//! Outcomes and readings as plain numbers: counters, gauges, histograms. No metric names here, no text.

mod histogram;
mod inbound;
mod listening;
mod majority;
mod makers;
mod owners;
mod ports;
mod snapshot;
mod top;

pub use histogram::Histogram;
pub use inbound::{Inbound, PeerKey, PeerTally};
pub use listening::Listening;
pub use majority::Majority;
pub use makers::{MakerRow, Makers, Population, REMAINING_MS, SmallSocket, SmallSockets, Substate, Unit};
pub use owners::{OwnedBy, Owners};
pub use ports::{EphemeralRange, PortKey, PortSocket, PortTally, PortUsage, Ports, RangeError, SourceTally};
pub use snapshot::*;
pub use top::{Tally, Top, TopK};
