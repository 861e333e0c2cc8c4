//! A histogram with fixed bounds, in whole nanoseconds inside.

/// Bucket bounds are upper, inclusive, in nanoseconds; the last bucket (`+Inf`) is implied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds_ns: &'static [u64],
    /// One count a bound and one more for `+Inf`; not cumulative.
    counts: Vec<u64>,
    sum_ns: u128,
}

impl Histogram {
    /// `bounds_ns` must ascend.
    pub fn new(bounds_ns: &'static [u64]) -> Self {
        Self { bounds_ns, counts: vec![0; bounds_ns.len() + 1], sum_ns: 0 }
    }

    /// Counts one observation of `value_ns` nanoseconds.
    pub fn observe(&mut self, value_ns: u64) {
        let bucket = self.bounds_ns.partition_point(|&bound| bound < value_ns);
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
    fn a_value_on_a_bound_belongs_to_it() {
        let mut histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21] {
            histogram.observe(value);
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!((histogram.count(), histogram.sum_seconds()), (5, 62e-9));
    }
}
