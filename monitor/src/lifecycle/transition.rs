//! The transition table of Linux' TCP as one total function, and what follows from it.

use crate::event::TcpState;

/// What a pair of states means for the life of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransitionKind {
    /// A socket enters the table: connect(), listen(), or a child of a listener (which does not leave LISTEN for it).
    Birth,
    /// A change within a life.
    Step,
    /// An ordinary report without a change, such as FIN_WAIT2→FIN_WAIT2 when close() follows shutdown().
    SelfStep,
    /// A life ends.
    End,
    /// No writer of the socket state in Linux 5.10 to 6.18 is known to make this pair.
    Odd,
}

/// Classifies every pair that the tracepoint `inet_sock_set_state` can report for protocol 6. TIME_WAIT and NEW_SYN_RECV are states
/// of small sockets, which never pass through it.
pub const fn transition_kind(from: TcpState, to: TcpState) -> TransitionKind {
    use TcpState::*;
    match (from, to) {
        (Close, SynSent | Listen) | (Listen, SynRecv) => TransitionKind::Birth,
        (SynSent, Established | SynRecv)
        | (SynRecv, Established | FinWait1 | CloseWait)
        | (Established, FinWait1 | CloseWait)
        | (FinWait1, FinWait2 | Closing)
        | (CloseWait, LastAck) => TransitionKind::Step,
        (FinWait1, FinWait1) | (FinWait2, FinWait2) | (Closing, Closing) | (LastAck, LastAck) | (Close, Close) => {
            TransitionKind::SelfStep
        }
        (SynSent | SynRecv | Established | FinWait1 | FinWait2 | Closing | CloseWait | LastAck | Listen, Close) => {
            TransitionKind::End
        }
        // Everything else is counted under its own name, never taken for something it is not.
        (
            Established | SynSent | SynRecv | FinWait1 | FinWait2 | TimeWait | Close | CloseWait | LastAck | Listen
            | Closing | NewSynRecv,
            _,
        ) => TransitionKind::Odd,
    }
}

/// By `from.index()`, then `to.index()`: whether steps alone lead there.
const REACHABLE: [[bool; TcpState::COUNT]; TcpState::COUNT] = {
    let mut reachable = [[false; TcpState::COUNT]; TcpState::COUNT];
    let mut round = 0;
    // The longest way has fewer steps than there are states.
    while round < TcpState::COUNT {
        let mut from = 0;
        while from < TcpState::COUNT {
            let mut to = 0;
            while to < TcpState::COUNT {
                let kind = transition_kind(TcpState::ALL[from], TcpState::ALL[to]);
                let mut found = from == to || matches!(kind, TransitionKind::Step);
                let mut via = 0;
                while via < TcpState::COUNT {
                    found |= reachable[from][via] && reachable[via][to];
                    via += 1;
                }
                reachable[from][to] |= found;
                to += 1;
            }
            from += 1;
        }
        round += 1;
    }
    reachable
};

/// Whether one life can lead from `from` to `to` (or stay there). If not, an end and a birth lie between them.
pub fn is_reachable(from: TcpState, to: TcpState) -> bool {
    REACHABLE[from.index()][to.index()]
}

/// States whose duration is measured, in the order of the kernel's numbers. LISTEN has no duration of interest; SYN_RECV only after a
/// simultaneous open, because a listener's child passes through it in microseconds.
pub const DWELL_STATES: [TcpState; 8] = [
    TcpState::Established,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Closing,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// One row a `from`, one letter a `to`, both in the order of the kernel's numbers:
    /// `b`irth, `s`tep, `=` self, `e`nd, `.` odd.
    #[test]
    fn all_144_pairs_are_classified() {
        let check = |from: &str, row: &str| {
            let from = TcpState::ALL.into_iter().find(|state| state.label() == from).expect("a state");
            let letters: String = TcpState::ALL
                .into_iter()
                .map(|to| match transition_kind(from, to) {
                    TransitionKind::Birth => 'b',
                    TransitionKind::Step => 's',
                    TransitionKind::SelfStep => '=',
                    TransitionKind::End => 'e',
                    TransitionKind::Odd => '.',
                })
                .collect();
            assert_eq!(letters, row.replace(' ', ""), "from {}", from.label());
        };
        // to:                  ES SS SR F1 F2 TW CL CW LA LI CG NR
        check("established", "   .  .  .  s  .  .  e  s  .  .  .  .");
        check("syn_sent", "      s  .  s  .  .  .  e  .  .  .  .  .");
        check("syn_recv", "      s  .  .  s  .  .  e  s  .  .  .  .");
        check("fin_wait1", "     .  .  .  =  s  .  e  .  .  .  s  .");
        check("fin_wait2", "     .  .  .  .  =  .  e  .  .  .  .  .");
        check("time_wait", "     .  .  .  .  .  .  .  .  .  .  .  .");
        check("close", "         .  b  .  .  .  .  =  .  .  b  .  .");
        check("close_wait", "    .  .  .  .  .  .  e  .  s  .  .  .");
        check("last_ack", "      .  .  .  .  .  .  e  .  =  .  .  .");
        check("listen", "        .  .  b  .  .  .  e  .  .  .  .  .");
        check("closing", "       .  .  .  .  .  .  e  .  .  .  =  .");
        check("new_syn_recv", "  .  .  .  .  .  .  .  .  .  .  .  .");
    }

    #[test]
    fn lives_go_forward_only() {
        use TcpState::*;
        let check = |from, to, expected| assert_eq!(is_reachable(from, to), expected, "{from:?} to {to:?}");
        check(SynSent, LastAck, true);
        check(SynSent, Closing, true);
        check(SynRecv, FinWait2, true);
        check(Established, Established, true);
        check(Established, SynSent, false);
        check(Established, SynRecv, false);
        check(FinWait1, LastAck, false);
        check(FinWait2, Closing, false);
        check(CloseWait, FinWait1, false);
        check(Listen, SynRecv, false);
        check(SynSent, TimeWait, false);
    }
}
