//! Which connections `synfin trace` prints: each flag narrows, values of one flag widen.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::config::parse_duration;
use crate::event::{Detail, Transition, Tuple};
use crate::lifecycle::{Close, Failed, Finished, Role};

const FILTERS: &str = "Filters";

/// The filters of `synfin trace`. Without any, everything passes.
#[derive(Args, Clone, Debug, Default)]
pub struct TraceFilter {
    /// Port of either end: 443, 8000-8999; may be repeated
    #[arg(long, help_heading = FILTERS, value_name = "PORT", value_delimiter = ',')]
    pub port: Vec<PortSpan>,
    /// Port of this host's end
    #[arg(long, help_heading = FILTERS, value_name = "PORT", value_delimiter = ',')]
    pub local_port: Vec<PortSpan>,
    /// Port of the other end
    #[arg(long, help_heading = FILTERS, value_name = "PORT", value_delimiter = ',')]
    pub remote_port: Vec<PortSpan>,
    /// Address or network of either end: 192.0.2.7, 10.0.0.0/8, 2001:db8::/32
    #[arg(long, help_heading = FILTERS, value_name = "CIDR", value_delimiter = ',')]
    pub addr: Vec<Cidr>,
    /// Who opened: client is this host, server the other end
    #[arg(long, help_heading = FILTERS, value_delimiter = ',', value_parser = labels(Role::ALL, Role::label))]
    pub role: Vec<Role>,
    /// How it ended
    #[arg(long, help_heading = FILTERS, value_delimiter = ',', value_parser = labels(Close::ALL, Close::label))]
    pub close: Vec<Close>,
    /// systemd unit or cgroup path: nginx.service, or nginx for short
    #[arg(long, help_heading = FILTERS, value_delimiter = ',')]
    pub unit: Vec<String>,
    /// Process that called connect() or listen()
    #[arg(long, help_heading = FILTERS, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Only connections that lived at least this long
    #[arg(long, help_heading = FILTERS, value_name = "DURATION", value_parser = parse_duration)]
    pub min_lifetime: Option<Duration>,
    /// Only handshakes that took at least this long
    #[arg(long, help_heading = FILTERS, value_name = "DURATION", value_parser = parse_duration)]
    pub slower_than: Option<Duration>,
}

/// Lets clap list the labels of an enum and turn one back into its variant.
fn labels<T, const N: usize>(all: [T; N], label: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.map(label))
        .try_map(move |text| all.into_iter().find(|&value| label(value) == text).ok_or("no such label"))
}

/// What a filter looks at; `None` where the matter does not arise or is not known, which no filter on it lets pass.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub tuple: Tuple,
    pub role: Option<Role>,
    pub close: Option<Close>,
    /// 0 unknown.
    pub pid: u32,
    /// Value of the label `unit`.
    pub unit: &'a str,
    pub handshake_ns: Option<u64>,
    pub lifetime_ns: Option<u64>,
}

impl<'a> Subject<'a> {
    pub fn of_finished(finished: &Finished, unit: &'a str) -> Self {
        Self {
            tuple: finished.tuple,
            role: Some(finished.role),
            close: Some(finished.close),
            pid: finished.owner.tgid,
            unit,
            handshake_ns: finished.handshake_ns,
            lifetime_ns: finished.lifetime_ns,
        }
    }

    /// Of a state change only the ends, the unit and, where the record has it, the process are known.
    pub fn of_transition(transition: &Transition, unit: &'a str) -> Self {
        let (tuple, pid) = match transition.detail {
            Detail::Step => (Tuple::UNKNOWN, 0),
            Detail::Start { tuple, owner } => (tuple, owner.tgid),
            Detail::Open(open) => (open.tuple, 0),
            Detail::End(end) => (end.tuple, 0),
        };
        Self { tuple, role: None, close: None, pid, unit, handshake_ns: None, lifetime_ns: None }
    }

    /// A failed connect() is a client's, has no close and no lifetime; its handshake took as long as the attempt.
    pub fn of_failed(failed: &Failed, unit: &'a str) -> Self {
        Self {
            tuple: failed.tuple,
            role: Some(Role::Client),
            close: None,
            pid: failed.owner.tgid,
            unit,
            handshake_ns: failed.lasted_ns,
            lifetime_ns: None,
        }
    }
}

impl TraceFilter {
    /// Whether every given flag lets `subject` pass.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        fn any<T>(wanted: &[T], test: impl Fn(&T) -> bool) -> bool {
            wanted.is_empty() || wanted.iter().any(test)
        }
        let at_least = |bound: Option<Duration>, nanos: Option<u64>| match (bound, nanos) {
            (None, _) => true,
            (Some(bound), Some(nanos)) => u128::from(nanos) >= bound.as_nanos(),
            (Some(_), None) => false,
        };
        let tuple = &subject.tuple;
        any(&self.port, |span| span.contains(tuple.sport) || span.contains(tuple.dport))
            && any(&self.local_port, |span| span.contains(tuple.sport))
            && any(&self.remote_port, |span| span.contains(tuple.dport))
            && any(&self.addr, |cidr| cidr.contains(tuple.saddr) || cidr.contains(tuple.daddr))
            && any(&self.role, |&role| subject.role == Some(role))
            && any(&self.close, |&close| subject.close == Some(close))
            && any(&self.unit, |unit| is_unit(unit, subject.unit))
            && any(&self.pid, |&pid| pid != 0 && pid == subject.pid)
            && at_least(self.min_lifetime, subject.lifetime_ns)
            && at_least(self.slower_than, subject.handshake_ns)
    }
}

/// The whole name, or the name without its `.service`.
fn is_unit(wanted: &str, unit: &str) -> bool {
    unit == wanted || unit.strip_suffix(".service") == Some(wanted)
}

/// A port, or several in a row; both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpan {
    low: u16,
    high: u16,
}

impl PortSpan {
    pub fn contains(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }
}

impl FromStr for PortSpan {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (low.parse(), high.parse()) {
            (Ok(low @ 1..), Ok(high)) if low <= high => Ok(Self { low, high }),
            _ => Err(format!("`{text}` is not a port such as 443 or a range such as 8000-8999")),
        }
    }
}

/// An address or a network, as 128 bits with IPv4 mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    mask: u128,
}

impl Cidr {
    /// `address` is 16 bytes in network order, IPv4 mapped.
    pub fn contains(self, address: [u8; 16]) -> bool {
        u128::from_be_bytes(address) & self.mask == self.network
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mistake = || format!("`{text}` is not an address or a network such as 10.0.0.0/8 or 2001:db8::/32");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().map_err(|_| mistake())?)),
            None => (text, None),
        };
        let (bits, width) = match address.parse().map_err(|_| mistake())? {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let host_bits = width - length.unwrap_or(width).min(width);
        if length.is_some_and(|length| length > width) {
            return Err(mistake());
        }
        // Shifting all 128 bits out is `::/0`, the only case without a mask.
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Ok(Self { network: bits & mask, mask })
    }
}

#[cfg(test)]
#[path = "trace_filter_tests.rs"]
mod tests;
