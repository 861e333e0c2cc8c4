//! The rules of the tree that no other tool keeps: length of files, their first line, the names at the top.

use std::collections::BTreeSet;

/// A file of the tree.
pub struct Source {
    /// From the root, with slashes.
    pub path: String,
    /// Its text; nothing if it is not text.
    pub text: Option<String>,
}

/// Longer files are two ideas.
const LONGEST: usize = 400;
/// A longer file says why in one of its first lines.
const REASON: &str = "// Longer than 400 lines: ";
/// How far from the top the reason may stand.
const REASON_WITHIN: usize = 12;
/// What may stand at the top, besides licences and dot-files.
const TOP: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", "CHANGELOG.md", "README.md", "deploy", "monitor", "monitor-ebpf", "xtask"];

/// What is wrong, one line each.
pub fn faults(sources: &[Source]) -> Vec<String> {
    let rust = sources.iter().filter(|source| source.path.ends_with(".rs"));
    let mut faults: Vec<String> = rust.flat_map(faults_of_rust).collect();
    let top: BTreeSet<&str> = sources.iter().filter_map(|source| source.path.split('/').next()).collect();
    faults.extend(
        top.into_iter()
            .filter(|name| !may_be_at_the_top(name))
            .map(|name| format!("{name}: not a name for the top of the tree")),
    );
    faults
}

fn faults_of_rust(source: &Source) -> Vec<String> {
    let path = &source.path;
    let Some(text) = &source.text else { return vec![format!("{path}: not UTF-8")] };
    let mut faults = Vec::new();
    if !text.starts_with("//! ") {
        faults.push(format!("{path}:1: the first line must say what the file is (`//! …`)"));
    }
    let lines = text.lines().count();
    let reasoned = text.lines().take(REASON_WITHIN).any(|line| line.starts_with(REASON));
    if lines > LONGEST && !reasoned {
        faults.push(format!("{path}: {lines} lines; split it, or say why at its top (`{REASON}…`)"));
    }
    faults
}

fn may_be_at_the_top(name: &str) -> bool {
    TOP.contains(&name) || name.starts_with('.') || name.starts_with("LICENSE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let found = faults(&[Source { path: path.to_owned(), text: Some(text.to_owned()) }]);
        assert_eq!(found, expected, "{path}");
    }

    fn lines(first: &str, count: usize) -> String {
        std::iter::once(first).chain(std::iter::repeat_n("x", count - 1)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_rust_file_says_first_what_it_is() {
        let fault = "xtask/a.rs:1: the first line must say what the file is (`//! …`)";
        check("xtask/a.rs", "//! What it is.\nfn f() {}\n", &[]);
        check("xtask/a.rs", "fn f() {}\n", &[fault]);
        check("xtask/a.rs", "\n//! Late.\n", &[fault]);
        check("xtask/a.rs", "", &[fault]);
        check("xtask/a.md", "No Rust.\n", &[]);
    }

    #[test]
    fn a_rust_file_of_more_than_400_lines_says_why() {
        let fault = "monitor/a.rs: 401 lines; split it, or say why at its top (`// Longer than 400 lines: …`)";
        check("monitor/a.rs", &lines("//! It.", 400), &[]);
        check("monitor/a.rs", &lines("//! It.", 401), &[fault]);
        check("monitor/a.rs", &lines("//! It.\n// Longer than 400 lines: one table.", 401), &[]);
        check("monitor/a.md", &lines("Prose.", 500), &[]);
    }

    #[test]
    fn the_top_of_the_tree_holds_only_known_names() {
        for path in ["README.md", "LICENSE-MIT", ".ci/run", "deploy/synfin.service", "Cargo.lock"] {
            check(path, "", &[]);
        }
        check("tools/x.sh", "", &["tools: not a name for the top of the tree"]);
        check("build.log", "", &["build.log: not a name for the top of the tree"]);
    }
}
