//! Where things lie in this tree.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use anyhow::{Context, Result};

/// The folder that holds the workspace's `Cargo.toml`.
///
/// Cargo says at run time where xtask's manifest is, so that a tree that was moved after it was built still finds itself.
pub fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The one target folder, whatever `CARGO_TARGET_DIR` says: `target/release/synfin` is a promise.
pub fn target() -> PathBuf {
    root().join("target")
}

/// What set-up makes for this tree alone: the BPF linker, unpacked test peers.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// Output of the long steps.
pub fn logs() -> PathBuf {
    target().join("log")
}

/// Removes a folder with all that is in it; one that is not there is no error.
///
/// # Errors
/// Something in it cannot be removed.
pub fn remove(tree: &Path) -> Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", tree.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
