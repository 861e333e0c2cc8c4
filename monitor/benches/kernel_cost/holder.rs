//! Processes that hold connections open, since one process may not have as many files as a host has sockets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::SockRef;

use crate::hammer;

/// The first argument of such a process; the second is how many connections it holds.
pub const VERB: &str = "hold";
/// Files that a process has for other uses.
const SPARE: u64 = 64;
/// To each address; one has some 28,000 ports to come from.
const PER_ADDRESS: usize = 5_000;

/// The processes; dropping it ends them with their connections.
pub struct Holders(Vec<Child>);

impl Holders {
    /// Has `connections` opened, both ends on this host.
    pub fn open(connections: usize) -> Result<Self> {
        let each = synfin::host::open_files::raise_limit()?.saturating_sub(SPARE) as usize / 2;
        ensure!(each > 0, "this process may open no files to speak of");
        let this = std::env::current_exe().context("cannot learn the path of this program")?;
        let mut holders = Self(Vec::new());
        let mut left = connections;
        while left > 0 {
            let mut command = Command::new(&this);
            command.arg(VERB).arg(left.min(each).to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().context("cannot start a process that holds connections")?;
            let said = child.stdout.take().map(|mut stdout| stdout.read_exact(&mut [0; 1]));
            holders.0.push(child);
            said.context("no pipe")?.context("a process that holds connections ended early")?;
            left -= left.min(each);
        }
        Ok(holders)
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // The end of its input is what it waits for.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// What such a process does.
pub fn hold(connections: usize) -> Result<()> {
    synfin::host::open_files::raise_limit()?;
    let listener = hammer::listen()?;
    let port = listener.local_addr()?.as_socket_ipv4().map_or(0, |address| address.port());
    let mut sockets: Vec<TcpStream> = Vec::with_capacity(2 * connections);
    for number in 0..connections {
        let address = Ipv4Addr::new(127, 0, 1, (1 + number / PER_ADDRESS) as u8);
        sockets.push(TcpStream::connect(SocketAddrV4::new(address, port))?);
        sockets.push(listener.accept()?.0.into());
    }
    let mut stdout = std::io::stdout();
    stdout.write_all(b".")?;
    stdout.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for socket in &sockets {
        // By reset, so that no TIME_WAIT socket is left to what is measured next.
        SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}
