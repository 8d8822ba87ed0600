//! The linear model of words: one logistic regression per output.
//!
//! Trained apart from the rest of the head. Together, the perceptron would explain the texts first and leave the words
//! little to learn; apart, the two err on different texts, and the mean of their scores is better than either.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::classifier::words::{WordModel, counts, values, words};
use crate::labels::{LabelledText, Status};
use crate::taxonomy::Taxonomy;

/// Cost of an error against the squared length of the weights, before classes are balanced.
const COST: f64 = 10.0;
/// Passes over the texts; the weights hardly move after that.
const PASSES: usize = 30;
/// At most so many steps for one text: as many halvings bring the widest bracket below 1e-9.
const STEPS: usize = 60;

/// A text as the regression sees it.
struct Row {
    /// Columns and values, scaled to length 1.
    values: Vec<(usize, f32)>,
    outputs: Vec<usize>,
}

/// Fits the model to texts; `seed` decides the order in which they are visited.
pub(super) fn fit(texts: &[&LabelledText], taxonomy: &Taxonomy, buckets: usize, seed: u64) -> WordModel {
    let words: Vec<Vec<u32>> = texts.par_iter().map(|text| words(&text.text)).collect();
    let mut frequencies = vec![0usize; buckets];
    for words in &words {
        counts(words, buckets).into_iter().for_each(|(bucket, _)| frequencies[bucket] += 1);
    }
    let inverse = |&texts_with: &usize| ((1 + texts.len()) as f32 / (1 + texts_with) as f32).ln() + 1.0;
    let idf: Vec<f32> = frequencies.iter().map(inverse).collect();
    let outputs = |text: &LabelledText| -> Vec<usize> {
        match text.status() {
            Status::Outside => vec![taxonomy.len()],
            _ => text.scenarios.iter().filter_map(|&id| taxonomy.position(id)).collect(),
        }
    };
    let row = |(words, text): (&Vec<u32>, &&LabelledText)| Row { values: values(words, &idf), outputs: outputs(text) };
    let rows: Vec<Row> = words.par_iter().zip(texts).map(row).collect();
    let count = taxonomy.len() + 1;
    let fitted: Vec<Vec<f32>> =
        (0..count).into_par_iter().map(|output| regress(&rows, output, buckets, seed)).collect();
    let mut weights = vec![0.0; buckets * count];
    for (output, fitted) in fitted.iter().enumerate() {
        for (weights, value) in weights.chunks_exact_mut(count).zip(fitted) {
            weights[output] = *value;
        }
    }
    WordModel { idf, weights, bias: fitted.iter().map(|fitted| fitted[buckets]).collect() }
}

/// Logistic regression with squared-length penalty, by coordinate descent in the dual (Yu, Huang and Lin 2011, "Dual
/// coordinate descent methods for logistic regression and maximum entropy models"). Positive and negative texts weigh
/// the same in sum. Weights of the buckets, and last the bias; all zero, and a low bias, for an output without texts.
fn regress(rows: &[Row], output: usize, buckets: usize, seed: u64) -> Vec<f32> {
    let positives = rows.iter().filter(|row| row.outputs.contains(&output)).count();
    let mut weights = vec![0.0f32; buckets + 1];
    if positives == 0 || positives == rows.len() {
        weights[buckets] = if positives == 0 { -4.0 } else { 4.0 };
        return weights;
    }
    let cost = |class: usize| COST * rows.len() as f64 / (2 * class) as f64;
    let costs = [cost(rows.len() - positives), cost(positives)];
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(output as u64);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    // Log-odds of each text's multiplier within (0, cost); they start near zero.
    let mut odds = vec![-20.0f64; rows.len()];
    for _ in 0..PASSES {
        order.shuffle(&mut random);
        for &index in &order {
            let row = &rows[index];
            let positive = row.outputs.contains(&output);
            let (sign, cost) = if positive { (1.0, costs[1]) } else { (-1.0, costs[0]) };
            let score = f64::from(weights[buckets])
                + row.values.iter().map(|&(bucket, value)| f64::from(weights[bucket] * value)).sum::<f64>();
            // The values have length 1, and the bias adds another 1.
            let square = if row.values.is_empty() { 1.0 } else { 2.0 };
            let (next, change) = step(sign * score, square, cost, odds[index]);
            odds[index] = next;
            let change = (sign * change) as f32;
            weights[buckets] += change;
            row.values.iter().for_each(|&(bucket, value)| weights[bucket] += change * value);
        }
    }
    weights
}

/// Solves for one text: the multiplier `a = cost * sigmoid(t)` with `square * (a - old) + margin + t = 0`. The left side
/// rises with `t`; Newton's steps are kept within the bracket of the root. Returns `t` and `a - old`.
fn step(margin: f64, square: f64, cost: f64, old_odds: f64) -> (f64, f64) {
    let multiplier = |odds: f64| cost / (1.0 + (-odds).exp());
    let old = multiplier(old_odds);
    let (mut low, mut high) = (-margin - square * (cost - old), -margin + square * old);
    let (mut odds, mut stride) = (old_odds.clamp(low, high), high - low);
    for _ in 0..STEPS {
        let now = multiplier(odds);
        let error = square * (now - old) + margin + odds;
        if error.abs() < 1e-9 {
            break;
        }
        if error > 0.0 {
            high = odds
        } else {
            low = odds
        }
        // Between the flat and the steep part Newton's steps run to and fro: they must shrink by half, or the bracket does.
        let mut next = odds - error / (1.0 + square * now * (1.0 - now / cost));
        if next <= low || next >= high || (next - odds).abs() > 0.5 * stride {
            next = 0.5 * (low + high);
        }
        (odds, stride) = (next, (next - odds).abs());
    }
    (odds, multiplier(odds) - old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_step_solves_its_equation(margin in -50.0f64..50.0, cost in 0.01f64..50000.0, old in -20.0f64..20.0) {
            // A text without words has the bias alone.
            for square in [1.0, 2.0] {
                let (odds, change) = step(margin, square, cost, old);
                prop_assert!((square * change + margin + odds).abs() < 1e-6, "{odds} {change}");
            }
        }
    }

    #[test]
    fn the_gradient_of_the_fitted_weights_is_zero() {
        // Bucket 0 speaks for the output, bucket 1 against it, bucket 2 says nothing.
        let row = |buckets: &[usize], positive: bool| Row {
            values: buckets.iter().map(|&bucket| (bucket, 1.0 / (buckets.len() as f32).sqrt())).collect(),
            outputs: if positive { vec![0] } else { vec![] },
        };
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..5 {
            rows.extend([
                row(&[0, 2], true),
                row(&[1, 2], false),
                row(&[0], true),
                row(&[1], false),
                row(&[1, 2], false),
            ]);
        }
        rows.push(row(&[0], false));
        let weights = regress(&rows, 0, 3, 1);
        assert!(weights[0] > 1.0 && weights[1] < -1.0, "{weights:?}");
        let (positives, negatives) = (10.0, 16.0);
        let mut gradient: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
        for row in &rows {
            let positive = row.outputs.contains(&0);
            let (sign, cost) =
                if positive { (1.0, COST * 26.0 / (2.0 * positives)) } else { (-1.0, COST * 26.0 / (2.0 * negatives)) };
            let sum = row.values.iter().map(|&(bucket, value)| f64::from(weights[bucket] * value)).sum::<f64>();
            let score = sum + f64::from(weights[3]);
            let error = -sign * cost / (1.0 + (sign * score).exp());
            row.values.iter().for_each(|&(bucket, value)| gradient[bucket] += error * f64::from(value));
            gradient[3] += error;
        }
        assert!(gradient.iter().all(|value| value.abs() < 0.1), "{gradient:?}");
    }

    #[test]
    fn an_output_without_texts_is_unlikely() {
        let rows = [Row { values: vec![(0, 1.0)], outputs: vec![] }];
        assert_eq!(regress(&rows, 0, 1, 1), [0.0, -4.0]);
    }
}
