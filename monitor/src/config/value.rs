//! The values that flags and file share: parsed and checked in one place, whoever wrote them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::duration::parse_duration;
use super::listen::ListenAddress;

/// Why a value was refused. Says the value, not the key: flag or file put that in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(super) String);

fn refuse<T>(message: String) -> Result<T, ValueError> {
    Err(ValueError(message))
}

/// Reads a type with `FromStr` from a string or a whole number of the file.
macro_rules! deserialize_from_text {
    ($($type:ident),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrNumber)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
deserialize_from_text!(RingBytes, MaxConnections, ListenAddress, TelemetryPath, LogFilter, CensusInterval);

struct TextOrNumber;

impl serde::de::Visitor<'_> for TextOrNumber {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a whole number")
    }
    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

/// Size of the memory that records travel in, bytes, of all CPUs together: a power of two and a multiple of the page size, as
/// BPF_MAP_TYPE_RINGBUF demands. Where it is shared out in lanes, three a CPU, each gets the largest power of two of pages that fits,
/// and a page at least: `synfin check` and `synfin_ring_size_bytes` say what that is in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingBytes(u32);

impl RingBytes {
    /// For up to two CPUs: some 80 ms of all the connections that they can make, of which the reader is woken after 20. More CPUs
    /// get twice as much for all.
    const DEFAULT: u32 = 8 << 20;
    /// The least for each lane by default: one CPU may be hot alone, at 250,000 records of 64 bytes a second and lane. The reader is
    /// woken at a quarter, and has 12 ms to come until the rest is full; it asks for nice -10. Twice as much would take a host of
    /// 32 CPUs from 69 MiB resident with 100,000 sockets to 93, where 64 is the aim: who has such a CPU asks for more.
    const LEAST_OF_A_LANE: u32 = 256 << 10;
    const LANES_OF_A_CPU: u32 = 3;
    /// A ring is kernel memory that nothing else can use; beyond a gigabyte it is a slip of the hand.
    const LARGEST: u64 = 1 << 30;

    /// Checks `bytes` against the page size `page`, in bytes.
    pub fn new(bytes: u64, page: u64) -> Result<Self, ValueError> {
        if !bytes.is_power_of_two() {
            return refuse(format!("{bytes} bytes is not a power of two"));
        }
        if bytes < page || bytes > Self::LARGEST {
            return refuse(format!("{bytes} bytes is not between one page ({page}) and {}", Self::LARGEST));
        }
        u32::try_from(bytes).map(Self).or_else(|error| refuse(error.to_string()))
    }

    /// The size when none is asked for. CPUs that are online count, not those that this process may use: all make records.
    pub fn default_here() -> Self {
        // SAFETY: sysconf reads a number of the system and touches no memory of ours.
        let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        Self::default_for(u32::try_from(online).unwrap_or(1))
    }

    /// Each CPU makes records at its own pace.
    fn default_for(cpus: u32) -> Self {
        let usual = if cpus <= 2 { Self::DEFAULT } else { 2 * Self::DEFAULT };
        let lanes = cpus.saturating_mul(Self::LANES_OF_A_CPU);
        let least = lanes.saturating_mul(Self::LEAST_OF_A_LANE).min(Self::LARGEST as u32).next_power_of_two();
        Self(usual.max(least))
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for RingBytes {
    type Err = ValueError;
    /// Plain bytes or with a binary unit: `8388608`, `8192KiB`, `8 MiB`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_start() {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            _ => return refuse(format!("`{text}` is not a size such as 8388608 or 8MiB")),
        };
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)) {
            Some(bytes) => Self::new(bytes, page_size()),
            None => refuse(format!("`{text}` is not a size such as 8388608 or 8MiB")),
        }
    }
}

/// Bytes in a page of this machine.
fn page_size() -> u64 {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(answer).unwrap_or(4096)
}

/// Bound of the connection table, in connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxConnections(usize);

impl MaxConnections {
    pub const DEFAULT: Self = Self(200_000);
    /// More connections than one host holds; beyond it, it is a slip of the hand.
    const LARGEST: usize = 16_000_000;

    pub fn get(self) -> usize {
        self.0
    }
}

impl FromStr for MaxConnections {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(number @ 1..=Self::LARGEST) => Ok(Self(number)),
            Ok(_) | Err(_) => refuse(format!("{text} is not between 1 and {}", Self::LARGEST)),
        }
    }
}

/// Path of the metrics page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryPath(String);

/// Paths with another meaning.
const RESERVED_PATHS: [&str; 5] = ["/", "/-/healthy", "/-/ready", "/healthz", "/readyz"];

impl TelemetryPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TelemetryPath {
    fn default() -> Self {
        Self("/metrics".to_owned())
    }
}

impl FromStr for TelemetryPath {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if !text.starts_with('/') {
            return refuse(format!("`{text}` does not start with `/`"));
        }
        if RESERVED_PATHS.contains(&text) {
            return refuse(format!("`{text}` has another meaning; choose a path such as /metrics"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\"<>".contains(&byte)) {
            return refuse(format!("`{text}` holds a character that a plain path cannot"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A level (`error` … `trace`) or a list of tracing directives such as `info,synfin::kernel=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The directives, valid for `EnvFilter`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        // A bare word that is no level would pass as a target, and silence everything else.
        let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
        if let Some(word) = text.split(',').find(|part| !part.contains(['=', '[']) && !is_level(part)) {
            return refuse(format!("`{word}` is not a level (error, warn, info, debug, trace) or a target=level"));
        }
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => refuse(format!("`{text}` is not a log filter: {error}")),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `ts=… level=… target=… msg="…" key=value`
    #[default]
    Logfmt,
    /// One JSON object a line
    Json,
}

/// Which network namespaces are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NetnsScope {
    /// The daemon's own network namespace
    #[default]
    Host,
    /// Every network namespace of the machine
    All,
}

/// How much of an endpoint the metrics page may name, the most first: addresses are personal data in some places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointDetail {
    /// `192.0.2.1:443`
    #[default]
    Full,
    /// `:443`
    Port,
    /// Nothing: the label is empty.
    None,
}

/// The least time between two looks at the kernel's socket tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CensusInterval(Duration);

impl CensusInterval {
    pub const DEFAULT: Self = Self(Duration::from_secs(1));

    pub fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for CensusInterval {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match parse_duration(text)? {
            gap if gap >= Duration::from_millis(100) && gap <= Duration::from_secs(3600) => Ok(Self(gap)),
            _ => refuse(format!("`{text}` is not between 100ms and 1h")),
        }
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
