//! Start-up on kernels that do not suit: one clear line, status 2, and nothing left behind; or the next best way.

mod lab;

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::daemon::program;

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// A file that goes with the test.
struct Made(PathBuf);

impl Made {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("synfin-refusals-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("a temporary file");
        Self(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The type information of this kernel with a name in it spoilt.
fn btf_without(name: &str) -> Vec<u8> {
    let mut btf = std::fs::read(KERNEL_BTF).expect("this kernel has BTF");
    let wanted: Vec<u8> = [&[0], name.as_bytes(), &[0]].concat();
    let at = btf.windows(wanted.len()).position(|window| window == wanted).expect("the kernel knows the name");
    btf[at + 1] = b'X';
    btf
}

/// Exit status and stderr of a short trace.
fn trace(btf: &Path) -> (Option<i32>, String) {
    let output = Command::new(program())
        .args(["trace", "--for", "100ms", "--btf"])
        .arg(btf)
        .output()
        .expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Exit status and answer of `synfin check`.
fn check_json(btf: &Path) -> (Option<i32>, serde_json::Value) {
    let output = Command::new(program())
        .args(["check", "--json", "--web.listen-address", "127.0.0.1:0", "--btf"])
        .arg(btf)
        .output()
        .expect("the program starts");
    let answer = serde_json::from_slice(&output.stdout);
    (output.status.code(), answer.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

#[test]
fn a_full_disk_is_said_with_what_could_not_be_written() {
    let check = |command: &mut Command, line: &str| {
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        assert_eq!((output.status.code(), last), (Some(2), line), "{said}");
    };
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a device that is always full");
    let synfin = |args: &[&str]| {
        let mut command = Command::new(program());
        command.args(args);
        command
    };
    let no_space = "No space left on device (os error 28)";
    check(&mut synfin(&["record", "/dev/full"]), &format!("synfin: cannot write /dev/full: {no_space}"));
    let to_stdout = format!("synfin: cannot write to stdout: {no_space}");
    check(synfin(&["record", "-"]).stdout(full()), &to_stdout);
    check(synfin(&["trace"]).stdout(full()), &to_stdout);
    check(synfin(&["man"]).stdout(full()), &to_stdout);
}

#[test]
fn type_information_that_does_not_suit_is_one_line_and_status_2() {
    let check = |btf: &Path, words: &[&str]| {
        let (status, said) = trace(btf);
        assert_eq!((status, said.lines().count()), (Some(2), 1), "{said}");
        for word in words {
            assert_eq!(said.matches(word).count(), 1, "{word} is to be said once in {said}");
        }
        let (status, said) = check_json(btf);
        assert_eq!(status, Some(2), "check takes it for usable: {said}");
        let item =
            said["items"].as_array().and_then(|items| items.iter().find(|item| item["id"] == "btf")).expect("an item");
        let finding = item["finding"].as_str().unwrap_or_default();
        assert!(item["verdict"] == "missing" && words.iter().all(|word| finding.contains(word)), "{item}");
    };
    let whole = std::fs::read(KERNEL_BTF).expect("this kernel has BTF");
    let (empty, cut) = (Made::new("empty", b""), Made::new("cut", &whole[..whole.len() / 2]));
    let fieldless = Made::new("field", &btf_without("srtt_us"));
    check(Path::new("/no/such/file"), &["/no/such/file", "No such file", "CONFIG_DEBUG_INFO_BTF"]);
    check(&empty.0, &["magic number", "is it that of the running kernel?"]);
    check(&cut.0, &["ends in the middle of a type"]);
    check(&fieldless.0, &["tcp_sock.srtt_us", "not supported"]);
}

#[test]
fn a_kernel_that_does_not_know_the_typed_tracepoint_is_watched_by_the_raw_one() {
    let untyped = Made::new("untyped", &btf_without("btf_trace_inet_sock_set_state"));
    let output = Command::new(program())
        .args(["trace", "--for", "100ms", "--log.level", "debug", "--btf"])
        .arg(&untyped.0)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("cannot attach") && said.contains("inet_sock_set_state"), "{said}");
}

#[test]
fn a_kernel_without_the_iterator_is_counted_over_netlink() {
    let blind = Made::new("blind", &btf_without("bpf_iter_tcp"));
    let (status, said) = trace(&blind.0);
    assert_eq!(status, Some(0), "{said}");
    let (_, answer) = check_json(&blind.0);
    let conclusion = answer["conclusion"].as_str().unwrap_or_default();
    assert!(
        conclusion.contains("sockets older than the daemon are counted but not followed one by one"),
        "{conclusion}"
    );
}
