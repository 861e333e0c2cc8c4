//! What the host says outside the probes: sysctls, counters, socket totals, names of namespaces, cgroups and units.
//!
//! Each file has a pure parser and, apart from it, a small reader. A figure that the kernel does not have is `None`, never 0.

mod cgroup;
mod kernel_release;
mod netns;
mod netns_names;
mod snmp;
mod sock_diag;
mod sockstat;
mod sysctl;
mod unit;

pub use cgroup::{CgroupNames, find_cgroup2_mount, read_mount};
pub use kernel_release::{KernelRelease, read_release};
pub use netns::{FoundNetns, count_netns, enter_netns, find_namespaces, read_netns, read_netns_cookie, read_own_netns};
pub use netns_names::{NetnsBook, NetnsNames};
pub use snmp::{Snmp, parse_tcp_ext, read_snmp};
pub use sock_diag::{dump_sock_diag, probe_sock_diag};
pub use sockstat::{Sockstat, read_sockstat};
pub use sysctl::{PortRange, PortRanges, Sysctls, read_sysctl, read_sysctls};
pub use unit::unit_of_path;

pub mod open_files;
pub mod process;

pub mod sysctl_files;
