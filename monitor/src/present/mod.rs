//! Numbers and outcomes as text, for people and for machines. No clock, no I/O.

pub mod connection;
pub mod connection_json;
mod human;

pub use human::{WallTime, comm_text, human_duration};
