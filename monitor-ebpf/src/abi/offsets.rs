//! Where the running kernel keeps each field, in bytes (of a bit field, named `…_bit`: in bits). Written by the daemon from the kernel's BTF before the load.
//!
//! Rust emits no relocations for kernel fields, and the offsets move with version and configuration, so the daemon
//! resolves them once and the verifier sees constants.

/// The offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Declares [`Offsets`] and the list of kernel types and member paths behind it.
macro_rules! offsets {
    ($($field:ident: $kernel_type:literal, $path:literal;)*) => {
        /// One `u32` a field, each [`ABSENT`] until resolved.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets { $(#[doc = concat!("`", $kernel_type, ".", $path, "`")] pub $field: u32,)* }

        impl Offsets {
            pub const NONE: Self = Self { $($field: ABSENT,)* };
            /// Kernel type, dotted member path, and where the answer goes.
            pub fn fields(&mut self) -> [(&'static str, &'static str, &mut u32); Self::COUNT] {
                [$(($kernel_type, $path, &mut self.$field),)*]
            }
            pub const COUNT: usize = [$(stringify!($field)),*].len();
        }
    };
}

offsets! {
    skc_daddr: "sock_common", "skc_daddr";
    skc_rcv_saddr: "sock_common", "skc_rcv_saddr";
    skc_dport: "sock_common", "skc_dport";
    skc_num: "sock_common", "skc_num";
    skc_family: "sock_common", "skc_family";
    skc_state: "sock_common", "skc_state";
    skc_net: "sock_common", "skc_net";
    skc_v6_daddr: "sock_common", "skc_v6_daddr";
    skc_v6_rcv_saddr: "sock_common", "skc_v6_rcv_saddr";
    skc_flags: "sock_common", "skc_flags";
    skc_listener: "sock_common", "skc_listener";
    sk_protocol: "sock", "sk_protocol";
    sk_err: "sock", "sk_err";
    sk_shutdown: "sock", "sk_shutdown";
    sk_socket: "sock", "sk_socket";
    sk_cgroup: "sock", "sk_cgrp_data.cgroup";
    sk_lingertime: "sock", "sk_lingertime";
    sk_ack_backlog: "sock", "sk_ack_backlog";
    sk_max_ack_backlog: "sock", "sk_max_ack_backlog";
    inet_sport: "inet_sock", "inet_sport";
    srtt_us: "tcp_sock", "srtt_us";
    total_retrans: "tcp_sock", "total_retrans";
    retrans_stamp: "tcp_sock", "retrans_stamp";
    snd_una: "tcp_sock", "snd_una";
    write_seq: "tcp_sock", "write_seq";
    linger2: "tcp_sock", "linger2";
    bytes_received: "tcp_sock", "bytes_received";
    bytes_acked: "tcp_sock", "bytes_acked";
    syn_data_bit: "tcp_sock", "syn_data";
    syn_fastopen_bit: "tcp_sock", "syn_fastopen";
    cgroup_kn: "cgroup", "kn";
    kernfs_id: "kernfs_node", "id";
    net_inum: "net", "ns.inum";
    num_retrans: "request_sock", "num_retrans";
    snt_synack: "tcp_request_sock", "snt_synack";
    tw_substate: "inet_timewait_sock", "tw_substate";
    tw_sport: "inet_timewait_sock", "tw_sport";
    tw_expires: "inet_timewait_sock", "tw_timer.expires";
    tw_timer: "inet_timewait_sock", "tw_timer";
    skc_nulls_pprev: "sock_common", "skc_nulls_node.pprev";
    skc_prot: "sock_common", "skc_prot";
    proto_name: "proto", "name";
    net_ns_count: "net", "ns.count";
    net_ns_ref: "net", "ns.__ns_ref";
    net_count: "net", "count";
}
