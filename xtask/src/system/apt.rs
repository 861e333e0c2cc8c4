//! Debian's and Ubuntu's packages: what is installed, what could be, installing it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{as_root, find_program, is_root};
use crate::step::{self, Step};
use crate::{environment, workspace};

/// Bound of one apt step: a slow mirror and a few hundred MB.
const APT_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What apt knows of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The version on this machine.
    pub installed: Option<String>,
    /// The version that would be installed.
    pub candidate: Option<String>,
}

/// Whether this machine installs packages through apt.
pub fn is_present() -> bool {
    ["apt-get", "apt-cache", "dpkg"].into_iter().all(|name| find_program(name).is_some())
}

/// What apt's present index says of the named packages, in their order.
///
/// # Errors
/// apt-cache cannot run.
pub fn read_packages(names: &[&str]) -> Result<Vec<Package>> {
    let mut command = environment::clean("apt-cache");
    let text = step::output(command.arg("policy").args(names).env("LC_ALL", "C"))?;
    Ok(parse_policy(&text, names))
}

/// Reads the output of `apt-cache policy`; it is silent about names that it never heard of.
fn parse_policy(text: &str, names: &[&str]) -> Vec<Package> {
    let version = |line: &str, key: &str| {
        line.trim().strip_prefix(key).map(str::trim).filter(|version| *version != "(none)").map(str::to_owned)
    };
    let package = |name: &&str| {
        let head = format!("{name}:");
        let entry = text.lines().skip_while(|line| *line != head).skip(1).take_while(|line| line.starts_with(' '));
        let (mut installed, mut candidate) = (None, None);
        for line in entry {
            installed = installed.or_else(|| version(line, "Installed:"));
            candidate = candidate.or_else(|| version(line, "Candidate:"));
        }
        Package { name: (*name).to_owned(), installed, candidate }
    };
    names.iter().map(package).collect()
}

/// Brings the index of packages up to date. Asks for root.
///
/// # Errors
/// No root, or apt-get fails; names its log.
pub fn update() -> Result<()> {
    let mut command = as_root("apt-get")?;
    command.args(["-q", "update"]);
    announce_sudo("apt-get update")?;
    Step { what: "bringing the package index up to date (some seconds)", log: "apt-update", limit: APT_LIMIT }
        .run(&mut command)
}

/// Installs what is missing of the named packages; updates the index first when it does not offer all of them.
///
/// Never removes a package: a conflict with what the machine's owner installed is an error here.
///
/// # Errors
/// No root, a package that this release does not have, or apt-get fails; names its log.
pub fn install(names: &[&str], what: &str, log: &str) -> Result<()> {
    let missing = |packages: Vec<Package>| -> Vec<Package> {
        packages.into_iter().filter(|package| package.installed.is_none()).collect()
    };
    let mut wanted = missing(read_packages(names)?);
    if wanted.is_empty() {
        return Ok(());
    }
    if wanted.iter().any(|package| package.candidate.is_none()) {
        update()?;
        wanted = missing(read_packages(names)?);
    }
    let absent: Vec<_> = wanted.iter().filter(|package| package.candidate.is_none()).map(|p| p.name.as_str()).collect();
    if !absent.is_empty() {
        bail!("apt offers no package {}", absent.join(", "));
    }
    let names: Vec<_> = wanted.iter().map(|package| package.name.as_str()).collect();
    // env(1), because sudo keeps no variables.
    let mut command = as_root("env")?;
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-y",
        "--no-remove",
        "--no-install-recommends",
        "install",
    ]);
    command.args(&names);
    announce_sudo(&format!("apt-get install {}", names.join(" ")))?;
    Step { what, log, limit: APT_LIMIT }.run(&mut command).with_context(|| format!("installing {}", names.join(" ")))
}

/// Downloads the newest of the named packages and unpacks them into `folder`, which leaves the system as it is and needs no root. With
/// `what_they_need` also the packages that they depend on and that are not installed.
///
/// # Errors
/// A package that this release does not have, no network, or a full disk; names the log.
pub fn unpack(names: &[&str], what_they_need: bool, folder: &Path, what: &str, log: &str) -> Result<()> {
    if read_packages(names)?.iter().any(|package| package.candidate.is_none()) {
        update()?;
    }
    let wanted =
        if what_they_need { read_closure(names)? } else { names.iter().map(|&name| name.to_owned()).collect() };
    // Renamed when all is there: what an interruption leaves behind is never taken for whole.
    let fresh = folder.with_extension("partial");
    workspace::remove(&fresh)?;
    let packages = fresh.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    let mut command = environment::clean("apt-get");
    command.args(["-q", "download"]).args(&wanted).current_dir(&packages);
    Step { what, log, limit: APT_LIMIT }.run(&mut command)?;
    let entries = fs::read_dir(&packages).with_context(|| format!("cannot read {}", packages.display()))?;
    for entry in entries {
        let package = entry.with_context(|| format!("cannot read {}", packages.display()))?.path();
        step::output(environment::clean("dpkg-deb").arg("-x").args([package.as_path(), &fresh]))?;
    }
    workspace::remove(&packages)?;
    workspace::remove(folder)?;
    fs::rename(&fresh, folder).with_context(|| format!("cannot move {}", fresh.display()))
}

/// The named packages and those that they depend on and that are not installed, each as `name=version`.
fn read_closure(names: &[&str]) -> Result<Vec<String>> {
    let mut command = environment::clean("apt-get");
    command.args(["-q", "--simulate", "--no-install-recommends", "install"]).args(names).env("LC_ALL", "C");
    let closure = parse_simulation(&step::output(&mut command)?);
    if closure.is_empty() {
        bail!("apt would install nothing for {}: it is installed already", names.join(", "));
    }
    Ok(closure)
}

/// Reads the lines `Inst name (version release [architecture])` of `apt-get --simulate`. Not `Inst name [version] (…)`, a newer version
/// of what is installed: beside a system's own C library that would not start.
fn parse_simulation(text: &str) -> Vec<String> {
    let package = |line: &str| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace();
        let (name, version) = (words.next()?, words.next()?.strip_prefix('(')?);
        Some(format!("{name}={version}"))
    };
    text.lines().filter_map(package).collect()
}

fn announce_sudo(what: &str) -> Result<()> {
    if !is_root()? {
        step::say(&format!("needs root: sudo {what}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
rustc-web:
  Installed: (none)
  Candidate: 1.96.0+dfsg1-1~deb12u2
  Version table:
     1.96.0+dfsg1-1~deb12u2 500
        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
iproute2:
  Installed: 6.1.0-3
  Candidate: 6.1.0-3
  Version table:
 *** 6.1.0-3 500
rustc-mozilla:
  Installed: (none)
  Candidate: (none)
  Version table:
";

    fn check(name: &str, installed: Option<&str>, candidate: Option<&str>) {
        let expected =
            Package { name: name.into(), installed: installed.map(Into::into), candidate: candidate.map(Into::into) };
        assert_eq!(parse_policy(POLICY, &[name]), [expected]);
    }

    #[test]
    fn policy_tells_installed_from_installable_from_unknown() {
        check("rustc-web", None, Some("1.96.0+dfsg1-1~deb12u2"));
        check("iproute2", Some("6.1.0-3"), Some("6.1.0-3"));
        check("rustc-mozilla", None, None);
        check("rustc", None, None);
    }

    #[test]
    fn what_would_be_installed_is_named_with_its_version() {
        let said = "Remv qemu-utils [1:10.0.2+ds-2]\n\
            Inst libfdt1 (1.6.1-4+b1 Debian:12.13/oldstable [amd64])\n\
            Inst libc6 [2.36-8] (2.36-9 Debian:12.13/oldstable [amd64]) []\n\
            Conf libfdt1 (1.6.1-4+b1 Debian:12.13/oldstable [amd64])\n";
        assert_eq!(parse_simulation(said), ["libfdt1=1.6.1-4+b1"]);
    }
}
