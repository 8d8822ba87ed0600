//! Training: fits the head, and with `fine_tune` the encoder too, to labelled texts; then calibration and thresholds.
//!
//! The loss is binary cross-entropy at two levels. Clauses learn from the evidence that coders marked: a clause that
//! overlaps a scenario's evidence is positive, every other clause negative, also when it names the scenario as a plan
//! or as training data. Texts learn through a smooth maximum over their clauses, which also serves texts without
//! marked evidence and the output "outside". Same files, options and seed give the same bundle, whatever the number of
//! threads: a batch is always split into the same shards, and gradients are added in their order.

mod examples;
mod fit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::bundle::{self, BundleError, Manifest, TaxonomyRef, TrainingRecord};
use crate::classifier::calibration::{Calibration, Observation};
use crate::classifier::features::TextFeatures;
use crate::classifier::head::strongest;
use crate::digest;
use crate::encoder::bert::Bert;
use crate::encoder::{Checkpoint, CheckpointError, EncodeError, TextEncoder};
use crate::labels::{LabelledText, Status};
use crate::taxonomy::Taxonomy;
use examples::{Example, feature_example, token_example};
use fit::{HeadVariables, Trainer};

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
    use super::examples::is_evidence;
    use super::fit::{cross_entropy, log_sum_exp};
    use super::*;
    use crate::segment::clauses;

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
