//! Listening addresses as users write them, and the sockets bound to them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};

use socket2::{Domain, Protocol, Socket, Type};

/// A bound socket that accepts.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Where it listens: with port 0 asked for, the port that the kernel chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl TryFrom<TcpListener> for Listener {
    type Error = io::Error;

    /// For sockets that somebody else has bound, such as systemd.
    fn try_from(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { address: socket.local_addr()?, socket })
    }
}

/// The cause is part of the message, so none is given as a source: a chain printed whole would say it twice.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("`{address}` is no listening address: write `:10060`, `127.0.0.1:10060` or `[::1]:10060`")]
    Malformed { address: String },
    #[error("cannot find the address of `{address}`: {cause}")]
    Unresolved { address: String, cause: io::Error },
    #[error("cannot listen on {address}: {}{}", reason(cause), advice(cause))]
    Refused { address: String, cause: io::Error },
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this host does not have the address".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        _ => error.to_string(),
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (is another synfin running? choose another with --web.listen-address)",
        io::ErrorKind::AddrNotAvailable => " (choose another with --web.listen-address)",
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE; choose another with --web.listen-address)"
        }
        _ => "",
    }
}

/// Binds every address: `:10060` (all addresses of both families), `[::1]:10060`, `127.0.0.1:0`, `localhost:10060`.
///
/// # Errors
/// The first address that is malformed, unknown, or refused by the kernel; nothing stays bound then.
pub fn bind<S: AsRef<str>>(addresses: &[S]) -> Result<Vec<Listener>, BindError> {
    addresses.iter().map(|address| bind_one(address.as_ref())).collect()
}

fn bind_one(address: &str) -> Result<Listener, BindError> {
    let refused = |cause| BindError::Refused { address: address.to_owned(), cause };
    let (host, port) = split(address).ok_or_else(|| BindError::Malformed { address: address.to_owned() })?;
    if host.is_empty() {
        return match listen((Ipv6Addr::UNSPECIFIED, port).into(), true) {
            Ok(listener) => Ok(listener),
            // A kernel without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                listen((Ipv4Addr::UNSPECIFIED, port).into(), false).map_err(refused)
            }
            Err(error) => Err(refused(error)),
        };
    }
    let unresolved = |cause| BindError::Unresolved { address: address.to_owned(), cause };
    let mut resolved = (host, port).to_socket_addrs().map_err(unresolved)?;
    let first = resolved.next().ok_or_else(|| unresolved(io::ErrorKind::NotFound.into()))?;
    listen(first, false).map_err(refused)
}

/// Host, empty for all, without the brackets of IPv6; and port.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    // `u16::from_str` takes a sign.
    let port = if port.bytes().all(|byte| byte.is_ascii_digit()) { port.parse().ok()? } else { return None };
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|host| host.parse::<Ipv6Addr>().is_ok()).map(|host| (host, port)),
        None if host.contains([':', ']', '/', ' ']) => None,
        None => Some((host, port)),
    }
}

fn listen(address: SocketAddr, both_families: bool) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Restarts must not wait for the TIME_WAIT sockets of the last run.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Independent of the sysctl net.ipv6.bindv6only.
        socket.set_only_v6(!both_families)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Listener::try_from(TcpListener::from(socket))
}

/// Connections that wait for accept(); the kernel bounds it by net.core.somaxconn.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_exporters_take_them() {
        #[track_caller]
        fn check(address: &str, expected: Option<(&str, u16)>) {
            assert_eq!(split(address), expected);
        }
        check(":10060", Some(("", 10060)));
        check("127.0.0.1:0", Some(("127.0.0.1", 0)));
        check("[::1]:10060", Some(("::1", 10060)));
        check("[::]:80", Some(("::", 80)));
        check("localhost:80", Some(("localhost", 80)));
        check("::1:80", None);
        check("[::1]", None);
        check("[localhost]:80", None);
        check("10060", None);
        check("127.0.0.1:", None);
        check("127.0.0.1:+80", None);
        check("127.0.0.1:70000", None);
        check("http://a:80", None);
        check("", None);
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do() {
        let first = bind(&["127.0.0.1:0"]).unwrap();
        let address = first[0].address().to_string();
        assert_eq!(
            bind(&[&address]).unwrap_err().to_string(),
            format!(
                "cannot listen on {address}: address already in use \
                 (is another synfin running? choose another with --web.listen-address)"
            )
        );
        drop(first);
        bind(&[&address]).unwrap();
    }

    #[test]
    fn an_empty_host_listens_for_both_families() {
        let port = bind(&[":0"]).unwrap().remove(0);
        for host in [Ipv4Addr::LOCALHOST.into(), std::net::IpAddr::from(Ipv6Addr::LOCALHOST)] {
            std::net::TcpStream::connect((host, port.address().port())).unwrap();
        }
    }

    #[test]
    fn start_up_errors_are_one_clear_line() {
        #[track_caller]
        fn check(address: &str, expected: &str) {
            assert_eq!(bind(&[address]).unwrap_err().to_string(), expected);
        }
        check("10060", "`10060` is no listening address: write `:10060`, `127.0.0.1:10060` or `[::1]:10060`");
        check(
            "192.0.2.77:10060",
            "cannot listen on 192.0.2.77:10060: this host does not have the address \
             (choose another with --web.listen-address)",
        );
    }
}
