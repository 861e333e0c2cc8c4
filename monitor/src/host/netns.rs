//! Network namespaces by inode number, the name that events carry (`net->ns.inum`).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_one_in_the_link() {
        let link = std::fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(link.to_str().unwrap(), format!("net:[{}]", read_own_netns().unwrap().0));
    }

    #[test]
    fn no_file_is_an_error() {
        assert!(read_netns(Path::new("/proc/self/ns/no_such")).is_err());
    }
}
