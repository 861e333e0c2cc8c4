//! Scripted lives over loopback. Each plays a whole life and returns what it must have done to the counters.

use super::expect::{
    CLIENT_CLOSES, CLIENT_FOLLOWS, CLIENT_RESET, Expect, NO_CONNECTION, Role, SERVER_CLOSES, SERVER_FOLLOWS,
    SERVER_RESET,
};
use super::place::Family;
use super::sockets::*;
use socket2::SockAddr;
use std::net::{Shutdown, SocketAddr, TcpListener};

/// Port of the lives' listeners.
const PORT: u16 = 4000;

/// A life over loopback, over any family.
pub type Life = fn(Family) -> Expect;

/// All lives that need nothing but loopback.
pub const ALL: [(&str, Life); 13] = [
    ("the client closes first", client_closes_first),
    ("the server closes first", server_closes_first),
    ("the server still sends after the client's half-close", half_close_with_data),
    ("shutdown and then close repeats FIN_WAIT2", shutdown_then_close),
    ("the client resets", client_resets),
    ("the server resets", server_resets),
    ("closing with unread data resets", close_with_unread_data),
    ("refused", refused),
    ("a listener closed with unaccepted connections resets them", listener_closed_with_children),
    ("disconnected by connect(AF_UNSPEC)", disconnected),
    ("a socket connected to itself opens and closes simultaneously", self_connected),
    ("listen, shutdown and listen again on one socket", listener_twice),
    ("fifty connections one after the other", fifty_in_a_row),
];

fn address(family: Family) -> SocketAddr {
    family.loopback(1, PORT)
}

fn listener(family: Family) -> TcpListener {
    listen(address(family))
}

fn client_closes_first(family: Family) -> Expect {
    let listener = listener(family);
    let (client, server) = pair(&listener);
    drop(client);
    read_to_end(&server);
    Expect::nothing().listener().connection(Role::Client, CLIENT_CLOSES, "local").connection(
        Role::Server,
        SERVER_FOLLOWS,
        "remote",
    )
}

fn server_closes_first(family: Family) -> Expect {
    let listener = listener(family);
    let (client, server) = pair(&listener);
    drop(server);
    read_to_end(&client);
    Expect::nothing().listener().connection(Role::Client, CLIENT_FOLLOWS, "remote").connection(
        Role::Server,
        SERVER_CLOSES,
        "local",
    )
}

fn half_close_with_data(family: Family) -> Expect {
    let listener = listener(family);
    let (client, server) = pair(&listener);
    send(&client, b"question");
    half_close(&client);
    assert_eq!(read_to_end(&server), b"question");
    send(&server, &[7; 100_000]);
    drop(server);
    assert_eq!(read_to_end(&client).len(), 100_000);
    // The client's socket is already CLOSE behind a small TIME_WAIT socket: close() adds nothing.
    Expect::nothing().listener().connection(Role::Client, CLIENT_CLOSES, "local").connection(
        Role::Server,
        SERVER_FOLLOWS,
        "remote",
    )
}

fn shutdown_then_close(family: Family) -> Expect {
    let listener = listener(family);
    let (client, server) = pair(&listener);
    half_close(&client);
    read_to_end(&server);
    wait_state(&client, FIN_WAIT2);
    drop(client);
    drop(server);
    let client = "close syn_sent established fin_wait1 fin_wait2 fin_wait2 close";
    Expect::nothing().listener().connection(Role::Client, client, "local").connection(
        Role::Server,
        SERVER_FOLLOWS,
        "remote",
    )
}

fn client_resets(family: Family) -> Expect {
    let listener = listener(family);
    let (client, server) = pair(&listener);
    reset(client);
    read_reset(&server);
    both_reset()
}

fn server_resets(family: Family) -> Expect {
    let listener = listener(family);
    let (client, server) = pair(&listener);
    reset(server);
    read_reset(&client);
    both_reset()
}

fn close_with_unread_data(family: Family) -> Expect {
    let listener = listener(family);
    let (client, server) = pair(&listener);
    send(&server, b"never read");
    let arrived = || client.peek(&mut [0; 1]).expect("data");
    assert_eq!(arrived(), 1);
    drop(client);
    read_reset(&server);
    both_reset()
}

fn both_reset() -> Expect {
    Expect::nothing().listener().connection(Role::Client, CLIENT_RESET, "reset").connection(
        Role::Server,
        SERVER_RESET,
        "reset",
    )
}

fn refused(family: Family) -> Expect {
    connect_fails(family.loopback(1, 4001), libc::ECONNREFUSED);
    Expect::nothing().failed(NO_CONNECTION, "refused")
}

fn listener_closed_with_children(family: Family) -> Expect {
    let listener = listener(family);
    let clients = [(); 3].map(|()| connect(address(family)));
    // connect() returns when the client has its SYN-ACK: wait until the listener's queue holds all three.
    clients.iter().for_each(|client| wait_state(client, ESTABLISHED));
    super::wait_until("three connections to accept", std::time::Duration::from_secs(2), || waiting(&listener) == 3);
    drop(listener);
    clients.iter().for_each(read_reset);
    let one = Expect::nothing().connection(Role::Client, CLIENT_RESET, "reset").connection(
        Role::Server,
        SERVER_RESET,
        "reset",
    );
    one.times(3).listener()
}

/// Connections in the accept queue: `tcpi_unacked` of a listener (tcp_get_info, net/ipv4/tcp.c).
fn waiting(listener: &TcpListener) -> u32 {
    use std::os::fd::AsRawFd;
    let mut info = [0u32; 8];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the buffer has the length that is passed; the kernel writes at most that much.
    let status = unsafe {
        libc::getsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    assert_eq!(status, 0, "TCP_INFO: {}", std::io::Error::last_os_error());
    // Eight bytes of flags, then rto, ato, snd_mss, rcv_mss, unacked.
    info[6]
}

fn disconnected(family: Family) -> Expect {
    let listener = listener(family);
    let (client, server) = pair(&listener);
    let unspecified = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let status = {
        use std::os::fd::AsRawFd;
        // SAFETY: a sockaddr of its own length; the kernel reads the family only.
        unsafe { libc::connect(client.as_raw_fd(), &unspecified, size_of::<libc::sockaddr>() as libc::socklen_t) }
    };
    assert_eq!(status, 0, "connect(AF_UNSPEC): {}", std::io::Error::last_os_error());
    read_reset(&server);
    both_reset()
}

fn self_connected(family: Family) -> Expect {
    let address = family.loopback(1, 4002);
    let socket = socket(address);
    socket.bind(&SockAddr::from(address)).expect("bind");
    socket.connect(&SockAddr::from(address)).expect("a SYN that meets itself opens the connection");
    drop(socket);
    let path = "close syn_sent syn_recv established fin_wait1 closing close";
    Expect::nothing().connection(Role::Client, path, "simultaneous")
}

fn listener_twice(family: Family) -> Expect {
    let address = address(family);
    let socket = socket(address);
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.bind(&SockAddr::from(address)).expect("bind");
    socket.listen(1).expect("listen");
    // A second listen() changes the backlog and no state.
    socket.listen(2).expect("listen on a listener");
    socket.shutdown(Shutdown::Read).expect("shutdown of a listener disconnects it");
    socket.listen(1).expect("listen again");
    Expect::nothing().listener().listener()
}

fn fifty_in_a_row(family: Family) -> Expect {
    let listener = listener(family);
    for _ in 0..50 {
        let (client, server) = pair(&listener);
        drop(client);
        read_to_end(&server);
    }
    let one = Expect::nothing().connection(Role::Client, CLIENT_CLOSES, "local").connection(
        Role::Server,
        SERVER_FOLLOWS,
        "remote",
    );
    one.times(50).listener()
}
