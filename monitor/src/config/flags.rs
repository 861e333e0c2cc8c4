//! The flags that settle settings, in groups that subcommands put together. Every one optional: absent means the file decides.

use std::path::PathBuf;

use clap::Args;

use super::listen::ListenAddress;
use super::value::{LogFilter, LogFormat, MaxConnections, NetnsScope, RingBytes, TelemetryPath};

/// All flags that override a key of the file.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Flags {
    #[command(flatten)]
    pub web: WebFlags,
    #[command(flatten)]
    pub common: CommonFlags,
    #[command(flatten)]
    pub kernel: KernelFlags,
    #[command(flatten)]
    pub tracker: TrackerFlags,
    #[command(flatten)]
    pub socket: SocketFlags,
}

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct CommonFlags {
    /// Configuration file [default: /etc/synfin/synfin.toml if it exists]
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// error, warn, info, debug, trace, or directives such as info,synfin::kernel=debug [default: info]
    #[arg(long = "log.level", value_name = "LEVEL")]
    pub log_level: Option<LogFilter>,
    /// Format of the log on stderr [default: logfmt]
    #[arg(long = "log.format", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct WebFlags {
    /// Address of the metrics page; may be repeated [default: :10060]
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    pub listen_address: Vec<ListenAddress>,
    /// Path of the metrics page [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH")]
    pub telemetry_path: Option<TelemetryPath>,
    /// TLS and users, in the exporters' web configuration format; "" for none [default: /etc/synfin/web.yml if it exists]
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<String>,
}

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct KernelFlags {
    /// Memory for records on their way to the daemon, for all CPUs together: a power of two, at least one page. Shared out in three
    /// lanes a CPU, each rounded down to a power of two of pages, at least a page [default: 8MiB, 16MiB from 3 CPUs on, from 22 on as
    /// much as gives each lane 256KiB]
    #[arg(long, value_name = "BYTES")]
    pub ring_bytes: Option<RingBytes>,
    /// Type information of the running kernel, for kernels that do not carry it [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// Network namespaces to watch: host (the own one) or all, told apart in the metrics (takes CAP_SYS_ADMIN) [default: host]
    #[arg(long, value_name = "WHICH")]
    pub netns: Option<NetnsScope>,
}

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct SocketFlags {
    /// Local socket of the daemon; "" for none [default: /run/synfin/synfin.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
}

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct TrackerFlags {
    /// Bound of the connection table [default: 200000]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<MaxConnections>,
}
