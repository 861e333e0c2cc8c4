//! Fields of the kernel's sockets as the records want them.

use synfin_ebpf::{
    abi::{AF_INET6, Tuple, offsets::ABSENT},
    cause,
    decide::{self, Dying},
};

use crate::{access::Access, globals::offset};

/// A `struct sock_common` and what starts with one, read by access `A`.
pub struct Sock<A: Access> {
    base: *const u8,
    access: core::marker::PhantomData<A>,
}

impl<A: Access> Sock<A> {
    /// # Safety
    /// `base` must point to a socket of the kernel in the way `A` needs.
    #[inline(always)]
    pub unsafe fn new(base: *const u8) -> Self {
        Self { base, access: core::marker::PhantomData }
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: promised at `new`.
        unsafe { A::read(self.base, offset) }
    }

    #[inline(always)]
    pub fn family(&self) -> u8 {
        self.read::<u16>(offset!(skc_family)) as u8
    }

    #[inline(always)]
    pub fn state(&self) -> u8 {
        self.read(offset!(skc_state))
    }

    #[inline(always)]
    pub fn protocol(&self) -> u16 {
        self.read(offset!(sk_protocol))
    }

    /// Inode number of the network namespace.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        let net: *const u8 = self.read(offset!(skc_net));
        // SAFETY: a living socket holds its namespace.
        unsafe { A::read(net, offset!(net_inum)) }
    }

    /// Inode number of the socket's cgroup v2 directory, 0 where the kernel has no cgroups for sockets.
    #[inline(always)]
    pub fn cgroup_id(&self) -> u64 {
        if offset!(sk_cgroup) == ABSENT {
            return 0;
        }
        let cgroup: *const u8 = self.read(offset!(sk_cgroup));
        // SAFETY: a living socket holds its cgroup, and that its directory.
        unsafe {
            let kn: *const u8 = A::read(cgroup, offset!(cgroup_kn));
            A::read(kn, offset!(kernfs_id))
        }
    }

    /// Both ends. `sport` in host order comes from the caller, since it lies elsewhere in each kind of socket.
    #[inline(always)]
    pub fn tuple(&self, sport: u16) -> Tuple {
        let (saddr, daddr) = if self.family() == AF_INET6 {
            let (s, d) = (offset!(skc_v6_rcv_saddr), offset!(skc_v6_daddr));
            ([self.read::<u64>(s), self.read::<u64>(s + 8)], [self.read::<u64>(d), self.read::<u64>(d + 8)])
        } else {
            (mapped(self.read(offset!(skc_rcv_saddr))), mapped(self.read(offset!(skc_daddr))))
        };
        Tuple { saddr: bytes(saddr), daddr: bytes(daddr), sport, dport: u16::from_be(self.read(offset!(skc_dport))) }
    }

    /// Both ends of a full socket, whose local port is `inet_sport`.
    ///
    /// # Safety
    /// `at` must be a place for a tuple.
    #[inline(always)]
    pub unsafe fn write_tuple(&self, at: *mut Tuple) {
        // SAFETY: the caller's promise; addresses lie at multiples of 8.
        unsafe {
            let (saddr, daddr) = ((&raw mut (*at).saddr).cast::<u64>(), (&raw mut (*at).daddr).cast::<u64>());
            if self.family() == AF_INET6 {
                let (s, d) = (offset!(skc_v6_rcv_saddr), offset!(skc_v6_daddr));
                saddr.write(self.read(s));
                saddr.add(1).write(self.read(s + 8));
                daddr.write(self.read(d));
                daddr.add(1).write(self.read(d + 8));
            } else {
                let ([first, second], [third, fourth]) =
                    (mapped(self.read(offset!(skc_rcv_saddr))), mapped(self.read(offset!(skc_daddr))));
                saddr.write(first);
                saddr.add(1).write(second);
                daddr.write(third);
                daddr.add(1).write(fourth);
            }
            (&raw mut (*at).sport).write(self.sport());
            (&raw mut (*at).dport).write(u16::from_be(self.read(offset!(skc_dport))));
        }
    }

    /// `skc_num`: the local port, already in host order. Of requests and of hashed sockets; gone at CLOSE.
    #[inline(always)]
    pub fn num(&self) -> u16 {
        self.read(offset!(skc_num))
    }

    /// `inet_sport`: the local port, still there at CLOSE. Of full sockets only.
    #[inline(always)]
    pub fn sport(&self) -> u16 {
        u16::from_be(self.read(offset!(inet_sport)))
    }

    #[inline(always)]
    pub fn sk_flags(&self) -> u64 {
        self.read(offset!(skc_flags))
    }

    #[inline(always)]
    pub fn has_socket(&self) -> bool {
        !self.read::<*const u8>(offset!(sk_socket)).is_null()
    }

    #[inline(always)]
    pub fn sk_err(&self) -> u32 {
        self.read(offset!(sk_err))
    }

    /// Microseconds.
    #[inline(always)]
    pub fn srtt_us(&self) -> u32 {
        self.read::<u32>(offset!(srtt_us)) >> 3
    }

    #[inline(always)]
    pub fn total_retrans(&self) -> u32 {
        self.read(offset!(total_retrans))
    }

    #[inline(always)]
    pub fn bytes_acked(&self) -> u64 {
        self.read(offset!(bytes_acked))
    }

    #[inline(always)]
    pub fn bytes_received(&self) -> u64 {
        self.read(offset!(bytes_received))
    }

    /// Whether one of the Fast Open bits is set (`syn_data`, `syn_fastopen`); their offsets are in bits.
    #[inline(always)]
    pub fn fast_open(&self) -> bool {
        self.bit(offset!(syn_data_bit)) || self.bit(offset!(syn_fastopen_bit))
    }

    #[inline(always)]
    fn bit(&self, bit_offset: u32) -> bool {
        bit_offset != ABSENT && self.read::<u8>(bit_offset / 8) & (1 << (bit_offset % 8)) != 0
    }

    /// [`synfin_ebpf::abi::record::end_flag`] of a socket on its way to CLOSE.
    #[inline(always)]
    pub fn end_flags(&self) -> u32 {
        decide::end_flags(Dying {
            sk_shutdown: self.read(offset!(sk_shutdown)),
            sk_flags: self.sk_flags(),
            sk_lingertime: self.read(offset!(sk_lingertime)),
            linger2: self.read(offset!(linger2)),
            snd_una: self.read(offset!(snd_una)),
            write_seq: self.read(offset!(write_seq)),
            has_socket: self.has_socket(),
            retrans_stamp: self.read(offset!(retrans_stamp)),
        })
    }

    /// For listeners: length of the accept queue and its bound.
    #[inline(always)]
    pub fn backlog(&self) -> (u32, u32) {
        (self.read(offset!(sk_ack_backlog)), self.read(offset!(sk_max_ack_backlog)))
    }

    /// For requests: retransmissions of the SYN-ACK.
    #[inline(always)]
    pub fn num_retrans(&self) -> u8 {
        self.read(offset!(num_retrans))
    }

    /// For requests: when the first SYN-ACK left, microseconds.
    #[inline(always)]
    pub fn snt_synack_us(&self) -> u64 {
        self.read(offset!(snt_synack))
    }

    /// For requests: the address of the listener.
    #[inline(always)]
    pub fn listener(&self) -> u64 {
        self.read(offset!(skc_listener))
    }

    /// For small TIME_WAIT sockets: TIME_WAIT or FIN_WAIT2.
    #[inline(always)]
    pub fn tw_substate(&self) -> u8 {
        self.read(offset!(tw_substate))
    }

    /// For small TIME_WAIT sockets: the local port, host order.
    #[inline(always)]
    pub fn tw_sport(&self) -> u16 {
        u16::from_be(self.read(offset!(tw_sport)))
    }

    /// For small TIME_WAIT sockets: when the timer ends them, jiffies.
    #[inline(always)]
    pub fn tw_expires(&self) -> u64 {
        self.read(offset!(tw_expires))
    }
}

/// A `struct inet_timewait_sock`, for the programs that count its end.
impl<A: Access> Sock<A> {
    /// Whether it belongs to TCP.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        let prot: *const u8 = self.read(offset!(skc_prot));
        // SAFETY: a living socket points to its protocol, which stays.
        cause::is_tcp(unsafe { A::read(prot, offset!(proto_name)) })
    }

    /// Whether it is in no list of the table of connections.
    #[inline(always)]
    pub fn is_unhashed(&self) -> bool {
        self.read::<u64>(offset!(skc_nulls_pprev)) == 0
    }

    /// Whether nobody holds its network namespace any more. The count of holders has moved: up to 5.10 it is the namespace's
    /// own, then that of all kinds of namespaces, renamed in 6.18. Where it is under none of these names: no.
    #[inline(always)]
    pub fn netns_is_dying(&self) -> bool {
        let known = [offset!(net_ns_count), offset!(net_ns_ref), offset!(net_count)];
        let [now, renamed, before] = known.map(|offset| (offset != ABSENT).then_some(offset));
        let Some(count) = now.or(renamed).or(before) else { return false };
        let net: *const u8 = self.read(offset!(skc_net));
        // SAFETY: a namespace outlives the small sockets in it.
        unsafe { A::read::<u32>(net, count) == 0 }
    }

    /// The address of its timer.
    #[inline(always)]
    pub fn tw_timer(&self) -> u64 {
        self.base as u64 + u64::from(offset!(tw_timer))
    }
}

/// The IPv4-mapped form of an address in network order, as two words.
#[inline(always)]
fn mapped(v4: u32) -> [u64; 2] {
    // In memory: eight zero bytes, then 00 00 ff ff, then the four of the address (little endian words).
    [0, 0xffff_0000 | (u64::from(v4) << 32)]
}

#[inline(always)]
fn bytes(words: [u64; 2]) -> [u8; 16] {
    // SAFETY: 16 bytes either way.
    unsafe { core::mem::transmute(words) }
}
