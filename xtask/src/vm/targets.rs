//! Which of the kernel's tests run in the virtual machines: the one list.

/// A test target of the package synfin, as `monitor/tests/<name>.rs`.
pub struct Target {
    pub name: &'static str,
    /// Tests, by the beginning of their names, that only `--all` runs: what they prove is proven by others of the target or
    /// does not depend on the kernel, and an emulated processor takes minutes for them. `[""]`: the whole target.
    pub left_to_all: &'static [&'static str],
}

const fn whole(name: &'static str) -> Target {
    Target { name, left_to_all: &[] }
}

const fn only_with_all(name: &'static str) -> Target {
    Target { name, left_to_all: &[""] }
}

/// In the order in which they run. `cargo xtask vm` runs two or three minutes of them on each kernel, `--all` every one.
pub const TARGETS: [Target; 21] = [
    whole("kernel_probes"),
    whole("kernel_census"),
    whole("kernel_ends"),
    Target { name: "kernel_lives", left_to_all: &["the_lab_notices"] },
    whole("kernel_peer"),
    whole("kernel_netem"),
    whole("kernel_netns"),
    whole("kernel_refusals"),
    Target { name: "kernel_time_wait", left_to_all: &["a_hundred_thousand", "after_a_minute"] },
    whole("kernel_daemon"),
    whole("kernel_diagnose"),
    only_with_all("kernel_bounds"),
    only_with_all("kernel_load"),
    only_with_all("kernel_levels"),
    only_with_all("kernel_netlink"),
    only_with_all("kernel_hostile"),
    only_with_all("kernel_diagnose_rules"),
    only_with_all("kernel_exhaustion"),
    only_with_all("kernel_healthy"),
    only_with_all("kernel_time_wait_ends"),
    only_with_all("kernel_time_wait_scale"),
];

impl Target {
    /// Arguments of the test binary that leave out what is left to `--all`; nothing if nothing would remain.
    pub fn skips(&self, all: bool) -> Option<Vec<String>> {
        if all {
            return Some(Vec::new());
        }
        if self.left_to_all.contains(&"") {
            return None;
        }
        Some(self.left_to_all.iter().flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn every_kernel_test_is_in_the_list() {
        let entries = std::fs::read_dir(workspace::root().join("monitor/tests")).expect("the folder of tests");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut there: Vec<String> = names
            .filter(|name| name.starts_with("kernel_"))
            .map(|name| name.trim_end_matches(".rs").to_owned())
            .collect();
        there.sort();
        let mut listed = TARGETS.map(|target| target.name);
        listed.sort_unstable();
        assert_eq!(there, listed);
    }

    #[test]
    fn what_is_left_to_all_is_skipped_without_it() {
        let part = Target { name: "kernel_a", left_to_all: &["slow", "slower"] };
        assert_eq!(part.skips(false).expect("the rest runs"), ["--skip", "slow", "--skip", "slower"]);
        assert_eq!(part.skips(true).expect("all of it runs"), [""; 0]);
        assert!(only_with_all("kernel_b").skips(false).is_none());
        assert!(only_with_all("kernel_b").skips(true).is_some());
    }
}
