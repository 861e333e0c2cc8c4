//! How a session watches, and what of it can be changed on the way.

use std::time::Duration;

use crate::config::EndpointDetail;
use crate::kernel::LoadOptions;

/// How to watch.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    pub load: LoadOptions,
    /// Bound of the connection table.
    pub max_connections: usize,
    /// Values of the label `unit` before `other`.
    pub units: usize,
    /// Rows of a metric before `other`.
    pub top: usize,
    pub endpoints: EndpointDetail,
    /// Values of the label `namespace` before `other`; read only where all namespaces are watched.
    pub namespaces: usize,
    /// The least time between two walks over the socket tables.
    pub census_interval: Duration,
}

/// What can be changed while the watch goes on; as in [`SessionOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveOptions {
    pub top: usize,
    pub endpoints: EndpointDetail,
    pub census_interval: Duration,
}
