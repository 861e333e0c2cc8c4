//! Which distribution this is, from os-release(5).

use std::fs;

/// Where os-release(5) says to look, in this order.
const FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// Distributions by package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu and what calls itself like them: apt.
    Debian,
    /// Fedora, RHEL and their kin: dnf.
    Fedora,
    /// openSUSE and SLES: zypper.
    Suse,
    /// Arch and its kin: pacman.
    Arch,
    /// Alpine: apk.
    Alpine,
    /// Anything else.
    Other,
}

/// What os-release says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// `PRETTY_NAME`, for messages.
    pub name: String,
    /// Family by `ID`, else by the first known word of `ID_LIKE`.
    pub family: Family,
}

/// Reads os-release; a machine without one is of no known family.
pub fn read_distribution() -> Distribution {
    let text = FILES.iter().find_map(|file| fs::read_to_string(file).ok());
    parse_os_release(&text.unwrap_or_default())
}

/// Reads the text of os-release.
pub fn parse_os_release(text: &str) -> Distribution {
    let value =
        |key: &str| text.lines().find_map(|line| Some(unquoted(line.trim().strip_prefix(key)?.strip_prefix('=')?)));
    let id = value("ID").unwrap_or_default();
    let like = value("ID_LIKE").unwrap_or_default();
    let family = std::iter::once(id).chain(like.split_whitespace()).find_map(family_of).unwrap_or(Family::Other);
    let name = value("PRETTY_NAME").or(value("NAME")).unwrap_or("a system without os-release").to_owned();
    Distribution { name, family }
}

fn family_of(id: &str) -> Option<Family> {
    match id {
        "debian" | "ubuntu" => Some(Family::Debian),
        "fedora" | "rhel" | "centos" => Some(Family::Fedora),
        "suse" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" | "sles" => Some(Family::Suse),
        "arch" => Some(Family::Arch),
        "alpine" => Some(Family::Alpine),
        _ => None,
    }
}

/// A value without the quotes of the shell; os-release escapes nothing that matters here.
fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, family: Family) {
        assert_eq!(parse_os_release(text), Distribution { name: name.to_owned(), family });
    }

    #[test]
    fn a_distribution_is_known_by_its_id_or_by_what_it_is_like() {
        check(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n",
            "Debian GNU/Linux 12 (bookworm)",
            Family::Debian,
        );
        check("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n", "Ubuntu", Family::Debian);
        check("NAME='Linux Mint'\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "Linux Mint", Family::Debian);
        check("NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=42\n", "Fedora Linux", Family::Fedora);
        check("NAME=Rocky\nID=rocky\nID_LIKE=\"rhel centos fedora\"\n", "Rocky", Family::Fedora);
        check(
            "NAME=\"openSUSE Tumbleweed\"\nID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n",
            "openSUSE Tumbleweed",
            Family::Suse,
        );
        check("NAME=\"EndeavourOS\"\nID=endeavouros\nID_LIKE=arch\n", "EndeavourOS", Family::Arch);
        check("NAME=\"Alpine Linux\"\nID=alpine\n", "Alpine Linux", Family::Alpine);
        check("NAME=NixOS\nID=nixos\n", "NixOS", Family::Other);
        check("", "a system without os-release", Family::Other);
    }

    #[test]
    fn id_is_not_taken_from_a_longer_key() {
        check("VERSION_ID=12\nID_LIKE=arch\nNAME=Own\n", "Own", Family::Arch);
        check("BUILD_ID=fedora\nNAME=Own\n", "Own", Family::Other);
    }
}
