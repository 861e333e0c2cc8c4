//! The daemon's page, fetched as Prometheus does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The default port.
const PORT: u16 = 10060;
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the probes are attached and the first census is done.
pub fn is_ready() -> bool {
    get("/-/ready").is_ok()
}

/// The metrics page.
pub fn fetch() -> Result<String> {
    get("/metrics")
}

fn get(path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).context("the daemon does not listen")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the daemon does not answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}

/// Every sample of a metric: labels as they stand, without braces, and the value.
pub fn samples<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.parse().ok()?))
    })
}

/// The sum over all samples of a metric.
pub fn sum(page: &str, name: &str) -> f64 {
    samples(page, name).map(|(_, value)| value).sum()
}
