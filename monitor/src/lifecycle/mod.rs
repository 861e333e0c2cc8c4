//! The life of connections: events in, outcomes out. No clock, no I/O, never fails.
//!
//! [`Tracker::handle_event`] turns one event into a few [`Outcome`]s; an impossible order of events is an outcome too.

mod bounded;
mod close;
mod connection;
mod handshake;
mod outcome;
mod reconcile;
mod tracker;
mod transition;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tracker_tests;

pub use bounded::{Bounded, Displaced};
pub use close::{close_reason, connect_failure, payload_bytes, wait_after};
pub use connection::{Connection, Listener, is_attempt};
pub use outcome::*;
pub use reconcile::Seed;
pub use tracker::{Options, Tracker};
pub use transition::{DWELL_STATES, TransitionKind, is_reachable, transition_kind};
