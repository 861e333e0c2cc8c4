//! Many connections in little time: five system calls each, as fast as the kernel makes them.

use super::netns::Netns;
use super::sockets::socket;
use socket2::{SockAddr, Socket};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

/// One connection of a storm.
#[derive(Clone, Copy)]
pub struct Call {
    /// Bound before connecting, with a port chosen at connect(); `None`: the kernel's choice.
    pub source: Option<SocketAddr>,
    pub destination: SocketAddr,
    /// The server closes first, and not the client.
    pub server_first: bool,
}

/// Makes and closes all of `calls`, accepted at `listener`, on this thread. Over loopback each FIN has been answered when close() returns.
pub fn play(listener: &TcpListener, calls: impl Iterator<Item = Call>) {
    for call in calls {
        let client = socket(call.destination);
        if let Some(source) = call.source {
            choose_port_at_connect(&client);
            client.bind(&SockAddr::from(source)).unwrap_or_else(|error| panic!("bind {source}: {error}"));
        }
        let connected = client.connect(&SockAddr::from(call.destination));
        connected.unwrap_or_else(|error| panic!("connect {}: {error}", call.destination));
        let (server, _) = listener.accept().expect("accept");
        if call.server_first {
            drop(server);
            drop(client);
        } else {
            drop(client);
            drop(server);
        }
    }
}

/// Plays `each` calls towards each of `destinations`, on two threads of `netns`; `listener` serves one destination.
pub fn towards(
    netns: &Netns,
    destinations: &[SocketAddr],
    each: usize,
    listener: impl Fn(SocketAddr) -> TcpListener + Sync,
) {
    std::thread::scope(|scope| {
        for part in destinations.chunks(destinations.len().div_ceil(2)) {
            let listener = &listener;
            scope.spawn(move || {
                netns.enter();
                for &destination in part {
                    let call = Call { source: None, destination, server_first: false };
                    play(&listener(destination), std::iter::repeat_n(call, each));
                }
            });
        }
    });
}

/// Otherwise bind() would take a port for all destinations.
fn choose_port_at_connect(socket: &Socket) {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option's value is an int of the length that is passed.
    let status = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, value, length)
    };
    assert_eq!(status, 0, "IP_BIND_ADDRESS_NO_PORT: {}", std::io::Error::last_os_error());
}
