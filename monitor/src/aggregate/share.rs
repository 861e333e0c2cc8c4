//! A whole number shared out in proportion, with nothing left over.

/// Parts of `total` in proportion to `weights`, each at most its weight: largest remainders first, then in order. They sum to the smaller of
/// `total` and the sum of the weights.
pub fn share(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let total = u128::from(total).min(sum);
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: u64| u128::from(weight) * total;
    // A quotient of at most `weight`, since `total` is at most `sum`.
    let mut parts: Vec<u64> = weights.iter().map(|&weight| (exact(weight) / sum) as u64).collect();
    let mut left = total - parts.iter().map(|&part| u128::from(part)).sum::<u128>();
    let mut order: Vec<usize> = (0..weights.len()).filter(|&at| parts[at] < weights[at]).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(exact(weights[at]) % sum));
    for at in order {
        if left == 0 {
            break;
        }
        parts[at] += 1;
        left -= 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_in_proportion() {
        let check = |total, weights: &[u64], parts: &[u64]| assert_eq!(share(total, weights), parts, "{total}");
        check(0, &[3, 1], &[0, 0]);
        check(2, &[3, 1], &[2, 0]);
        check(3, &[3, 1], &[2, 1]);
        check(4, &[3, 1], &[3, 1]);
        check(9, &[3, 1], &[3, 1]);
        check(9, &[], &[]);
        check(9, &[0, 0], &[0, 0]);
        check(1, &[1, 1], &[1, 0]);
    }

    proptest! {
        #[test]
        fn nothing_is_left_over_and_nobody_gives_more_than_he_has(total: u32, weights in prop::collection::vec(0..5000_u64, 0..60)) {
            let parts = share(u64::from(total), &weights);
            prop_assert_eq!(parts.iter().sum::<u64>(), u64::from(total).min(weights.iter().sum()));
            prop_assert!(parts.iter().zip(&weights).all(|(part, weight)| part <= weight));
        }
    }
}
