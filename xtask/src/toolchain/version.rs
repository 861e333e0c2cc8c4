//! What a compiler says of itself (`rustc -vV`).

use anyhow::{Context, Result};

/// Release and LLVM of a compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Major and minor of the release.
    pub release: (u32, u32),
    /// Major version of the LLVM whose bitcode it writes.
    pub llvm: u32,
}

/// Reads the output of `rustc -vV`.
///
/// # Errors
/// A line `release:` or `LLVM version:` is absent or is no version.
pub fn parse_verbose(text: &str) -> Result<Version> {
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let release = field("release:").and_then(parse_major_minor).context("`rustc -vV` names no release")?;
    let (llvm, _) = field("LLVM version:").and_then(parse_major_minor).context("`rustc -vV` names no LLVM version")?;
    Ok(Version { release, llvm })
}

/// The first two numbers of a version as compilers and packages write it.
pub fn parse_major_minor(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Version>) {
        assert_eq!(parse_verbose(text).ok(), expected, "{text}");
    }

    #[test]
    fn release_and_llvm_are_read_as_compilers_write_them() {
        let version = |minor, llvm| Some(Version { release: (1, minor), llvm });
        check("rustc 1.96.0 (ac68faa20)\nrelease: 1.96.0\nLLVM version: 22.1.8\n", version(96, 22));
        check("release: 1.97.0-nightly\nLLVM version: 22.1.4\n", version(97, 22));
        check("release: 1.63.0\nLLVM version: 14.0\n", version(63, 14));
        check("release: 1.96.0\n", None);
        check("release: stage1\nLLVM version: 22.1\n", None);
        check("", None);
    }

    #[test]
    fn a_packages_version_is_read_too() {
        assert_eq!(parse_major_minor("1.85.0+dfsg3-1~deb12u3"), Some((1, 85)));
        assert_eq!(parse_major_minor("(none)"), None);
    }
}
