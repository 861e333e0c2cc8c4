//! The kernel's own word: ftrace on `sock:inet_sock_set_state`, in a trace instance of our own.
//!
//! ftrace rather than a BPF tool: it runs no BPF program, so it is neither skipped by the recursion guard nor while PID 1
//! is current, does not silence other programs, attaches at once and counts what it drops. tracefs is mounted on no path:
//! the mount lives as long as its file descriptor.

use super::place;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What happened to the lab's addresses since the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// TCP transitions by the series of `synfin_tcp_transitions_total`.
    pub transitions: BTreeMap<String, f64>,
    /// Of those, the ones during which a thread of PID 1 was current: BPF programs of some kernels are skipped there.
    pub under_pid1: u64,
    /// Events of other protocols.
    pub other_protocol: u64,
}

impl Seen {
    pub fn total(&self) -> u64 {
        self.transitions.values().sum::<f64>() as u64
    }
}

pub struct Witness {
    tracefs: OwnedFd,
    instance: PathBuf,
    pipe: File,
    rest: String,
    /// Threads of PID 1, as far as they were met.
    pid1: HashSet<u32>,
}

impl Witness {
    /// Starts to listen; `buffer_kib` is for each CPU (an event takes about 100 bytes).
    pub fn start(buffer_kib: u32) -> Self {
        let tracefs = mount_tracefs();
        let root = PathBuf::from(format!("/proc/self/fd/{}", tracefs.as_raw_fd()));
        remove_orphans(&root);
        let instance = root.join("instances").join(format!("synfin-lab-{}-{buffer_kib}", std::process::id()));
        std::fs::create_dir(&instance).unwrap_or_else(|error| panic!("trace instance {}: {error}", instance.display()));
        let write = |file: &str, value: &str| {
            std::fs::write(instance.join(file), value).unwrap_or_else(|error| panic!("{value} > {file}: {error}"));
        };
        write("buffer_size_kb", &buffer_kib.to_string());
        // Names of threads would be noted at each change of task, for which the scheduler's code is patched: an emulated machine with two
        // processors may then run into the patched place for ever.
        write("trace_options", "norecord-cmd");
        write("events/sock/inet_sock_set_state/enable", "1");
        let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(instance.join("trace_pipe"));
        let pipe = pipe.expect("trace_pipe of our own instance");
        Self { tracefs, instance, pipe, rest: String::new(), pid1: threads_of_pid1().collect() }
    }

    /// All that happened since the last call. Panics when ftrace had to drop an event.
    pub fn take(&mut self) -> Seen {
        self.pid1.extend(threads_of_pid1());
        let mut tally = Tally { pid1: self.pid1.clone(), ..Tally::default() };
        let mut chunk = vec![0; 1 << 16];
        loop {
            match self.pipe.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => self.rest.push_str(&String::from_utf8_lossy(&chunk[..length])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("trace_pipe: {error}"),
            }
            let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
            self.rest[..whole].lines().for_each(|line| note(line, &mut tally));
            self.rest.drain(..whole);
        }
        tally.into()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Disabled first: an instance in use cannot be removed. The pipe's own reference goes by reopening it elsewhere.
        let _ = std::fs::write(self.instance.join("events/sock/inet_sock_set_state/enable"), "0");
        if let Ok(null) = File::open("/dev/null") {
            self.pipe = null;
        }
        if let Err(error) = std::fs::remove_dir(&self.instance) {
            eprintln!("trace instance {} stays until the next run: {error}", self.instance.display());
        }
    }
}

fn threads_of_pid1() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc/1/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Counts one line: `comm-pid [cpu] flags time: inet_sock_set_state: … protocol=… … oldstate=… newstate=…`.
fn note(line: &str, seen: &mut Tally) {
    assert!(!line.contains("LOST"), "ftrace dropped events, the witness is blind: {line}");
    let Some((task, event)) = line.split_once("inet_sock_set_state: ").filter(|(_, event)| place::is_ours(event))
    else {
        return;
    };
    if !event.contains("protocol=IPPROTO_TCP ") {
        seen.other_protocol += 1;
        return;
    }
    let states = event.split_once("oldstate=").map_or(event, |(_, states)| states);
    match seen.states.get_mut(states) {
        Some(count) => *count += 1,
        None => {
            seen.states.insert(states.to_owned(), 1);
        }
    }
    // The command may contain anything, but the last word before the CPU ends in the thread number.
    let thread = task.split('[').next().and_then(|task| task.trim_end().rsplit('-').next()?.parse().ok());
    if thread.is_some_and(|thread| seen.pid1.contains(&thread)) {
        seen.under_pid1 += 1;
    }
}

/// Counts by the end of the line, `TCP_CLOSE newstate=TCP_SYN_SENT`: under load there are hundreds of thousands of lines.
#[derive(Default)]
struct Tally {
    states: HashMap<String, u64>,
    /// Threads of PID 1.
    pid1: HashSet<u32>,
    under_pid1: u64,
    other_protocol: u64,
}

impl From<Tally> for Seen {
    fn from(tally: Tally) -> Self {
        let series = |states: &str| {
            let (from, to) =
                states.trim_end().split_once(" newstate=").unwrap_or_else(|| panic!("not a state change: {states}"));
            let label = |state: &str| state.trim_start_matches("TCP_").to_lowercase();
            format!("synfin_tcp_transitions_total{{from=\"{}\",to=\"{}\"}}", label(from), label(to))
        };
        let transitions = tally.states.iter().map(|(states, count)| (series(states), *count as f64)).collect();
        Self { transitions, under_pid1: tally.under_pid1, other_protocol: tally.other_protocol }
    }
}

/// A tracefs mount that is attached to no path (fsopen(2), fsmount(2): Linux 5.2).
fn mount_tracefs() -> OwnedFd {
    let checked = |what: &str, result: i64| {
        assert!(
            result >= 0,
            "{what} for tracefs: {} (the witness needs root and CONFIG_TRACING)",
            std::io::Error::last_os_error()
        );
        result as i32
    };
    // SAFETY: the name is a C string; the call returns a new descriptor or -1.
    let context = checked("fsopen", unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 0) });
    // SAFETY: just returned by fsopen and owned by nobody else.
    let context = unsafe { OwnedFd::from_raw_fd(context) };
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    // SAFETY: the create command takes no key, no value and no auxiliary number.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            std::ptr::null::<u8>(),
            std::ptr::null::<u8>(),
            0,
        )
    };
    checked("fsconfig", created);
    // SAFETY: plain numbers; the call returns a new descriptor or -1.
    let mount = checked("fsmount", unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0) });
    // SAFETY: just returned by fsmount and owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(mount) }
}

/// Removes instances of earlier runs that were killed.
fn remove_orphans(root: &Path) {
    for entry in std::fs::read_dir(root.join("instances")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("synfin-lab-").and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::write(entry.path().join("events/sock/inet_sock_set_state/enable"), "0");
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}
