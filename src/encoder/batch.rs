//! Packs token sequences into batches.

/// Groups sequences into batches of at most `budget` tokens (a longer sequence is a batch of its own), ordered by
/// length and then by position; empty ones are left out. Without `mixed` a batch holds sequences of one length, so that nothing is padded.
pub fn pack(lengths: &[usize], budget: usize, mixed: bool) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&index| lengths[index] > 0).collect();
    order.sort_by_key(|&index| lengths[index]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for index in order {
        let length = lengths[index];
        match batches.last_mut() {
            Some(batch) if (mixed || lengths[batch[0]] == length) && tokens + length <= budget => {
                batch.push(index);
                tokens += length;
            }
            _ => {
                batches.push(vec![index]);
                tokens = length;
            }
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
        fn every_sequence_is_in_one_batch_within_the_budget(lengths in proptest::collection::vec(0usize..40, 0..60), budget in 1usize..100, mixed: bool) {
            let batches = pack(&lengths, budget, mixed);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            let expected: Vec<usize> = (0..lengths.len()).filter(|&index| lengths[index] > 0).collect();
            prop_assert_eq!(seen, expected);
            for batch in batches {
                prop_assert!(mixed || batch.iter().all(|&index| lengths[index] == lengths[batch[0]]));
                let tokens: usize = batch.iter().map(|&index| lengths[index]).sum();
                prop_assert!(batch.len() == 1 || tokens <= budget);
            }
        }
    }
}
