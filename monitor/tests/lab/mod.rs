//! The test lab: real TCP through the real kernel, in network namespaces of its own, next to a running daemon.
//!
//! A test makes a [`netns::Netns`], starts a [`watch::Watch`] in it (the daemon, a scraper and an independent witness),
//! plays a scripted life and compares the whole map of `synfin_tcp_*` counters with what was done.
//!
//! How scrapes stay out of the counts: the scraper opens one HTTP connection before the first scrape and keeps it for all
//! the others, so nothing changes state between two scrapes but what the test does. Rejected: subtracting a constant cost
//! for each scrape, which would hide a wrong count of exactly that size.
//!
//! `SYNFIN_LAB=witness` leaves the daemon out and compares the scenarios with the kernel's own tracing alone;
//! it says so on standard error.
#![allow(dead_code, reason = "each test binary uses its part of the lab")]

pub mod capture;
pub mod cgroup;
pub mod daemon;
pub mod destroy;
pub mod diagnosis;
pub mod ends;
pub mod expect;
pub mod life;
pub mod load;
pub mod netns;
pub mod network;
pub mod packet;
pub mod page;
pub mod peer;
pub mod place;
pub mod promql;
pub mod promtool;
pub mod record;
pub mod session;
pub mod sockets;
pub mod storm;
pub mod tables;
pub mod time_wait;
pub mod trace;
pub mod tun;
pub mod watch;
pub mod witness;

use std::time::{Duration, Instant};

/// Ends the test with a clear line unless it may make namespaces and trace.
pub fn require_root() {
    // SAFETY: geteuid takes nothing and cannot fail.
    let uid = unsafe { libc::geteuid() };
    assert_eq!(
        uid, 0,
        "the kernel tests make network namespaces and load probes: run them as root (sudo -E cargo test)"
    );
}

/// Asks `ready` every 20 ms; panics with `what` when it is not so within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < limit, "not so within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
