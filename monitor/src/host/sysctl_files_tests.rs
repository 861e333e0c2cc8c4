//! Sysctl files in temporary roots: precedence, masks, links, bytes that are no text, files that cannot be read.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory that goes away with the test.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("synfin-sysctl-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = Self(std::env::temp_dir().join(name));
        std::fs::create_dir(&root.0).unwrap();
        root
    }

    fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.place(path), bytes).unwrap();
        self
    }

    fn link(self, path: &str, target: &str) -> Self {
        symlink(target, self.place(path)).unwrap();
        self
    }

    fn directory(self, path: &str) -> Self {
        std::fs::create_dir_all(self.0.join(path)).unwrap();
        self
    }

    fn place(&self, path: &str) -> PathBuf {
        let place = self.0.join(path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // A directory left behind in the temporary directory harms no other test.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn check(name: &str, root: Root, settings: &[(&str, &str)], unreadable: &[&str]) {
    let found = read_sysctl_files(&root.0);
    let said: Vec<_> = found.settings.iter().map(|s| (s.path.as_str(), s.value.as_str())).collect();
    assert_eq!(said, settings, "{name}");
    assert_eq!(found.unreadable.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), unreadable, "{name}");
}

#[test]
fn files_are_applied_by_name_and_masked_by_directory() {
    check("an empty root", Root::new(), &[], &[]);
    check(
        "by name, whatever the directory",
        Root::new().file("usr/lib/sysctl.d/50-a.conf", "k=1").file("etc/sysctl.d/10-b.conf", "k=2"),
        &[("/etc/sysctl.d/10-b.conf", "2"), ("/usr/lib/sysctl.d/50-a.conf", "1")],
        &[],
    );
    check(
        "the first directory wins",
        Root::new()
            .file("usr/lib/sysctl.d/50-a.conf", "k=1")
            .file("usr/local/lib/sysctl.d/50-a.conf", "k=2")
            .file("run/sysctl.d/50-a.conf", "k=3")
            .file("etc/sysctl.d/50-a.conf", "k=4"),
        &[("/etc/sysctl.d/50-a.conf", "4")],
        &[],
    );
    check(
        "an empty file masks",
        Root::new().file("usr/lib/sysctl.d/50-a.conf", "k=1").file("run/sysctl.d/50-a.conf", ""),
        &[],
        &[],
    );
    check(
        "a link to /dev/null masks",
        Root::new().file("usr/lib/sysctl.d/50-a.conf", "k=1").link("etc/sysctl.d/50-a.conf", "/dev/null"),
        &[],
        &[],
    );
    check("other endings are not read", Root::new().file("etc/sysctl.d/a.conf.bak", "k=1"), &[], &[]);
}

#[test]
fn sysctl_conf_comes_last_or_where_a_link_puts_it() {
    check(
        "last",
        Root::new().file("etc/sysctl.conf", "k=1").file("etc/sysctl.d/zz.conf", "k=2"),
        &[("/etc/sysctl.d/zz.conf", "2"), ("/etc/sysctl.conf", "1")],
        &[],
    );
    check(
        "once, in the place of its link",
        Root::new()
            .file("etc/sysctl.conf", "k=1")
            .link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")
            .file("etc/sysctl.d/zz.conf", "k=2"),
        &[("/etc/sysctl.d/99-sysctl.conf", "1"), ("/etc/sysctl.d/zz.conf", "2")],
        &[],
    );
    check(
        "an absolute link stays under the root",
        Root::new().file("etc/tuning", "k=1").link("etc/sysctl.d/a.conf", "/etc/tuning"),
        &[("/etc/sysctl.d/a.conf", "1")],
        &[],
    );
    check(
        "a directory with two names is read once",
        Root::new().file("usr/lib/sysctl.d/a.conf", "k=1").link("lib", "usr/lib"),
        &[("/usr/lib/sysctl.d/a.conf", "1")],
        &[],
    );
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_read() {
    check(
        "bytes that are no text",
        Root::new().file("etc/sysctl.d/a.conf", b"\xff\xfe = \xff\nk = 1\n"),
        &[("/etc/sysctl.d/a.conf", "\u{fffd}"), ("/etc/sysctl.d/a.conf", "1")],
        &[],
    );
    check(
        "a directory named as a file",
        Root::new().directory("etc/sysctl.d/a.conf").file("etc/sysctl.d/b.conf", "k=1"),
        &[("/etc/sysctl.d/b.conf", "1")],
        &["/etc/sysctl.d/a.conf"],
    );
    check(
        "a link to itself",
        Root::new().link("etc/sysctl.d/a.conf", "a.conf").file("etc/sysctl.d/b.conf", "k=1"),
        &[("/etc/sysctl.d/b.conf", "1")],
        &["/etc/sysctl.d/a.conf"],
    );
    check("a link to nothing", Root::new().link("etc/sysctl.d/a.conf", "gone"), &[], &[]);
    check(
        "a file too large",
        Root::new().file("etc/sysctl.d/a.conf", vec![b'#'; (1 << 20) + 1]),
        &[],
        &["/etc/sysctl.d/a.conf"],
    );
    check("a directory that is a file", Root::new().file("etc/sysctl.d", "k=1"), &[], &["/etc/sysctl.d"]);
}

/// The superuser reads everything, so permissions are tested where they bind, and told apart where they do not.
#[test]
fn a_file_without_permission_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let root = Root::new().file("etc/sysctl.d/a.conf", "k=1");
    let path = root.0.join("etc/sysctl.d/a.conf");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    match std::fs::File::open(&path) {
        Ok(_) => check("the superuser reads it", root, &[("/etc/sysctl.d/a.conf", "1")], &[]),
        Err(_) => check("nobody else does", root, &[], &["/etc/sysctl.d/a.conf"]),
    }
}
