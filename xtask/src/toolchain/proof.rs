//! The proof of a toolchain: it compiles and links a small program for BPF. Quick when done before: cargo remembers.

use std::fs;

use anyhow::{Context, Result};

use super::{TARGET, Toolchain, Way, linker};
use crate::step;
use crate::workspace;

/// A package of its own, so that nothing of the workspace, and no network, is needed.
const MANIFEST: &str = r#"[package]
name = "proof"
version = "0.0.0"
edition = "2024"
rust-version = "1.95"

[profile.release]
lto = "thin"

[workspace]
"#;

/// The least that is a program.
const PROGRAM: &str = r#"#![no_std]
#![no_main]
#[unsafe(no_mangle)]
#[unsafe(link_section = "socket")]
pub extern "C" fn proof(context: *const u8) -> i32 {
    i32::from(!context.is_null())
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
"#;

/// Compiles the program.
///
/// # Errors
/// The linker does not run, or compiler and linker do not go together.
pub fn prove(toolchain: &Toolchain) -> Result<()> {
    linker::read_linker_version(&toolchain.linker)?;
    let folder = workspace::tools().join("proof");
    write_if_changed(&folder.join("Cargo.toml"), MANIFEST)?;
    write_if_changed(&folder.join("src/main.rs"), PROGRAM)?;
    // A folder a way: they would evict each other's `core`.
    let target = match &toolchain.way {
        Way::Nightly { toolchain } => folder.join(toolchain),
        Way::Packages => folder.join("packages"),
    };
    let fresh = !target.join(TARGET).exists();
    if fresh {
        step::say(&format!("trying {} (some seconds)", toolchain.describe()));
    }
    let mut command = toolchain.cargo_build();
    command.current_dir(&folder).arg("--target-dir").arg(&target);
    step::output(&mut command)?;
    Ok(())
}

/// Leaves the time of an unchanged file alone, for cargo.
fn write_if_changed(path: &std::path::Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
