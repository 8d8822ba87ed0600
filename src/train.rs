//! Training: fits the head, and with `fine_tune` the encoder too, to labelled texts; then calibration and thresholds.
//!
//! The loss is binary cross-entropy at two levels. Clauses learn from the evidence that coders marked: a clause that
//! overlaps a scenario's evidence is positive, every other clause negative, also when it names the scenario as a plan
//! or as training data. Texts learn through a smooth maximum over their clauses, which also serves texts without
//! marked evidence and the output "outside". Same files, options and seed give the same bundle, whatever the number of
//! threads: a batch is always split into the same shards, and gradients are added in their order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::bundle::{self, BundleError, Manifest, TaxonomyRef, TrainingRecord};
use crate::classifier::calibration::{Calibration, Observation};
use crate::classifier::features::{TextFeatures, clause_tokens};
use crate::classifier::head::{Head, strongest};
use crate::classifier::lexical;
use crate::digest;
use crate::encoder::bert::Bert;
use crate::encoder::{Checkpoint, CheckpointError, EncodeError, TextEncoder, TextTokenizer};
use crate::labels::{LabelledText, Status};
use crate::segment::{Clause, clauses};
use crate::taxonomy::Taxonomy;

/// Shards of a batch, computed side by side. A constant, because it decides the order of additions.
const SHARDS: usize = 4;
/// Sharpness `k` of the smooth maximum over clauses, `log(sum(exp(k x))) / k`.
const SHARPNESS: f64 = 4.0;
/// Longest training window in tokens: longer texts are trained on their beginning alone, and classified whole.
const TRAINING_TOKENS: usize = 192;

/// Texts whose features are computed together.
const FEATURE_TEXTS: usize = 256;

/// How to train.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Name of the bundle.
    pub name: String,
    /// Train the encoder's weights too.
    pub fine_tune: bool,
    /// Passes over the texts.
    pub epochs: usize,
    /// Texts in a step.
    pub batch_texts: usize,
    /// Highest learning rate of the encoder.
    pub encoder_rate: f64,
    /// Highest learning rate of the head.
    pub head_rate: f64,
    /// Units of the head's first layer.
    pub units: usize,
    /// Rows of the head's layer over words; 0 for none.
    pub buckets: usize,
    /// Share of tokens that are masked in training.
    pub mask_share: f64,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            name: "custom".to_owned(),
            fine_tune: true,
            epochs: 8,
            batch_texts: 32,
            encoder_rate: 3e-4,
            head_rate: 1e-3,
            units: 256,
            buckets: 8192,
            mask_share: 0.1,
            seed: 1,
        }
    }
}

/// Why training failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The encoder cannot be used.
    #[error(transparent)]
    Encoder(#[from] CheckpointError),
    /// candle failed.
    #[error("Training failed in epoch {epoch}")]
    Compute {
        /// The pass over the texts, from 1.
        epoch: usize,
        /// The cause.
        source: candle_core::Error,
    },
    /// The loss is not a number.
    #[error("Training diverged in epoch {epoch}: the loss is {loss}; lower --encoder-rate or --head-rate")]
    Diverged {
        /// The pass over the texts, from 1.
        epoch: usize,
        /// The loss.
        loss: f32,
    },
    /// The bundle cannot be written or read back.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file changed or vanished while it was in use.
    #[error("Failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// What one pass over the texts gave.
#[derive(Debug, Clone, Copy)]
pub struct EpochReport {
    /// The pass, from 1.
    pub epoch: usize,
    /// Mean loss.
    pub loss: f32,
}

/// Labelled texts and the files that they came from.
pub struct TrainingData<'a> {
    /// The texts.
    pub texts: &'a [LabelledText],
    /// Their files, for the manifest.
    pub files: &'a [PathBuf],
}

/// What the head is trained on: tokens that the encoder reads anew in every step, or features that it computed once.
enum Source {
    Tokens {
        ids: Vec<u32>,
        /// First content token.
        content: usize,
        /// Tokens of each clause, counted with the special tokens.
        clauses: Vec<Vec<usize>>,
    },
    Features(TextFeatures),
}

/// Share of n-grams that are left out in each step, so that no single word carries a scenario.
const GRAM_DROPOUT: f64 = 0.3;

/// A text and its targets.
struct Example {
    source: Source,
    /// Number of clauses.
    clauses: usize,
    /// Hashed n-grams of each clause.
    grams: Vec<Vec<u32>>,
    /// Positive (clause, output) pairs.
    positives: Vec<(usize, usize)>,
    /// Outputs that the text has.
    outputs: Vec<usize>,
    /// Whether every scenario of the text has marked evidence, so that clauses can be judged.
    clauses_known: bool,
}

/// Everything that a bundle is trained from.
pub struct Training<'a> {
    /// Directory of the encoder, in Hugging Face layout.
    pub encoder: &'a Path,
    /// Texts to train on.
    pub data: TrainingData<'a>,
    /// Texts that calibration and thresholds are fitted to; a tenth of `data` is held out where there is none.
    pub calibration: TrainingData<'a>,
    /// The taxonomy that the texts are coded with.
    pub taxonomy: &'a Taxonomy,
    /// How to train.
    pub options: &'a TrainOptions,
    /// Where to compute.
    pub device: &'a Device,
}

impl Training<'_> {
    /// Trains a bundle and writes it to `directory`. `progress` is told after each epoch.
    ///
    /// # Errors
    /// The encoder cannot be loaded, candle fails, or the directory cannot be written.
    pub fn run(&self, directory: &Path, progress: &mut dyn FnMut(EpochReport)) -> Result<PathBuf, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        let (fitted, held_out) = if self.calibration.texts.is_empty() {
            split(self.data.texts, &mut random)
        } else {
            (self.data.texts.iter().collect(), self.calibration.texts.iter().collect::<Vec<_>>())
        };
        let mut files = self.fit(&fitted, &mut random, progress)?;
        let manifest = self.manifest(fitted.len(), held_out.len())?;
        // Calibration sees the weights as they are stored and read back, rounded to 16 bits.
        bundle::write(directory, manifest.clone(), &files)?;
        let classifier = bundle::Bundle::open(directory)?.load(self.device)?;
        let last = self.options.epochs;
        let features = features(&held_out, &classifier.encoder)
            .map_err(|error| TrainError::Compute { epoch: last, source: error.source })?;
        let observe = |(text, features): (&&LabelledText, &TextFeatures)| Observation {
            scores: strongest(&classifier.head.scores(features), self.taxonomy.len() + 1),
            scenarios: text.scenarios.iter().filter_map(|&id| self.taxonomy.position(id)).collect(),
            outside: text.status() == Status::Outside,
        };
        let observations: Vec<Observation> = held_out.iter().zip(&features).map(observe).collect();
        let calibration = Calibration::fit(&observations, &category_positions(self.taxonomy));
        files.insert(bundle::CARD.to_owned(), card(&manifest).into_bytes());
        Ok(bundle::write(directory, Manifest { calibration, ..manifest }, &files)?)
    }

    /// Trains head and, where asked for, encoder; returns the bundle's files but for the manifest.
    fn fit(
        &self,
        texts: &[&LabelledText],
        random: &mut ChaCha8Rng,
        progress: &mut dyn FnMut(EpochReport),
    ) -> Result<BTreeMap<String, Vec<u8>>, TrainError> {
        let Training { taxonomy, options, device, .. } = *self;
        let compute = |epoch| move |source| TrainError::Compute { epoch, source };
        let checkpoint = Checkpoint::open(self.encoder)?;
        let tokenizer = checkpoint.tokenizer(false)?;
        let mut weights = checkpoint.weights(device)?;
        if options.fine_tune {
            weights = weights.trainable();
        }
        let bert =
            Bert::load(&checkpoint.config, checkpoint.position_offset, &mut weights, device).map_err(|problem| {
                CheckpointError::Invalid {
                    checkpoint: self.encoder.display().to_string(),
                    file: "model.safetensors".to_owned(),
                    problem,
                }
            })?;
        let variables = weights.variables();
        let examples: Vec<Example> = if options.fine_tune {
            texts.iter().map(|text| token_example(text, &tokenizer, taxonomy)).collect()
        } else {
            let encoder = checkpoint.load(device, false)?;
            let features = features(texts, &encoder).map_err(|error| compute(0)(error.source))?;
            texts.iter().zip(features).map(|(text, features)| feature_example(text, features, taxonomy)).collect()
        };
        let head = HeadVariables::new(bert.width(), options, taxonomy.len() + 1, random, device).map_err(compute(0))?;
        let mask = tokenizer.mask_token();
        let trainer = Trainer { bert: &bert, head: &head, examples: &examples, mask, options, device };
        trainer.run(&variables, random, progress)?;
        let mut files = encoder_files(self.encoder, &variables)?;
        files.insert(bundle::HEAD.to_owned(), head.export().map_err(compute(options.epochs))?.serialize());
        Ok(files)
    }

    fn manifest(&self, n_texts: usize, n_calibration_texts: usize) -> Result<Manifest, TrainError> {
        let Training { taxonomy, options, .. } = *self;
        let digests = |files: &[PathBuf]| files.iter().map(|file| file_digest(file)).collect::<Result<Vec<_>, _>>();
        Ok(Manifest {
            format: bundle::FORMAT,
            name: options.name.clone(),
            created_with: format!("medscenario {}", env!("CARGO_PKG_VERSION")),
            taxonomy: TaxonomyRef::of(taxonomy),
            scenarios: taxonomy.scenarios.iter().map(|scenario| scenario.id).collect(),
            training: TrainingRecord {
                encoder_sha256: file_digest(&self.encoder.join("model.safetensors"))?,
                fine_tuned: options.fine_tune,
                seed: options.seed,
                epochs: options.epochs,
                encoder_rate: options.encoder_rate,
                head_rate: options.head_rate,
                units: options.units,
                buckets: options.buckets,
                batch_texts: options.batch_texts,
                texts: digests(self.data.files)?,
                n_texts,
                calibration_texts: digests(self.calibration.files)?,
                n_calibration_texts,
            },
            calibration: Calibration::identity(taxonomy.len()),
            files: BTreeMap::new(),
        })
    }
}

/// Position of the category of each scenario.
fn category_positions(taxonomy: &Taxonomy) -> Vec<usize> {
    let position = |id| taxonomy.categories.iter().position(|category| category.id == id).unwrap_or(0);
    taxonomy.scenarios.iter().map(|scenario| position(scenario.category)).collect()
}

/// Holds out a tenth of the texts; texts of one pair or group stay together.
fn split<'a>(texts: &'a [LabelledText], random: &mut ChaCha8Rng) -> (Vec<&'a LabelledText>, Vec<&'a LabelledText>) {
    let key = |text: &LabelledText| text.group.clone().or_else(|| text.pair.clone()).unwrap_or_else(|| text.id.clone());
    let mut keys: Vec<String> = texts.iter().map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.shuffle(random);
    let held: std::collections::HashSet<&String> = keys.iter().take(keys.len() / 10).collect();
    texts.iter().partition(|text| !held.contains(&key(text)))
}

/// Features of texts, computed in pieces.
fn features(texts: &[&LabelledText], encoder: &TextEncoder) -> Result<Vec<TextFeatures>, EncodeError> {
    let hidden = encoder.encoder.hidden_size();
    let mut all = Vec::with_capacity(texts.len());
    for piece in texts.chunks(FEATURE_TEXTS) {
        let contents: Vec<&str> = piece.iter().map(|text| text.text.as_str()).collect();
        let states = encoder.states(&contents)?;
        all.extend(contents.iter().zip(&states).map(|(text, states)| TextFeatures::new(text, states, hidden)));
    }
    Ok(all)
}

fn feature_example(text: &LabelledText, features: TextFeatures, taxonomy: &Taxonomy) -> Example {
    let targets = Targets::new(text, &features.clauses, taxonomy);
    Example::new(features.grams.clone(), targets, Source::Features(features))
}

fn token_example(text: &LabelledText, tokenizer: &TextTokenizer, taxonomy: &Taxonomy) -> Example {
    let tokenized = tokenizer.tokenize(&text.text);
    let window = &tokenized.windows[0];
    let special = window.ids.len() - (window.end - window.start);
    let kept = (window.end - window.start).min(TRAINING_TOKENS - special.min(TRAINING_TOKENS));
    let content = tokenizer.prefix_len();
    let mut ids = window.ids[..content + kept].to_vec();
    ids.extend_from_slice(&window.ids[content + (window.end - window.start)..]);
    let found = clauses(&text.text);
    let tokens = clause_tokens(&found, &tokenized.offsets[..kept]);
    let (seen, clauses): (Vec<Clause>, Vec<Vec<usize>>) = found
        .into_iter()
        .zip(tokens)
        .filter(|(_, tokens)| !tokens.is_empty())
        .map(|(clause, tokens)| (clause, tokens.into_iter().map(|token| token + content).collect::<Vec<usize>>()))
        .unzip();
    let targets = Targets::new(text, &seen, taxonomy);
    let grams = seen.iter().map(|clause| lexical::grams(&text.text[clause.byte_start..clause.byte_end])).collect();
    Example::new(grams, targets, Source::Tokens { ids, content, clauses })
}

/// What a text and its clauses should score.
struct Targets {
    positives: Vec<(usize, usize)>,
    outputs: Vec<usize>,
    clauses_known: bool,
}

impl Targets {
    fn new(text: &LabelledText, clauses: &[Clause], taxonomy: &Taxonomy) -> Targets {
        let mut targets =
            Targets { positives: Vec::new(), outputs: Vec::new(), clauses_known: text.status() != Status::Outside };
        for &id in &text.scenarios {
            let Some(output) = taxonomy.position(id) else { continue };
            targets.outputs.push(output);
            let ranges = text.evidence_ranges(id);
            let before = targets.positives.len();
            for (at, clause) in clauses.iter().enumerate() {
                if ranges.iter().any(|&range| is_evidence(clause, range)) {
                    targets.positives.push((at, output));
                }
            }
            targets.clauses_known &= targets.positives.len() > before;
        }
        if text.status() == Status::Outside {
            targets.outputs.push(taxonomy.len());
        }
        targets
    }
}

impl Example {
    fn new(grams: Vec<Vec<u32>>, targets: Targets, source: Source) -> Example {
        let Targets { positives, outputs, clauses_known } = targets;
        Example { source, clauses: grams.len(), grams, positives, outputs, clauses_known }
    }
}

/// A clause is evidence when the overlap is at least a third of the clause or of the marked piece.
fn is_evidence(clause: &Clause, (start, end): (usize, usize)) -> bool {
    let overlap = clause.byte_end.min(end).saturating_sub(clause.byte_start.max(start));
    overlap > 0 && (3 * overlap >= clause.byte_end - clause.byte_start || 3 * overlap >= end - start)
}

struct HeadVariables {
    first: Var,
    first_bias: Var,
    second: Var,
    second_bias: Var,
    lexical: Option<Var>,
}

impl HeadVariables {
    fn new(
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

    /// `[texts, clauses, hidden]`, `[texts, hidden]` and, where words are used, `[texts * clauses, buckets]` to scores
    /// `[texts, clauses, outputs]`.
    fn forward(&self, clauses: &Tensor, document: &Tensor, words: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let (texts, count, hidden) = clauses.dims3()?;
        let document = document.unsqueeze(1)?.broadcast_as((texts, count, hidden))?;
        let input = Tensor::cat(&[clauses, &document], 2)?.reshape((texts * count, 2 * hidden))?;
        let units = input.matmul(&self.first.t()?)?.broadcast_add(&self.first_bias)?.gelu()?;
        let mut scores = units.matmul(&self.second.t()?)?.broadcast_add(&self.second_bias)?;
        if let (Some(lexical), Some(words)) = (&self.lexical, words) {
            scores = (scores + words.matmul(lexical)?)?;
        }
        scores.reshape((texts, count, ()))
    }

    fn export(&self) -> candle_core::Result<Head> {
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
        })
    }
}

struct Trainer<'a> {
    bert: &'a Bert,
    head: &'a HeadVariables,
    examples: &'a [Example],
    mask: Option<u32>,
    options: &'a TrainOptions,
    device: &'a Device,
}

impl Trainer<'_> {
    fn run(
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
        let scores = self.head.forward(&clauses, &document, words.as_ref())?;
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

    /// Weights of the n-grams of each clause, `[texts * clauses, buckets]`; some are left out.
    fn words(&self, examples: &[&Example], random: &mut ChaCha8Rng) -> candle_core::Result<Option<Tensor>> {
        let buckets = self.options.buckets;
        if buckets == 0 {
            return Ok(None);
        }
        let count = most_clauses(examples);
        let mut words = vec![0.0f32; examples.len() * count * buckets];
        for (text, example) in examples.iter().enumerate() {
            for (clause, grams) in example.grams.iter().enumerate() {
                let row = (text * count + clause) * buckets;
                let weight = 1.0 / (grams.len() as f32).sqrt();
                for &gram in grams {
                    if !random.random_bool(GRAM_DROPOUT) {
                        words[row + gram as usize % buckets] += weight;
                    }
                }
            }
        }
        self.tensor(words, &[examples.len() * count, buckets]).map(Some)
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

fn most_clauses(examples: &[&Example]) -> usize {
    examples.iter().map(|example| example.clauses).max().unwrap_or(0).max(1)
}

/// Binary cross-entropy from logits, element by element: `max(x, 0) - x t + log(1 + exp(-|x|))`, which never overflows.
fn cross_entropy(logits: &Tensor, target: &Tensor) -> candle_core::Result<Tensor> {
    let soft = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    (logits.relu()? - (logits * target)?)? + soft
}

/// `log(sum(exp(x)))` over the second dimension of `[texts, clauses, outputs]`.
fn log_sum_exp(scores: &Tensor) -> candle_core::Result<Tensor> {
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

/// The encoder's files for the bundle: trained weights as f16, everything else as it was.
fn encoder_files(directory: &Path, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Vec<u8>>, TrainError> {
    let mut files = BTreeMap::new();
    let names = [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
    ];
    for name in names {
        let path = directory.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => drop(files.insert(name.to_owned(), bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(TrainError::Read { path, source }),
        }
    }
    if !variables.is_empty() {
        let half = |variable: &Var| variable.as_tensor().to_device(&Device::Cpu)?.to_dtype(DType::F16);
        let tensors: Vec<(&String, Tensor)> = variables
            .iter()
            .map(|(name, variable)| half(variable).map(|tensor| (name, tensor)))
            .collect::<candle_core::Result<_>>()
            .map_err(|source| TrainError::Compute { epoch: 0, source })?;
        let bytes = safetensors::serialize(tensors, None).expect("tensors on the CPU serialize");
        files.insert("model.safetensors".to_owned(), bytes);
    }
    Ok(files)
}

fn file_digest(path: &Path) -> Result<String, TrainError> {
    digest::of_file(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })
}

/// A model card for a bundle that a user trained.
fn card(manifest: &Manifest) -> String {
    let training = &manifest.training;
    format!(
        "# {}\n\nA `medscenario` bundle for taxonomy `{}` ({}), {} scenarios.\n\n\
         - trained on {} labelled texts, {} epochs, seed {}, encoder {}\n\
         - calibrated on {} texts\n\n\
         Measure it with `medscenario eval --model DIRECTORY LABELS.jsonl`.\n",
        manifest.name,
        manifest.taxonomy.id,
        manifest.taxonomy.version,
        manifest.scenarios.len(),
        training.n_texts,
        training.epochs,
        training.seed,
        if training.fine_tuned { "fine-tuned" } else { "frozen" },
        training.n_calibration_texts,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("a tensor of f32")
    }

    #[test]
    fn cross_entropy_is_exact_and_never_overflows() {
        let logits = Tensor::new(&[0.0f32, 2.0, -2.0, 200.0, -200.0], &Device::Cpu).expect("tensor");
        let target = Tensor::new(&[1.0f32, 1.0, 1.0, 1.0, 1.0], &Device::Cpu).expect("tensor");
        // log 2, log(1 + e^-2), log(1 + e^2), 0, 200
        let expected = [std::f32::consts::LN_2, 0.126_928, 2.126_928, 0.0, 200.0];
        for (found, expected) in values(&cross_entropy(&logits, &target).expect("computes")).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn log_sum_exp_ignores_absent_clauses() {
        let scores = Tensor::new(&[[[1.0f32], [1.0], [-1e4]]], &Device::Cpu).expect("tensor");
        let found = values(&log_sum_exp(&scores).expect("computes"));
        assert!((found[0] - (1.0 + 2.0f32.ln())).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn evidence_marks_the_clauses_that_it_covers() {
        let found = clauses("用于导诊，随访");
        assert!(is_evidence(&found[0], (6, 12)));
        assert!(!is_evidence(&found[1], (6, 12)));
        assert!(is_evidence(&found[1], (15, 21)));
    }

    #[test]
    fn pairs_stay_together_when_texts_are_held_out() {
        let text = |id: usize| LabelledText {
            id: id.to_string(),
            lang: None,
            text: "a".to_owned(),
            status: None,
            scenarios: vec![],
            evidence: BTreeMap::new(),
            group: None,
            pair: Some((id / 2).to_string()),
        };
        let texts: Vec<LabelledText> = (0..100).map(text).collect();
        let (fitted, held) = split(&texts, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!((fitted.len(), held.len()), (90, 10));
        assert!(held.iter().all(|one| !fitted.iter().any(|other| other.pair == one.pair)));
    }
}
