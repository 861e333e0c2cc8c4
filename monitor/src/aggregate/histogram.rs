//! A histogram with fixed bounds, in whole nanoseconds inside.

/// Bucket bounds are upper, inclusive, in nanoseconds; the last bucket (`+Inf`) is implied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds_ns: &'static [u64],
    /// By the number of binary digits of a value: the first bucket that it can be in.
    first: [u8; 65],
    /// One count a bound and one more for `+Inf`; not cumulative.
    counts: Vec<u64>,
    sum_ns: u128,
}

impl Histogram {
    /// `bounds_ns` must ascend; at most 255 of them.
    pub fn new(bounds_ns: &'static [u64]) -> Self {
        let least = |digits: usize| if digits == 0 { 0 } else { 1 << (digits - 1) };
        let first = |digits| bounds_ns.partition_point(|&bound| bound < least(digits)) as u8;
        Self { bounds_ns, first: std::array::from_fn(first), counts: vec![0; bounds_ns.len() + 1], sum_ns: 0 }
    }

    /// Counts one observation of `value_ns` nanoseconds.
    pub fn observe(&mut self, value_ns: u64) {
        // Bounds that grow by powers of two or ten: a step or two from there, against five of a search by halves.
        let mut bucket = usize::from(self.first[(u64::BITS - value_ns.leading_zeros()) as usize]);
        while self.bounds_ns.get(bucket).is_some_and(|&bound| bound < value_ns) {
            bucket += 1;
        }
        self.counts[bucket] += 1;
        self.sum_ns += u128::from(value_ns);
    }

    pub fn bounds_ns(&self) -> &'static [u64] {
        self.bounds_ns
    }

    /// Observations at or below each bound, ascending, then all of them (`+Inf`).
    pub fn cumulative(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_the_one_that_a_search_finds() {
        const BOUNDS: &[u64] = &[1, 5, 8, 9, 1000, 1024, 1025, 1 << 40, u64::MAX];
        for value in BOUNDS.iter().flat_map(|bound| [bound - 1, *bound, bound.saturating_add(1)]).chain([0, 7, 600]) {
            let mut histogram = Histogram::new(BOUNDS);
            histogram.observe(value);
            let expected = BOUNDS.partition_point(|&bound| bound < value);
            assert_eq!(histogram.counts.iter().position(|&count| count == 1), Some(expected), "{value}");
        }
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_it() {
        let mut histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21] {
            histogram.observe(value);
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!((histogram.count(), histogram.sum_seconds()), (5, 62e-9));
    }
}
