//! Cgroups of a test's own: sockets belong to the cgroup in which their maker was when it made them.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Removed with its handle; the sockets made in it live on.
pub struct Cgroup {
    path: PathBuf,
    /// What the label `unit` is to say.
    pub unit: String,
}

impl Cgroup {
    /// `synfin-lab-<pid>-<name>.service` at the top of the hierarchy.
    pub fn new(name: &str) -> Self {
        let unit = format!("synfin-lab-{}-{name}.service", std::process::id());
        Self::named(OsStr::new(&unit), unit.clone()).unwrap_or_else(|error| panic!("a cgroup {unit}: {error}"))
    }

    /// Any name that the kernel takes; `unit` is what the page is expected to make of it.
    ///
    /// # Errors
    /// Those of the kernel: it refuses a newline with EINVAL.
    pub fn named(name: &OsStr, unit: String) -> io::Result<Self> {
        let path = mount().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self { path, unit })
    }

    /// Runs `body` with this process in the cgroup.
    pub fn inside<R>(&self, body: impl FnOnce() -> R) -> R {
        let before = own();
        enter(&self.path);
        let result = body();
        enter(&mount().join(before.trim_start_matches('/')));
        result
    }
}

/// Path of this process' cgroup, from the top of the hierarchy.
fn own() -> String {
    let lines = std::fs::read_to_string("/proc/self/cgroup").expect("our own cgroup");
    lines.lines().find_map(|line| line.strip_prefix("0::")).expect("the line of cgroup v2").to_owned()
}

/// The unit of what this process does outside [`Cgroup::inside`].
pub fn own_unit() -> String {
    match own().as_str() {
        "/" => "root".to_owned(),
        path => synfin::host::unit_of_path(path.as_bytes()),
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}

fn mount() -> PathBuf {
    synfin::host::read_mount(Path::new("/proc/self/mountinfo")).expect("a cgroup v2 mount")
}

fn enter(path: &Path) {
    let file = path.join("cgroup.procs");
    std::fs::write(&file, "0").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Moving the process moves all tests of this program: those that care where they are take turns.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
