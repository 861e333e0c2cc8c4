//! The metrics server: everything between a [`Snapshot`] and a scraper.
//!
//! [`bind`] comes first, so that a taken port is a start-up error and privileged ports are taken before privileges are
//! dropped; [`WebConfig::load`] reads the exporter web configuration; [`serve`] runs until it is told to end.

mod address;
mod auth;
mod client_certificate;
mod connection;
mod negotiate;
mod respond;
mod server;
mod table;
mod tls;
mod web_config;
mod web_file;

use std::future::Future;
use std::time::Duration;

use crate::aggregate::Snapshot;

pub use address::{BindError, Listener, bind};
pub use respond::parse_telemetry_path;
pub use server::serve;
pub use web_config::{WebConfig, WebConfigError};

/// Where pages come from. A scrape waits for nothing else.
pub trait Source: Send + Sync + 'static {
    /// What the daemon knows now; `None` while it starts or ends, which a scraper sees as status 503.
    fn snapshot(&self) -> impl Future<Output = Option<Snapshot>> + Send;
    /// Probes attached and first census done; otherwise one line that says what is missing.
    fn ready(&self) -> Result<(), String>;
    /// The daemon's loop makes progress.
    fn healthy(&self) -> bool;
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the metrics are: a value that [`parse_telemetry_path`] takes.
    pub telemetry_path: String,
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { telemetry_path: "/metrics".to_owned(), limits: Limits::default() }
    }
}

/// What one client, or all of them, may use of this server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; when full, the one that has been idle longest is closed for a new one.
    pub connections: usize,
    /// From the first byte (of a new connection: from its beginning, TLS handshake included) to the end of the head.
    pub head: Duration,
    /// From the end of the head until there is an answer; then it is status 503.
    pub request: Duration,
    /// For the client to take the answer.
    pub response: Duration,
    /// Between requests. Longer than usual scrape intervals: whoever closes first gets the TIME_WAIT socket.
    pub idle: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub header_count: usize,
    /// Bytes of a request's body, which nothing here reads.
    pub body_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(10),
            request: Duration::from_secs(10),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            head_bytes: 16 << 10,
            header_count: 64,
            body_bytes: 64 << 10,
        }
    }
}

#[cfg(test)]
mod tests;
