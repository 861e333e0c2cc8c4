//! One `synfin run` under test: started in a namespace, scraped over one kept connection, ended and judged.

use super::netns::Netns;
use super::page::Page;
use super::wait_until;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where the daemons of the lab listen; each is alone in its namespace.
pub const ADDRESS: &str = "127.0.0.1:10060";

/// Within this a census comes: where a walk is dear the daemon makes one a minute.
pub const CENSUS: Duration = Duration::from_secs(75);

/// The daemon's program: `SYNFIN_BIN`, or the one that cargo built along with the test.
pub fn program() -> PathBuf {
    std::env::var_os("SYNFIN_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_synfin")), PathBuf::from)
}

pub struct Daemon {
    child: Child,
    log: tempfile::Log,
}

impl Daemon {
    /// Starts the daemon in `netns` with `arguments` added and waits until `/-/ready` says so.
    pub fn start(netns: &Netns, arguments: &[&str]) -> Self {
        Self::start_at(netns, ADDRESS, arguments)
    }

    /// The same, listening elsewhere: for a second one in the namespace.
    pub fn start_at(netns: &Netns, address: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(["run", "--web.listen-address", address]).args(arguments);
        let daemon = Self::spawn(netns, command);
        daemon.wait_ready_at(netns, address);
        daemon
    }

    /// Starts any command line as the daemon, without waiting.
    pub fn spawn(netns: &Netns, mut command: Command) -> Self {
        let log = tempfile::Log::new();
        command.stdin(Stdio::null()).stdout(log.writer()).stderr(log.writer());
        let child = netns.run(|| command.spawn());
        let child = child.unwrap_or_else(|error| panic!("{} could not be started: {error}", program().display()));
        Self { child, log }
    }

    pub fn wait_ready(&self, netns: &Netns) {
        self.wait_ready_at(netns, ADDRESS);
    }

    fn wait_ready_at(&self, netns: &Netns, address: &str) {
        let start = Instant::now();
        while status_at(netns, address, "/-/ready") != Some(200) {
            assert!(!self.has_ended(), "the daemon ended before it was ready:\n{}", self.log());
            assert!(start.elapsed() < Duration::from_secs(30), "the daemon is not ready after 30 s:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is a zombie or gone.
    pub fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.is_empty())
    }

    /// What it has written to standard output and error.
    pub fn log(&self) -> String {
        self.log.text()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child has not been waited for, so the number is still its own.
        let status = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        assert_eq!(status, 0, "kill({signal}): {}", std::io::Error::last_os_error());
    }

    /// Waits for the end, at most `limit`; returns status, time and log.
    pub fn wait(mut self, limit: Duration) -> (ExitStatus, Duration, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the daemon is our child") {
                return (status, start.elapsed(), self.log());
            }
            assert!(start.elapsed() < limit, "the daemon still runs after {limit:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it by SIGTERM; panics unless it ends with status 0 within ten seconds (an emulated processor takes two).
    pub fn stop(self) -> Duration {
        self.signal(libc::SIGTERM);
        let (status, time, log) = self.wait(Duration::from_secs(10));
        assert!(status.success(), "after SIGTERM: {status}\n{log}");
        time
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most that was ever resident, in KiB.
    pub fn peak_resident_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.unwrap_or_else(|| panic!("{field} of the running daemon"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.has_ended() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// HTTP status of one GET on a connection of its own; `None` when nobody answers.
pub fn status(netns: &Netns, path: &str) -> Option<u16> {
    status_at(netns, ADDRESS, path)
}

fn status_at(netns: &Netns, address: &str, path: &str) -> Option<u16> {
    let address: SocketAddr = address.parse().ok()?;
    let mut stream = netns.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1))).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// One kept HTTP connection to the daemon: scrapes over it change no TCP state.
pub struct Scraper {
    stream: BufReader<TcpStream>,
}

impl Scraper {
    pub fn connect(netns: &Netns) -> Self {
        Self::connect_to(netns, ADDRESS)
    }

    pub fn connect_to(netns: &Netns, address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("a constant");
        let stream = netns.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)));
        let stream = stream.unwrap_or_else(|error| panic!("connecting to the daemon at {address}: {error}"));
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a constant time");
        Self { stream: BufReader::new(stream) }
    }

    pub fn scrape(&mut self) -> Page {
        Page::parse(&self.scrape_text())
    }

    /// The page as it is.
    pub fn scrape_text(&mut self) -> String {
        self.get("/metrics").unwrap_or_else(|error| panic!("scraping over the kept connection: {error}"))
    }

    fn get(&mut self, path: &str) -> std::io::Result<String> {
        write!(self.stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        let mut length = None;
        let mut chunked = false;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::Error::other(format!("the daemon closed it (status line {status:?})")));
            }
            let line = line.trim_end().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
            chunked |= line == "transfer-encoding: chunked";
        }
        let body = if chunked { self.chunks()? } else { self.exactly(length.unwrap_or(0))? };
        let body = String::from_utf8(body).map_err(std::io::Error::other)?;
        if status.split(' ').nth(1) == Some("200") {
            Ok(body)
        } else {
            Err(std::io::Error::other(format!("{status}{body}")))
        }
    }

    fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut size = String::new();
            self.stream.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
            let chunk = self.exactly(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
}

/// Waits until the next census has been done, and returns its page.
pub fn after_next_census(scraper: &mut Scraper) -> Page {
    let stamp = |page: &Page| page.value("synfin_census_timestamp_seconds");
    let first = stamp(&scraper.scrape());
    let mut page = Page::default();
    wait_until("a further census", CENSUS, || {
        page = scraper.scrape();
        stamp(&page) > first
    });
    page
}

mod tempfile {
    //! An unnamed file that collects what a child prints: a pipe could fill up and stop the child.

    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom};
    use std::os::fd::FromRawFd;
    use std::process::Stdio;
    use std::sync::Mutex;

    pub struct Log(Mutex<File>);

    impl Log {
        pub fn new() -> Self {
            // SAFETY: the name is a C string; the call returns a new descriptor or -1.
            let descriptor = unsafe { libc::memfd_create(c"daemon log".as_ptr(), libc::MFD_CLOEXEC) };
            assert!(descriptor >= 0, "memfd_create: {}", std::io::Error::last_os_error());
            // SAFETY: just created and owned by nobody else.
            Self(Mutex::new(unsafe { File::from_raw_fd(descriptor) }))
        }

        pub fn writer(&self) -> Stdio {
            let path = {
                use std::os::fd::AsRawFd;
                format!("/proc/self/fd/{}", self.0.lock().expect("no panic while locked").as_raw_fd())
            };
            // Opened anew and for appending, so that reading does not move the position of the writers.
            File::options().append(true).open(path).expect("our own descriptor").into()
        }

        pub fn text(&self) -> String {
            let mut file = self.0.lock().expect("no panic while locked");
            let mut bytes = Vec::new();
            let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
            read.expect("an unnamed file in memory");
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}
