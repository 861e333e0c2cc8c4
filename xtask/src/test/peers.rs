//! The tools that tests compare with or work with, installed by package where they are missing.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::system::{apt, find_program};
use crate::workspace;

/// A program and the packages that bring it; the first that the release has is taken.
struct Peer {
    program: &'static str,
    packages: &'static [&'static str],
}

const PEERS: [Peer; 8] = [
    Peer { program: "ss", packages: &["iproute2"] },
    Peer { program: "ip", packages: &["iproute2"] },
    Peer { program: "iptables", packages: &["iptables"] },
    Peer { program: "nft", packages: &["nftables"] },
    Peer { program: "tcpdump", packages: &["tcpdump"] },
    Peer { program: "bpftrace", packages: &["bpftrace"] },
    // Ubuntu up to 24.10 has bpftool among the tools of its kernel.
    Peer { program: "bpftool", packages: &["bpftool", "linux-tools-common"] },
    Peer { program: "tcplife", packages: &["libbpf-tools"] },
];
/// Checks the metrics page. Its package is unpacked and not installed, because that would start a server.
pub const PROMTOOL: &str = "promtool";
const PROMTOOL_PACKAGE: &str = "prometheus";

/// All that tests need.
pub const ALL: [&str; 9] = ["ss", "ip", "iptables", "nft", "tcpdump", "bpftrace", "bpftool", "tcplife", PROMTOOL];

/// Gets what is missing of the programs named.
///
/// # Errors
/// A package cannot be installed; on a system without apt, the programs that are missing.
pub fn obtain(programs: &[&str]) -> Result<()> {
    let missing = missing(|program| !programs.contains(&program) || find_program(program).is_some());
    let promtool =
        programs.contains(&PROMTOOL) && find_program(PROMTOOL).is_none() && !folder().join(PROMTOOL).exists();
    if !apt::is_present() {
        let programs = missing.iter().map(|peer| peer.program).chain(promtool.then_some(PROMTOOL));
        let programs: Vec<_> = programs.collect();
        if programs.is_empty() {
            return Ok(());
        }
        bail!("these programs are needed on PATH; install them and run this again: {}", programs.join(", "));
    }
    if !missing.is_empty() {
        let packages = choose(&missing)?;
        apt::install(&packages, &format!("installing tools for tests: {}", packages.join(" ")), "apt-peers")?;
    }
    if promtool {
        unpack_promtool()?;
    }
    Ok(())
}

/// Where unpacked programs lie.
pub fn folder() -> PathBuf {
    unpacked().join("usr/bin")
}

fn unpacked() -> PathBuf {
    workspace::tools().join("peers")
}

fn missing(is_present: impl Fn(&str) -> bool) -> Vec<&'static Peer> {
    PEERS.iter().filter(|peer| !is_present(peer.program)).collect()
}

/// One package for each peer, none twice.
fn choose(peers: &[&Peer]) -> Result<Vec<&'static str>> {
    let all: Vec<&'static str> = peers.iter().flat_map(|peer| peer.packages).copied().collect();
    let offered = |packages: Vec<apt::Package>| -> Vec<String> {
        packages.into_iter().filter(|package| package.candidate.is_some()).map(|package| package.name).collect()
    };
    let mut known = offered(apt::read_packages(&all)?);
    if peers.iter().any(|peer| pick(peer, &known).is_none()) {
        apt::update()?;
        known = offered(apt::read_packages(&all)?);
    }
    let mut chosen = Vec::new();
    for peer in peers {
        let package = pick(peer, &known);
        let package =
            package.with_context(|| format!("apt offers no package for {}: {:?}", peer.program, peer.packages))?;
        if !chosen.contains(&package) {
            chosen.push(package);
        }
    }
    Ok(chosen)
}

fn pick(peer: &Peer, offered: &[String]) -> Option<&'static str> {
    peer.packages.iter().copied().find(|package| offered.iter().any(|name| name == package))
}

fn unpack_promtool() -> Result<()> {
    let what = "downloading prometheus for its promtool (a minute)";
    apt::unpack(&[PROMTOOL_PACKAGE], false, &unpacked(), what, "apt-promtool")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(program: &str, offered: &[&str], expected: Option<&str>) {
        let peer = PEERS.iter().find(|peer| peer.program == program).expect("a peer");
        let offered: Vec<String> = offered.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(pick(peer, &offered), expected, "{program}");
    }

    #[test]
    fn the_first_package_that_a_release_has_is_taken() {
        check("bpftool", &["bpftool", "linux-tools-common"], Some("bpftool"));
        check("bpftool", &["linux-tools-common"], Some("linux-tools-common"));
        check("bpftool", &["iproute2"], None);
        check("tcplife", &["libbpf-tools"], Some("libbpf-tools"));
    }

    #[test]
    fn all_names_every_peer() {
        let named: Vec<&str> = PEERS.iter().map(|peer| peer.program).chain([PROMTOOL]).collect();
        assert_eq!(ALL.to_vec(), named);
    }

    #[test]
    fn only_what_is_absent_is_missing() {
        let names = |peers: Vec<&Peer>| peers.iter().map(|peer| peer.program).collect::<Vec<_>>();
        assert_eq!(names(missing(|_| true)), [""; 0]);
        assert_eq!(names(missing(|program| program != "nft")), ["nft"]);
        assert_eq!(missing(|_| false).len(), PEERS.len());
    }
}
