//! Configuration in two steps: flags and file as they were given, every value optional, then [`Settings`], whole and valid.
//!
//! Flags win over the file, the file over the defaults. Values are checked where they are parsed, by one `FromStr` each,
//! so a flag and a key of the file accept the same text and refuse it with the same words.

mod duration;
mod error;
mod file;
mod flags;
mod listen;
mod reload;
mod settings;
mod value;

pub use duration::parse_duration;
pub use error::ConfigError;
pub use file::{RawFile, parse_file};
pub use flags::{CommonFlags, Flags, KernelFlags, SocketFlags, TrackerFlags, WebFlags};
pub use listen::{Host, ListenAddress};
pub use reload::{Change, Reload};
pub use settings::{Census, Kernel, Log, Metrics, Settings, Socket, Tracker, Web, resolve};
pub use value::{
    CensusInterval, EndpointDetail, LogFilter, LogFormat, MaxConnections, NetnsScope, RingBytes, TelemetryPath,
    ValueError,
};

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The port of the metrics page. The range 9100–9999 of the Prometheus port list is fully allocated.
pub const DEFAULT_PORT: u16 = 10060;
/// Read when it exists, unless `--config.file` names another.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/synfin/synfin.toml";
/// TLS and users of the metrics page; used when it exists, unless `--web.config.file` names another.
pub const DEFAULT_WEB_CONFIG_FILE: &str = "/etc/synfin/web.yml";
/// Where the running daemon answers `synfin diagnose` and `synfin top`.
pub const DEFAULT_SOCKET: &str = "/run/synfin/synfin.sock";

/// Reads the configuration file and resolves it with the flags.
///
/// A file that `--config.file` names must exist; the default one may be absent.
pub fn load(flags: &Flags) -> Result<Settings, ConfigError> {
    let (path, must_exist) = match &flags.common.config_file {
        Some(path) => (path.clone(), true),
        None => (PathBuf::from(DEFAULT_CONFIG_FILE), false),
    };
    let (file, read_from) = match std::fs::read_to_string(&path) {
        Ok(text) => (parse_file(&path, &text)?, Some(path)),
        Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => (RawFile::default(), None),
        Err(cause) => return Err(ConfigError::Unreadable { path, cause }),
    };
    Ok(resolve(flags, file, read_from, Path::new(DEFAULT_WEB_CONFIG_FILE).exists()))
}

/// Settings from flags alone, and from a file only when `--config.file` names one: for commands whose result must not
/// depend on the host they run on.
pub fn load_named_only(flags: &Flags) -> Result<Settings, ConfigError> {
    match flags.common.config_file {
        Some(_) => load(flags),
        None => Ok(resolve(flags, RawFile::default(), None, false)),
    }
}

/// Reads the configuration again (SIGHUP) and says what differs from `current`.
///
/// On an error `current` simply stays in force.
pub fn reload(flags: &Flags, current: &Settings) -> Result<Reload, ConfigError> {
    Ok(Reload::between(current, load(flags)?))
}
