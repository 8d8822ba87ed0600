//! Training: fits the head, and with `fine_tune` the encoder too, to labelled texts; then calibration and thresholds.
//!
//! The loss is binary cross-entropy at two levels. Clauses learn from the evidence that coders marked: a clause that
//! overlaps a scenario's evidence is positive, every other clause negative, also when it names the scenario as a plan
//! or as training data. Texts learn through a smooth maximum over their clauses, which also serves texts without
//! marked evidence and the output "outside". Same files, options and seed give the same bundle, whatever the number of
//! threads: a batch is always split into the same shards, and gradients are added in their order.

mod examples;
mod fit;
mod words;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::bundle::{self, BundleError, Manifest, TaxonomyRef, TrainingRecord};
use crate::classifier::calibration::{Calibration, Observation};
use crate::classifier::features::{self, TextFeatures, Widths};
use crate::classifier::head::{Head, PackedHead, strongest};
use crate::classifier::neighbours::Neighbours;
use crate::classifier::{Analysis, decide};
use crate::digest;
use crate::encoder::bert::{Bert, Weights};
use crate::encoder::{Backend, Checkpoint, CheckpointError, EncodeError, TextEncoder};
use crate::labels::{LabelledText, Status};
use crate::taxonomy::Taxonomy;
use examples::{Example, feature_example, token_example};
use fit::{HeadVariables, InputScaling, Trainer};

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
    /// Rows of the head's layers over words, of clauses and of whole texts; 0 for none.
    pub buckets: usize,
    /// Share of the linear model of the text's words in the scores, in [0, 1).
    pub word_share: f32,
    /// Share of the head's inputs and units that are left out in each step, in [0, 1).
    pub dropout: f64,
    /// Heads that are trained from different seeds and averaged, where the encoder is frozen.
    pub members: usize,
    /// Parts into which the calibration texts, or all texts where there are none, are split to be learned from and
    /// calibrated on; 1: no text serves both.
    pub folds: usize,
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
            word_share: 0.3,
            dropout: 0.2,
            members: 1,
            folds: 1,
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
    /// There is no room for the models of the folds.
    #[error("Failed to make a temporary directory for a fold; set TMPDIR to one with room for a bundle")]
    Scratch {
        /// The cause.
        source: std::io::Error,
    },
    /// A file changed or vanished while it was in use.
    #[error("Failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Features that were computed before, by text.
type Known = HashMap<String, Arc<TextFeatures>>;

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
    /// Texts that calibration and thresholds are fitted to; where there is none, a tenth of `data` is held out, or with
    /// folds each text in turn.
    pub calibration: TrainingData<'a>,
    /// Texts whose labels vote on texts that read like them; where there are any and folds, those of calibration vote too.
    pub neighbours: TrainingData<'a>,
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
    pub fn run(&self, directory: &Path, progress: &mut dyn FnMut(EpochReport)) -> Result<Trained<'_>, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        let texts = self.data.texts.iter();
        let (mut fitted, held_out) = match (self.calibration.texts.is_empty(), self.options.folds) {
            (true, ..=1) => split(self.data.texts, &mut random),
            (true, _) => (Vec::new(), texts.collect()),
            (false, _) => (texts.collect(), self.calibration.texts.iter().collect::<Vec<_>>()),
        };
        let mut judged = Vec::new();
        let mut known = Known::new();
        if self.options.folds > 1 {
            for (learned, unseen) in folds(&held_out, self.options.folds, &mut random) {
                let scratch = tempfile::tempdir().map_err(|source| TrainError::Scratch { source })?;
                let voters = voters(self.neighbours.texts, &learned, &unseen);
                let texts: Vec<&LabelledText> = fitted.iter().copied().chain(learned).collect();
                self.write(scratch.path(), &texts, &voters, unseen.len(), &mut known, progress)?;
                judged.push(self.judge(scratch.path(), unseen, &mut known)?);
            }
            fitted.extend(&held_out);
        }
        let (learned, unseen) =
            if self.options.folds > 1 { (&held_out[..], &[][..]) } else { (&[][..], &held_out[..]) };
        let voters = voters(self.neighbours.texts, learned, unseen);
        let (mut files, manifest) = self.write(directory, &fitted, &voters, held_out.len(), &mut known, progress)?;
        if self.options.folds <= 1 {
            judged.push(self.judge(directory, held_out, &mut known)?);
        }
        let observations: Vec<Observation> = judged.iter().flat_map(|part| part.observations(self.taxonomy)).collect();
        let calibration = Calibration::fit(&observations, &category_positions(self.taxonomy));
        files.insert(bundle::CARD.to_owned(), card(&manifest).into_bytes());
        let manifest = bundle::write(directory, Manifest { calibration: calibration.clone(), ..manifest }, &files)?;
        let analyses = judged.iter().flat_map(|part| part.analyses(&calibration)).collect();
        Ok(Trained { manifest, held_out: analyses })
    }

    /// Trains on texts and writes a bundle without calibration; returns its files and its manifest.
    fn write(
        &self,
        directory: &Path,
        texts: &[&LabelledText],
        voters: &[&LabelledText],
        n_held_out: usize,
        known: &mut Known,
        progress: &mut dyn FnMut(EpochReport),
    ) -> Result<(BTreeMap<String, Vec<u8>>, Manifest), TrainError> {
        // Every fold starts from the same weights and sees its texts in the same order.
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        let (mut files, mut head) = self.fit(texts, &mut random, known, progress)?;
        files.insert(bundle::HEAD.to_owned(), head.serialize());
        let manifest = self.manifest(texts.len(), n_held_out, voters.len())?;
        bundle::write(directory, manifest.clone(), &files)?;
        if !voters.is_empty() {
            // Remembered as the encoder sees them that was just written.
            let (encoder, _) = bundle::Bundle::open(directory)?.parts(&Backend::exact(self.device))?;
            let features = self.features(voters, &encoder, known).map_err(|error| self.failed(error))?;
            let (widths, outputs) = (head.widths, head.outputs());
            let documents = features.iter().map(|features| features.document.as_slice());
            let labels = voters.iter().map(|text| self.labels(text));
            head.neighbours = Some(Neighbours::new(documents.zip(labels), widths, outputs));
            files.insert(bundle::HEAD.to_owned(), head.serialize());
            bundle::write(directory, manifest.clone(), &files)?;
        }
        Ok((files, manifest))
    }

    /// For each output whether a text has its label.
    fn labels(&self, text: &LabelledText) -> Vec<bool> {
        let mut labels = vec![false; self.taxonomy.len() + 1];
        text.scenarios.iter().filter_map(|&id| self.taxonomy.position(id)).for_each(|scenario| labels[scenario] = true);
        labels[self.taxonomy.len()] = text.status() == Status::Outside;
        labels
    }

    /// The encoder failed behind the last epoch.
    fn failed(&self, error: EncodeError) -> TrainError {
        TrainError::Compute { epoch: self.options.epochs, source: error.source }
    }

    /// The head of a bundle as it is stored and read back, rounded to 16 and 8 bits, with the features of texts that it has not
    /// seen.
    fn judge<'t>(
        &self,
        directory: &Path,
        texts: Vec<&'t LabelledText>,
        known: &mut Known,
    ) -> Result<Judged<'t>, TrainError> {
        let (encoder, head) = bundle::Bundle::open(directory)?.parts(&Backend::exact(self.device))?;
        let features = self.features(&texts, &encoder, known).map_err(|error| self.failed(error))?;
        Ok(Judged { head, texts, features })
    }

    /// Trains head and, where asked for, encoder; returns the encoder's files and the head.
    fn fit(
        &self,
        texts: &[&LabelledText],
        random: &mut ChaCha8Rng,
        known: &mut Known,
        progress: &mut dyn FnMut(EpochReport),
    ) -> Result<(BTreeMap<String, Vec<u8>>, Head), TrainError> {
        let Training { taxonomy, options, device, .. } = *self;
        let compute = |epoch| move |source| TrainError::Compute { epoch, source };
        let checkpoint = Checkpoint::open(self.encoder)?;
        let tokenizer = checkpoint.tokenizer(false)?;
        let mut weights = Weights::new(checkpoint.tensors()?, device, DType::F32);
        if options.fine_tune {
            weights = weights.trainable();
        }
        let bert = Bert::load(&checkpoint.config, checkpoint.position_offset, &mut weights).map_err(|problem| {
            CheckpointError::Invalid {
                checkpoint: self.encoder.display().to_string(),
                file: "model.safetensors".to_owned(),
                problem,
            }
        })?;
        let variables = weights.variables();
        let encoder = checkpoint.load(&Backend::exact(device), false)?;
        let widths = Widths::of(encoder.encoder.as_ref());
        // Where the encoder moves, its vectors of a few texts at the start are enough to tell their scale.
        let step = if options.fine_tune { texts.len().div_ceil(FEATURE_TEXTS).max(1) } else { 1 };
        let scaled: Vec<&LabelledText> = texts.iter().copied().step_by(step).collect();
        let features = self.features(&scaled, &encoder, known).map_err(|error| compute(0)(error.source))?;
        let scaling = InputScaling::of(&features, widths);
        let examples: Vec<Example> = if options.fine_tune {
            texts.iter().map(|text| token_example(text, &tokenizer, taxonomy)).collect()
        } else {
            texts.iter().zip(features).map(|(text, features)| feature_example(text, features, taxonomy)).collect()
        };
        let mask = tokenizer.mask_token();
        let mut heads = Vec::new();
        for _ in 0..options.members {
            let head = HeadVariables::new(widths, &scaling, options, taxonomy.len() + 1, random, device);
            let head = head.map_err(compute(0))?;
            let trainer = Trainer { bert: &bert, head: &head, examples: &examples, mask, options, device };
            trainer.run(&variables, random, progress)?;
            heads.push(head.export().map_err(compute(options.epochs))?);
        }
        let mut head = Head::average(&heads);
        if options.buckets > 0 {
            head = head.mix(words::fit(texts, taxonomy, options.buckets, options.seed), options.word_share);
        }
        Ok((encoder_files(self.encoder, &variables)?, head))
    }

    /// Features of texts, computed in pieces. Those of a frozen encoder are computed once for all folds.
    fn features(
        &self,
        texts: &[&LabelledText],
        encoder: &TextEncoder,
        known: &mut Known,
    ) -> Result<Vec<Arc<TextFeatures>>, EncodeError> {
        if self.options.fine_tune {
            known.clear();
        }
        let fresh: Vec<&LabelledText> = texts.iter().copied().filter(|text| !known.contains_key(&text.text)).collect();
        for piece in fresh.chunks(FEATURE_TEXTS) {
            let contents: Vec<&str> = piece.iter().map(|text| text.text.as_str()).collect();
            for (text, features) in contents.iter().zip(features::of_texts(encoder, &contents)?) {
                known.insert((*text).to_owned(), Arc::new(features));
            }
        }
        Ok(texts.iter().map(|text| Arc::clone(&known[&text.text])).collect())
    }

    fn manifest(
        &self,
        n_texts: usize,
        n_calibration_texts: usize,
        n_neighbours: usize,
    ) -> Result<Manifest, TrainError> {
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
                word_share: options.word_share,
                dropout: options.dropout,
                members: options.members,
                folds: options.folds,
                batch_texts: options.batch_texts,
                texts: digests(self.data.files)?,
                n_texts,
                calibration_texts: digests(self.calibration.files)?,
                n_calibration_texts,
                neighbour_texts: digests(self.neighbours.files)?,
                n_neighbours,
            },
            calibration: Calibration::identity(taxonomy.len()),
            files: BTreeMap::new(),
        })
    }
}

/// What training gave.
pub struct Trained<'a> {
    /// The manifest of the bundle.
    pub manifest: PathBuf,
    /// Texts that calibration and thresholds were fitted to, as a model sees them that did not learn from them.
    pub held_out: Vec<(&'a LabelledText, Analysis)>,
}

/// A head and texts that it did not learn from.
struct Judged<'t> {
    head: PackedHead,
    texts: Vec<&'t LabelledText>,
    features: Vec<Arc<TextFeatures>>,
}

impl<'t> Judged<'t> {
    fn observations(&self, taxonomy: &Taxonomy) -> impl Iterator<Item = Observation> {
        self.texts.iter().zip(&self.features).map(|(text, features)| Observation {
            scores: strongest(&self.head.scores(features), taxonomy.len() + 1),
            votes: self.head.votes(features),
            scenarios: text.scenarios.iter().filter_map(|&id| taxonomy.position(id)).collect(),
            outside: text.status() == Status::Outside,
        })
    }

    fn analyses(&self, calibration: &Calibration) -> impl Iterator<Item = (&'t LabelledText, Analysis)> {
        let pairs = self.texts.iter().zip(&self.features);
        pairs.map(|(text, features)| (*text, decide(&text.text, features, &self.head, calibration)))
    }
}

/// Position of the category of each scenario.
fn category_positions(taxonomy: &Taxonomy) -> Vec<usize> {
    let position = |id| taxonomy.categories.iter().position(|category| category.id == id).unwrap_or(0);
    taxonomy.scenarios.iter().map(|scenario| position(scenario.category)).collect()
}

/// What stays together when texts are split.
fn key(text: &LabelledText) -> &str {
    text.group.as_deref().or(text.pair.as_deref()).unwrap_or(&text.id)
}

/// The keys of texts in a random order.
fn shuffled_keys<'a>(texts: impl Iterator<Item = &'a LabelledText>, random: &mut ChaCha8Rng) -> Vec<&'a str> {
    let mut keys: Vec<&str> = texts.map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.shuffle(random);
    keys
}

/// Texts to learn from and texts to judge, for each fold; texts of one pair or group stay together.
fn folds<'a>(
    texts: &[&'a LabelledText],
    count: usize,
    random: &mut ChaCha8Rng,
) -> Vec<(Vec<&'a LabelledText>, Vec<&'a LabelledText>)> {
    let keys = shuffled_keys(texts.iter().copied(), random);
    let fold_of: BTreeMap<&str, usize> = keys.iter().enumerate().map(|(at, &key)| (key, at % count)).collect();
    let part = |fold: usize| texts.iter().copied().partition(|text| fold_of[key(text)] != fold);
    (0..count).map(part).filter(|(_, judged): &(Vec<_>, Vec<_>)| !judged.is_empty()).collect()
}

/// The texts that vote: those given and, where there are any, those `learned` from calibration; none that is akin to one that is
/// to be judged.
fn voters<'a>(
    given: &'a [LabelledText],
    learned: &[&'a LabelledText],
    unseen: &[&LabelledText],
) -> Vec<&'a LabelledText> {
    if given.is_empty() {
        return Vec::new();
    }
    let left_out: HashSet<&str> = unseen.iter().map(|text| key(text)).collect();
    let akin = |text: &&LabelledText| left_out.contains(key(text));
    let voters = given.iter().chain(learned.iter().copied()).filter(|text| !akin(text));
    voters.map(|text| (text.text.as_str(), text)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Holds out a tenth of the texts; texts of one pair or group stay together.
fn split<'a>(texts: &'a [LabelledText], random: &mut ChaCha8Rng) -> (Vec<&'a LabelledText>, Vec<&'a LabelledText>) {
    let keys = shuffled_keys(texts.iter(), random);
    let held: HashSet<&str> = keys.iter().take(keys.len() / 10).copied().collect();
    texts.iter().partition(|text| !held.contains(key(text)))
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

    /// A text whose id is a number, in a pair with the one before or behind it.
    fn text(id: usize) -> LabelledText {
        LabelledText {
            id: id.to_string(),
            lang: None,
            text: format!("text {id}"),
            status: None,
            scenarios: vec![],
            evidence: BTreeMap::new(),
            group: None,
            pair: Some((id / 2).to_string()),
        }
    }

    #[test]
    fn no_text_votes_on_its_like() {
        let texts: Vec<LabelledText> = (0..10).map(text).collect();
        let ids = |voters: Vec<&LabelledText>| voters.iter().map(|text| text.id.clone()).collect::<Vec<_>>().concat();
        let (learned, unseen) = ([&texts[4], &texts[5], &texts[6]], [&texts[2], &texts[7]]);
        // 2 and 7 are judged, and 3 and 6 are their pairs.
        assert_eq!(ids(voters(&texts[..4], &learned, &unseen)), "0145");
        assert_eq!(ids(voters(&texts[..5], &learned, &[])), "0123456", "a text that was given twice votes once");
        assert!(voters(&[], &learned, &unseen).is_empty(), "texts of calibration vote only beside others");
    }

    #[test]
    fn pairs_stay_together_when_texts_are_held_out() {
        let texts: Vec<LabelledText> = (0..100).map(text).collect();
        let (fitted, held) = split(&texts, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!((fitted.len(), held.len()), (90, 10));
        assert!(held.iter().all(|one| !fitted.iter().any(|other| other.pair == one.pair)));
    }
}
