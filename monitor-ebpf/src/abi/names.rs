//! Names of maps, programs and globals as both sides spell them.

/// Maps.
pub const CPUS: &str = "CPUS";
pub const LANES: &str = "LANES";
pub const RING: &str = "RING";

/// Programs, by attach point and way. Those of one way are attached together and share the work; the first has the
/// events of softirqs.
pub const SET_STATE_BTF: &[&str] = &["inet_sock_set_state_softirq", "inet_sock_set_state"];
pub const SET_STATE_RAW: &[&str] = &["inet_sock_set_state_raw_softirq", "inet_sock_set_state_raw"];
pub const SET_STATE_CLASSIC: &[&str] = &["inet_sock_set_state_classic"];
pub const SYNACK_BTF: &[&str] = &["tcp_retransmit_synack"];
pub const SYNACK_RAW: &[&str] = &["tcp_retransmit_synack_raw"];
pub const CENSUS: &str = "iter_tcp";

/// Globals, written by the daemon before the load.
pub const OFFSETS: &str = "OFFSETS";
pub const NETNS: &str = "NETNS";
pub const WAKE_MASK: &str = "WAKE_MASK";
pub const WAKE_BYTES: &str = "WAKE_BYTES";
pub const HZ: &str = "HZ";
pub const NESTS: &str = "NESTS";
pub const LANE_PAGES: &str = "LANE_PAGES";
