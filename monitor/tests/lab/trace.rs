//! One `synfin trace --json` under test: its lines as they come.

use super::daemon::program;
use super::netns::Netns;
use super::place::Family;
use super::sockets::{listen, pair};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Trace {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Trace {
    /// Starts it in `netns` for connections of `port` there, and returns once it tells of connections.
    pub fn start(netns: &Netns, port: u16) -> Self {
        let trial = port + 1;
        let mut command = Command::new(program());
        command.args(["trace", "--json", "--port", &format!("{port},{trial}")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = netns.run(|| command.spawn()).expect("the program starts");
        let output = child.stdout.take().expect("piped above");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line.expect("text");
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                sink.lock().expect("no panic while locked").push(value);
            }
        });
        let mut trace = Self { child, lines };
        // It says nothing when it begins.
        super::wait_until("a line of `synfin trace`", Duration::from_secs(30), || {
            netns.run(|| drop(pair(&listen(Family::V4.loopback(1, trial)))));
            assert!(trace.child.try_wait().expect("our child").is_none(), "`synfin trace` ended by itself");
            std::thread::sleep(Duration::from_millis(100));
            trace.of_port(trial).len() >= 2
        });
        trace
    }

    /// The lines so far of connections with `port` at either end.
    pub fn of_port(&self, port: u16) -> Vec<Value> {
        let lines = self.lines.lock().expect("no panic while locked");
        lines.iter().filter(|line| line["sport"] == port || line["dport"] == port).cloned().collect()
    }
}

impl Trace {
    /// The lines of connections with `port`, once there are `count`, or no more come: one that the kernel withheld never does.
    pub fn settled(&self, port: u16, count: usize) -> Vec<Value> {
        let mut lines = self.of_port(port);
        let mut still = 0;
        while lines.len() < count && still < 50 {
            std::thread::sleep(Duration::from_millis(100));
            let more = self.of_port(port);
            still = if more.len() == lines.len() { still + 1 } else { 0 };
            lines = more;
        }
        lines
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
