//! One file an attach point, named as the kernel names it.

mod inet_sock_set_state;
mod inet_twsk_alloc;
mod inet_twsk_kill;
mod iter_tcp;
mod tcp_abort;
mod tcp_retransmit_synack;
mod tcp_timewait_state_process;
mod tw_timer_handler;
