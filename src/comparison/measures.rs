//! How alike two distributions or two orders are. All functions are symmetric in their arguments.

/// Total variation distance of two distributions over the same entries: half the sum of absolute differences, in
/// [0, 1]. `None` unless both sum to one.
pub fn total_variation(left: &[f64], right: &[f64]) -> Option<f64> {
    let is_distribution = |shares: &[f64]| (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9;
    if left.len() != right.len() || !is_distribution(left) || !is_distribution(right) {
        return None;
    }
    let distance = left.iter().zip(right).map(|(l, r)| (l - r).abs()).sum::<f64>() / 2.0;
    Some(distance.clamp(0.0, 1.0))
}

/// Spearman's rank correlation: Pearson's correlation of ranks, ties at their average rank (Spearman 1904). `None` where
/// one side is constant.
pub fn spearman(left: &[f64], right: &[f64]) -> Option<f64> {
    if left.len() != right.len() {
        return None;
    }
    let (left, right) = (ranks(left), ranks(right));
    let mean = (left.len() as f64 + 1.0) / 2.0;
    let (mut covariance, mut left_square, mut right_square) = (0.0, 0.0, 0.0);
    for (l, r) in left.iter().zip(&right) {
        covariance += (l - mean) * (r - mean);
        left_square += (l - mean).powi(2);
        right_square += (r - mean).powi(2);
    }
    let scale = left_square.sqrt() * right_square.sqrt();
    (scale > 0.0).then(|| (covariance / scale).clamp(-1.0, 1.0))
}

/// Kendall's tau-b, which allows for ties (Kendall 1945). `None` where one side is constant.
pub fn kendall(left: &[f64], right: &[f64]) -> Option<f64> {
    if left.len() != right.len() {
        return None;
    }
    let (mut score, mut left_untied, mut right_untied) = (0i64, 0i64, 0i64);
    for high in 1..left.len() {
        for low in 0..high {
            let sign = |values: &[f64]| match values[high].total_cmp(&values[low]) {
                std::cmp::Ordering::Less => -1,
                std::cmp::Ordering::Equal => 0,
                std::cmp::Ordering::Greater => 1,
            };
            let (l, r) = (sign(left), sign(right));
            score += l * r;
            left_untied += l * l;
            right_untied += r * r;
        }
    }
    let scale = (left_untied as f64 * right_untied as f64).sqrt();
    (scale > 0.0).then(|| (score as f64 / scale).clamp(-1.0, 1.0))
}

/// Ranks from 1; ties share the average of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..].iter().take_while(|&&at| values[at] == values[order[start]]).count();
        let rank = start as f64 + (tied as f64 + 1.0) / 2.0;
        order[start..start + tied].iter().for_each(|&at| ranks[at] = rank);
        start += tied;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn total_variation_is_half_the_sum_of_differences() {
        // |0.5 - 0.25| + |0.5 - 0.5| + |0 - 0.25| = 0.5
        assert_eq!(total_variation(&[0.5, 0.5, 0.0], &[0.25, 0.5, 0.25]), Some(0.25));
        assert_eq!(total_variation(&[1.0, 0.0], &[0.0, 1.0]), Some(1.0));
        assert_eq!(total_variation(&[0.0, 0.0], &[0.5, 0.5]), None);
    }

    #[test]
    fn spearman_by_hand() {
        // Ranks 1 2 3 4 5 and 2 1 4 3 5: squared differences 1 + 1 + 1 + 1 + 0 = 4; 1 - 6 * 4 / (5 * 24) = 0.8
        let value = spearman(&[10.0, 20.0, 30.0, 40.0, 50.0], &[2.0, 1.0, 4.0, 3.0, 9.0]).expect("defined");
        assert!((value - 0.8).abs() < 1e-12);
        // Ranks 1.5 1.5 3 and 1 2 3: covariance 1.5, squares 1.5 and 2; 1.5 / sqrt(3) = 0.8660
        let value = spearman(&[0.0, 0.0, 1.0], &[1.0, 2.0, 3.0]).expect("defined");
        assert!((value - 0.75f64.sqrt()).abs() < 1e-12);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn kendall_by_hand() {
        // Of 10 pairs, 8 concordant and 2 discordant: (8 - 2) / 10
        assert_eq!(kendall(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 9.0]), Some(0.6));
        // One of 3 pairs is tied on the left, 2 are concordant: 2 / sqrt(2 * 3)
        let value = kendall(&[0.0, 0.0, 1.0], &[1.0, 2.0, 3.0]).expect("defined");
        assert!((value - 2.0 / 6f64.sqrt()).abs() < 1e-12);
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    fn shares(counts: &[u32]) -> Vec<f64> {
        let sum: u32 = counts.iter().sum();
        counts.iter().map(|&count| f64::from(count) / f64::from(sum)).collect()
    }

    proptest! {
        #[test]
        fn measures_keep_their_range_and_are_symmetric(pairs in proptest::collection::vec((0u32..6, 0u32..6), 2..30)) {
            let (left, right): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
            let values = |counts: &[u32]| counts.iter().map(|&count| f64::from(count)).collect::<Vec<f64>>();
            let (l, r) = (values(&left), values(&right));
            for measure in [spearman, kendall] {
                prop_assert_eq!(measure(&l, &r), measure(&r, &l));
                prop_assert!(measure(&l, &r).is_none_or(|value| (-1.0..=1.0).contains(&value)));
                prop_assert!(measure(&l, &l).is_none_or(|value| (value - 1.0).abs() < 1e-12));
            }
            let (l, r) = (shares(&left), shares(&right));
            prop_assert_eq!(total_variation(&l, &r), total_variation(&r, &l));
            prop_assert!(total_variation(&l, &r).is_none_or(|value| (0.0..=1.0).contains(&value)));
            prop_assert!(total_variation(&l, &l).is_none_or(|value| value == 0.0));
        }
    }
}
