//! Bucket bounds of the histograms, in nanoseconds. Few of them: each is a series for every label.

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Handshakes: from loopback to the far side of the earth in steps of 2 to 2.5, then the moments at which Linux repeats a SYN or SYN-ACK
/// (1, 3, 7, 15, 31, 63 s; 2 s besides since tcp_syn_linear_timeouts), so that a bucket tells how many were lost.
pub const HANDSHAKE_NS: [u64; 22] = [
    25 * US,
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2 * S,
    3 * S,
    7 * S,
    15 * S,
    31 * S,
    63 * S,
    120 * S,
];

/// States and whole connections: steps of about 3, with the minute (TIME_WAIT and FIN_WAIT2 last one), the hour and the day.
pub const DURATION_NS: [u64; 18] = [
    MS,
    3 * MS,
    10 * MS,
    30 * MS,
    100 * MS,
    300 * MS,
    S,
    3 * S,
    10 * S,
    30 * S,
    60 * S,
    180 * S,
    600 * S,
    1_800 * S,
    3_600 * S,
    10_800 * S,
    36_000 * S,
    86_400 * S,
];

#[cfg(test)]
mod tests {
    #[test]
    fn bounds_ascend() {
        for bounds in [&super::HANDSHAKE_NS[..], &super::DURATION_NS[..]] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
