//! Puts the BPF object where the library can embed it, and names the commit. Builds nothing and installs nothing.
//!
//! `SYNFIN_PROBES_OBJECT` is the path of the object that `cargo xtask build` made. Without it the library embeds an
//! empty stub, so that `cargo build`, `clippy`, `doc` and `test` work on a machine without the BPF toolchain. An object
//! that merely lies in `target/` is not picked up: what is inside a binary must follow from the command that built it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const OBJECT: &str = "SYNFIN_PROBES_OBJECT";
const REVISION: &str = "SYNFIN_REVISION";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    embed_object();
    name_revision();
}

/// Copies the object, or writes the empty stub, to `OUT_DIR/probes.o`.
fn embed_object() {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    let embedded = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("probes.o");
    let bytes = match env::var_os(OBJECT).filter(|path| !path.is_empty()) {
        None => Vec::new(),
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            fs::read(&path).unwrap_or_else(|error| {
                println!(
                    "cargo::error={OBJECT} names {}, which cannot be read: {error}; `cargo xtask build` makes it",
                    path.display()
                );
                Vec::new()
            })
        }
    };
    fs::write(&embedded, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", embedded.display()));
}

/// Exports the short hash of the commit as `SYNFIN_REVISION`: what the environment says (a build from a tarball), else
/// what git says, else nothing.
fn name_revision() {
    println!("cargo::rerun-if-env-changed={REVISION}");
    let revision = env::var(REVISION).ok().or_else(revision_from_git).unwrap_or_default();
    println!("cargo::rustc-env={REVISION}={revision}");
}

/// The hash of HEAD, if this tree is itself a git work tree and not a copy inside somebody else's.
fn revision_from_git() -> Option<String> {
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).parent()?.canonicalize().ok()?;
    let top = Path::new(&git(&root, &["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if top != root {
        return None;
    }
    // The log of HEAD grows with every commit and checkout; HEAD itself changes only with the branch.
    for name in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(&root, &["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&root, &["rev-parse", "--short=12", "HEAD"])
}

/// One line of git's answer, or nothing if git is absent or says no.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).current_dir(root).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
