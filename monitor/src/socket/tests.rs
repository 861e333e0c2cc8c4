//! Server and client over real sockets in a directory of their own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;
use crate::diagnose::{Evidence, Level};

/// Removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("synfin-socket-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn path(&self) -> PathBuf {
        self.0.join("deep/s.sock")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Fixed;

impl Answers for Fixed {
    fn status(&self) -> Status {
        Status { synfin: "1".into(), pid: 7, ready: true, listen: vec!["[::]:10060".into()] }
    }
    async fn evidence(&self, window: Duration) -> Result<Evidence, String> {
        match window.as_secs() {
            0 => Err("not yet".into()),
            seconds => Ok(evidence(seconds as f64)),
        }
    }
}

fn evidence(seconds: f64) -> Evidence {
    let level = Level { now: 3, trend: None };
    Evidence { window_seconds: Some(seconds), fin_wait2: Some(level), ..crate::diagnose::fixture::a_bad_night() }
}

/// Serves until dropped.
struct Served {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start(path: &Path, limits: Limits) -> Self {
        let place = take_place(path).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = serve(place, Arc::new(Fixed), limits) => panic!("{ended:?}"),
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.take();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn short() -> Limits {
    Limits { clients: 2, line_bytes: 64, patience: Duration::from_millis(300) }
}

/// Sends bytes as they are; every line that comes back until the end.
fn send(path: &Path, bytes: &[u8], close: bool) -> Vec<String> {
    let mut stream = UnixStream::connect(path).unwrap();
    let _ = stream.write_all(bytes);
    if close {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    BufReader::new(stream).lines().map_while(Result::ok).collect()
}

#[test]
fn questions_are_answered_whole() {
    let directory = Directory::new("whole");
    let path = directory.path();
    let _served = Served::start(&path, Limits::default());
    assert_eq!(ask(&path, Question::Status).unwrap(), Answer::Status(Fixed.status()));
    let diagnose = |window: &str| ask(&path, Question::Diagnose { window: window.into() });
    assert_eq!(diagnose("1m30s").unwrap(), Answer::Evidence(Box::new(evidence(90.0))));
    let refusal = |window| diagnose(window).unwrap_err().to_string();
    assert!(refusal("0ms").ends_with("refuses: not yet"), "{}", refusal("0ms"));
    assert!(refusal("soon").contains("refuses: window: "), "{}", refusal("soon"));
}

#[test]
fn the_lines_are_the_contract() {
    let directory = Directory::new("lines");
    let path = directory.path();
    let _served = Served::start(&path, short());
    let status = r#"{"version":1,"status":{"synfin":"1","pid":7,"ready":true,"listen":["[::]:10060"]}}"#;
    let check = |sent: &str, replies: &[&str]| {
        let found = send(&path, sent.as_bytes(), true);
        assert_eq!(found.len(), replies.len(), "{sent:?}: {found:?}");
        for (found, expected) in found.iter().zip(replies) {
            assert!(found.starts_with(expected), "{sent:?}: {found}\nnot {expected}");
        }
    };
    let error = r#"{"version":1,"error":""#;
    check("{\"ask\":\"status\"}\n", &[status]);
    check("{\"ask\":\"status\",\"version\":1,\"more\":2}\n{\"ask\":\"status\"}\n", &[status, status]);
    check("{\"ask\":\"status\",\"version\":2}\n", &[r#"{"version":1,"error":"protocol 2 is not spoken here"#]);
    check("{\"ask\":\"tea\"}\n{\"ask\":\"status\"}\n", &[error, status]);
    check("GET / HTTP/1.1\n\n", &[error, error]);
    check("\u{0}\u{0}\n", &[error]);
    check("{\"ask\":\"status\"}", &[error]);
    check(&"x".repeat(70), &[error]);
    check("", &[]);
    assert_eq!(send(&path, b"\xff\xfe\n", true).len(), 1);
}

#[test]
fn who_says_nothing_is_sent_away_and_no_more_than_a_few_are_let_in() {
    let directory = Directory::new("bounds");
    let path = directory.path();
    let _served = Served::start(&path, short());
    let silent = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
    let third = ask(&path, Question::Status).unwrap_err().to_string();
    assert!(third.contains("too many clients"), "{third}");
    for stream in &silent {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains("no question came in time"), "{line}");
    }
    drop(silent);
    // The places are free again once the server has noticed.
    std::thread::sleep(Duration::from_millis(50));
    ask(&path, Question::Status).unwrap();
}

#[test]
fn the_file_is_for_owner_and_group_and_is_gone_at_the_end() {
    let directory = Directory::new("mode");
    let path = directory.path();
    let served = Served::start(&path, Limits::default());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    drop(served);
    assert!(!path.exists());
    assert!(matches!(ask(&path, Question::Status), Err(AskError::NoDaemon(_))));
}

#[test]
fn a_dead_daemons_file_is_replaced_and_a_living_ones_is_not() {
    let directory = Directory::new("stale");
    let path = directory.path();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(ask(&path, Question::Status), Err(AskError::NoDaemon(_))));
    let living = take_place(&path).unwrap();
    assert!(matches!(take_place(&path), Err(PlaceError::Living(_))));
    // Another file at its place is not ours to remove.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert!(matches!(take_place(&path), Err(PlaceError::NoSocket(_))));
    drop(living);
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
    symlink("/nonexistent", &path).unwrap();
    assert!(matches!(take_place(&path), Err(PlaceError::NoSocket(_))));
    assert!(matches!(take_place(Path::new("/dev/null/s")), Err(PlaceError::Io { .. })));
}

#[test]
fn a_server_that_is_no_daemon_is_told_apart() {
    let directory = Directory::new("foreign");
    let path = directory.0.join("s");
    let check = |reply: &'static str, expected: &str| {
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            (&stream).write_all(reply.as_bytes()).unwrap();
        });
        let error = ask(&path, Question::Status).unwrap_err().to_string();
        server.join().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains(expected), "{reply:?}: {error}");
    };
    check("HTTP/1.1 400 Bad Request\n", "another language");
    check("{\"version\":2,\"poem\":\"\"}\n", "protocol 2 instead of 1");
    check("{\"version\":1,\"poem\":\"\"}\n", "another language");
    check("{\"version\":1", "does not answer");
    check("", "does not answer");
}
