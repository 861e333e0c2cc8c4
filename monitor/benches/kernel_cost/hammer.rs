//! The load: connections over loopback as fast as one client thread and one server thread make them.
//!
//! The client closes first, the server answers, so each connection takes the ordinary way through ten state changes. The
//! addresses change, so that no pair runs out of ports.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};

/// Connections in a row to one address.
const RUN: u64 = 5000;
/// Addresses 127.0.0.1 to 127.0.0.200.
const ADDRESSES: u64 = 200;
/// Connections that may wait for the server before the client waits for it.
const AHEAD: u64 = 1000;
const BACKLOG: i32 = 4096;

/// The server, and where the client has got to.
pub struct Hammer {
    port: u16,
    served: Arc<AtomicU64>,
    made: AtomicU64,
}

/// What a run made.
pub struct Made {
    pub connections: u64,
    pub took: Duration,
}

impl Made {
    pub fn per_second(&self) -> f64 {
        self.connections as f64 / self.took.as_secs_f64()
    }
}

impl Hammer {
    /// Starts the server; it ends with the process.
    pub fn start() -> Result<Self> {
        let listener = listen().context("cannot listen")?;
        let address = listener.local_addr()?.as_socket_ipv4().context("no IPv4 address")?;
        let served = Arc::new(AtomicU64::new(0));
        let count = served.clone();
        thread::Builder::new().name("server".into()).spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let mut stream = TcpStream::from(socket);
                // Whether it ends by a FIN or otherwise does not matter here.
                let _ = stream.read(&mut [0; 1]);
                drop(stream);
                count.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(Self { port: address.port(), served, made: AtomicU64::new(0) })
    }

    /// Makes connections until `limit` is over or `most` are made, and waits for the server to close the last of them.
    pub fn run(&self, limit: Duration, most: u64) -> Result<Made> {
        let started = Instant::now();
        let mut connections = 0;
        let mut refused = 0;
        while connections < most && started.elapsed() < limit {
            let number = self.made.load(Ordering::Relaxed);
            let address = Ipv4Addr::new(127, 0, 0, 1 + ((number / RUN) % ADDRESSES) as u8);
            match TcpStream::connect(SocketAddrV4::new(address, self.port)) {
                Ok(stream) => drop(stream),
                Err(error) => {
                    refused += 1;
                    ensure!(refused < 100, "a hundred connections failed, the last one: {error}");
                    continue;
                }
            }
            self.made.store(number + 1, Ordering::Relaxed);
            connections += 1;
            while self.ahead() > AHEAD {
                thread::yield_now();
            }
        }
        while self.ahead() > 0 && started.elapsed() < 2 * limit {
            thread::yield_now();
        }
        Ok(Made { connections, took: started.elapsed() })
    }

    fn ahead(&self) -> u64 {
        self.made.load(Ordering::Relaxed).saturating_sub(self.served.load(Ordering::Relaxed))
    }
}

/// A listener on all addresses.
pub fn listen() -> std::io::Result<Socket> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into())?;
    listener.listen(BACKLOG)?;
    Ok(listener)
}
