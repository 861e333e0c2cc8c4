//! The life of connections: events in, outcomes out. No clock, no I/O, never fails.
//!
//! [`Tracker::handle_event`] turns one event into at most a few [`Outcome`]s; an impossible order of events is an outcome too.

mod outcome;

pub use outcome::*;
