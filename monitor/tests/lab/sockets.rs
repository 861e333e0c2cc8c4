//! Sockets with the few options that the lives need, on top of `socket2`.

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Lets this process hold `count` sockets; panics when it may not.
pub fn allow_descriptors(count: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the struct, which outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    if limit.rlim_cur < count {
        let raised = libc::rlimit { rlim_cur: count, rlim_max: limit.rlim_max.max(count) };
        // SAFETY: the kernel reads the struct, which outlives the call.
        let status = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) };
        assert_eq!(status, 0, "{count} open files are needed, {} allowed: raise `ulimit -n`", limit.rlim_max);
    }
}

/// An unconnected TCP socket of the family of `address`.
pub fn socket(address: SocketAddr) -> Socket {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).expect("a TCP socket")
}

/// A listener at exactly `address` (never a wildcard, so that every event names an address of the lab).
pub fn listen(address: SocketAddr) -> TcpListener {
    listen_with(address, 128)
}

pub fn listen_with(address: SocketAddr, backlog: i32) -> TcpListener {
    let socket = socket(address);
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.bind(&SockAddr::from(address)).unwrap_or_else(|error| panic!("bind {address}: {error}"));
    socket.listen(backlog).expect("listen");
    socket.into()
}

/// Connects, and accepts at the listener: (client, server).
pub fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(listener.local_addr().expect("a bound listener"));
    let (server, _) = listener.accept().expect("accept");
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a constant time");
    }
    (client, server)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = socket(address);
    socket.connect(&SockAddr::from(address)).unwrap_or_else(|error| panic!("connect {address}: {error}"));
    socket.into()
}

/// Starts connect() and returns while it is under way.
pub fn connect_nonblocking(address: SocketAddr) -> Socket {
    let socket = socket(address);
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    let error = socket.connect(&SockAddr::from(address)).expect_err("nobody can have answered yet");
    assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "connect {address}: {error}");
    socket
}

/// connect() that must fail with `errno`.
pub fn connect_fails(address: SocketAddr, errno: i32) {
    let error = socket(address).connect(&SockAddr::from(address)).expect_err("the connection must fail");
    assert_eq!(error.raw_os_error(), Some(errno), "connect {address}: {error}");
}

/// Close sends a reset and waits for nothing.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

pub fn half_close(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("shutdown(SHUT_WR)");
}

/// Reads until the peer's FIN.
pub fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("data and then the end");
    bytes
}

/// Waits until a reset has arrived.
pub fn read_reset(mut stream: &TcpStream) {
    let error = loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => panic!("the end of the stream where a reset was due"),
            Ok(_) => continue,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

pub fn send(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the peer reads");
}

/// State of a socket as the kernel numbers them (`TCP_INFO`).
pub fn state(stream: &TcpStream) -> u8 {
    use std::os::fd::AsRawFd;
    let mut info = [0u8; 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the buffer has the length that is passed; the kernel writes at most that much.
    let status = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    assert_eq!(status, 0, "TCP_INFO: {}", std::io::Error::last_os_error());
    info[0]
}

pub const ESTABLISHED: u8 = 1;
pub const FIN_WAIT2: u8 = 5;
pub const CLOSE: u8 = 7;
pub const CLOSE_WAIT: u8 = 8;

/// Waits until the socket is in `wanted`.
pub fn wait_state(stream: &TcpStream, wanted: u8) {
    super::wait_until("the socket's state", Duration::from_secs(5), || state(stream) == wanted);
}

/// Closes a stream whose peer does not, so that a small socket stays in FIN_WAIT2.
///
/// Not by close() alone: when the peer acknowledges while that call still holds the socket, Linux keeps the whole socket; and it may
/// acknowledge later, by a timer, which ends the socket during whatever runs then, PID 1 too, during which some kernels skip every BPF
/// program.
pub fn close_in_fin_wait2(stream: TcpStream) {
    half_close(&stream);
    wait_state(&stream, FIN_WAIT2);
}
