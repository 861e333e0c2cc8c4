//! Modules of a kernel in the image, each after those that it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel::Unpacked;
use crate::environment;
use crate::step::say;

/// What tests use. A kernel has some of them built in, and may lack others, of which the tests then say so.
const MODULES: [&str; 6] = ["tcp_diag", "mptcp_diag", "tun", "veth", "sch_netem", "sctp"];

/// Puts the modules, decompressed, into `folder` and returns their names in an order in which they can be loaded.
///
/// # Errors
/// A module cannot be unpacked.
pub fn add(kernel: &Unpacked, folder: &Path) -> Result<Vec<String>> {
    let files = list(&kernel.modules)?;
    let mut order = Vec::new();
    for module in MODULES {
        if !files.iter().any(|file| name_of(file).as_deref() == Some(module)) {
            say(&format!("  {} has no module {module}", kernel.release));
            continue;
        }
        add_one(&files, module, folder, &mut order)?;
    }
    Ok(order)
}

fn add_one(files: &[PathBuf], module: &str, folder: &Path, order: &mut Vec<String>) -> Result<()> {
    if order.iter().any(|name| name == module) {
        return Ok(());
    }
    let file = files.iter().find(|file| name_of(file).as_deref() == Some(module));
    let file = file.with_context(|| format!("another module needs {module}, which the package lacks"))?;
    let bytes = read(file)?;
    for needed in depends(&bytes) {
        add_one(files, &needed, folder, order)?;
    }
    let to = folder.join(format!("{module}.ko"));
    fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    order.push(module.to_owned());
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|extension| extension == "xz") {
        let mut command: Command = environment::clean("xz");
        let output = command.arg("-dc").arg(file).output().context("cannot start xz; Debian: xz-utils")?;
        if !output.status.success() {
            bail!("xz -dc {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        return Ok(output.stdout);
    }
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// All files below `folder`.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(list(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// `…/crypto-engine.ko.xz` is the module `crypto_engine`.
fn name_of(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    Some(name.strip_suffix(".ko").or_else(|| name.strip_suffix(".ko.xz"))?.replace('-', "_"))
}

/// The names behind `depends=` in the module's own description (section `.modinfo`: texts that end in a zero byte).
fn depends(module: &[u8]) -> Vec<String> {
    let text = module.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let check = |bytes: &[u8], needed: &[&str]| assert_eq!(depends(bytes), needed);
        check(b"\x7fELF\0license=GPL\0depends=libcrc32c,udp-tunnel\0intree=Y\0", &["libcrc32c", "udp_tunnel"]);
        check(b"license=GPL\0depends=\0", &[]);
        check(b"", &[]);
    }

    #[test]
    fn a_module_is_named_as_the_kernel_names_it() {
        let check = |file: &str, name: Option<&str>| assert_eq!(name_of(Path::new(file)).as_deref(), name);
        check("kernel/drivers/net/tun.ko", Some("tun"));
        check("kernel/net/ipv4/tcp_diag.ko.xz", Some("tcp_diag"));
        check("kernel/crypto/xor-blocks.ko.xz", Some("xor_blocks"));
        check("modules.builtin", None);
    }
}
