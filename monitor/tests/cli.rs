//! The built program from outside: exit status, what goes to stdout and what to stderr.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const SUBCOMMANDS: [&str; 8] = ["run", "check", "diagnose", "trace", "record", "replay", "completions", "man"];

fn synfin(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the program; status, stdout, stderr.
#[track_caller]
fn run(args: &[&str]) -> (i32, String, String) {
    told(synfin(args).output().expect("the program starts"))
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    (output.status.code().expect("it was not killed"), text(output.stdout), text(output.stderr))
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("synfin-cli-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn mistaken_flags_are_refused_with_status_2_on_stderr() {
    let check = |args: &[&str], word: &str| {
        let (status, stdout, stderr) = run(args);
        assert_eq!((status, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(word), "{args:?}: {stderr}");
    };
    check(&[], "Usage");
    check(&["fly"], "unrecognized subcommand 'fly'");
    check(&["run", "--web.port", "1"], "'--web.port'");
    check(&["run", "--ring-bytes", "5000"], "5000 bytes is not a power of two");
    check(&["run", "--ring-bytes", "2048"], "not between one page");
    check(&["diagnose", "--explain", "TW-099"], "invalid value 'TW-099' for '--explain <ID>'");
    check(&["diagnose", "--details", "--json"], "cannot be used with");
    check(&["run", "--max-connections", "0"], "0 is not between 1 and");
    check(&["run", "--web.listen-address", "10060"], "`10060` is not an address");
    check(&["run", "--web.telemetry-path", "/"], "has another meaning");
    check(&["run", "--netns", "mine"], "[possible values: host, all]");
    check(&["run", "--log.level", "loud"], "`loud` is not a level");
    check(&["run", "--log.format", "xml"], "[possible values: logfmt, json]");
    check(&["trace", "--role", "peer"], "[possible values: client, server, unknown]");
    check(&["trace", "--transitions", "--close", "local"], "cannot be used with");
    check(&["trace", "--for", "10"], "not a duration");
    check(&["trace", "--count", "0"], "--count");
    check(&["record"], "<FILE>");
    check(&["record", "--for", "1x", "-"], "not a duration");
    check(&["completions", "cmd"], "'cmd'");
}

#[test]
fn help_and_version_are_data() {
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["check", "-h"], &["trace", "--help"]] {
        let (status, stdout, stderr) = run(args);
        assert_eq!((status, stderr.as_str()), (0, ""), "{args:?}");
        assert!(!stdout.is_empty(), "{args:?}");
    }
    assert_eq!(run(&["--version"]).1, format!("synfin {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_help_shows_an_example() {
    for subcommand in SUBCOMMANDS {
        let (_, help, _) = run(&[subcommand, "--help"]);
        let example = help.split("Example").nth(1).unwrap_or_else(|| panic!("{subcommand}: {help}"));
        assert!(example.contains(&format!("  synfin {subcommand}")), "{example}");
    }
}

#[test]
fn a_mistake_in_the_file_is_one_line_with_its_line_number() {
    let directory = Directory::new("file");
    let check = |text: &str, expected: &str| {
        let path = directory.file("synfin.toml", text);
        for command in ["check", "run", "trace"] {
            let (status, stdout, stderr) = run(&[command, "--config.file", &path]);
            assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
            assert!(stderr.starts_with(&format!("synfin: {path}:{expected}")), "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    };
    check("[web]\n\nlisten = \":1\"\n", "3: unknown key `listen`, expected one of `listen_address`");
    check(
        "[metrics]\nendpoints = \"some\"\n",
        "2: endpoints: unknown variant `some`, expected one of `full`, `port`, `none`",
    );
    check("[kernel]\nring_bytes = 4097\n", "2: ring_bytes: 4097 bytes is not a power of two");
    check("[kernel\n", "1: ");
}

#[test]
fn a_named_file_must_exist() {
    let (status, stdout, stderr) = run(&["check", "--config.file", "/nonexistent/s.toml"]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert_eq!(
        stderr,
        "synfin: cannot read configuration file /nonexistent/s.toml: No such file or directory (os error 2); \
         name another with --config.file\n"
    );
}

/// `check --json` with a configuration of its own; status and answer.
fn check_json(command: &mut Command) -> (i32, serde_json::Value, String) {
    let (status, stdout, stderr) = told(command.output().expect("the program starts"));
    (status, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")), stderr)
}

fn verdict<'a>(answer: &'a serde_json::Value, id: &str) -> &'a str {
    let items = answer["items"].as_array().expect("a list of items");
    let item = items.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("no {id} in {answer}"));
    item["verdict"].as_str().expect("a word")
}

#[test]
fn check_says_the_same_in_status_and_json() {
    let directory = Directory::new("check");
    let path = directory.file("synfin.toml", "[web]\nlisten_address = \"127.0.0.1:0\"\n");
    let (status, answer, _) = check_json(&mut synfin(&["check", "--json", "--config.file", &path]));
    assert_eq!(answer["exit_status"], status);
    for id in ["kernel", "btf", "capabilities", "probe.inet_sock_set_state", "probe.iter_tcp", "sock_diag", "cgroup2"] {
        assert!(["ok", "degraded", "missing"].contains(&verdict(&answer, id)), "{id}");
    }
    assert_eq!(verdict(&answer, "listen"), "ok");
    let (text_status, text, _) = run(&["check", "--config.file", &path]);
    assert_eq!(text_status, status);
    assert!(text.starts_with("ITEM ") && text.trim_end().ends_with(answer["conclusion"].as_str().unwrap()), "{text}");
}

#[test]
fn a_taken_port_is_found_by_file_and_by_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = Directory::new("port");
    let path = directory.file("synfin.toml", &format!("[web]\nlisten_address = \"{address}\"\n"));
    // A daemon that happens to run on this machine would make it a daemon's port.
    let expected =
        if std::os::unix::net::UnixStream::connect("/run/synfin/synfin.sock").is_ok() { "ok" } else { "missing" };
    let check = |args: &[&str], expected: &str| {
        let (_, answer, _) = check_json(&mut synfin(args));
        assert_eq!(verdict(&answer, "listen"), expected, "{args:?}");
    };
    check(&["check", "--json", "--config.file", &path], expected);
    check(&["check", "--json", "--web.listen-address", &address], expected);
    check(&["check", "--json", "--config.file", &path, "--web.listen-address", "127.0.0.1:0"], "ok");
}

#[test]
fn without_rights_check_ends_with_2_and_one_line_that_names_capability_and_probe() {
    // SAFETY: geteuid has no arguments and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let mut command = synfin(&["check", "--json", "--web.listen-address", "127.0.0.1:0"]);
    // A copy that an ordinary user can reach, wherever this one was built.
    let directory = Directory::new("rights");
    if root {
        let copy = directory.0.join("synfin");
        std::fs::copy(env!("CARGO_BIN_EXE_synfin"), &copy).unwrap();
        command = Command::new(copy);
        command
            .args(["check", "--json", "--web.listen-address", "127.0.0.1:0"])
            .current_dir("/")
            .uid(65_534)
            .gid(65_534);
    }
    let (status, answer, stderr) = check_json(&mut command);
    assert_eq!((status, verdict(&answer, "capabilities")), (2, "missing"));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in ["CAP_BPF", "CAP_PERFMON", "inet_sock_set_state", "iter_tcp"] {
        assert!(stderr.contains(word), "{word} is not in {stderr}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    for args in [&["man"][..], &["completions", "bash"], &["--help"]] {
        let mut child = synfin(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let (status, _, stderr) = told(output);
        assert_eq!((status, stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (status, _, stderr) = told(synfin(&["man"]).stdout(full).output().unwrap());
    assert_eq!(status, 2);
    assert!(stderr.contains("No space left"), "{stderr}");
}

#[test]
fn completions_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (status, script, _) = run(&["completions", shell]);
        assert_eq!(status, 0);
        for subcommand in SUBCOMMANDS {
            assert!(script.contains(subcommand), "{shell} knows no {subcommand}");
        }
        assert!(script.contains("web.listen-address"), "{shell}");
    }
}

#[test]
fn the_manual_covers_every_subcommand_in_one_page_and_in_files() {
    let (status, page, _) = run(&["man"]);
    assert_eq!(status, 0);
    assert!(page.contains(".TH synfin 1"), "{page}");
    let directory = Directory::new("man");
    assert_eq!(run(&["man", "--out-dir", directory.0.to_str().unwrap()]).0, 0);
    assert!(directory.0.join("synfin.1").exists());
    for subcommand in SUBCOMMANDS {
        assert!(page.contains(&format!(".SH \"SYNFIN {}\"", subcommand.to_uppercase())), "{subcommand}");
        let file = std::fs::read_to_string(directory.0.join(format!("synfin-{subcommand}.1"))).unwrap();
        assert!(file.contains("synfin"), "{subcommand}");
    }
    let (status, _, stderr) = run(&["man", "--out-dir", "/nonexistent"]);
    assert_eq!(status, 2);
    assert!(stderr.starts_with("synfin: cannot write manual pages into /nonexistent: "), "{stderr}");
}
