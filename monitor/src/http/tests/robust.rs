//! Clients that are slow, silent, greedy or talk nonsense: each is bounded, and none keeps a scraper waiting.

use std::net::Shutdown;
use std::time::Instant;

use super::*;

fn limits() -> Limits {
    Limits {
        head: Duration::from_millis(500),
        request: Duration::from_millis(500),
        response: Duration::from_millis(500),
        ..Limits::default()
    }
}

/// Sends a request that keeps the connection and reads its answer by its length.
fn ask(stream: &mut TcpStream, path: &str) -> u16 {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).unwrap();
        assert_ne!(length, 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&part[..length]);
        if let Some(reply) = Reply::parse(&bytes) {
            let length: usize = reply.field("content-length").unwrap().parse().unwrap();
            if reply.body.len() == length {
                return reply.status;
            }
        }
    }
}

#[test]
fn a_client_that_has_said_all_it_will_say_gets_its_answer() {
    let server = Server::start();
    for (version, path) in [("1.0", "/metrics"), ("1.1", "/metrics"), ("1.0", "/")] {
        let mut stream = server.connect();
        stream.write_all(format!("GET {path} HTTP/{version}\r\nHost: test\r\n\r\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let reply = Reply::read_to_end(&mut stream);
        assert_eq!(reply.status, 200, "{path} HTTP/{version}");
        assert!(!reply.body.is_empty(), "{path} HTTP/{version}");
    }
}

#[test]
fn nonsense_is_refused_or_closed_and_the_server_lives() {
    let server = Server::with(limits(), WebConfig::none());
    let check = |bytes: &[u8]| {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A reset counts as closed.
        let _ = stream.read_to_end(&mut answer);
        let status = Reply::parse(&answer).map(|reply| reply.status);
        assert!(matches!(status, None | Some(400..=499)), "{status:?} for {:?}", String::from_utf8_lossy(bytes));
    };
    check(b"\0\0\0\0\0\0\0\0");
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    check(b"SSH-2.0-OpenSSH_9.2\r\n");
    check(b"GET\r\n\r\n");
    check(b"GET /metrics HTTP/9.9\r\n\r\n");
    check(b"GET /metrics HTTP/1.1\r\nBad Field: x\r\n\r\n");
    check(b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n");
    check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    check(b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    check(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let noise: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for part in noise.chunks(997) {
        check(part);
    }
    assert_eq!(server.get("/metrics", &[]).status, 200);
}

#[test]
fn a_head_has_bounds() {
    let server = Server::start();
    let long = format!("X-Long: {}", "x".repeat(17 << 10));
    assert_eq!(server.get("/metrics", &[&long]).status, 431);
    let many: Vec<_> = (0..100).map(|n| format!("X-{n}: y")).collect();
    assert_eq!(server.get("/metrics", &many.iter().map(String::as_str).collect::<Vec<_>>()).status, 431);
    let path = format!("/{}", "x".repeat(17 << 10));
    assert!((400..500).contains(&server.get(&path, &[]).status));
    let usual = format!("X-Usual: {}", "x".repeat(4 << 10));
    assert_eq!(server.get("/metrics", &[&usual]).status, 200);
}

#[test]
fn a_large_body_is_refused_unread() {
    let server = Server::start();
    assert_eq!(server.request("POST", "/metrics", &["Content-Length: 1000000000"]).status, 413);
    let mut stream = server.connect();
    send(&mut stream, "GET", "/metrics", &["Transfer-Encoding: chunked"]);
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    // The server answers the head and closes: writing on fails long before 64 MiB.
    let mut written = 0;
    while written < 1024 && stream.write_all(&chunk).is_ok() {
        written += 1;
    }
    assert!(written < 1024, "the server read 64 MiB");
}

#[test]
fn a_slow_head_ends_the_connection() {
    let server = Server::with(limits(), WebConfig::none());
    let mut stream = server.connect();
    let start = Instant::now();
    for byte in b"GET /metrics HTTP/1.1\r\nHost: test\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".iter().cycle()
    {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "still open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.get("/metrics", &[]).status, 200);
}

#[test]
fn a_silent_connection_ends_and_one_between_requests_does_not() {
    let server = Server::with(limits(), WebConfig::none());
    let (mut silent, mut scraper) = (server.connect(), server.connect());
    assert_eq!(ask(&mut scraper, "/-/healthy"), 200);
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
    std::thread::sleep(limits().head * 2);
    assert_eq!(ask(&mut scraper, "/metrics"), 200);
    // A second head that never ends is bounded like the first.
    scraper.write_all(b"GET /met").unwrap();
    let start = Instant::now();
    assert_eq!(scraper.read(&mut [0; 16]).unwrap_or(0), 0);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_client_that_takes_no_answers_is_cut_off() {
    let server = Server::with(limits(), WebConfig::none());
    let mut stream = server.connect();
    const REQUESTS: usize = 2_000;
    // More answers than the buffers of both sockets hold.
    let requests = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(REQUESTS);
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(requests.as_bytes()));
    std::thread::sleep(Duration::from_secs(1));
    while server.get("/-/healthy", &[]).status != 200 {}
    std::thread::sleep(limits().response * 6);
    let mut taken = 0;
    let mut part = vec![0; 1 << 20];
    while let Ok(length @ 1..) = stream.read(&mut part) {
        taken += part[..length].windows(15).filter(|window| *window == b"HTTP/1.1 200 OK").count();
    }
    assert!(taken < REQUESTS, "all answers came after a pause longer than the limit");
    let _ = stream.shutdown(Shutdown::Both);
    let _ = writing.join().unwrap();
}

#[test]
fn a_daemon_that_hangs_is_status_503() {
    let server = Server::with(limits(), WebConfig::none());
    server.daemon.hanging.store(true, Ordering::Relaxed);
    assert_eq!(server.get("/metrics", &[]).status, 503);
    assert_eq!(server.get("/-/healthy", &[]).status, 200);
}

#[test]
fn a_thousand_idle_connections_do_not_block_a_scrape() {
    crate::host::open_files::raise_limit().unwrap();
    let server = Server::start();
    let mut scraper = server.connect();
    assert_eq!(ask(&mut scraper, "/metrics"), 200);
    let idle: Vec<_> = (0..1_000).map(|_| server.connect()).collect();
    let start = Instant::now();
    assert_eq!(server.get("/metrics", &[]).status, 200);
    // Its connection is older than all of them, and still the one that was kept.
    assert_eq!(ask(&mut scraper, "/metrics"), 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let bound = Limits::default().connections;
    let mut open = 0;
    for stream in &idle {
        stream.set_nonblocking(true).unwrap();
        let closed = matches!((&*stream).read(&mut [0; 1]), Ok(0));
        open += usize::from(!closed);
    }
    assert!(open < bound, "{open} of 1000 idle connections are open");
}
