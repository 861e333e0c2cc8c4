//! One file an attach point, named as the kernel names it.

mod inet_sock_set_state;
mod iter_tcp;
mod tcp_retransmit_synack;
