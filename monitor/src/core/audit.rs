//! What a census says of the small sockets that the page told of until then.

use crate::aggregate::SmallSockets;

/// What can have changed while the walk went on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Ends into TIME_WAIT.
    pub entered: u64,
    /// Ends into FIN_WAIT2.
    pub waiting: u64,
    /// Those met in FIN_WAIT2, or passed by in it, that may have turned since.
    pub turning: u64,
    /// Sockets in TIME_WAIT that were met and ended since.
    pub left: u64,
}

/// Told minus counted, of TIME_WAIT and of FIN_WAIT2, beyond what `moved`. `told`: at the end of the walk, by all that was known before it.
pub fn small_drift(told: SmallSockets, counted: SmallSockets, moved: Moved) -> (i64, i64) {
    let Moved { entered, waiting, turning, left } = moved;
    // At the end there are those that were met, less those that went since, and those that came behind the walk.
    let beyond = |told: u64, counted: u64, more: u64, less: u64| {
        told as i64 - told.clamp(counted.saturating_sub(less), counted + more) as i64
    };
    let time_wait = beyond(told.time_wait, counted.time_wait, entered + waiting + turning, left);
    (time_wait, beyond(told.fin_wait2, counted.fin_wait2, waiting, turning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_during_the_walk_is_no_drift() {
        let moved = Moved { entered: 10, waiting: 20, turning: 5, left: 3 };
        let check = |(time_wait, fin_wait2), moved, drift| {
            let told = SmallSockets { time_wait, fin_wait2, requests: 9 };
            let counted = SmallSockets { time_wait: 1000, fin_wait2: 100, requests: 0 };
            assert_eq!(small_drift(told, counted, moved), drift, "{told:?} {moved:?}");
        };
        check((1000, 100), Moved::default(), (0, 0));
        check((1003, 97), Moved::default(), (3, -3));
        check((1035, 120), moved, (0, 0));
        check((1036, 121), moved, (1, 1));
        check((997, 95), moved, (0, 0));
        check((996, 94), moved, (-1, -1));
        check((0, 1200), Moved { left: 5000, ..moved }, (0, 1080));
    }
}
