//! The first file system of the booted kernel: a small Linux with the daemon, the tests and a script that runs them.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::binaries::Binaries;
use super::kernel::Unpacked;
use super::programs::{self, copy};
use super::{Run, modules};
use crate::system::find_program;
use crate::{environment, step, workspace};

/// Before the name of a test target and the exit status of its binary in the log.
pub const RESULT: &str = "synfin-vm-result";
/// What the script and the tests take from busybox; the rest are this machine's own programs.
const APPLETS: [&str; 7] = ["sh", "mount", "insmod", "mkdir", "poweroff", "cat", "sleep"];
/// Beside those of the programs' libraries.
const FOLDERS: [&str; 9] = ["bin", "dev", "etc", "modules", "proc", "run", "sys", "test", "tmp"];

const SCRIPT: &str = "#!/bin/sh
export PATH=/bin SYNFIN_BIN=/bin/synfin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
ip link set lo up
";

/// Makes the image and returns its path.
///
/// # Errors
/// A tool is missing, or the disk is full.
pub fn make(kernel: &Unpacked, binaries: &Binaries, runs: &[Run]) -> Result<PathBuf> {
    let root = kernel.beside("root");
    workspace::remove(&root)?;
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {}", root.display()))?;
    }
    let Some(busybox) = find_program("busybox") else { bail!("no busybox on PATH; Debian: busybox-static") };
    copy(&busybox, &root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    programs::add(&root)?;
    copy(&binaries.daemon, &root.join("bin/synfin"))?;
    let mut script = SCRIPT.to_owned();
    for module in modules::add(kernel, &root.join("modules"))? {
        script.push_str(&format!("insmod /modules/{module}.ko\n"));
    }
    for run in runs {
        let Run { target, arguments } = run;
        copy(binaries.test(target)?, &root.join("test").join(target))?;
        let arguments: String = arguments.iter().map(|argument| format!(" {}", quoted(argument))).collect();
        script.push_str(&format!("/test/{target} --test-threads=1{arguments}\necho {RESULT} {target} $?\n"));
    }
    script.push_str("poweroff -f\n");
    fs::write(root.join("init"), script)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    pack(&root, kernel.beside("cpio"))
}

/// The tree as a cpio archive of the kind that kernels unpack.
fn pack(root: &Path, image: PathBuf) -> Result<PathBuf> {
    let archive = File::create(&image).with_context(|| format!("cannot write {}", image.display()))?;
    let mut command = environment::clean("sh");
    command.args(["-c", "find . | cpio --create --format=newc --owner=0:0 --quiet"]).current_dir(root).stdout(archive);
    step::run_openly(command.stdin(Stdio::null())).context("packing with cpio")?;
    Ok(image)
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
