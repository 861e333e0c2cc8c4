//! Debian's kernels: fetched with apt from their own release, unpacked and kept; the system's apt is left as it is.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::step::{self, Step};
use crate::{environment, workspace};

/// A kernel by its first two numbers, and the Debian release that has it.
pub struct Kernel {
    pub version: &'static str,
    suite: &'static str,
}

/// Oldest first.
pub const KERNELS: [Kernel; 3] = [
    Kernel { version: "5.10", suite: "bullseye" },
    Kernel { version: "6.1", suite: "bookworm" },
    Kernel { version: "6.12", suite: "trixie" },
];

/// Depends on the newest image of its release for machines in clouds: small, nothing that needs hardware.
const PACKAGE: &str = "linux-image-cloud-amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// 40 MB over a slow line.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// A kernel on disk.
pub struct Unpacked {
    /// As `uname -r` says it.
    pub release: String,
    /// Where its modules lie, in folders.
    pub modules: PathBuf,
    /// The package's tree.
    tree: PathBuf,
}

impl Unpacked {
    fn read(tree: PathBuf) -> Result<Self> {
        // Since Debian 13 packages name the folder by its place behind the link `/lib`.
        let modules = ["lib/modules", "usr/lib/modules"].map(|folder| tree.join(folder));
        let modules = modules.into_iter().find(|folder| folder.exists());
        let modules = modules.with_context(|| format!("{} has no modules; again with --refresh", tree.display()))?;
        let mut entries = fs::read_dir(&modules).with_context(|| format!("cannot read {}", modules.display()))?;
        let entry = entries.next().with_context(|| format!("{} is empty", modules.display()))??;
        let release = entry.file_name().to_string_lossy().into_owned();
        Ok(Self { release, modules: entry.path().join("kernel"), tree })
    }

    /// A path of this kernel's own beside its tree.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        beside(&self.tree, suffix)
    }

    pub fn vmlinuz(&self) -> PathBuf {
        self.tree.join(format!("boot/vmlinuz-{}", self.release))
    }
}

/// `6.1` and a suffix give `6.1.suffix`: to `Path::with_extension` the 1 would be an extension, and 6.1 and 6.12 the same.
fn beside(tree: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(tree);
    path.push(".");
    path.push(suffix);
    path.into()
}

impl Kernel {
    /// The kernel on disk, fetched if it is not there or if `refresh` asks for the newest.
    ///
    /// # Errors
    /// No package or no network; names apt's log.
    pub fn obtain(&self, refresh: bool) -> Result<Unpacked> {
        let tree = workspace::target().join("vm").join(self.version);
        if refresh || !tree.join("boot").exists() {
            self.fetch(&tree).with_context(|| {
                format!(
                    "no Linux {} from deb.debian.org; let this machine reach it, or copy target/vm from one that did",
                    self.version
                )
            })?;
        }
        Unpacked::read(tree)
    }

    fn fetch(&self, tree: &Path) -> Result<()> {
        let folder = workspace::target().join("vm/apt").join(self.suite);
        for inner in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(inner)).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(folder.join("sources.list"), self.sources())?;
        let step = |what: &str, log: &str, command: &mut Command| {
            Step {
                what: &format!("Linux {}: {what}", self.version),
                log: &format!("vm-{}-{log}", self.version),
                limit: LIMIT,
            }
            .run(command.current_dir(&folder))
        };
        step("package index (some ten seconds)", "update", apt("apt-get", &folder).arg("update"))?;
        let shown = step::output(apt("apt-cache", &folder).args(["show", "--no-all-versions", PACKAGE]))?;
        let image = first_dependency(&shown).with_context(|| format!("{PACKAGE} of {} names no image", self.suite))?;
        step("image (some 30 MB)", "download", apt("apt-get", &folder).args(["download", image]))?;
        let newest = newest_package(&folder, image)?;
        let fresh = beside(tree, "unpacking");
        workspace::remove(&fresh)?;
        step("unpacking", "unpack", environment::clean("dpkg-deb").arg("-x").args([&newest, &fresh]))?;
        workspace::remove(tree)?;
        fs::rename(&fresh, tree).with_context(|| format!("cannot move {}", fresh.display()))?;
        fs::remove_file(&newest).with_context(|| format!("cannot remove {}", newest.display()))
    }

    fn sources(&self) -> String {
        let suite = self.suite;
        let line = |archive: &str, suite: &str| {
            format!("deb [arch=amd64 signed-by={KEYRING}] http://deb.debian.org/{archive} {suite} main\n")
        };
        line("debian", suite) + &line("debian-security", &format!("{suite}-security"))
    }
}

/// apt with sources, index and cache of its own.
fn apt(program: &str, folder: &Path) -> Command {
    let mut command = environment::clean(program);
    let option = |key: &str, value: &Path| {
        let mut option = OsString::from(format!("-o{key}="));
        option.push(value);
        option
    };
    command
        .arg(option("Dir::Etc::SourceList", &folder.join("sources.list")))
        .arg(option("Dir::Etc::SourceParts", Path::new("/dev/null")))
        .arg(option("Dir::State::Lists", &folder.join("lists")))
        .arg(option("Dir::Cache", &folder.join("cache")))
        // The folder may be closed to apt's own user.
        .args(["-oAPT::Sandbox::User=root", "-oAPT::Architecture=amd64", "-oAcquire::Languages=none", "-q"]);
    command
}

/// The first package of `Depends:` in the output of `apt-cache show`.
fn first_dependency(shown: &str) -> Option<&str> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    depends.split([' ', ',', '|']).next().filter(|name| !name.is_empty())
}

fn newest_package(folder: &Path, image: &str) -> Result<PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder)?.collect::<std::io::Result<_>>()?;
    let packages = entries.into_iter().map(|entry| entry.path());
    let of_image =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{image}_")));
    packages.filter(of_image).max().with_context(|| format!("apt left no package {image} in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_a_kernel_is_its_own() {
        let check = |version: &str, path: &str| assert_eq!(beside(Path::new(version), "root"), Path::new(path));
        check("vm/6.1", "vm/6.1.root");
        check("vm/6.12", "vm/6.12.root");
    }

    #[test]
    fn the_image_is_the_first_dependency() {
        let check = |shown, name| assert_eq!(first_dependency(shown), name, "{shown:?}");
        check(
            "Package: a\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n",
            Some("linux-image-6.1.0-56-cloud-amd64"),
        );
        check("Depends: one, two\n", Some("one"));
        check("Package: a\n", None);
    }
}
