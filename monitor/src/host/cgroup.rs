//! From the number of a cgroup v2 directory, which events carry, to the name of its unit: found by walking the mount.
//!
//! `open_by_handle_at` would find a single directory at once, but takes CAP_DAC_READ_SEARCH; the walk takes nothing.
//! Numbers are not reused soon (they carry a generation) and directories cannot be renamed, so a name once found stays right.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::unit::unit_of_path;
use crate::event::CgroupId;

/// Walks for labels that may still change take at most one part in so many of the time of one CPU.
const WALK_SHARE: u32 = 20;
/// Bounds of the time between two such walks: a host with 1,000 cgroups takes a few milliseconds for one.
const WALK_GAP: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// A name is kept this long after its directory was last seen: TIME_WAIT sockets and open ones outlive it.
const RETENTION: Duration = Duration::from_secs(600);
/// A number that a walk did not find is looked for again after this long.
const ABSENT_FOR: Duration = Duration::from_secs(60);
/// Bound on names, and on directories of one walk.
const MAX_NAMES: usize = 16_384;
/// Bound on numbers remembered as absent.
const MAX_ABSENT: usize = 4096;
/// The number of the root of the hierarchy (kernfs numbers its root first).
const ROOT: CgroupId = CgroupId(1);
const NO_MOUNT: &str = "no cgroup v2 mount is visible, so every unit is `unknown` in metrics and findings: mount it (mount -t cgroup2 none \
                        /sys/fs/cgroup); `ip netns exec` hides that of the host, `nsenter --net=/run/netns/NAME` does not";

/// Names of units by cgroup, learnt when asked for.
#[derive(Debug)]
pub struct CgroupNames {
    mount: Option<PathBuf>,
    names: HashMap<CgroupId, Name>,
    absent: HashMap<CgroupId, Instant>,
    walked_at: Option<Instant>,
    /// Not before so long after the last walk.
    gap: Duration,
    root: Arc<str>,
    unknown: Arc<str>,
}

#[derive(Debug)]
struct Name {
    unit: Arc<str>,
    seen_at: Instant,
}

impl CgroupNames {
    /// `mount` is where cgroup v2 is mounted ([`find_cgroup2_mount`]); without it every name but the root's is `unknown`.
    pub fn new(mount: Option<PathBuf>) -> Self {
        Self {
            mount,
            names: HashMap::new(),
            absent: HashMap::new(),
            walked_at: None,
            gap: Duration::ZERO,
            root: "root".into(),
            unknown: "unknown".into(),
        }
    }

    /// Value of the label `unit`. Walks the mount for a number it does not know, unless the last walk was a moment ago; so
    /// `unknown` may become a name at a later call.
    pub fn unit(&mut self, id: CgroupId, now: Instant) -> Arc<str> {
        match id {
            CgroupId(0) => return self.unknown.clone(),
            ROOT => return self.root.clone(),
            CgroupId(_) => {}
        }
        if !self.names.contains_key(&id) && self.is_rested(now) {
            self.look_for(&[id], now);
        }
        self.names.get(&id).map_or(&self.unknown, |name| &name.unit).clone()
    }

    /// Whether the last walk is long enough ago, as measured by what it took.
    pub fn is_rested(&self, now: Instant) -> bool {
        self.walked_at.is_none_or(|at| now.duration_since(at) >= self.gap)
    }

    /// Walks, however short a time ago the last walk was, if any of `ids` is new: for who gives names for good.
    pub fn look_for(&mut self, ids: &[CgroupId], now: Instant) {
        let is_strange = |id: &&CgroupId| {
            let given_up = self.absent.get(id).is_some_and(|&at| now.duration_since(at) < ABSENT_FOR);
            !given_up && !matches!(**id, CgroupId(0) | ROOT) && !self.names.contains_key(id)
        };
        let strange: Vec<CgroupId> = ids.iter().filter(is_strange).copied().collect();
        if strange.is_empty() {
            return;
        }
        self.walk(now);
        for id in strange {
            if self.names.contains_key(&id) {
                self.absent.remove(&id);
                continue;
            }
            if self.absent.len() >= MAX_ABSENT {
                self.absent.clear();
            }
            self.absent.insert(id, now);
        }
    }

    /// Names held now.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Reads all directories, the upper ones first, and forgets those long gone.
    fn walk(&mut self, now: Instant) {
        self.walked_at = Some(now);
        let Some(mount) = self.mount.clone() else { return };
        let started = Instant::now();
        let mut found = 0;
        if let Ok(metadata) = std::fs::metadata(&mount) {
            self.add(CgroupId(metadata.ino()), b"/", now);
            found += 1;
        }
        let mut waiting = VecDeque::from([(mount, Vec::new())]);
        // A directory that goes away, or may not be read, is passed over: its sockets keep the label `unknown`.
        'walk: while let Some((directory, path)) = waiting.pop_front() {
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                if found >= MAX_NAMES {
                    break 'walk;
                }
                let path = [path.as_slice(), b"/", entry.file_name().as_bytes()].concat();
                self.add(CgroupId(entry.ino()), &path, now);
                found += 1;
                waiting.push_back((entry.path(), path));
            }
        }
        self.names.retain(|_, name| now.duration_since(name.seen_at) < RETENTION);
        if self.names.len() > MAX_NAMES {
            // More living and recently dead than allowed: the dead go.
            self.names.retain(|_, name| name.seen_at == now);
        }
        self.gap = gap_after(started.elapsed());
    }

    fn add(&mut self, id: CgroupId, path: &[u8], now: Instant) {
        self.names
            .entry(id)
            .and_modify(|name| name.seen_at = now)
            .or_insert_with(|| Name { unit: unit_of_path(path).into(), seen_at: now });
    }
}

/// How long to wait after a walk that took `took`.
fn gap_after(took: Duration) -> Duration {
    let [least, most] = WALK_GAP;
    (took * WALK_SHARE).clamp(least, most)
}

/// Where cgroup v2 is mounted, by the text of `/proc/self/mountinfo`: `/sys/fs/cgroup`, on hybrid hosts
/// `/sys/fs/cgroup/unified`. Of several mounts the first that shows the whole hierarchy, else the first.
pub fn find_cgroup2_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    let mut partial = None;
    for line in mountinfo.split(|&byte| byte == b'\n') {
        // proc(5): id parent major:minor root mount-point options [optional…] - type source super-options
        let mut fields = line.split(|&byte| byte == b' ');
        let (Some(root), Some(point)) = (fields.nth(3), fields.next()) else { continue };
        let kind = fields.skip_while(|&field| field != b"-").nth(1);
        if kind != Some(b"cgroup2".as_slice()) {
            continue;
        }
        let point = PathBuf::from(OsString::from_vec(unescape(point)));
        match root {
            b"/" => return Some(point),
            _ => partial = partial.or(Some(point)),
        }
    }
    partial
}

/// Undoes the `\040` of mountinfo.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            (byte, _) => bytes.push(byte),
        }
    }
    bytes
}

impl CgroupNames {
    /// For the mount of the running system, by `/proc/self/mountinfo`. Warns when there is none.
    pub fn of_this_host() -> Self {
        let mount = read_mount(Path::new("/proc/self/mountinfo"));
        if mount.is_none() {
            tracing::warn!("{NO_MOUNT}");
        }
        Self::new(mount)
    }
}

/// [`find_cgroup2_mount`] in a file; `None` too when it cannot be read.
pub fn read_mount(mountinfo: &Path) -> Option<PathBuf> {
    find_cgroup2_mount(&std::fs::read(mountinfo).ok()?)
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
