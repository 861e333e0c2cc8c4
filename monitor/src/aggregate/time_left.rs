//! Small sockets by the time that is left of them, coarse enough to be kept for each maker.

use super::top::Tally;

/// Milliseconds in one step. A TIME_WAIT socket lives for 60 s, and so does one in FIN_WAIT2 at most.
const STEP_MS: u32 = 5_000;
const STEPS: usize = 12;

/// How many end in each step; what is left longer counts as the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByTimeLeft([u32; STEPS]);

impl ByTimeLeft {
    pub const STEPS: usize = STEPS;

    /// The step in which a socket ends that has so much left.
    pub fn step(ms: u64) -> usize {
        usize::try_from(ms / u64::from(STEP_MS)).unwrap_or(STEPS).min(STEPS - 1)
    }

    pub fn one(remaining_ms: u32) -> Self {
        let mut one = Self::default();
        one.0[Self::step(u64::from(remaining_ms))] = 1;
        one
    }

    pub fn of_step(&self, step: usize) -> u64 {
        u64::from(self.0[step])
    }

    pub fn subtract(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, other)| *count = count.saturating_sub(other));
    }

    /// Those that are left after `ms`; they end evenly within a step, and the last at its end.
    pub fn left_after(&self, ms: u64) -> u64 {
        let left = |(step, &count): (usize, &u32)| {
            let end = (step as u64 + 1) * u64::from(STEP_MS);
            (u64::from(count) * end.saturating_sub(ms).min(u64::from(STEP_MS))).div_ceil(u64::from(STEP_MS))
        };
        self.0.iter().enumerate().map(left).sum()
    }
}

impl Tally for ByTimeLeft {
    fn weight(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }
    fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, other)| *count = count.saturating_add(other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_end_step_by_step() {
        let mut sockets = ByTimeLeft::default();
        for remaining_ms in [0, 4_999, 5_000, 59_999, 60_000, 120_000] {
            sockets.add(ByTimeLeft::one(remaining_ms));
        }
        assert_eq!((sockets.weight(), sockets.of_step(0), sockets.of_step(1), sockets.of_step(11)), (6, 2, 1, 3));
        let check = |ms, left| assert_eq!(sockets.left_after(ms), left, "{ms}");
        check(0, 6);
        check(2_500, 5);
        check(5_000, 4);
        check(10_000, 3);
        check(60_000, 0);
        check(600_000, 0);
        sockets.subtract(ByTimeLeft::one(3));
        assert_eq!((sockets.weight(), sockets.of_step(0)), (5, 1));
    }
}
