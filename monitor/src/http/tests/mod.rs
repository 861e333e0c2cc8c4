//! The whole server over real sockets: what it answers, and what these tests share.

mod robust;
mod web;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Limits, Options, Source, WebConfig, bind, serve};
use crate::aggregate::Snapshot;
use crate::present::golden::busy;
use crate::present::{OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE};

/// A daemon whose answers a test can change.
#[derive(Default)]
struct Daemon {
    starting: AtomicBool,
    stuck: AtomicBool,
    hanging: AtomicBool,
}

impl Source for Daemon {
    async fn snapshot(&self) -> Option<Snapshot> {
        if self.hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        (!self.starting.load(Ordering::Relaxed)).then(busy)
    }
    fn ready(&self) -> Result<(), String> {
        if self.starting.load(Ordering::Relaxed) { Err("no census yet".to_owned()) } else { Ok(()) }
    }
    fn healthy(&self) -> bool {
        !self.stuck.load(Ordering::Relaxed)
    }
}

/// A server on a thread and a runtime of its own, ended when dropped.
struct Server {
    address: SocketAddr,
    second: SocketAddr,
    daemon: Arc<Daemon>,
    config: Arc<WebConfig>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        Self::with(Limits::default(), WebConfig::none())
    }

    fn with(limits: Limits, config: WebConfig) -> Self {
        let (daemon, config) = (Arc::new(Daemon::default()), Arc::new(config));
        let listeners = bind(&["127.0.0.1:0", "[::1]:0"]).unwrap();
        let (address, second) = (listeners[0].address(), listeners[1].address());
        let (stop, stopped) = oneshot::channel::<()>();
        let (source, web_config) = (daemon.clone(), config.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let options = Options { limits, ..Options::default() };
            let stopped = async move {
                let _ = stopped.await;
            };
            runtime.block_on(serve(listeners, source, web_config, options, stopped)).unwrap();
        });
        Self { address, second, daemon, config, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// One request on a connection of its own; `fields` are whole header lines.
    fn request(&self, method: &str, path: &str, fields: &[&str]) -> Reply {
        let mut stream = self.connect();
        send(&mut stream, method, path, fields);
        Reply::read_to_end(&mut stream)
    }

    fn get(&self, path: &str, fields: &[&str]) -> Reply {
        self.request("GET", path, fields)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let joined = self.thread.take().unwrap().join();
        assert!(joined.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

/// Asks for an end of the connection after the answer.
fn send(stream: &mut impl Write, method: &str, path: &str, fields: &[&str]) {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for field in fields {
        request += field;
        request += "\r\n";
    }
    stream.write_all((request + "\r\n").as_bytes()).unwrap();
}

struct Reply {
    status: u16,
    /// Lower case.
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn read_to_end(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Self::parse(&bytes).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?.to_ascii_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head, body: bytes[end + 4..].to_vec() })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// A directory of this test's own, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("synfin-web-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn paths_and_methods() {
    let server = Server::start();
    let check = |method: &str, path: &str, status: u16| {
        assert_eq!(server.request(method, path, &[]).status, status, "{method} {path}");
    };
    for path in ["/", "/metrics", "/metrics?name=x", "/-/healthy", "/-/ready", "/healthz", "/readyz"] {
        check("GET", path, 200);
        check("HEAD", path, 200);
        check("POST", path, 405);
        check("DELETE", path, 405);
    }
    for path in ["/metrics/", "/index.html", "/debug/pprof/", "/../etc/passwd", "//", "/%6detrics"] {
        check("GET", path, 404);
        check("POST", path, 404);
    }
    assert_eq!(server.request("PUT", "/metrics", &[]).field("allow"), Some("get, head"));
}

#[test]
fn a_scraper_gets_the_format_it_prefers() {
    let server = Server::start();
    let of_prometheus = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                         q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let scrape = ["X-Prometheus-Scrape-Timeout-Seconds: 10", of_prometheus];
    let openmetrics = server.get("/metrics", &scrape);
    assert_eq!(openmetrics.field("content-type"), Some(OPENMETRICS_CONTENT_TYPE));
    assert_eq!(openmetrics.field("content-encoding"), None);
    assert!(openmetrics.text().ends_with("\n# EOF\n"));
    assert!(openmetrics.text().contains("# UNIT synfin_tcp_handshake_seconds seconds\n"));

    let text = server.get("/metrics", &[]);
    assert_eq!(text.field("content-type"), Some(TEXT_CONTENT_TYPE));
    assert!(!text.text().contains("# EOF"));
    for name in ["synfin_tcp_transitions_total{", "process_cpu_seconds_total ", "synfin_build_info{"] {
        assert!(text.text().contains(&format!("\n{name}")) && openmetrics.text().contains(&format!("\n{name}")));
    }

    let packed = server.get("/metrics", &[of_prometheus, "Accept-Encoding: gzip"]);
    assert_eq!(packed.field("content-encoding"), Some("gzip"));
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert!(packed.body.len() * 4 < unpacked.len());
    let names = |page: &str| page.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&unpacked), names(&openmetrics.text()));
}

#[test]
fn head_is_the_answer_without_its_body() {
    let server = Server::start();
    let head = server.request("HEAD", "/", &[]);
    let get = server.request("GET", "/", &[]);
    assert_eq!((head.body.len(), head.field("content-length")), (0, get.field("content-length")));
    assert_eq!(get.field("content-length"), Some(get.body.len().to_string().as_str()));
    assert_eq!(server.request("HEAD", "/metrics", &[]).body, b"");
}

#[test]
fn every_address_is_served() {
    let server = Server::start();
    for address in [server.address, server.second, server.address] {
        let mut stream = TcpStream::connect(address).unwrap();
        send(&mut stream, "GET", "/-/healthy", &[]);
        assert_eq!(Reply::read_to_end(&mut stream).text(), "healthy\n", "{address}");
    }
}

#[test]
fn the_landing_page_names_version_and_links() {
    let page = Server::start().get("/", &[]);
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    for part in [concat!("Version ", env!("CARGO_PKG_VERSION")), "href=\"/metrics\"", "href=\"/-/ready\""] {
        assert!(page.text().contains(part), "{part}");
    }
}

#[test]
fn health_and_readiness_are_the_daemons() {
    let server = Server::start();
    server.daemon.starting.store(true, Ordering::Relaxed);
    let ready = server.get("/-/ready", &[]);
    assert_eq!((ready.status, ready.text().as_str()), (503, "not ready: no census yet\n"));
    assert_eq!(server.get("/metrics", &[]).status, 503);
    assert_eq!(server.get("/-/healthy", &[]).status, 200);
    server.daemon.starting.store(false, Ordering::Relaxed);
    server.daemon.stuck.store(true, Ordering::Relaxed);
    assert_eq!(server.get("/readyz", &[]).status, 200);
    assert_eq!(server.get("/healthz", &[]).status, 503);
}

#[test]
fn shutdown_finishes_the_answer_under_way_and_frees_the_port() {
    let server = Server::start();
    let address = server.address;
    let (done, ended) = mpsc::channel();
    let mut idle = server.connect();
    assert_eq!(server.get("/metrics", &[]).status, 200);
    std::thread::spawn(move || {
        drop(server);
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(10)).expect("the server does not end");
    assert_eq!(idle.read(&mut [0; 16]).unwrap_or(0), 0);
    bind(&[address.to_string()]).unwrap();
}
