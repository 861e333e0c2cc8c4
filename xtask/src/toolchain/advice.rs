//! What to install by hand where set-up does not know the package manager, or where both ways failed.

use super::linker;
use crate::system::distribution::{Distribution, Family};

/// The commands for this distribution.
pub fn advice(distribution: &Distribution) -> String {
    let llvm = match distribution.family {
        Family::Debian => "apt-get install llvm-22-dev libpolly-22-dev",
        Family::Fedora => "dnf install gcc llvm-devel",
        Family::Suse => "zypper install gcc llvm-devel",
        Family::Arch => "pacman -S --needed gcc llvm",
        Family::Alpine => "apk add build-base llvm22-dev",
        Family::Other => "(the C compiler and the LLVM development files of your distribution)",
    };
    let mut lines = vec![
        format!("on {}, install by hand, then run this again:", distribution.name),
        "  rustup toolchain install nightly --profile minimal --component rust-src".to_owned(),
        format!("and bpf-linker {} on PATH, either its static program from", linker::VERSION),
        "  https://github.com/aya-rs/bpf-linker/releases".to_owned(),
        format!("or built with LLVM {} to {}, N being its major version:", linker::LLVMS.start(), linker::LLVMS.end()),
        format!("  {llvm}"),
        format!("  cargo install bpf-linker@{} --locked --no-default-features --features llvm-N", linker::VERSION),
    ];
    if distribution.family == Family::Debian {
        lines.push("or, where the release has them, the packages of the other way:".to_owned());
        lines.push("  apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(family: Family, command: &str) {
        let text = advice(&Distribution { name: "This Linux 7".into(), family });
        for part in ["on This Linux 7,", "rustup toolchain install nightly", "bpf-linker@0.13.0", command] {
            assert!(text.contains(part), "{family:?} must say {part:?}:\n{text}");
        }
    }

    #[test]
    fn every_distribution_is_told_exact_commands() {
        check(Family::Debian, "apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf");
        check(Family::Fedora, "dnf install gcc llvm-devel");
        check(Family::Suse, "zypper install gcc llvm-devel");
        check(Family::Arch, "pacman -S --needed gcc llvm");
        check(Family::Alpine, "apk add build-base llvm22-dev");
        check(Family::Other, "development files of your distribution");
    }
}
