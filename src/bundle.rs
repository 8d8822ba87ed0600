//! A bundle: one directory with encoder, tokenizer, head, calibration and a manifest that names and hashes them all.
//!
//! The default bundle is compiled into the program, so that it classifies anywhere without another file.

mod builtin;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::classifier::calibration::Calibration;
use crate::classifier::features::Widths;
use crate::classifier::head::{Head, PackedHead};
use crate::classifier::{Classifier, Scorer};
use crate::digest;
use crate::encoder::checkpoint::Files;
use crate::encoder::{Backend, Checkpoint, CheckpointError, TextEncoder};
use crate::taxonomy::{Id, Taxonomy};

/// Name of the manifest within a bundle.
pub const MANIFEST: &str = "manifest.json";
/// Name of the head within a bundle.
pub const HEAD: &str = "head.safetensors";
/// Name of the model card within a bundle.
pub const CARD: &str = "README.md";

/// Version of the bundle format that this program reads and writes.
pub const FORMAT: u32 = 6;

/// What a bundle is, how it was made, and the hashes of its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the bundle format.
    pub format: u32,
    /// Name of the bundle.
    pub name: String,
    /// Program and version that wrote it.
    pub created_with: String,
    /// The taxonomy that its scenarios belong to.
    pub taxonomy: TaxonomyRef,
    /// Scenario ids in the order of the outputs.
    pub scenarios: Vec<Id>,
    /// How it was trained.
    pub training: TrainingRecord,
    /// Scores to probabilities to decisions.
    pub calibration: Calibration,
    /// SHA-256 of every other file.
    pub files: BTreeMap<String, String>,
}

/// Identity of a taxonomy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaxonomyRef {
    /// Short name.
    pub id: String,
    /// Version of the document.
    pub version: String,
    /// Digest of identity, tree and names.
    pub digest: String,
}

impl TaxonomyRef {
    /// The identity of a taxonomy.
    pub fn of(taxonomy: &Taxonomy) -> TaxonomyRef {
        TaxonomyRef { id: taxonomy.id.clone(), version: taxonomy.version.clone(), digest: taxonomy.digest.clone() }
    }
}

/// Everything that decides what training yields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Where the encoder came from: SHA-256 of its weights before training.
    pub encoder_sha256: String,
    /// Whether the encoder's weights were trained too.
    pub fine_tuned: bool,
    /// Seed of every random choice.
    pub seed: u64,
    /// Passes over the texts.
    pub epochs: usize,
    /// Learning rate of the encoder at its highest.
    pub encoder_rate: f64,
    /// Learning rate of the head at its highest.
    pub head_rate: f64,
    /// Units of the head's first layer.
    pub units: usize,
    /// Rows of the head's layers over words.
    pub buckets: usize,
    /// Share of the linear model of the text's words in the scores.
    pub word_share: f32,
    /// Share of the head's inputs and units that were left out in each step.
    pub dropout: f64,
    /// Heads that were trained from different seeds and averaged.
    pub members: usize,
    /// Parts of the calibration texts that were learned from in turn; 1: none.
    pub folds: usize,
    /// Texts in a step.
    pub batch_texts: usize,
    /// SHA-256 of each file of labelled texts, in order.
    pub texts: Vec<String>,
    /// Number of texts trained on.
    pub n_texts: usize,
    /// SHA-256 of each file that calibration and thresholds were fitted to; empty where a tenth was held out.
    pub calibration_texts: Vec<String>,
    /// Number of texts that calibration and thresholds were fitted to.
    pub n_calibration_texts: usize,
    /// SHA-256 of each file of texts that vote on others, in order; those of calibration vote too where there is one.
    pub neighbour_texts: Vec<String>,
    /// Number of texts that vote.
    pub n_neighbours: usize,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file is missing.
    #[error(
        "Bundle `{bundle}` has no `{file}`; train one with `medscenario train`, or name none to use the built-in one"
    )]
    Missing {
        /// The directory.
        bundle: String,
        /// The file.
        file: String,
    },
    /// A file cannot be read or written.
    #[error("Failed to access `{file}` of bundle `{bundle}`")]
    Access {
        /// The directory.
        bundle: String,
        /// The file.
        file: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{file}` of bundle `{bundle}` cannot be used: {problem}")]
    Invalid {
        /// The directory.
        bundle: String,
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The bundle belongs to another taxonomy.
    #[error(
        "Bundle `{bundle}` was trained for taxonomy `{trained}`, and `{loaded}` is loaded; choose a --taxonomy and a --model that belong together, train one with `medscenario train`, or rank without labels with --zero-shot"
    )]
    OtherTaxonomy {
        /// The directory.
        bundle: String,
        /// Taxonomy and digest of the bundle.
        trained: String,
        /// Taxonomy and digest in use.
        loaded: String,
    },
    /// The encoder is broken.
    #[error(transparent)]
    Encoder(#[from] CheckpointError),
}

/// A bundle whose manifest has been read.
pub struct Bundle {
    files: Files,
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest, which stands for the whole bundle.
    pub digest: String,
}

impl Bundle {
    /// The bundle compiled into the program.
    ///
    /// # Errors
    /// Never for a released program: the test suite opens the same bytes.
    pub fn builtin() -> Result<Bundle, BundleError> {
        Bundle::from_files(Files::Embedded(&builtin::FILES))
    }

    /// Reads the manifest of a bundle in a directory.
    ///
    /// # Errors
    /// The manifest is missing, broken or of another format.
    pub fn open(directory: &Path) -> Result<Bundle, BundleError> {
        Bundle::from_files(Files::Directory(directory.to_owned()))
    }

    fn from_files(files: Files) -> Result<Bundle, BundleError> {
        let bytes = read(&files, MANIFEST)?;
        let invalid = |problem| BundleError::Invalid { bundle: files.label(), file: MANIFEST.to_owned(), problem };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            other => {
                let found = other.map_or("none".to_owned(), |format| format.to_string());
                return Err(invalid(format!(
                    "its format is {found}, and this program reads format {FORMAT}; train the bundle again"
                )));
            }
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
        let (outputs, calibration) = (manifest.scenarios.len(), &manifest.calibration);
        if calibration.thresholds.len() != outputs || calibration.offsets.len() != outputs + 1 {
            return Err(invalid(format!("its calibration does not fit {outputs} scenarios")));
        }
        Ok(Bundle { digest: digest::of_bytes(&bytes), files, manifest })
    }

    /// Where the bundle lies, for messages and manifests.
    pub fn label(&self) -> String {
        self.files.label()
    }

    /// The encoder's configuration.
    ///
    /// # Errors
    /// The encoder's files are missing or broken.
    pub fn checkpoint(&self) -> Result<Checkpoint, BundleError> {
        Ok(Checkpoint::from_files(self.files.clone())?)
    }

    /// Bytes of all files together.
    ///
    /// # Errors
    /// A file that the manifest names is missing.
    pub fn size(&self) -> Result<usize, BundleError> {
        let named = self.manifest.files.keys().map(|file| read(&self.files, file).map(|bytes| bytes.len()));
        Ok(read(&self.files, MANIFEST)?.len() + named.sum::<Result<usize, _>>()?)
    }

    /// Digest of the files that decide hidden states: all but the head, as they are, whatever the manifest says of them.
    ///
    /// # Errors
    /// A file that the manifest names is missing.
    pub fn encoder_digest(&self) -> Result<String, BundleError> {
        let mut parts = String::new();
        for file in self.manifest.files.keys().filter(|file| *file != HEAD) {
            parts += &format!("{file} {}\n", digest::of_bytes(&read(&self.files, file)?));
        }
        Ok(digest::of_bytes(parts.as_bytes()))
    }

    /// Compares every file with the hash that the manifest gives; returns the names checked.
    ///
    /// # Errors
    /// The first file that is missing or has another hash.
    pub fn verify(&self) -> Result<Vec<String>, BundleError> {
        for (file, expected) in &self.manifest.files {
            let found = digest::of_bytes(&read(&self.files, file)?);
            if found != *expected {
                let problem = format!("its SHA-256 is {found}, the manifest says {expected}; copy the bundle again");
                return Err(BundleError::Invalid { bundle: self.label(), file: file.clone(), problem });
            }
        }
        Ok(self.manifest.files.keys().cloned().collect())
    }

    /// Checks that the bundle and a taxonomy belong together.
    ///
    /// # Errors
    /// They do not.
    pub fn check_taxonomy(&self, taxonomy: &Taxonomy) -> Result<(), BundleError> {
        let trained = &self.manifest.taxonomy;
        let ids: Vec<Id> = taxonomy.scenarios.iter().map(|scenario| scenario.id).collect();
        if trained.digest == taxonomy.digest && self.manifest.scenarios == ids {
            return Ok(());
        }
        Err(BundleError::OtherTaxonomy {
            bundle: self.label(),
            trained: format!("{} {}", trained.id, digest::short(&trained.digest)),
            loaded: format!("{} {}", taxonomy.id, digest::short(&taxonomy.digest)),
        })
    }

    /// Loads everything for inference.
    ///
    /// # Errors
    /// A file is missing or broken, or its parts do not fit together.
    pub fn load(&self, backend: &Backend) -> Result<Classifier, BundleError> {
        let (encoder, head) = self.parts(backend)?;
        let calibration = self.manifest.calibration.clone();
        Ok(Classifier { encoder, scorer: Scorer::Trained { head: Box::new(head), calibration } })
    }

    /// Loads encoder and head.
    ///
    /// # Errors
    /// A file is missing or broken, or the two do not fit together.
    pub fn parts(&self, backend: &Backend) -> Result<(TextEncoder, PackedHead), BundleError> {
        let encoder = self.checkpoint()?.load(backend, false)?;
        let invalid = |problem| BundleError::Invalid { bundle: self.label(), file: HEAD.to_owned(), problem };
        let head = Head::parse(&read(&self.files, HEAD)?).map_err(invalid)?;
        let widths = Widths::of(encoder.encoder.as_ref());
        let outputs = self.manifest.scenarios.len() + 1;
        if head.widths != widths || head.outputs() != outputs {
            return Err(invalid(format!(
                "it reads clauses of {} dimensions and texts of {}, and yields {} scores; encoder and manifest ask for {}, {} and \
                 {outputs}",
                head.widths.clause,
                head.widths.document,
                head.outputs(),
                widths.clause,
                widths.document
            )));
        }
        Ok((encoder, head.pack()))
    }
}

fn read(files: &Files, file: &str) -> Result<std::borrow::Cow<'static, [u8]>, BundleError> {
    match files.get(file) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(BundleError::Missing { bundle: files.label(), file: file.to_owned() }),
        Err(source) => Err(BundleError::Access { bundle: files.label(), file: file.to_owned(), source }),
    }
}

/// Writes a bundle: the files given, and the manifest with their hashes. The directory must not hold another bundle.
///
/// # Errors
/// The directory cannot be written, or has a manifest already.
pub fn write(
    directory: &Path,
    mut manifest: Manifest,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<PathBuf, BundleError> {
    let access = |file: &str, source| BundleError::Access {
        bundle: directory.display().to_string(),
        file: file.to_owned(),
        source,
    };
    for (file, bytes) in files {
        let path = directory.join(file);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).map_err(|source| access(file, source))?;
        std::fs::write(&path, bytes).map_err(|source| access(file, source))?;
        // The card is prose, which may be corrected without making another model of it.
        if file != CARD {
            manifest.files.insert(file.clone(), digest::of_bytes(bytes));
        }
    }
    let mut text = serde_json::to_string_pretty(&manifest).expect("a manifest holds only strings, numbers and lists");
    text.push('\n');
    let path = directory.join(MANIFEST);
    std::fs::write(&path, text).map_err(|source| access(MANIFEST, source))?;
    Ok(path)
}
