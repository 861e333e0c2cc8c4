//! The machine: which distribution, which programs, which packages, who we are.

pub mod apt;
pub mod distribution;

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::environment;

/// Folders that a user's PATH often lacks and that hold the tools of an administrator.
const ADMIN_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Whether this process runs as root: the kernel owns `/proc/self` by the effective user.
///
/// # Errors
/// `/proc` cannot be read.
pub fn is_root() -> Result<bool> {
    Ok(Path::new("/proc/self").metadata().context("cannot look at /proc/self to learn the user")?.uid() == 0)
}

/// A command that runs as root: directly, or through sudo.
///
/// # Errors
/// Not root, and there is no sudo.
pub fn as_root(program: &str) -> Result<Command> {
    if is_root()? {
        return Ok(environment::clean(program));
    }
    if find_program("sudo").is_none() {
        bail!("`{program}` needs root, and there is no sudo; run this again as root");
    }
    let mut command = environment::clean("sudo");
    command.arg(program);
    Ok(command)
}

/// Where a program lies, looked for in PATH and in the administrator's folders.
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_programs(name).into_iter().next()
}

/// All places where a program of that name lies, first found first.
pub fn find_programs(name: &str) -> Vec<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    programs_in(name, env::split_paths(&paths).chain(ADMIN_FOLDERS.map(PathBuf::from)))
}

fn programs_in(name: &str, folders: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in folders.map(|folder| folder.join(name)) {
        if is_executable(&path) && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// PATH with more folders behind, and the administrator's behind those.
///
/// # Errors
/// A folder has a name that PATH cannot hold.
pub fn path_with(more: PathBuf) -> Result<OsString> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&paths).chain([more]).chain(ADMIN_FOLDERS.map(PathBuf::from));
    env::join_paths(all).context("PATH has a folder whose name cannot be in it")
}
