//! Child processes with a clean environment: what `cargo run` leaves behind must not steer the builds inside.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::workspace;

/// What the outer cargo or a user's shell may set and what would change the BPF half or its compiler.
const COMPILER: [&str; 12] = [
    "CARGO",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_LINKER",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "RUST_RECURSION_COUNT",
];

/// What describes xtask itself to xtask and nothing to anybody else.
const PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME"];

/// What would move or reshape the output of every build.
const SHAPE: [&str; 3] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_BPFEL_"];

/// The cargo that runs xtask, for the host half: same toolchain, the tree's own target folder.
pub fn host_cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    remove(&mut command, |name| starts_with_any(name, &PACKAGE) || name == "CARGO_BUILD_TARGET");
    command.current_dir(workspace::root()).env("CARGO_TARGET_DIR", workspace::target());
    command
}

/// A program that must see neither this cargo's toolchain nor any flags: the BPF half's compiler, rustup, tools.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    remove(&mut command, |name| {
        COMPILER.contains(&name) || starts_with_any(name, &PACKAGE) || starts_with_any(name, &SHAPE)
    });
    command.current_dir(workspace::root());
    command
}

fn remove(command: &mut Command, unwanted: impl Fn(&str) -> bool) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(&unwanted) {
            command.env_remove(name);
        }
    }
    // cargo puts its own library folders in front: the distribution's compiler must not load rustup's LLVM.
    if let Some(paths) = env::var_os("LD_LIBRARY_PATH") {
        match without_cargo_libraries(&paths, &workspace::target()) {
            Some(rest) => command.env("LD_LIBRARY_PATH", rest),
            None => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
}

/// The library path without a build's and without a rustup toolchain's folders; nothing if none is left.
fn without_cargo_libraries(paths: &OsString, target: &Path) -> Option<OsString> {
    let toolchain = |path: &Path| path.components().any(|part| part.as_os_str() == "toolchains");
    let kept: Vec<_> = env::split_paths(paths).filter(|path| !path.starts_with(target) && !toolchain(path)).collect();
    if kept.is_empty() { None } else { env::join_paths(kept).ok() }
}

fn starts_with_any(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &str, kept: Option<&str>) {
        let rest = without_cargo_libraries(&paths.into(), Path::new("/tree/target"));
        assert_eq!(rest, kept.map(OsString::from), "{paths}");
    }

    #[test]
    fn a_users_library_path_stays_and_cargos_goes() {
        check("/tree/target/debug:/tree/target/debug/deps", None);
        check("/home/u/.rustup/toolchains/stable-x86_64-unknown-linux-gnu/lib", None);
        check("/tree/target/debug:/opt/lib:/home/u/.rustup/toolchains/stable/lib", Some("/opt/lib"));
        check("/opt/lib:/opt/lib64", Some("/opt/lib:/opt/lib64"));
    }
}
