//! The walk over directories made for the purpose, and over real cgroups.

use super::*;

/// A directory of its own, removed at the end.
struct Tree(PathBuf);

impl Tree {
    fn at(parent: &Path, name: &str) -> std::io::Result<Self> {
        let path = parent.join(format!("synfin-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).map(|()| Self(path))
    }
    fn make(&self, name: impl AsRef<std::ffi::OsStr>) -> CgroupId {
        let path = self.0.join(name.as_ref());
        std::fs::create_dir_all(&path).unwrap();
        CgroupId(std::fs::metadata(path).unwrap().ino())
    }
}

impl Drop for Tree {
    /// Only directories, the inner ones first: a cgroup's files cannot be removed and need not be.
    fn drop(&mut self) {
        fn remove(path: &Path) {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            let _ = std::fs::remove_dir(path);
        }
        remove(&self.0);
    }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn the_mount_is_found_on_unified_and_hybrid_hosts() {
    let check = |text: &str, expected: Option<&str>| {
        assert_eq!(find_cgroup2_mount(text.as_bytes()), expected.map(PathBuf::from))
    };
    let unified = "25 30 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                  32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                  41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let bound = "50 30 0:22 /system.slice /mnt/part rw - cgroup2 cgroup2 rw\n";
    check(unified, Some("/sys/fs/cgroup"));
    check(hybrid, Some("/sys/fs/cgroup/unified"));
    check(bound, Some("/mnt/part"));
    check(&format!("{bound}{unified}"), Some("/sys/fs/cgroup"));
    check("9 1 0:5 / /a\\040b\\134c rw - cgroup2 cgroup2 rw", Some("/a b\\c"));
    check("9 1 0:5 / /sys/fs/cgroup rw - cgroup cgroup rw", None);
    check("9 1 0:5 / /cgroup2 rw - ext4 cgroup2 rw", None);
    check("short line\n\n", None);
}

#[test]
fn units_are_named_from_their_directories() {
    let tree = Tree::at(&std::env::temp_dir(), "names").unwrap();
    let service = tree.make("system.slice/nginx.service");
    let plain = tree.make("job/inner");
    let odd = tree.make(std::ffi::OsStr::from_bytes(b"\xffq\"\n.scope"));
    let mut names = CgroupNames::new(Some(tree.0.clone()));
    let now = Instant::now();
    let mut check = |id, expected: &str| assert_eq!(&*names.unit(id, now), expected);
    check(service, "nginx.service");
    check(plain, "/job/inner");
    check(odd, "\\xffq\"\\x0a.scope");
    check(CgroupId(1), "root");
    check(CgroupId(0), "unknown");
    check(CgroupId(u64::MAX), "unknown");
}

#[test]
fn an_unknown_number_walks_again_unless_the_last_walk_was_a_moment_ago() {
    let tree = Tree::at(&std::env::temp_dir(), "walks").unwrap();
    let first = tree.make("first.service");
    let mut names = CgroupNames::new(Some(tree.0.clone()));
    let start = Instant::now();
    assert_eq!(&*names.unit(first, start), "first.service");
    let second = tree.make("second.service");
    let soon = start + names.gap - Duration::from_millis(1);
    assert_eq!(&*names.unit(second, soon), "unknown");
    assert_eq!(&*names.unit(second, start + names.gap), "second.service");
}

#[test]
fn who_names_for_good_does_not_wait() {
    let tree = Tree::at(&std::env::temp_dir(), "at-once").unwrap();
    let mut names = CgroupNames::new(Some(tree.0.clone()));
    let now = Instant::now();
    for name in ["first.service", "second.service"] {
        let id = tree.make(name);
        names.look_for(&[CgroupId(0), CgroupId(1), id], now);
        assert_eq!(&*names.unit(id, now), name);
    }
    let walked_at = |names: &CgroupNames| names.walked_at.expect("it has walked");
    let known: Vec<CgroupId> = names.names.keys().copied().collect();
    names.look_for(&known, after(now, 1));
    assert_eq!(walked_at(&names), now, "nothing is new");
    names.look_for(&[CgroupId(u64::MAX)], after(now, 2));
    names.look_for(&[CgroupId(u64::MAX)], after(now, 3));
    assert_eq!(walked_at(&names), after(now, 2), "what was not there is not looked for at once");
}

#[test]
fn the_time_between_walks_follows_their_cost() {
    let check = |took_us, gap_ms| {
        assert_eq!(gap_after(Duration::from_micros(took_us)), Duration::from_millis(gap_ms), "{took_us} us");
    };
    check(0, 10);
    check(500, 10);
    check(4_000, 80);
    check(50_000, 1_000);
    check(10_000_000, 1_000);
}

#[test]
fn a_number_that_no_walk_finds_does_not_walk_for_a_minute() {
    let tree = Tree::at(&std::env::temp_dir(), "absent").unwrap();
    let mut names = CgroupNames::new(Some(tree.0.clone()));
    let start = Instant::now();
    let walks_at = |names: &mut CgroupNames, at: Instant| {
        names.unit(CgroupId(u64::MAX), at);
        names.walked_at == Some(at)
    };
    assert!(walks_at(&mut names, start));
    assert!(!walks_at(&mut names, after(start, 59)));
    assert!(walks_at(&mut names, after(start, 60)));
    assert!(!walks_at(&mut names, after(start, 61)));
}

#[test]
fn a_name_outlives_its_directory_for_a_while() {
    let tree = Tree::at(&std::env::temp_dir(), "gone").unwrap();
    let id = tree.make("gone.service");
    let stays = tree.make("stays.service");
    let mut names = CgroupNames::new(Some(tree.0.clone()));
    let start = Instant::now();
    assert_eq!(&*names.unit(id, start), "gone.service");
    std::fs::remove_dir(tree.0.join("gone.service")).unwrap();
    names.unit(CgroupId(u64::MAX), after(start, 599));
    assert_eq!(&*names.unit(id, after(start, 599)), "gone.service");
    names.unit(CgroupId(u64::MAX - 1), after(start, 600));
    assert_eq!(&*names.unit(id, after(start, 602)), "unknown");
    assert_eq!(&*names.unit(stays, after(start, 602)), "stays.service");
}

#[test]
fn what_was_absent_is_bounded() {
    let mut names = CgroupNames::new(None);
    let start = Instant::now();
    for number in 0..3 * MAX_ABSENT as u64 {
        names.unit(CgroupId(100 + number), after(start, 2 * number));
    }
    assert!(names.absent.len() <= MAX_ABSENT && names.is_empty());
}

#[test]
fn a_real_cgroup_is_named_by_the_number_that_the_kernel_uses() {
    let mount = read_mount(Path::new("/proc/self/mountinfo")).expect("this host mounts cgroup v2");
    let tree = match Tree::at(&mount, "slice.slice") {
        Ok(tree) => tree,
        // An ordinary user may not make cgroups; the walk above stands for it.
        Err(error) => return eprintln!("not run: no cgroup can be made below {}: {error}", mount.display()),
    };
    let id = tree.make("web.service");
    let mut names = CgroupNames::of_this_host();
    let now = Instant::now();
    assert_eq!(&*names.unit(id, now), "web.service");
    let root = CgroupId(std::fs::metadata(&mount).unwrap().ino());
    assert_eq!(&*names.unit(root, now), if root == ROOT { "root" } else { "/" });
    std::fs::remove_dir(tree.0.join("web.service")).unwrap();
    assert_eq!(&*names.unit(id, now), "web.service");
}
