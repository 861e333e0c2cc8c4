//! Reads the sysctl files of a host in the order in which they are applied.
//!
//! Order as in sysctl.d(5): of files with the same name the one in the first directory masks the others; then all are
//! applied by name. `/etc/sysctl.conf` comes last, as `sysctl --system` does it, unless a link in a directory (Debian's
//! `99-sysctl.conf`) already gave it a place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use crate::diagnose::sysctl_file::{SysctlFiles, parse_sysctl_file};

/// The first wins. `/lib` is a link to `/usr/lib` on merged systems and then adds nothing.
const DIRECTORIES: [&str; 5] =
    ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
const LAST: &str = "etc/sysctl.conf";
/// Bytes; no hand-written file is larger, and a mistake must not fill the memory.
const LARGEST: u64 = 1 << 20;
/// Links followed one after another, as the kernel bounds them.
const MOST_LINKS: usize = 40;

/// All settings under `root` (`/` on a live host), in the order in which they are applied. A missing directory or file is
/// normal; whatever else cannot be read is listed, and the rest is read all the same. Bytes that are not UTF-8 are replaced.
/// Paths in the result are as seen under `root`.
pub fn read_sysctl_files(root: &Path) -> SysctlFiles {
    let mut found = SysctlFiles::default();
    let mut by_name: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES {
        match read_names(root, Path::new(directory)) {
            Ok(names) => {
                for name in names {
                    let path = Path::new(directory).join(&name);
                    by_name.entry(name).or_insert(path);
                }
            }
            Err(error) => push_unreadable(&mut found, Path::new(directory), &error),
        }
    }
    let mut read: Vec<PathBuf> = vec![];
    for path in by_name.into_values().chain([PathBuf::from(LAST)]) {
        match resolve(root, &path) {
            // Masked on purpose.
            Ok(target) if target == Path::new("dev/null") => {}
            Ok(target) if path == Path::new(LAST) && read.contains(&target) => {}
            Ok(target) => {
                match read_text(&root.join(&target)) {
                    Ok(text) => found.settings.extend(parse_sysctl_file(&shown(&path), &text)),
                    Err(error) => push_unreadable(&mut found, &path, &error),
                }
                read.push(target);
            }
            Err(error) => push_unreadable(&mut found, &path, &error),
        }
    }
    found
}

fn shown(path: &Path) -> String {
    format!("/{}", path.to_string_lossy())
}

fn push_unreadable(found: &mut SysctlFiles, path: &Path, error: &io::Error) {
    match error.kind() {
        ErrorKind::NotFound => {}
        _ => found.unreadable.push((shown(path), error.to_string())),
    }
}

/// Names of the `.conf` files of a directory. Empty for the second name of a directory that is a link to another.
fn read_names(root: &Path, directory: &Path) -> io::Result<Vec<OsString>> {
    let target = resolve(root, directory)?;
    if target != directory && DIRECTORIES.iter().any(|other| target == Path::new(other)) {
        return Ok(vec![]);
    }
    let mut names = vec![];
    for entry in std::fs::read_dir(root.join(target))? {
        let name = entry?.file_name();
        // Other endings are not read by those who apply the files: editors' and packages' leftovers.
        if Path::new(&name).extension().is_some_and(|extension| extension == "conf") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Follows links inside `root`, so that an absolute link means a path under it. The result is relative to `root`.
fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut done = PathBuf::new();
    let mut left: Vec<OsString> = components(path);
    left.reverse();
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&part);
        match std::fs::symlink_metadata(root.join(&next)) {
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::other("too many links one after another"));
                }
                let target = std::fs::read_link(root.join(&next))?;
                if target.is_absolute() {
                    done = PathBuf::new();
                }
                left.extend(components(&target).into_iter().rev());
            }
            Ok(_) => done = next,
            // /dev/null need not exist under another root to mask a file.
            Err(_) if next.starts_with("dev") => done = next,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn components(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(part) => Some(part.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn read_text(path: &Path) -> io::Result<String> {
    // A fifo would block for ever, a device might never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = vec![];
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[path = "sysctl_files_tests.rs"]
mod tests;
