//! Head, loss and optimiser on candle.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::examples::{Example, Source};
use super::{EpochReport, TrainError, TrainOptions};
use crate::classifier::features::{TextFeatures, Widths, layers};
use crate::classifier::head::Head;
use crate::encoder::bert::Bert;

/// Shards of a batch, computed side by side. A constant, because it decides the order of additions.
const SHARDS: usize = 4;
/// Sharpness `k` of the smooth maximum over clauses, `log(sum(exp(k x))) / k`.
const SHARPNESS: f64 = 4.0;
/// Share of n-grams that are left out in each step, so that no single word carries a scenario.
const GRAM_DROPOUT: f64 = 0.3;

/// Spread of the inputs while training: about that of the states of one layer, which the rates were chosen for.
const SPREAD: f64 = 0.3;

/// What brings every column of vectors to mean 0 and spread [`SPREAD`]: layers differ in both, and a value that is left
/// out should count as a usual one.
pub(super) struct Scaling {
    mean: Vec<f32>,
    factor: Vec<f32>,
}

impl Scaling {
    /// Of rows of width `width`.
    fn of<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Scaling {
        let (mut count, mut sums, mut squares) = (0.0f64, vec![0.0f64; width], vec![0.0f64; width]);
        for row in rows {
            count += 1.0;
            for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(row) {
                *sum += f64::from(*value);
                *square += f64::from(*value).powi(2);
            }
        }
        let count = count.max(1.0);
        let mean: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
        let factor = squares.iter().zip(&mean).map(|(square, mean)| {
            let variance = (square / count - mean * mean).max(0.0);
            // A column that hardly changes says nothing, and must not be blown up: weights are stored in 16 bits.
            if variance > (1e-3 * mean).powi(2).max(1e-6) { (SPREAD / variance.sqrt()) as f32 } else { 1.0 }
        });
        Scaling { factor: factor.collect(), mean: mean.iter().map(|&mean| mean as f32).collect() }
    }

    fn apply(&self, values: &Tensor) -> candle_core::Result<Tensor> {
        let row = |row: &[f32]| Tensor::from_slice(row, row.len(), values.device());
        values.broadcast_sub(&row(&self.mean)?)?.broadcast_mul(&row(&self.factor)?)
    }

    /// Weights `[units, width]` for scaled vectors as weights for plain ones; what this takes from each unit goes to `bias`.
    fn fold(&self, weights: &mut [f32], bias: &mut [f32]) {
        for (row, bias) in weights.chunks_exact_mut(self.mean.len()).zip(bias) {
            for ((weight, mean), factor) in row.iter_mut().zip(&self.mean).zip(&self.factor) {
                *weight *= factor;
                *bias -= *weight * mean;
            }
        }
    }
}

/// Scaling of clause and document vectors.
pub(super) struct InputScaling {
    clause: Scaling,
    document: Scaling,
}

impl InputScaling {
    /// That of texts' features.
    pub(super) fn of(features: &[Arc<TextFeatures>], widths: Widths) -> InputScaling {
        let clauses = features.iter().flat_map(|text| text.vectors.chunks_exact(widths.clause));
        let documents = features.iter().map(|text| text.document.as_slice());
        InputScaling { clause: Scaling::of(clauses, widths.clause), document: Scaling::of(documents, widths.document) }
    }
}

/// The n-grams of a batch, one after the other: row of the lexical layer, clause that it stands in, weight `[n-grams, 1]`.
struct Words {
    rows: Tensor,
    owners: Tensor,
    weights: Tensor,
}

/// The head while it is trained.
pub(super) struct HeadVariables<'a> {
    widths: Widths,
    scaling: &'a InputScaling,
    clause_weights: Var,
    document_weights: Var,
    first_bias: Var,
    second: Var,
    second_bias: Var,
    lexical: Option<Var>,
}

impl HeadVariables<'_> {
    pub(super) fn new<'a>(
        widths: Widths,
        scaling: &'a InputScaling,
        options: &TrainOptions,
        outputs: usize,
        random: &mut ChaCha8Rng,
        device: &Device,
    ) -> candle_core::Result<HeadVariables<'a>> {
        let units = options.units;
        let mut uniform = |rows: usize, columns: usize, inputs: usize| -> candle_core::Result<Var> {
            let bound = (6.0 / (rows + inputs) as f32).sqrt();
            let values: Vec<f32> = (0..rows * columns).map(|_| random.random_range(-bound..bound)).collect();
            Var::from_tensor(&Tensor::from_vec(values, (rows, columns), device)?)
        };
        let inputs = widths.clause + widths.document;
        let clause_weights = uniform(units, widths.clause, inputs)?;
        let document_weights = uniform(units, widths.document, inputs)?;
        let second = uniform(outputs, units, units)?;
        let first_bias = Var::zeros(units, DType::F32, device)?;
        // Most scenarios are absent from most clauses: the scores start at a probability near 2%.
        let second_bias = Var::from_tensor(&Tensor::full(-4.0f32, outputs, device)?)?;
        let lexical = match options.buckets {
            0 => None,
            buckets => Some(Var::zeros((buckets, outputs), DType::F32, device)?),
        };
        Ok(HeadVariables {
            widths,
            scaling,
            clause_weights,
            document_weights,
            first_bias,
            second,
            second_bias,
            lexical,
        })
    }

    fn variables(&self) -> Vec<Var> {
        let dense = [&self.clause_weights, &self.document_weights, &self.first_bias, &self.second, &self.second_bias]
            .map(Var::clone);
        dense.into_iter().chain(self.lexical.clone()).collect()
    }

    /// Clause vectors `[texts, clauses, width]`, document vectors `[texts, width]` and, where they are used, words to scores
    /// `[texts, clauses, outputs]`. A share of inputs and of units is left out.
    fn forward(
        &self,
        clauses: &Tensor,
        document: &Tensor,
        words: Option<&Words>,
        share: f64,
        random: &mut ChaCha8Rng,
    ) -> candle_core::Result<Tensor> {
        let (texts, count, width) = clauses.dims3()?;
        let clauses = self.scaling.clause.apply(&clauses.reshape((texts * count, width))?)?;
        let clauses = dropout(clauses, share, random)?.matmul(&self.clause_weights.t()?)?;
        let document = dropout(self.scaling.document.apply(document)?, share, random)?;
        let document = document.matmul(&self.document_weights.t()?)?.broadcast_add(&self.first_bias)?;
        let units = clauses.reshape((texts, count, ()))?.broadcast_add(&document.unsqueeze(1)?)?.gelu()?;
        let units = dropout(units.reshape((texts * count, ()))?, share, random)?;
        let mut scores = units.matmul(&self.second.t()?)?.broadcast_add(&self.second_bias)?;
        if let (Some(lexical), Some(words)) = (&self.lexical, words) {
            let rows = lexical.index_select(&words.rows, 0)?.broadcast_mul(&words.weights)?;
            scores = scores.index_add(&words.owners, &rows, 0)?;
        }
        scores.reshape((texts, count, ()))
    }

    pub(super) fn export(&self) -> candle_core::Result<Head> {
        let flat = |variable: &Var| variable.as_tensor().flatten_all()?.to_vec1::<f32>();
        let (mut clause_weights, mut document_weights) = (flat(&self.clause_weights)?, flat(&self.document_weights)?);
        let mut first_bias = flat(&self.first_bias)?;
        self.scaling.clause.fold(&mut clause_weights, &mut first_bias);
        self.scaling.document.fold(&mut document_weights, &mut first_bias);
        Ok(Head {
            widths: self.widths,
            units: first_bias.len(),
            clause_weights,
            document_weights,
            first_bias,
            second: flat(&self.second)?,
            second_bias: flat(&self.second_bias)?,
            lexical: self.lexical.as_ref().map(flat).transpose()?.unwrap_or_default(),
            words: None,
            neighbours: None,
        })
    }
}

/// Runs the optimiser over examples.
pub(super) struct Trainer<'a> {
    pub(super) bert: &'a Bert,
    pub(super) head: &'a HeadVariables<'a>,
    pub(super) examples: &'a [Example],
    pub(super) mask: Option<u32>,
    pub(super) options: &'a TrainOptions,
    pub(super) device: &'a Device,
}

impl Trainer<'_> {
    pub(super) fn run(
        &self,
        encoder_variables: &BTreeMap<String, Var>,
        random: &mut ChaCha8Rng,
        progress: &mut dyn FnMut(EpochReport),
    ) -> Result<(), TrainError> {
        let adam = |rate: f64| ParamsAdamW { lr: rate, weight_decay: 0.01, ..ParamsAdamW::default() };
        let encoder: Vec<Var> = encoder_variables.values().cloned().collect();
        let compute = |epoch| move |source| TrainError::Compute { epoch, source };
        let mut encoder_optimizer = AdamW::new(encoder.clone(), adam(self.options.encoder_rate)).map_err(compute(1))?;
        let mut head_optimizer = AdamW::new(self.head.variables(), adam(self.options.head_rate)).map_err(compute(1))?;
        let all: Vec<Var> = encoder.into_iter().chain(self.head.variables()).collect();
        let steps_per_epoch = self.examples.len().div_ceil(self.options.batch_texts);
        let total = (steps_per_epoch * self.options.epochs).max(1);
        let mut step = 0;
        for epoch in 1..=self.options.epochs {
            let mut order: Vec<usize> = (0..self.examples.len()).collect();
            order.shuffle(random);
            let mut sum = 0.0;
            for batch in order.chunks(self.options.batch_texts) {
                // A tenth of warm-up, then a straight line to zero.
                let share = step as f64 / total as f64;
                let rate = if share < 0.1 { (share + 1.0 / total as f64) / 0.1 } else { (1.0 - share) / 0.9 };
                encoder_optimizer.set_learning_rate(self.options.encoder_rate * rate.min(1.0));
                head_optimizer.set_learning_rate(self.options.head_rate * rate.min(1.0));
                let seeds: Vec<u64> = (0..SHARDS).map(|_| random.random()).collect();
                let shards: Vec<&[usize]> = batch.chunks(batch.len().div_ceil(SHARDS)).collect();
                let results: Vec<(f32, candle_core::backprop::GradStore)> = shards
                    .par_iter()
                    .zip(&seeds)
                    .map(|(shard, &seed)| self.shard(shard, batch.len(), seed))
                    .collect::<candle_core::Result<_>>()
                    .map_err(compute(epoch))?;
                let mut results = results.into_iter();
                let Some((mut loss, mut gradients)) = results.next() else { continue };
                for (other_loss, other) in results {
                    loss += other_loss;
                    add_gradients(&mut gradients, &other, &all).map_err(compute(epoch))?;
                }
                if !loss.is_finite() {
                    return Err(TrainError::Diverged { epoch, loss });
                }
                encoder_optimizer.step(&gradients).map_err(compute(epoch))?;
                head_optimizer.step(&gradients).map_err(compute(epoch))?;
                sum += loss;
                step += 1;
            }
            progress(EpochReport { epoch, loss: sum / steps_per_epoch as f32 });
        }
        Ok(())
    }

    /// Loss and gradients of a part of a batch of `batch` texts.
    fn shard(
        &self,
        members: &[usize],
        batch: usize,
        seed: u64,
    ) -> candle_core::Result<(f32, candle_core::backprop::GradStore)> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let examples: Vec<&Example> = members.iter().map(|&member| &self.examples[member]).collect();
        let (clauses, document) =
            if self.options.fine_tune { self.encoded(&examples, &mut random)? } else { self.cached(&examples)? };
        let words = self.words(&examples, &mut random)?;
        let dropout = self.options.dropout;
        let scores = self.head.forward(&clauses, &document, words.as_ref(), dropout, &mut random)?;
        let loss = (self.loss(scores, &examples)? * (1.0 / batch as f64))?;
        Ok((loss.to_scalar::<f32>()?, loss.backward()?))
    }

    fn tensor(&self, values: Vec<f32>, shape: &[usize]) -> candle_core::Result<Tensor> {
        Tensor::from_vec(values, shape, self.device)
    }

    /// Clause vectors `[texts, clauses, width]` and document vectors `[texts, width]` from features computed before.
    fn cached(&self, examples: &[&Example]) -> candle_core::Result<(Tensor, Tensor)> {
        let (texts, count, widths) = (examples.len(), most_clauses(examples), self.head.widths);
        let mut clauses = vec![0.0f32; texts * count * widths.clause];
        let mut document = Vec::with_capacity(texts * widths.document);
        for (text, example) in examples.iter().enumerate() {
            let Source::Features(features) = &example.source else { unreachable!("a frozen encoder has features") };
            let start = text * count * widths.clause;
            clauses[start..start + features.vectors.len()].copy_from_slice(&features.vectors);
            document.extend_from_slice(&features.document);
        }
        Ok((self.tensor(clauses, &[texts, count, widths.clause])?, self.tensor(document, &[texts, widths.document])?))
    }

    /// The same from tokens, some of them masked, with gradients.
    fn encoded(&self, examples: &[&Example], random: &mut ChaCha8Rng) -> candle_core::Result<(Tensor, Tensor)> {
        let mut all_ids = Vec::with_capacity(examples.len());
        let mut all_clauses = Vec::with_capacity(examples.len());
        for example in examples {
            let Source::Tokens { ids, content, clauses } = &example.source else {
                unreachable!("a trained encoder has tokens")
            };
            all_ids.push(self.masked(ids, content.clone(), random));
            all_clauses.push((content.clone(), clauses));
        }
        let ids: Vec<&[u32]> = all_ids.iter().map(Vec::as_slice).collect();
        let states = self.bert.forward(&ids, &layers(self.bert), true)?;
        let (texts, tokens, _) = states.dims3()?;
        let count = most_clauses(examples);
        let mut pool = vec![0.0f32; texts * count * tokens];
        // Tokens that are not of a clause cannot have its largest values. Clauses that only fill the batch up see all tokens:
        // their scores are hidden later, and must stay small.
        let mut outside = vec![0.0f32; texts * count * tokens];
        let mut whole = vec![0.0f32; texts * tokens];
        let spread = |row: &mut [f32], tokens: &[usize]| {
            tokens.iter().for_each(|&token| row[token] = 1.0 / tokens.len() as f32);
        };
        for (text, (content, clauses)) in all_clauses.into_iter().enumerate() {
            spread(&mut whole[text * tokens..(text + 1) * tokens], &content.collect::<Vec<usize>>());
            for (clause, members) in clauses.iter().enumerate() {
                let at = text * count + clause;
                spread(&mut pool[at * tokens..(at + 1) * tokens], members);
                outside[at * tokens..(at + 1) * tokens].fill(-1e4);
                members.iter().for_each(|&token| outside[at * tokens + token] = 0.0);
            }
        }
        let document = self.tensor(whole, &[texts, 1, tokens])?.matmul(&states)?.squeeze(1)?;
        let means = self.tensor(pool, &[texts, count, tokens])?.matmul(&states)?;
        let last =
            states.narrow(2, self.head.widths.document - self.head.widths.hidden(), self.head.widths.hidden())?;
        let outside = self.tensor(outside, &[texts, count, tokens, 1])?;
        let largest = last.unsqueeze(1)?.broadcast_add(&outside)?.max(2)?;
        Ok((Tensor::cat(&[means, largest], 2)?, document))
    }

    /// The n-grams of each clause, with their weights; some are left out.
    fn words(&self, examples: &[&Example], random: &mut ChaCha8Rng) -> candle_core::Result<Option<Words>> {
        let buckets = self.options.buckets;
        if buckets == 0 {
            return Ok(None);
        }
        let count = most_clauses(examples);
        let (mut rows, mut owners, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (text, example) in examples.iter().enumerate() {
            for (clause, grams) in example.grams.iter().enumerate() {
                let weight = 1.0 / (grams.len() as f32).sqrt();
                for &gram in grams {
                    if !random.random_bool(GRAM_DROPOUT) {
                        rows.push(gram % buckets as u32);
                        owners.push((text * count + clause) as u32);
                        weights.push(weight);
                    }
                }
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let found = rows.len();
        Ok(Some(Words {
            rows: Tensor::from_vec(rows, found, self.device)?,
            owners: Tensor::from_vec(owners, found, self.device)?,
            weights: self.tensor(weights, &[found, 1])?,
        }))
    }

    fn masked(&self, ids: &[u32], content: Range<usize>, random: &mut ChaCha8Rng) -> Vec<u32> {
        let mut ids = ids.to_vec();
        if let Some(mask) = self.mask {
            for id in &mut ids[content] {
                if random.random_bool(self.options.mask_share) {
                    *id = mask;
                }
            }
        }
        ids
    }

    /// Sum of the losses of texts; `scores` is `[texts, clauses, outputs]`.
    fn loss(&self, scores: Tensor, examples: &[&Example]) -> candle_core::Result<Tensor> {
        let (texts, count, outputs) = scores.dims3()?;
        let mut target = vec![0.0f32; texts * count * outputs];
        let mut weight = vec![0.0f32; texts * count * outputs];
        let mut absent = vec![-1e4f32; texts * count];
        let mut text_target = vec![0.0f32; texts * outputs];
        for (text, example) in examples.iter().enumerate() {
            for at in text * count..text * count + example.clauses {
                absent[at] = 0.0;
                if example.clauses_known {
                    weight[at * outputs..(at + 1) * outputs].fill(1.0 / example.clauses as f32);
                }
            }
            for &(clause, output) in &example.positives {
                target[(text * count + clause) * outputs + output] = 1.0;
            }
            for &output in &example.outputs {
                text_target[text * outputs + output] = 1.0;
            }
        }
        let target = self.tensor(target, &[texts, count, outputs])?;
        let weight = self.tensor(weight, &[texts, count, outputs])?;
        let clause_loss = (cross_entropy(&scores, &target)? * weight)?.sum_all()?;
        let absent = self.tensor(absent, &[texts, count, 1])?;
        let scaled = (scores * SHARPNESS)?.broadcast_add(&absent)?;
        let smooth = (log_sum_exp(&scaled)? * (1.0 / SHARPNESS))?;
        let text_target = self.tensor(text_target, &[texts, outputs])?;
        let text_loss = cross_entropy(&smooth, &text_target)?.sum_all()?;
        clause_loss * 2.0 + text_loss
    }
}

/// Sets a share of the numbers to zero and scales the others up (Srivastava et al. 2014), with the seed's own choice.
fn dropout(values: Tensor, share: f64, random: &mut ChaCha8Rng) -> candle_core::Result<Tensor> {
    if share == 0.0 {
        return Ok(values);
    }
    let kept = (1.0 / (1.0 - share)) as f32;
    let mask: Vec<f32> = (0..values.elem_count()).map(|_| if random.random_bool(share) { 0.0 } else { kept }).collect();
    let mask = Tensor::from_vec(mask, values.shape(), values.device())?;
    values * mask
}

fn most_clauses(examples: &[&Example]) -> usize {
    examples.iter().map(|example| example.clauses).max().unwrap_or(0).max(1)
}

/// Binary cross-entropy from logits, element by element: `max(x, 0) - x t + log(1 + exp(-|x|))`, which never overflows.
pub(super) fn cross_entropy(logits: &Tensor, target: &Tensor) -> candle_core::Result<Tensor> {
    let soft = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    (logits.relu()? - (logits * target)?)? + soft
}

/// `log(sum(exp(x)))` over the second dimension of `[texts, clauses, outputs]`.
pub(super) fn log_sum_exp(scores: &Tensor) -> candle_core::Result<Tensor> {
    let largest = scores.max_keepdim(1)?.detach();
    let sum = scores.broadcast_sub(&largest)?.exp()?.sum(1)?;
    sum.log()? + largest.squeeze(1)?
}

fn add_gradients(
    sum: &mut candle_core::backprop::GradStore,
    other: &candle_core::backprop::GradStore,
    variables: &[Var],
) -> candle_core::Result<()> {
    for variable in variables {
        let added = match (sum.get(variable), other.get(variable)) {
            (Some(a), Some(b)) => (a + b)?,
            (None, Some(b)) => b.clone(),
            _ => continue,
        };
        sum.insert(variable, added);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::features;
    use crate::encoder::bert::Weights;
    use crate::encoder::{Backend, Checkpoint};
    use crate::labels::{self, LabelledText};
    use crate::taxonomy::Taxonomy;
    use crate::train::examples::{feature_example, token_example};

    #[test]
    fn scaled_columns_have_mean_0_and_equal_spread() {
        let rows = [[1.0f32, 5.0, 100.0], [3.0, 5.0, 500.0]];
        let scaling = Scaling::of(rows.iter().map(|row| &row[..]), 3);
        let rows = Tensor::new(&rows, &Device::Cpu).and_then(|rows| scaling.apply(&rows)?.to_vec2::<f32>());
        for (row, sign) in rows.expect("computes").iter().zip([-1.0, 1.0]) {
            for (found, expected) in row.iter().zip([sign * 0.3, 0.0, sign * 0.3]) {
                assert!((found - expected).abs() < 1e-6, "{row:?}");
            }
        }
    }

    #[test]
    fn folded_weights_give_on_plain_rows_what_weights_give_on_scaled_ones() {
        let rows = [[1.0f32, 5.0], [3.0, 4.0], [2.5, -7.0]];
        let scaling = Scaling::of(rows.iter().map(|row| &row[..]), 2);
        let (weights, bias) = ([0.5f32, -2.0, 3.0, 0.25], [0.1f32, -0.2]);
        let (mut folded, mut shifted) = (weights, bias);
        scaling.fold(&mut folded, &mut shifted);
        let scaled = Tensor::new(&rows, &Device::Cpu).and_then(|rows| scaling.apply(&rows)?.to_vec2::<f32>());
        for (plain, scaled) in rows.iter().zip(scaled.expect("computes")) {
            for unit in 0..2 {
                let sum = |row: &[f32], weights: &[f32], bias: &[f32]| {
                    bias[unit] + row.iter().zip(&weights[2 * unit..]).map(|(value, weight)| value * weight).sum::<f32>()
                };
                let (expected, found) = (sum(&scaled, &weights, &bias), sum(plain, &folded, &shifted));
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }

    #[test]
    fn a_trained_encoder_gives_the_vectors_that_a_frozen_one_gave() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
        let checkpoint = Checkpoint::open(&directory).expect("the default encoder is there");
        let tokenizer = checkpoint.tokenizer(false).expect("it has a tokenizer");
        let encoder = checkpoint.load(&Backend::exact(&Device::Cpu), false).expect("it loads");
        let tensors = checkpoint.tensors().expect("it has weights");
        let mut weights = Weights::new(tensors, &Device::Cpu, DType::F32);
        let bert = Bert::load(&checkpoint.config, checkpoint.position_offset, &mut weights).expect("it loads");
        let taxonomy = Taxonomy::builtin();
        let lines = [
            r#"{"id": "a", "text": "面向门诊的导诊,推荐科室;预问诊。也写病历,并随访。", "scenarios": [8]}"#,
            r#"{"id": "b", "text": "Drafts discharge summaries.", "scenarios": [15]}"#,
        ];
        let texts: Vec<LabelledText> =
            labels::parse_lines(&lines.join("\n"), &taxonomy).map(|(_, text)| text.expect("a labelled text")).collect();
        let contents: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let features = features::of_texts(&encoder, &contents).expect("the texts can be encoded");
        let features: Vec<Arc<TextFeatures>> = features.into_iter().map(Arc::new).collect();
        let widths = Widths::of(encoder.encoder.as_ref());
        let scaling = InputScaling::of(&features, widths);
        let options = TrainOptions { mask_share: 0.0, ..TrainOptions::default() };
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let head = HeadVariables::new(widths, &scaling, &options, taxonomy.len() + 1, &mut random, &Device::Cpu);
        let head = head.expect("it can be made");
        let frozen = texts.iter().zip(features).map(|(text, features)| feature_example(text, features, &taxonomy));
        let trained = texts.iter().map(|text| token_example(text, &tokenizer, &taxonomy));
        let (frozen, trained): (Vec<Example>, Vec<Example>) = (frozen.collect(), trained.collect());
        let device = Device::Cpu;
        let trainer =
            Trainer { bert: &bert, head: &head, examples: &[], mask: None, options: &options, device: &device };
        let expected = trainer.cached(&frozen.iter().collect::<Vec<_>>()).expect("computes");
        let found = trainer.encoded(&trained.iter().collect::<Vec<_>>(), &mut random).expect("computes");
        let vectors =
            |tensor: &Tensor| tensor.flatten_all().and_then(|tensor| tensor.to_vec1::<f32>()).expect("floats");
        let (expected_clauses, found_clauses) = (vectors(&expected.0), vectors(&found.0));
        let (first, second) = (frozen[0].clauses, frozen[1].clauses);
        assert!(second < first, "one text has fewer clauses, and is filled up");
        for (at, (found, expected)) in found_clauses.iter().zip(&expected_clauses).enumerate() {
            if at < (first + second) * widths.clause {
                assert!((found - expected).abs() < 1e-4, "value {at} is {found}, expected {expected}");
            }
            assert!(found.abs() < 100.0, "value {at} is {found}: what fills a text up must stay small");
        }
        for (found, expected) in vectors(&found.1).iter().zip(vectors(&expected.1)) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
}
