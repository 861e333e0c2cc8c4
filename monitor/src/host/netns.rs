//! Network namespaces by inode number, the name that events carry (`net->ns.inum`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::event::NetnsId;

/// The namespace behind a file such as `/proc/1/ns/net` or `/run/netns/blue`.
pub fn read_netns(path: &Path) -> std::io::Result<NetnsId> {
    let inode = std::fs::metadata(path)?.ino();
    // Numbers of namespaces are 32 bits wide in the kernel (`ns_common.inum`).
    u32::try_from(inode).map(NetnsId).map_err(std::io::Error::other)
}

/// The namespace of this process.
pub fn read_own_netns() -> std::io::Result<NetnsId> {
    read_netns(Path::new("/proc/self/ns/net"))
}

/// How many network namespaces can be seen: those of running processes and those that iproute2 keeps by name. Processes
/// that may not be looked at are left out, so it is a lower bound.
pub fn count_netns() -> u64 {
    let found: BTreeSet<u32> = netns_files().filter_map(|path| read_netns(&path).ok()).map(|id| id.0).collect();
    found.len() as u64
}

/// Every network namespace that has a process or a name, opened once each. One that only a descriptor keeps alive is not
/// found; one that goes meanwhile is left out.
///
/// # Errors
/// When not even this process' own can be opened. Those of other users' processes take CAP_SYS_PTRACE and are left out
/// without it.
pub fn host_namespaces() -> std::io::Result<Vec<File>> {
    let mut found = BTreeMap::new();
    let own = File::open("/proc/self/ns/net")?;
    found.insert(own.metadata()?.ino(), own);
    for file in netns_files().filter_map(|path| File::open(path).ok()) {
        if let Ok(metadata) = file.metadata() {
            found.entry(metadata.ino()).or_insert(file);
        }
    }
    Ok(found.into_values().collect())
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// Without CAP_SYS_ADMIN, or when the file is no network namespace.
pub fn enter_netns(namespace: &File) -> std::io::Result<()> {
    // SAFETY: takes an open descriptor and a flag; changes nothing but this thread's namespace.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn netns_files() -> impl Iterator<Item = PathBuf> {
    read_directory("/proc").map(|path| path.join("ns/net")).chain(read_directory("/run/netns"))
}

fn read_directory(path: &str) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_one_in_the_link() {
        let link = std::fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(link.to_str().unwrap(), format!("net:[{}]", read_own_netns().unwrap().0));
    }

    #[test]
    fn our_own_namespace_is_counted() {
        assert!(count_netns() >= 1);
    }

    #[test]
    fn no_file_is_an_error() {
        assert!(read_netns(Path::new("/proc/self/ns/no_such")).is_err());
    }
}
