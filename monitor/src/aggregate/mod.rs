//! Outcomes and readings as plain numbers: counters, gauges, histograms. No metric names here, no text.

mod aggregates;
pub mod bounds;
mod cgroups;
mod counters;
mod figures;
mod fill;
mod handled;
mod histogram;
mod inbound;
mod listening;
mod majority;
mod makers;
mod namespaces;
mod owners;
mod places;
mod populations;
mod ports;
mod share;
mod snapshot;
mod sticky;
mod time_left;
mod top;
mod units;

pub use aggregates::Aggregates;
pub use cgroups::{CgroupSockets, NetnsSockets, SocketsBy};
pub use counters::{KernelCounters, Transitions};
pub use figures::*;
pub use fill::Readings;
pub use handled::Handled;
pub use histogram::Histogram;
pub use inbound::{Inbound, PeerKey, PeerTally};
pub use listening::Listening;
pub use majority::Majority;
pub use makers::{
    Held, MakerKey, MakerRow, Makers, Population, REMAINING_MS, SmallByMaker, SmallSocket, Substate, Unit, endpoint_of,
};
pub use namespaces::{Counted, HOST_NAMESPACE};
pub use owners::{OwnedBy, Owners, Recalled};
pub use places::{Candidate, Places, Ranked};
pub use populations::{Audit, FULL_STATES, Populations, SmallSockets};
pub use ports::{
    DUE_SECONDS, EphemeralRange, EphemeralRanges, PortKey, PortSocket, PortTally, PortUsage, Ports, RangeError,
    SourceTally,
};
pub use share::share;
pub use snapshot::*;
pub use sticky::Sticky;
pub use time_left::ByTimeLeft;
pub use top::{Tally, Top, TopK};
pub use units::{OTHER, UNITS_DEFAULT, Units, fit, is_owned};
