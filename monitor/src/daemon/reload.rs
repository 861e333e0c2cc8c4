//! What SIGHUP does: settings and web configuration are read again, and what can be changed is changed.

use std::sync::Arc;

use super::engine::Engine;
use crate::config::{self, Flags, Settings};
use crate::http::WebConfig;
use crate::logging::LogHandle;
use crate::session::LiveOptions;

/// What the daemon was told, and where it was read.
pub struct Settled<'a> {
    pub flags: &'a Flags,
    pub settings: Settings,
    pub web_config: Arc<WebConfig>,
    pub log: &'a LogHandle,
}

impl Settled<'_> {
    /// Reads both again. Each that is refused leaves the old one in force, and only both are a success.
    pub fn reload(&mut self, engine: &Engine) {
        let read = config::reload(self.flags, &self.settings);
        let web_read = self.web_config.reload();
        if let Err(error) = &read {
            tracing::error!("configuration not reloaded, the old one stays in force: {error}");
        }
        if let Err(error) = &web_read {
            tracing::error!("web configuration not reloaded, the old one stays in force: {error}");
        }
        let both = read.is_ok() && web_read.is_ok();
        if let Ok(reload) = read {
            self.apply(reload, engine);
        }
        if both {
            tracing::info!("configuration read again");
        }
    }

    fn apply(&mut self, reload: config::Reload, engine: &Engine) {
        if let Err(error) = self.log.set_filter(&reload.settings.log.filter) {
            tracing::error!("log level not changed: {error}");
        }
        self.settings = reload.settings;
        engine.apply(LiveOptions {
            top: self.settings.metrics.top,
            endpoints: self.settings.metrics.endpoints,
            census_interval: self.settings.census.interval,
        });
        for change in &reload.changes {
            let when = if change.needs_restart { "after a restart" } else { "now" };
            tracing::info!(key = change.key, from = change.from, to = change.to, "setting changes {when}");
        }
    }
}
