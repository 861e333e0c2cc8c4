//! Network namespaces by inode number, the name that events carry (`net->ns.inum`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::netns_names::{NetnsNames, cgroup_of};
use crate::event::NetnsId;

/// The namespace behind a file such as `/proc/1/ns/net` or `/run/netns/blue`.
pub fn read_netns(path: &Path) -> io::Result<NetnsId> {
    let inode = std::fs::metadata(path)?.ino();
    // Numbers of namespaces are 32 bits wide in the kernel (`ns_common.inum`).
    u32::try_from(inode).map(NetnsId).map_err(io::Error::other)
}

/// The namespace of this process.
pub fn read_own_netns() -> io::Result<NetnsId> {
    read_netns(Path::new("/proc/self/ns/net"))
}

/// How many network namespaces can be seen: those of running processes and those that iproute2 keeps by name. Processes
/// that may not be looked at are left out, so it is a lower bound.
pub fn count_netns() -> u64 {
    let found: BTreeSet<u32> = netns_files().filter_map(|path| read_netns(&path).ok()).map(|id| id.0).collect();
    found.len() as u64
}

/// A network namespace, open, and what it may be called.
#[derive(Debug)]
pub struct FoundNetns {
    pub id: NetnsId,
    pub file: File,
    /// This process lives in it.
    pub own: bool,
    pub names: NetnsNames,
}

/// Every network namespace that has a process or a name of iproute2, once each, this process' own first. One that only a descriptor
/// or a thread keeps alive is not found; one that goes meanwhile is left out.
///
/// # Errors
/// When not even this process' own can be opened. Those of other users' processes take CAP_SYS_PTRACE and are left out
/// without it.
pub fn find_namespaces() -> io::Result<Vec<FoundNetns>> {
    let mut found: Vec<FoundNetns> = Vec::new();
    let mut places: BTreeMap<NetnsId, usize> = BTreeMap::new();
    let mut add = |id: NetnsId, path: &Path, own: bool| -> io::Result<usize> {
        if let Some(&place) = places.get(&id) {
            return Ok(place);
        }
        let file = File::open(path)?;
        // The file may be another one by now, and a name of iproute2 may be an ordinary file.
        if !is_netns(&file) || file.metadata()?.ino() != u64::from(id.0) {
            return Err(io::ErrorKind::NotFound.into());
        }
        found.push(FoundNetns { id, file, own, names: NetnsNames::default() });
        places.insert(id, found.len() - 1);
        Ok(found.len() - 1)
    };
    let mut named: Vec<(usize, NetnsNames)> = Vec::new();
    let own = Path::new("/proc/self/ns/net");
    let own = add(read_netns(own)?, own, true)?;
    // Without the right to look at process 1 the host's namespace is taken to be this one.
    let first = Path::new("/proc/1/ns/net");
    let host = read_netns(first).and_then(|id| add(id, first, false)).unwrap_or(own);
    named.push((host, NetnsNames { host: true, ..NetnsNames::default() }));
    for path in NAMED.into_iter().flat_map(read_directory) {
        if let Ok(place) = read_netns(&path).and_then(|id| add(id, &path, false)) {
            let name = path.file_name().map(|name| name.as_bytes().to_vec());
            named.push((place, NetnsNames { name, ..NetnsNames::default() }));
        }
    }
    let mut seen = BTreeSet::new();
    for process in processes() {
        let path = process.join("ns/net");
        let Ok(id) = read_netns(&path) else { continue };
        // The first process of a namespace is its oldest, most often: the one that it was made for.
        if seen.insert(id)
            && let Ok(place) = add(id, &path, false)
        {
            let cgroup = std::fs::read(process.join("cgroup")).ok().and_then(|text| cgroup_of(&text));
            named.push((place, NetnsNames { cgroup, ..NetnsNames::default() }));
        }
    }
    for (place, names) in named {
        found[place].names.merge(names);
    }
    Ok(found)
}

/// Whether an open file is a network namespace.
fn is_netns(file: &File) -> bool {
    // _IO(0xb7, 3), ioctl_nsfs(2); since Linux 4.11.
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument; on another kind of file it fails.
    unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE as _) == libc::CLONE_NEWNET }
}

/// The kernel's own name for the namespace of the calling thread, given once and never again; `None` before Linux 5.14.
pub fn read_netns_cookie() -> Option<u64> {
    // Not in every libc yet (include/uapi/asm-generic/socket.h).
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = UnixDatagram::unbound().ok()?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `cookie`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    (status == 0).then_some(cookie)
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// Without CAP_SYS_ADMIN, or when the file is no network namespace.
pub fn enter_netns(namespace: &File) -> io::Result<()> {
    // SAFETY: takes an open descriptor and a flag; changes nothing but this thread's namespace.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where iproute2 keeps names; the second is a link to the first on most hosts.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

fn netns_files() -> impl Iterator<Item = PathBuf> {
    processes().map(|path| path.join("ns/net")).chain(read_directory(NAMED[0]))
}

fn processes() -> impl Iterator<Item = PathBuf> {
    read_directory("/proc")
        .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().first().is_some_and(u8::is_ascii_digit)))
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
    fn our_own_namespace_is_found_first_and_each_once() {
        let found = find_namespaces().unwrap();
        assert_eq!((found[0].id, found[0].own), (read_own_netns().unwrap(), true));
        let ids: BTreeSet<_> = found.iter().map(|each| each.id).collect();
        assert_eq!(ids.len(), found.len());
        assert_eq!(found.iter().filter(|each| each.names.host).count(), 1);
    }

    #[test]
    fn only_a_network_namespace_is_one() {
        let check = |path, expected| assert_eq!(is_netns(&File::open(path).unwrap()), expected, "{path}");
        check("/proc/self/ns/net", true);
        check("/proc/self/ns/mnt", false);
        check("/proc/self/stat", false);
    }

    #[test]
    fn the_cookie_of_a_namespace_stays() {
        // Before 5.14 there is none.
        assert_eq!(read_netns_cookie(), read_netns_cookie());
    }

    #[test]
    fn no_file_is_an_error() {
        assert!(read_netns(Path::new("/proc/self/ns/no_such")).is_err());
    }
}
