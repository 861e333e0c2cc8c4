//! Connections at full speed over loopback: both ends close, and what was done is counted by the threads that did it.

use super::expect::{CLIENT_FOLLOWS, Expect, LISTENER, Role, SERVER_CLOSES};
use super::netns::Netns;
use super::place::Family;
use super::sockets::{connect, listen_with};
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const PORT: u16 = 4000;
/// One thread a side and pair: the machine is small, and more of them only wait for each other.
const PAIRS: u8 = 4;

/// Opens and closes `connections` (a multiple of [`PAIRS`]) between several loopback addresses of `netns`. The server closes first,
/// so that local ports are free again at once. Returns what was done and how long it took.
pub fn run(netns: &Netns, connections: u64) -> (Expect, Duration) {
    let each = connections / u64::from(PAIRS);
    assert_eq!(each * u64::from(PAIRS), connections, "a multiple of {PAIRS}");
    let start = Instant::now();
    std::thread::scope(|scope| {
        for pair in 0..PAIRS {
            let address = Family::V4.loopback(10 + pair, PORT);
            let listener = netns.run(|| listen_with(address, 1024));
            scope.spawn(move || serve(&listener, each));
            scope.spawn(move || {
                netns.enter();
                for _ in 0..each {
                    let mut stream = connect(address);
                    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a constant time");
                    assert_eq!(stream.read(&mut [0; 8]).expect("the server's FIN"), 0);
                }
            });
        }
    });
    (expected(connections), start.elapsed())
}

fn serve(listener: &TcpListener, connections: u64) {
    for _ in 0..connections {
        drop(listener.accept().expect("accept"));
    }
}

/// What `connections` of them and the listeners do to the counters.
fn expected(connections: u64) -> Expect {
    let one = Expect::nothing().connection(Role::Client, CLIENT_FOLLOWS, "remote").connection(
        Role::Server,
        SERVER_CLOSES,
        "local",
    );
    (0..PAIRS).fold(one.times(connections), |sum, _| sum.transitions(LISTENER))
}
