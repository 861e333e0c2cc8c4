//! What the service manager is told (sd_notify(3)): ready, alive, stopping. Without one, nothing.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::http::Source;

/// Tells the service manager how the daemon is.
pub struct Service {
    ready: bool,
    /// Half the time that the manager allows between two signs of life; `None`: it asks for none.
    watchdog: Option<Duration>,
    told: Instant,
}

impl Service {
    pub fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled().map(|allowed| allowed / 2);
        Self { ready: false, watchdog, told: Instant::now() }
    }

    /// Says READY once, and signs of life only while the daemon's loop makes progress.
    pub fn report(&mut self, daemon: &impl Source) {
        if !self.ready && daemon.ready().is_ok() {
            self.ready = true;
            notify(&[NotifyState::Ready]);
        }
        if self.watchdog.is_some_and(|every| self.told.elapsed() >= every) && daemon.healthy() {
            self.told = Instant::now();
            notify(&[NotifyState::Watchdog]);
        }
    }

    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("cannot tell the service manager {state:?}: {error}");
    }
}
