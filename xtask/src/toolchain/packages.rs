//! The second way: Debian's `rustc-web`, which comes with a built `core` for BPF.

use std::path::Path;

use anyhow::{Result, bail};

use super::version::parse_major_minor;
use super::{TARGET, Way, read_version};
use crate::system::apt;

/// The packages' compiler; rustup's lies elsewhere and stays first in PATH.
pub const RUSTC: &str = "/usr/bin/rustc";
/// The packages' cargo.
pub const CARGO: &str = "/usr/bin/cargo";
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
/// The release that the workspace asks for (`rust-version`).
const OLDEST: (u32, u32) = (1, 95);

/// Whether compiler, cargo and `core` for BPF are there and new enough.
pub fn are_installed() -> bool {
    let core = Path::new("/usr/lib/rustlib").join(TARGET);
    [Path::new(RUSTC), Path::new(CARGO), &core].iter().all(|path| path.exists())
        && read_version(&Way::Packages).is_ok_and(|version| version.release >= OLDEST)
}

/// Installs them.
///
/// # Errors
/// This release of the distribution has none, or none new enough; no root; apt fails, for instance because a package
/// `rustc` or `rustup` of the distribution is in the way, which is never removed.
pub fn install() -> Result<()> {
    let offer = || -> Result<Option<(u32, u32)>> {
        let packages = apt::read_packages(&PACKAGES[..1])?;
        Ok(packages.first().and_then(|package| parse_major_minor(package.candidate.as_deref()?)))
    };
    // The archive's index may be older than the compiler we need: the release had 1.85, its updates brought 1.96.
    if offer()?.is_none_or(|release| release < OLDEST) {
        apt::update()?;
    }
    match offer()? {
        None => bail!("this release has no package {}", PACKAGES[0]),
        Some((major, minor)) if (major, minor) < OLDEST => {
            bail!("{} is {major}.{minor}, and {}.{} is needed", PACKAGES[0], OLDEST.0, OLDEST.1)
        }
        Some(_) => apt::install(&PACKAGES, "installing Debian's BPF-capable Rust (a minute; 100 MB)", "apt-rustc-web"),
    }
}
