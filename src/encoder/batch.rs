//! Packs token sequences into batches.

/// Groups sequences into batches of at most `budget` tokens (a longer sequence is a batch of its own).
///
/// A batch never mixes lengths. Nothing is padded, and the hidden states of a sequence are then the same bytes in every
/// batch: sums over a padded row add in another order. Returned indices are ordered by length, then by position.
pub fn pack(lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let length = lengths[index];
        match batches.last_mut() {
            Some(batch) if lengths[batch[0]] == length && (batch.len() + 1) * length <= budget => batch.push(index),
            _ => batches.push(vec![index]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_sequence_is_in_one_batch_within_the_budget(lengths in proptest::collection::vec(1usize..40, 0..60), budget in 1usize..100) {
            let batches = pack(&lengths, budget);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in batches {
                let length = lengths[batch[0]];
                prop_assert!(batch.iter().all(|&index| lengths[index] == length));
                prop_assert!(batch.len() == 1 || batch.len() * length <= budget);
            }
        }
    }
}
