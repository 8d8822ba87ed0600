//! Head, loss and optimiser on candle.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::examples::{Example, Source};
use super::{EpochReport, TrainError, TrainOptions};
use crate::classifier::head::Head;
use crate::encoder::bert::Bert;

/// Shards of a batch, computed side by side. A constant, because it decides the order of additions.
const SHARDS: usize = 4;
/// Sharpness `k` of the smooth maximum over clauses, `log(sum(exp(k x))) / k`.
const SHARPNESS: f64 = 4.0;
/// Share of n-grams that are left out in each step, so that no single word carries a scenario.
const GRAM_DROPOUT: f64 = 0.3;

/// The n-grams of a batch, one after the other: row of the lexical layer, clause that it stands in, weight `[n-grams, 1]`.
struct Words {
    rows: Tensor,
    owners: Tensor,
    weights: Tensor,
}

/// The head while it is trained.
pub(super) struct HeadVariables {
    first: Var,
    first_bias: Var,
    second: Var,
    second_bias: Var,
    lexical: Option<Var>,
}

impl HeadVariables {
    pub(super) fn new(
        hidden: usize,
        options: &TrainOptions,
        outputs: usize,
        random: &mut ChaCha8Rng,
        device: &Device,
    ) -> candle_core::Result<HeadVariables> {
        let units = options.units;
        let mut uniform = |rows: usize, columns: usize| -> candle_core::Result<Var> {
            let bound = (6.0 / (rows + columns) as f32).sqrt();
            let values: Vec<f32> = (0..rows * columns).map(|_| random.random_range(-bound..bound)).collect();
            Var::from_tensor(&Tensor::from_vec(values, (rows, columns), device)?)
        };
        let first = uniform(units, 2 * hidden)?;
        let second = uniform(outputs, units)?;
        let first_bias = Var::zeros(units, DType::F32, device)?;
        // Most scenarios are absent from most clauses: the scores start at a probability near 2%.
        let second_bias = Var::from_tensor(&Tensor::full(-4.0f32, outputs, device)?)?;
        let lexical = match options.buckets {
            0 => None,
            buckets => Some(Var::zeros((buckets, outputs), DType::F32, device)?),
        };
        Ok(HeadVariables { first, first_bias, second, second_bias, lexical })
    }

    fn variables(&self) -> Vec<Var> {
        let dense = [&self.first, &self.first_bias, &self.second, &self.second_bias].map(Var::clone);
        dense.into_iter().chain(self.lexical.clone()).collect()
    }

    /// `[texts, clauses, hidden]`, `[texts, hidden]` and, where they are used, words to scores
    /// `[texts, clauses, outputs]`. A share `dropout` of inputs and of units is left out.
    fn forward(
        &self,
        clauses: &Tensor,
        document: &Tensor,
        words: Option<&Words>,
        share: f64,
        random: &mut ChaCha8Rng,
    ) -> candle_core::Result<Tensor> {
        let (texts, count, hidden) = clauses.dims3()?;
        let document = document.unsqueeze(1)?.broadcast_as((texts, count, hidden))?;
        let input = Tensor::cat(&[clauses, &document], 2)?.reshape((texts * count, 2 * hidden))?;
        let input = dropout(input, share, random)?;
        let units = input.matmul(&self.first.t()?)?.broadcast_add(&self.first_bias)?.gelu()?;
        let units = dropout(units, share, random)?;
        let mut scores = units.matmul(&self.second.t()?)?.broadcast_add(&self.second_bias)?;
        if let (Some(lexical), Some(words)) = (&self.lexical, words) {
            let rows = lexical.index_select(&words.rows, 0)?.broadcast_mul(&words.weights)?;
            scores = scores.index_add(&words.owners, &rows, 0)?;
        }
        scores.reshape((texts, count, ()))
    }

    pub(super) fn export(&self) -> candle_core::Result<Head> {
        let (units, width) = self.first.dims2()?;
        let flat = |variable: &Var| variable.as_tensor().flatten_all()?.to_vec1::<f32>();
        Ok(Head {
            hidden: width / 2,
            units,
            first: flat(&self.first)?,
            first_bias: flat(&self.first_bias)?,
            second: flat(&self.second)?,
            second_bias: flat(&self.second_bias)?,
            lexical: self.lexical.as_ref().map(flat).transpose()?.unwrap_or_default(),
            words: None,
        })
    }
}

/// Runs the optimiser over examples.
pub(super) struct Trainer<'a> {
    pub(super) bert: &'a Bert,
    pub(super) head: &'a HeadVariables,
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

    /// Clause vectors `[texts, clauses, hidden]` and document vectors `[texts, hidden]` from features computed before.
    fn cached(&self, examples: &[&Example]) -> candle_core::Result<(Tensor, Tensor)> {
        let (texts, count, hidden) = (examples.len(), most_clauses(examples), self.bert.width());
        let mut clauses = vec![0.0f32; texts * count * hidden];
        let mut document = Vec::with_capacity(texts * hidden);
        for (text, example) in examples.iter().enumerate() {
            let Source::Features(features) = &example.source else { unreachable!("a frozen encoder has features") };
            let start = text * count * hidden;
            clauses[start..start + features.vectors.len()].copy_from_slice(&features.vectors);
            document.extend_from_slice(&features.document);
        }
        Ok((self.tensor(clauses, &[texts, count, hidden])?, self.tensor(document, &[texts, hidden])?))
    }

    /// The same from tokens, some of them masked, with gradients.
    fn encoded(&self, examples: &[&Example], random: &mut ChaCha8Rng) -> candle_core::Result<(Tensor, Tensor)> {
        let mut all_ids = Vec::with_capacity(examples.len());
        let mut all_clauses = Vec::with_capacity(examples.len());
        for example in examples {
            let Source::Tokens { ids, content, clauses } = &example.source else {
                unreachable!("a trained encoder has tokens")
            };
            all_ids.push(self.masked(ids, *content, clauses, random));
            all_clauses.push(clauses);
        }
        let ids: Vec<&[u32]> = all_ids.iter().map(Vec::as_slice).collect();
        let states = self.bert.forward(&ids, true)?;
        let (texts, tokens, _) = states.dims3()?;
        let count = most_clauses(examples);
        let mut pool = vec![0.0f32; texts * count * tokens];
        let mut whole = vec![0.0f32; texts * tokens];
        let spread = |row: &mut [f32], tokens: &[usize]| {
            tokens.iter().for_each(|&token| row[token] = 1.0 / tokens.len() as f32);
        };
        for (text, clauses) in all_clauses.into_iter().enumerate() {
            spread(&mut whole[text * tokens..(text + 1) * tokens], &clauses.concat());
            for (clause, members) in clauses.iter().enumerate() {
                let at = text * count + clause;
                spread(&mut pool[at * tokens..(at + 1) * tokens], members);
            }
        }
        let document = self.tensor(whole, &[texts, 1, tokens])?.matmul(&states)?.squeeze(1)?;
        Ok((self.tensor(pool, &[texts, count, tokens])?.matmul(&states)?, document))
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

    fn masked(&self, ids: &[u32], content: usize, clauses: &[Vec<usize>], random: &mut ChaCha8Rng) -> Vec<u32> {
        let mut ids = ids.to_vec();
        let last = clauses.last().and_then(|tokens| tokens.last()).map_or(content, |&token| token + 1);
        if let Some(mask) = self.mask {
            for id in &mut ids[content..last] {
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
