//! The page as Prometheus' own tool judges it.

use std::io::Write;
use std::process::{Command, Stdio};

/// Panics unless `promtool check metrics` takes the page and has nothing to remark.
#[track_caller]
pub fn check(page: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("promtool: {error} (Debian package `prometheus`)"));
    let mut stdin = child.stdin.take().expect("a pipe was asked for");
    std::thread::scope(|scope| {
        // It may say something before it has read all.
        scope.spawn(move || stdin.write_all(page.as_bytes()));
        let output = child.wait_with_output().expect("promtool is our child");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.is_empty(), "promtool says:\n{said}");
    });
}
