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

#[test]
fn type_information_that_does_not_suit_is_one_line_and_status_2() {
    let check = |btf: &Path, words: &[&str]| {
        let (status, said) = trace(btf);
        assert_eq!((status, said.lines().count()), (Some(2), 1), "{said}");
        for word in words {
            assert!(said.contains(word), "{word} is not in {said}");
        }
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
fn a_kernel_without_the_census_is_watched_without_it() {
    let blind = Made::new("blind", &btf_without("bpf_iter_tcp"));
    let (status, said) = trace(&blind.0);
    assert_eq!(status, Some(0), "{said}");
}
