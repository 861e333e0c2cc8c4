//! synfin watches the life of every TCP connection of a Linux host through eBPF and says it in exact numbers.
//!
//! The core ([`decode`], [`lifecycle`], [`aggregate`], [`present`]) has no clock and no I/O: time is an argument,
//! effects are return values. `docs/ARCHITECTURE.md` shows the flow.

pub mod aggregate;
pub mod census;
pub mod cli;
pub mod config;
pub mod core;
pub mod daemon;
pub mod decode;
pub mod diagnose;
pub mod event;
pub mod history;
pub mod host;
pub mod http;
pub mod input;
pub mod kernel;
pub mod lifecycle;
pub mod logging;
pub mod present;
pub mod privilege;
pub mod session;
pub mod socket;
pub mod trace;
