//! The release of the running kernel as numbers that can be compared.

use std::ffi::CStr;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelRelease {
    pub major: u16,
    pub minor: u16,
    /// Of distributions that count elsewhere (Debian's `6.1.0-28-amd64`) this is 0.
    pub patch: u16,
}

impl KernelRelease {
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// From the start of `uname -r`; `None` without at least `major.minor`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits =
            |part: &str| part.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
        let mut parts = text.trim().split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = digits(parts.next()?)?;
        Some(Self { major, minor, patch: parts.next().and_then(digits).unwrap_or(0) })
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The release as the kernel writes it (`uname -r`), whole.
pub fn read_release() -> std::io::Result<String> {
    // SAFETY: `utsname` is arrays of characters, for which zero is a value.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` outlives the call and is of the type that uname fills.
    if unsafe { libc::uname(&mut name) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: uname ends each field with a zero byte, and `name` was zeroed before.
    let release = unsafe { CStr::from_ptr(name.release.as_ptr()) };
    Ok(release.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        let check = |text: &str, expected: Option<(u16, u16, u16)>| {
            assert_eq!(KernelRelease::parse(text), expected.map(|(a, b, c)| KernelRelease::new(a, b, c)), "{text}");
        };
        check("6.18.44", Some((6, 18, 44)));
        check("6.1.0-28-amd64", Some((6, 1, 0)));
        check("5.15.167.4-microsoft-standard-WSL2", Some((5, 15, 167)));
        check("6.12-rc3", Some((6, 12, 0)));
        check("5.14.0-427.el9.x86_64", Some((5, 14, 0)));
        check("5.10\n", Some((5, 10, 0)));
        check("6", None);
        check("linux-6.1", None);
        check("", None);
    }

    #[test]
    fn the_running_kernel_has_a_release() {
        let text = read_release().unwrap();
        assert!(KernelRelease::parse(&text).unwrap() >= KernelRelease::new(3, 0, 0), "{text}");
        assert_eq!(text, std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim_end());
    }
}
