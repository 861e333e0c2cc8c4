//! What SIGHUP changes: the settings that take effect at once, and those that wait for a restart.

use super::Settings;

/// One setting that differs between the settings in force and those just read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Section and key as in the file.
    pub key: &'static str,
    pub from: String,
    pub to: String,
    /// It stays as it was until the daemon is started again.
    pub needs_restart: bool,
}

/// The answer to a reload.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// The settings to put in force now: the new ones, except where a restart is needed.
    pub settings: Settings,
    pub changes: Vec<Change>,
}

impl Reload {
    /// Compares `current` with `read`, the settings just read.
    pub fn between(current: &Settings, read: Settings) -> Self {
        let mut changes = Vec::new();
        let mut settings = read;
        // One line a setting: what takes effect at once (`live`) is taken from the file just read, the rest stays.
        macro_rules! compare {
            ($($key:literal $when:ident $($field:ident).+;)*) => {$(
                if settings.$($field).+ != current.$($field).+ {
                    changes.push(Change {
                        key: $key,
                        from: format!("{:?}", current.$($field).+),
                        to: format!("{:?}", settings.$($field).+),
                        needs_restart: compare!(@needs_restart $when),
                    });
                    compare!(@apply $when settings.$($field).+, current.$($field).+);
                }
            )*};
            (@needs_restart live) => { false };
            (@needs_restart restart) => { true };
            (@apply live $new:expr, $old:expr) => {};
            (@apply restart $new:expr, $old:expr) => { $new = $old.clone() };
        }
        compare! {
            "web.listen_address" restart web.listen_addresses;
            "web.telemetry_path" restart web.telemetry_path;
            // The file's content is read again by the page itself; only another file needs a restart.
            "web.config_file" restart web.config_file;
            "log.level" live log.filter;
            "log.format" restart log.format;
            "kernel.ring_bytes" restart kernel.ring_bytes;
            "kernel.btf" restart kernel.btf;
            "kernel.netns" restart kernel.netns;
            "tracker.max_connections" restart tracker.max_connections;
            "census.interval" live census.interval;
            "metrics.endpoints" live metrics.endpoints;
            // Counters by unit live as long as the process: a smaller bound would make them go back.
            "metrics.units" restart metrics.units;
            "metrics.namespaces" restart metrics.namespaces;
            "metrics.top" live metrics.top;
            "socket.path" restart socket.path;
        }
        Self { settings, changes }
    }

    /// Keys that wait for a restart.
    pub fn waiting(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.changes.iter().filter(|change| change.needs_restart).map(|change| change.key)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Flags, RawFile, parse_file, resolve};

    #[test]
    fn each_setting_says_whether_it_takes_effect_at_once() {
        let current = resolve(&Flags::default(), RawFile::default(), None, false);
        let check = |text: &str, key: &'static str, needs_restart: bool| {
            let read = resolve(&Flags::default(), parse_file(Path::new("s.toml"), text).unwrap(), None, false);
            let reload = Reload::between(&current, read.clone());
            let found: Vec<_> = reload.changes.iter().map(|change| (change.key, change.needs_restart)).collect();
            assert_eq!(found, [(key, needs_restart)], "{text}");
            assert_eq!(reload.settings, if needs_restart { current.clone() } else { read }, "{text}");
        };
        check("[web]\nlisten_address = \":1\"", "web.listen_address", true);
        check("[web]\ntelemetry_path = \"/m\"", "web.telemetry_path", true);
        check("[web]\nconfig_file = \"a.yml\"", "web.config_file", true);
        check("[log]\nlevel = \"debug\"", "log.level", false);
        check("[log]\nformat = \"json\"", "log.format", true);
        check("[kernel]\nring_bytes = \"1MiB\"", "kernel.ring_bytes", true);
        check("[kernel]\nnetns = \"all\"", "kernel.netns", true);
        check("[tracker]\nmax_connections = 9", "tracker.max_connections", true);
        check("[census]\ninterval = \"5s\"", "census.interval", false);
        check("[metrics]\nendpoints = \"none\"", "metrics.endpoints", false);
        check("[metrics]\nunits = 1", "metrics.units", true);
        check("[metrics]\nnamespaces = 1", "metrics.namespaces", true);
        check("[metrics]\ntop = 1", "metrics.top", false);
        check("[socket]\npath = \"/s\"", "socket.path", true);
    }

    #[test]
    fn what_needs_a_restart_stays_while_the_rest_changes() {
        let current = resolve(&Flags::default(), RawFile::default(), None, false);
        let text = "[log]\nlevel = \"debug\"\n[kernel]\nnetns = \"all\"";
        let read = resolve(&Flags::default(), parse_file(Path::new("s.toml"), text).unwrap(), None, false);
        let reload = Reload::between(&current, read);
        assert_eq!(reload.settings.log.filter.as_str(), "debug");
        assert_eq!(reload.settings.kernel, current.kernel);
        assert_eq!(reload.waiting().collect::<Vec<_>>(), ["kernel.netns"]);
    }

    #[test]
    fn nothing_changed_is_no_change() {
        let current = resolve(&Flags::default(), RawFile::default(), None, false);
        assert_eq!(Reload::between(&current, current.clone()).changes, []);
    }
}
