//! Where the metrics page listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::value::ValueError;

/// Where the metrics page listens, in the exporters' notation: `:10060`, `127.0.0.1:10060`, `[::1]:10060`, `localhost:10060`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Every address, both families.
    Any,
    Ip(IpAddr),
    Name(String),
}

impl ListenAddress {
    /// The addresses to try, best first: listening on the first that works is enough.
    pub fn candidates(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok(match &self.host {
            // Without IPv6 the dual-stack wildcard cannot be bound.
            Host::Any => vec![(Ipv6Addr::UNSPECIFIED, self.port).into(), (Ipv4Addr::UNSPECIFIED, self.port).into()],
            Host::Ip(ip) => vec![(*ip, self.port).into()],
            Host::Name(name) => (name.as_str(), self.port).to_socket_addrs()?.collect(),
        })
    }
}

impl FromStr for ListenAddress {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let port = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?;
            let host = match host.strip_prefix('[') {
                Some(inner) => Host::Ip(IpAddr::V6(inner.strip_suffix(']')?.parse().ok()?)),
                None if host.is_empty() => Host::Any,
                None => match host.parse::<Ipv4Addr>() {
                    Ok(ip) => Host::Ip(ip.into()),
                    Err(_) if is_host_name(host) => Host::Name(host.to_owned()),
                    Err(_) => return None,
                },
            };
            Some(Self { host, port })
        });
        parsed.ok_or_else(|| {
            ValueError(format!("`{text}` is not an address such as :10060, 127.0.0.1:10060 or [::1]:10060"))
        })
    }
}

/// Letters, digits, `-` and `.`, with a letter somewhere, so that `1.2.3` is a mistake and not a name.
fn is_host_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => write!(f, ":{}", self.port),
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_the_exporters() {
        let check = |text: &str, host: Option<Host>| {
            let parsed = text.parse::<ListenAddress>();
            assert_eq!(parsed.clone().ok().map(|address| address.host), host, "{text}");
            if let Ok(address) = parsed {
                assert_eq!(address.to_string(), text);
            }
        };
        check(":10060", Some(Host::Any));
        check(":0", Some(Host::Any));
        check("127.0.0.1:10060", Some(Host::Ip(Ipv4Addr::LOCALHOST.into())));
        check("[::1]:10060", Some(Host::Ip(Ipv6Addr::LOCALHOST.into())));
        check("localhost:10060", Some(Host::Name("localhost".to_owned())));
        check("10060", None);
        check(":+80", None);
        check(":65536", None);
        check("::1:10060", None);
        check("[::1:10060", None);
        check("[127.0.0.1]:1", None);
        check("1.2.3:80", None);
        check("http://host:80", None);
        check("", None);
    }

    #[test]
    fn the_wildcard_serves_both_families_and_falls_back_to_ipv4() {
        let address: ListenAddress = ":7".parse().unwrap();
        assert_eq!(address.candidates().unwrap(), ["[::]:7".parse().unwrap(), "0.0.0.0:7".parse().unwrap()]);
    }
}
