//! The configuration file as written: every key optional, unknown keys refused by name and line.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use super::listen::ListenAddress;
use super::value::{
    CensusInterval, EndpointDetail, LogFilter, LogFormat, MaxConnections, NetnsScope, RingBytes, TelemetryPath,
};

/// `synfin.toml`, before it meets flags and defaults.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawFile {
    pub web: RawWeb,
    pub log: RawLog,
    pub kernel: RawKernel,
    pub tracker: RawTracker,
    pub census: RawCensus,
    pub metrics: RawMetrics,
    pub socket: RawSocket,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawWeb {
    pub listen_address: Option<OneOrMore>,
    pub telemetry_path: Option<TelemetryPath>,
    /// An empty string means: none, not even the default one.
    pub config_file: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawLog {
    pub level: Option<LogFilter>,
    pub format: Option<LogFormat>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawKernel {
    pub ring_bytes: Option<RingBytes>,
    pub btf: Option<PathBuf>,
    pub netns: Option<NetnsScope>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawTracker {
    pub max_connections: Option<MaxConnections>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawCensus {
    pub interval: Option<CensusInterval>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawMetrics {
    pub endpoints: Option<EndpointDetail>,
    pub units: Option<u16>,
    pub top: Option<u16>,
    pub namespaces: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawSocket {
    /// An empty string means: none.
    pub path: Option<String>,
}

/// `":10060"` or `[":10060", "[::1]:10061"]`.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOrMore(pub Vec<ListenAddress>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = OneOrMore;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an address such as \":10060\", or a list of them")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![text.parse().map_err(E::custom)?]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMore, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = seq.next_element()? {
                    addresses.push(address);
                }
                match addresses.is_empty() {
                    true => Err(serde::de::Error::custom("the list is empty; the daemon needs an address to serve on")),
                    false => Ok(OneOrMore(addresses)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Parses the text of a configuration file; `path` only names it in errors.
pub fn parse_file(path: &Path, text: &str) -> Result<RawFile, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let line = 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count();
        ConfigError::Invalid { path: path.to_owned(), line, message: describe(error.message(), text, span) }
    })
}

/// The parser's words in one line, with the key in front where they do not name it.
fn describe(message: &str, text: &str, span: Range<usize>) -> String {
    let message = message.split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return format!("unknown key {rest}");
    }
    // A syntax error may point below the line of its key.
    let until_line_end = text.get(span.start..).and_then(|rest| rest.split('\n').next()).map_or(0, str::len);
    let before = text.get(..span.start + until_line_end).unwrap_or(text);
    match before.lines().rev().find_map(|line| line.split_once('=')) {
        Some((key, _)) if !key.trim().is_empty() && !key.trim_start().starts_with('#') => {
            format!("{}: {message}", key.trim())
        }
        Some(_) | None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_in_one_line_with_its_line_number_and_key() {
        let check = |text: &str, expected: &str| {
            let error = parse_file(Path::new("s.toml"), text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text:?}\n gave {error}\n not  {expected}");
            assert!(!error.contains('\n'), "{error:?} is more than one line");
        };
        check(
            "[web]\n\nlisten = 1",
            "s.toml:3: unknown key `listen`, expected one of `listen_address`, `telemetry_path`",
        );
        check("[log]\nfoo = 1", "s.toml:2: unknown key `foo`, expected `level` or `format`");
        check("[wob]\nfoo = 1", "s.toml:1: unknown key `wob`, expected one of `web`, `log`");
        check("ring_bytes = 4096", "s.toml:1: unknown key `ring_bytes`, expected one of `web`");
        check("[kernel]\nring_bytes = 5000", "s.toml:2: ring_bytes: 5000 bytes is not a power of two");
        check("[kernel]\nring_bytes = -1", "s.toml:2: ring_bytes: ");
        check("[kernel]\nring_bytes = \"x\"", "s.toml:2: ring_bytes: `x` is not a size");
        check("[kernel]\n\nnetns = \"some\"", "s.toml:3: netns: unknown variant `some`, expected `host` or `all`");
        check("[tracker]\nmax_connections = 0", "s.toml:2: max_connections: 0 is not between 1 and");
        check("[web]\nlisten_address = [\n  \":1\",\n  \"x\",\n]", "s.toml:2: listen_address: `x` is not");
        check("[web]\nlisten_address = []", "s.toml:2: listen_address: the list is empty");
        check("[web]\nlisten_address = 5", "s.toml:2: listen_address: invalid type: integer `5`, expected an address");
        check("[web]\ntelemetry_path = \"m\"", "s.toml:2: telemetry_path: `m` does not start with `/`");
        check("[log]\nlevel = \"loud\"", "s.toml:2: level: `loud` is not a level");
        check("[census]\ninterval = \"0s\"", "s.toml:2: interval: `0s` is not between 100ms and 1h");
        check("[metrics]\ntop = -1", "s.toml:2: top: invalid value: integer `-1`, expected u16");
        check("[metrics]\ntop = 1\ntop = 2", "s.toml:3: top: duplicate key");
        check("[web\n", "s.toml:1: ");
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            [web]
            listen_address = [":1", "[::1]:2"]
            telemetry_path = "/m"
            config_file = ""
            [log]
            level = "debug"
            format = "json"
            [kernel]
            ring_bytes = "1MiB"
            netns = "all"
            [tracker]
            max_connections = 7
            [census]
            interval = "1m30s"
            [metrics]
            endpoints = "port"
            units = 3
            top = 0
            namespaces = 5
            [socket]
            path = "/s"
        "#;
        let expected = RawFile {
            web: RawWeb {
                listen_address: Some(OneOrMore(vec![":1".parse().unwrap(), "[::1]:2".parse().unwrap()])),
                telemetry_path: Some("/m".parse().unwrap()),
                config_file: Some(String::new()),
            },
            log: RawLog { level: Some("debug".parse().unwrap()), format: Some(LogFormat::Json) },
            kernel: RawKernel { ring_bytes: Some("1048576".parse().unwrap()), btf: None, netns: Some(NetnsScope::All) },
            tracker: RawTracker { max_connections: Some("7".parse().unwrap()) },
            census: RawCensus { interval: Some("90s".parse().unwrap()) },
            metrics: RawMetrics {
                endpoints: Some(EndpointDetail::Port),
                units: Some(3),
                top: Some(0),
                namespaces: Some(5),
            },
            socket: RawSocket { path: Some("/s".into()) },
        };
        assert_eq!(parse_file(Path::new("s.toml"), text).unwrap(), expected);
    }
}
