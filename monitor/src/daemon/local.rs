//! The daemon's answers on the local socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use crate::config::DEFAULT_SOCKET;
use crate::diagnose::Evidence;
use crate::http::Source;
use crate::socket::{self, Answers, Limits, Place, PlaceError, Status};

/// Takes the place of the socket, if one is wanted. Metrics matter more than the default socket: without it the daemon runs
/// on and says so. One that was named is wanted for certain.
///
/// # Errors
/// When the named socket cannot be had.
pub fn take_place(path: Option<&Path>) -> Result<Option<Place>, PlaceError> {
    let Some(path) = path else { return Ok(None) };
    match socket::take_place(path) {
        Ok(place) => Ok(Some(place)),
        Err(error) if path == Path::new(DEFAULT_SOCKET) => {
            tracing::warn!("{error}; running on without: `synfin diagnose` will not reach this daemon");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Serves until the runtime ends.
pub async fn serve(place: Place, local: Local) {
    if let Err(error) = socket::serve(place, Arc::new(local), Limits::default()).await {
        tracing::warn!("the local socket cannot be served: {error}; running on without");
    }
}

/// What the socket shows of the daemon.
pub struct Local {
    engine: Arc<Engine>,
    /// Addresses of the metrics page.
    listen: Vec<String>,
}

impl Local {
    pub fn new(engine: Arc<Engine>, listen: Vec<String>) -> Self {
        Self { engine, listen }
    }
}

impl Answers for Local {
    fn status(&self) -> Status {
        Status {
            synfin: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            ready: self.engine.ready().is_ok(),
            listen: self.listen.clone(),
        }
    }

    async fn evidence(&self, window: Duration) -> Result<Evidence, String> {
        let evidence = self.engine.evidence(window).await;
        evidence.ok_or_else(|| match self.engine.ready() {
            Err(reason) => reason,
            Ok(()) => "the daemon is stopping".into(),
        })
    }
}
