//! The settings in force: every value present and valid.

use std::path::PathBuf;
use std::time::Duration;

use super::flags::Flags;
use super::listen::{Host, ListenAddress};
use super::value::{
    CensusInterval, EndpointDetail, LogFilter, LogFormat, MaxConnections, NetnsScope, RingBytes, TelemetryPath,
};
use super::{DEFAULT_PORT, DEFAULT_SOCKET, DEFAULT_WEB_CONFIG_FILE, RawFile};

/// Where the kernel shows its own type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The file they were read from; `None` when there was none.
    pub config_file: Option<PathBuf>,
    pub web: Web,
    pub log: Log,
    pub kernel: Kernel,
    pub tracker: Tracker,
    pub census: Census,
    pub metrics: Metrics,
    pub socket: Socket,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Web {
    /// Never empty.
    pub listen_addresses: Vec<ListenAddress>,
    pub telemetry_path: TelemetryPath,
    /// `None`: plain HTTP without users.
    pub config_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub filter: LogFilter,
    pub format: LogFormat,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    pub ring_bytes: RingBytes,
    /// Type information of the running kernel.
    pub btf: PathBuf,
    pub netns: NetnsScope,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tracker {
    pub max_connections: MaxConnections,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Census {
    /// The least time between two.
    pub interval: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub endpoints: EndpointDetail,
    /// Values of the label `unit` before `other`.
    pub units: usize,
    /// Endpoints of a metric before `other`.
    pub top: usize,
    /// Values of the label `namespace` before `other`.
    pub namespaces: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// `None`: no local socket.
    pub path: Option<PathBuf>,
}

impl Metrics {
    pub const DEFAULT_UNITS: u16 = 60;
    pub const DEFAULT_TOP: u16 = 30;
    /// With 17 series each, 340 series.
    pub const DEFAULT_NAMESPACES: u16 = 20;
}

/// Flags over file over defaults. `default_web_config_exists` says whether [`DEFAULT_WEB_CONFIG_FILE`] is there to be used.
pub fn resolve(
    flags: &Flags,
    file: RawFile,
    config_file: Option<PathBuf>,
    default_web_config_exists: bool,
) -> Settings {
    let listen_addresses = match flags.web.listen_address.as_slice() {
        [] => file
            .web
            .listen_address
            .map_or_else(|| vec![ListenAddress { host: Host::Any, port: DEFAULT_PORT }], |given| given.0),
        given => given.to_vec(),
    };
    let web_config = match flags.web.web_config_file.clone().or(file.web.config_file) {
        Some(path) if path.is_empty() => None,
        Some(path) => Some(PathBuf::from(path)),
        None => default_web_config_exists.then(|| PathBuf::from(DEFAULT_WEB_CONFIG_FILE)),
    };
    Settings {
        config_file,
        web: Web {
            listen_addresses,
            telemetry_path: flags.web.telemetry_path.clone().or(file.web.telemetry_path).unwrap_or_default(),
            config_file: web_config,
        },
        log: Log {
            filter: flags.common.log_level.clone().or(file.log.level).unwrap_or_default(),
            format: flags.common.log_format.or(file.log.format).unwrap_or_default(),
        },
        kernel: Kernel {
            ring_bytes: flags.kernel.ring_bytes.or(file.kernel.ring_bytes).unwrap_or_else(RingBytes::default_here),
            btf: flags.kernel.btf.clone().or(file.kernel.btf).unwrap_or_else(|| KERNEL_BTF.into()),
            netns: flags.kernel.netns.or(file.kernel.netns).unwrap_or_default(),
        },
        tracker: Tracker {
            max_connections: flags
                .tracker
                .max_connections
                .or(file.tracker.max_connections)
                .unwrap_or(MaxConnections::DEFAULT),
        },
        census: Census { interval: file.census.interval.unwrap_or(CensusInterval::DEFAULT).get() },
        metrics: Metrics {
            endpoints: file.metrics.endpoints.unwrap_or_default(),
            units: usize::from(file.metrics.units.unwrap_or(Metrics::DEFAULT_UNITS)),
            top: usize::from(file.metrics.top.unwrap_or(Metrics::DEFAULT_TOP)),
            namespaces: usize::from(file.metrics.namespaces.unwrap_or(Metrics::DEFAULT_NAMESPACES)),
        },
        socket: match flags.socket.socket.clone().or(file.socket.path) {
            None => Socket { path: Some(PathBuf::from(DEFAULT_SOCKET)) },
            Some(path) => Socket { path: (!path.is_empty()).then(|| PathBuf::from(path)) },
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse_file;

    fn settings(flags: &Flags, file: &str) -> Settings {
        resolve(flags, parse_file(Path::new("s.toml"), file).unwrap(), None, false)
    }

    #[test]
    fn the_defaults_are_the_contract() {
        let found = settings(&Flags::default(), "");
        assert_eq!(found.web.listen_addresses, [":10060".parse().unwrap()]);
        assert_eq!(found.web.telemetry_path.as_str(), "/metrics");
        assert_eq!(found.web.config_file, None);
        assert_eq!((found.log.filter.as_str(), found.log.format), ("info", LogFormat::Logfmt));
        assert_eq!((found.kernel.ring_bytes, found.kernel.netns), (RingBytes::default_here(), NetnsScope::Host));
        assert_eq!(found.tracker.max_connections.get(), 200_000);
        assert_eq!(found.census.interval, Duration::from_secs(1));
        assert_eq!(found.metrics, Metrics { endpoints: EndpointDetail::Full, units: 60, top: 30, namespaces: 20 });
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = "[web]\nlisten_address = \":1\"\ntelemetry_path = \"/f\"\n[log]\nlevel = \"debug\"\n[kernel]\nnetns = \"all\"\n";
        let mut flags = Flags::default();
        flags.web.listen_address = vec![":2".parse().unwrap(), ":3".parse().unwrap()];
        flags.common.log_level = Some("warn".parse().unwrap());
        let found = settings(&flags, file);
        assert_eq!(found.web.listen_addresses, [":2".parse().unwrap(), ":3".parse().unwrap()]);
        assert_eq!(found.web.telemetry_path.as_str(), "/f");
        assert_eq!(found.log.filter.as_str(), "warn");
        assert_eq!(found.kernel.netns, NetnsScope::All);
    }

    #[test]
    fn the_socket_has_a_default_and_can_be_switched_off() {
        let check = |flag: Option<&str>, file: &str, path: Option<&str>| {
            let mut flags = Flags::default();
            flags.socket.socket = flag.map(str::to_owned);
            let expected = Socket { path: path.map(PathBuf::from) };
            assert_eq!(settings(&flags, file).socket, expected, "{flag:?} {file:?}");
        };
        check(None, "", Some(DEFAULT_SOCKET));
        check(None, "[socket]\npath = \"/a\"", Some("/a"));
        check(Some("/b"), "[socket]\npath = \"/a\"", Some("/b"));
        check(Some(""), "[socket]\npath = \"/a\"", None);
        check(None, "[socket]\npath = \"\"", None);
    }

    #[test]
    fn the_web_configuration_is_used_when_there_unless_switched_off() {
        let check = |flag: Option<&str>, file: &str, exists, expected: Option<&str>| {
            let mut flags = Flags::default();
            flags.web.web_config_file = flag.map(str::to_owned);
            let found = resolve(&flags, parse_file(Path::new("s.toml"), file).unwrap(), None, exists);
            assert_eq!(found.web.config_file.as_deref(), expected.map(Path::new), "{flag:?} {file:?} {exists}");
        };
        check(None, "", true, Some("/etc/synfin/web.yml"));
        check(None, "", false, None);
        check(Some(""), "", true, None);
        check(Some("a.yml"), "[web]\nconfig_file = \"b.yml\"", true, Some("a.yml"));
        check(None, "[web]\nconfig_file = \"b.yml\"", true, Some("b.yml"));
        check(None, "[web]\nconfig_file = \"\"", true, None);
    }
}
