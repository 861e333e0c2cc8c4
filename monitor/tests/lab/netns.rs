//! Network namespaces that live as long as their handle: no name unless asked for, nothing to clean up, gone even when a test is killed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::Duration;

pub struct Netns {
    handle: File,
    /// Of `ip netns`.
    name: Option<OsString>,
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What lives in it ends with the handle, right after.
            let _ = Command::new("ip").args(["netns", "del"]).arg(name).output();
        }
    }
}

impl Netns {
    /// A fresh namespace with `lo` up and nothing else in it.
    pub fn new() -> Self {
        super::require_root();
        let handle = std::thread::spawn(|| {
            // SAFETY: unshare takes a flag; it changes this thread only, which ends here.
            let status = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(status, 0, "unshare(CLONE_NEWNET): {}", std::io::Error::last_os_error());
            File::open("/proc/thread-self/ns/net").expect("the namespace of the thread that made it")
        })
        .join()
        .expect("the thread that makes a namespace");
        let netns = Self { handle, name: None };
        netns.ip("link set lo up");
        netns
    }

    /// The same with a name that `ip netns` shows; it goes with the handle.
    pub fn named(name: impl AsRef<OsStr>) -> Self {
        super::require_root();
        let name = name.as_ref();
        let output = Command::new("ip").args(["netns", "add"]).arg(name).output().expect("ip can be started");
        assert!(output.status.success(), "ip netns add: {}", String::from_utf8_lossy(&output.stderr));
        let handle = File::open(Path::new("/run/netns").join(name)).expect("the namespace just made");
        let netns = Self { handle, name: Some(name.to_owned()) };
        netns.ip("link set lo up");
        netns
    }

    /// The inode number that events carry as `netns`.
    pub fn inum(&self) -> u64 {
        self.handle.metadata().expect("metadata of a namespace handle").ino()
    }

    /// A second handle, for a thread that lives on its own.
    pub fn entrance(&self) -> Self {
        Self { handle: self.handle.try_clone().expect("a copy of a namespace handle"), name: None }
    }

    /// Path by which `ip link … netns` finds it while this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd())
    }

    /// Runs `body` in the namespace, on a thread of its own. Sockets and processes made there stay in it.
    pub fn run<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                body()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace for good.
    pub fn enter(&self) {
        // SAFETY: the handle is an open namespace file; setns changes the calling thread only.
        let status = unsafe { libc::setns(self.handle.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(status, 0, "setns: {}", std::io::Error::last_os_error());
    }

    /// Runs a command in the namespace and returns what it printed; panics when it fails.
    pub fn command(&self, line: &str) -> String {
        let output = self.try_command(line);
        assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same, leaving the judgement to the caller.
    pub fn try_command(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a command"));
        command.args(words);
        self.run(move || command.output()).unwrap_or_else(|error| panic!("`{line}` could not be started: {error}"))
    }

    /// `ip …` in the namespace.
    pub fn ip(&self, arguments: &str) {
        self.command(&format!("ip {arguments}"));
    }

    /// Writes a sysctl of this namespace, for example `net.ipv4.tcp_syncookies`. The namespace's end undoes it.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.run(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("writing {value} to {path}: {error}"));
    }

    /// Reads a file of the calling thread's view, for example `net/sockstat` below `/proc/thread-self`.
    pub fn proc(&self, path: &str) -> String {
        let path = format!("/proc/thread-self/{path}");
        self.run(|| std::fs::read_to_string(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Connects this namespace with `other` by a veth pair; each address is `…/prefix`.
    pub fn veth(&self, here: &str, other: &Self, there: &str) {
        self.ip("link add veth0 type veth peer name veth1");
        self.ip(&format!("link set veth1 netns {}", other.path()));
        for (netns, device, address) in [(self, "veth0", here), (other, "veth1", there)] {
            netns.ip(&format!("addr add {address} dev {device} nodad"));
            netns.ip(&format!("link set {device} up"));
        }
        // Until the kernel has seen both ends up, which it looks for once a second, packets are dropped.
        for (netns, device) in [(self, "veth0"), (other, "veth1")] {
            super::wait_until("a veth pair that is up", Duration::from_secs(5), || {
                netns.command(&format!("ip -o link show {device}")).contains("state UP")
            });
        }
    }
}

/// A process that keeps a namespace in sight: one that only a descriptor holds is in no list of the kernel.
pub struct Inhabitant(pub Child);

impl Inhabitant {
    pub fn of(netns: &Netns) -> Self {
        Self(netns.run(|| Command::new("sleep").arg("600").spawn().expect("sleep starts")))
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
