//! Programs of this machine in the image, each with the shared libraries that it names.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::system::find_program;
use crate::test::peers;
use crate::{environment, step};

/// What the tests call, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 7] = [
    ("ss", "iproute2"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("bpftool", "bpftool"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    (peers::PROMTOOL, "prometheus"),
];

/// Puts the programs into `root`'s `bin`, and their libraries where they lie here.
///
/// # Errors
/// A program is missing, or the disk is full.
pub fn add(root: &Path) -> Result<()> {
    for (name, package) in PROGRAMS {
        let unpacked = peers::folder().join(name);
        let path = find_program(name).or_else(|| unpacked.is_file().then_some(unpacked));
        let Some(path) = path else { bail!("no {name} on PATH; Debian: {package}") };
        copy(&path, &root.join("bin").join(name))?;
        let needed = match step::output(environment::clean("ldd").arg(&path)) {
            // A program that needs no library at all is a failure to it.
            Err(error) if format!("{error:#}").contains("not a dynamic executable") => String::new(),
            needed => needed?,
        };
        for library in libraries(&needed) {
            let to = root.join(library.trim_start_matches('/'));
            if !to.exists() {
                copy(Path::new(library), &to)?;
            }
        }
    }
    Ok(())
}

/// Copies a file, following links, to a folder that is made if need be.
///
/// # Errors
/// The file cannot be read, or the disk is full.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The files that `ldd` names: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn libraries(ldd: &str) -> impl Iterator<Item = &str> {
    ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_files_that_ldd_names() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f62)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f62)\n";
        let found: Vec<&str> = libraries(said).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libmnl.so.0", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
