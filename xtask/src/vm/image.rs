//! The first file system of the booted kernel: busybox, modules, test binaries and a script that runs them.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::kernel::Unpacked;
use crate::step::say;
use crate::system::find_program;
use crate::{environment, step};

/// What tests use, each after what it needs.
const MODULES: [&str; 6] = ["inet_diag", "tcp_diag", "mptcp_diag", "tun", "veth", "sch_netem"];
/// Before the exit status of a test binary in the log.
pub const RESULT: &str = "synfin-vm-result";
/// The tools of busybox that the script and the tests call.
const APPLETS: [&str; 7] = ["sh", "mount", "insmod", "ip", "mkdir", "poweroff", "cat"];

const SCRIPT: &str = "#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
";

/// Makes the image and returns its path.
///
/// # Errors
/// A tool is missing, or the disk is full.
pub fn make(kernel: &Unpacked, tests: &[PathBuf], arguments: &[String]) -> Result<PathBuf> {
    let root = kernel.beside("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    for folder in ["bin", "dev", "modules", "proc", "sys", "test", "tmp"] {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {}", root.display()))?;
    }
    let Some(busybox) = find_program("busybox") else { bail!("no busybox on PATH; Debian: busybox-static") };
    copy(&busybox, &root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let mut script = SCRIPT.to_owned();
    for module in MODULES {
        match add_module(kernel, module, &root.join("modules"))? {
            true => script.push_str(&format!("insmod /modules/{module}.ko\n")),
            false => say(&format!("  {} has no module {module}", kernel.release)),
        }
    }
    let arguments: String = arguments.iter().map(|argument| format!(" {}", quoted(argument))).collect();
    for test in tests {
        let name = test.file_name().context("a test binary without a name")?.to_string_lossy();
        copy(test, &root.join("test").join(&*name))?;
        script.push_str(&format!("/test/{name} --test-threads=1{arguments}\necho {RESULT} $?\n"));
    }
    script.push_str("poweroff -f\n");
    fs::write(root.join("init"), script)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    pack(&root, kernel.beside("cpio"))
}

/// Puts a module, decompressed, into `folder`; false if the kernel has it built in or not at all.
fn add_module(kernel: &Unpacked, name: &str, folder: &Path) -> Result<bool> {
    let plain = format!("{name}.ko");
    let Some(path) = find(&kernel.modules, &|file| file == plain || file == format!("{plain}.xz"))? else {
        return Ok(false);
    };
    let to = folder.join(&plain);
    if path.extension().is_some_and(|extension| extension == "xz") {
        let mut command = environment::clean("xz");
        command.arg("-dc").arg(&path).stdout(File::create(&to)?);
        step::run_openly(&mut command)?;
    } else {
        copy(&path, &to)?;
    }
    Ok(true)
}

/// The first file below `folder` whose name is `wanted`.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), wanted)? {
                return Ok(Some(found));
            }
        } else if entry.file_name().to_str().is_some_and(wanted) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The tree as a cpio archive of the kind that kernels unpack.
fn pack(root: &Path, image: PathBuf) -> Result<PathBuf> {
    let archive = File::create(&image).with_context(|| format!("cannot write {}", image.display()))?;
    let mut command = environment::clean("sh");
    command.args(["-c", "find . | cpio --create --format=newc --owner=0:0 --quiet"]).current_dir(root).stdout(archive);
    step::run_openly(command.stdin(Stdio::null())).context("packing with cpio")?;
    Ok(image)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// A word that the shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_changes_no_argument() {
        let check = |word, expected| assert_eq!(quoted(word), expected);
        check("--nocapture", "'--nocapture'");
        check("$HOME `x` \"", "'$HOME `x` \"'");
        check("it's", "'it'\\''s'");
    }
}
