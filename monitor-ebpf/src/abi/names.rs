//! Names of maps, programs and globals as both sides spell them.

/// Maps.
pub const CPUS: &str = "CPUS";
pub const LANES: &str = "LANES";
pub const RING: &str = "RING";
pub const ENDS: &str = "ENDS";

/// Programs, by attach point and way. Those of one way are attached together and share the work; the first has the
/// events of softirqs.
pub const SET_STATE_BTF: &[&str] = &["inet_sock_set_state_softirq", "inet_sock_set_state"];
pub const SET_STATE_RAW: &[&str] = &["inet_sock_set_state_raw_softirq", "inet_sock_set_state_raw"];
pub const SET_STATE_CLASSIC: &[&str] = &["inet_sock_set_state_classic"];
pub const SYNACK_BTF: &[&str] = &["tcp_retransmit_synack"];
pub const SYNACK_RAW: &[&str] = &["tcp_retransmit_synack_raw"];
pub const CENSUS: &str = "iter_tcp";

/// Programs at functions of the kernel, of which each bears the name ([`function_of`]). The last one counts the ends: when
/// it begins, the others are at work.
pub const TW_ENDS: &[&str] = &[
    "inet_twsk_alloc_exit",
    "tcp_timewait_state_process",
    "tcp_timewait_state_process_exit",
    "tcp_abort",
    "tcp_abort_exit",
    "tw_timer_handler",
    "inet_twsk_kill",
];

/// The function of the kernel that a program is attached to.
pub fn function_of(program: &str) -> &str {
    program.strip_suffix("_exit").unwrap_or(program)
}

/// Globals, written by the daemon before the load.
pub const OFFSETS: &str = "OFFSETS";
pub const NETNS: &str = "NETNS";
pub const WAKE_MASK: &str = "WAKE_MASK";
pub const WAKE_BYTES: &str = "WAKE_BYTES";
pub const HZ: &str = "HZ";
pub const NESTS: &str = "NESTS";
pub const LANE_PAGES: &str = "LANE_PAGES";
