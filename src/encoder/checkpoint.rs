//! A BERT-type checkpoint in Hugging Face layout: `config.json`, `tokenizer.json`, `model.safetensors`, and the pooling
//! files of sentence-transformers where they are there.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use candle_transformers::models::bert::Config;
use serde::Deserialize;
use tokenizers::Tokenizer;

use super::bert::{Bert, Weights};
use super::cpu::CpuBert;
use super::tokenizer::TextTokenizer;
use super::weights::{Bytes, Tensors};
use super::{Backend, Encoder, TextEncoder};

/// How one vector is made of the hidden states of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Mean over all tokens, special ones included.
    Mean,
    /// The state of the first token.
    Cls,
}

impl Pooling {
    /// Pools the states of tokens, of width `hidden`; zeros without a token.
    pub fn pool<'a>(self, states: impl Iterator<Item = &'a [f32]>, hidden: usize) -> Vec<f32> {
        match self {
            Pooling::Cls => mean(states.take(1), hidden),
            Pooling::Mean => mean(states, hidden),
        }
    }
}

/// Mean of rows of width `hidden`; zeros when there is none.
pub fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, hidden: usize) -> Vec<f32> {
    let mut sum = vec![0.0; hidden];
    let mut count = 0usize;
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        count += 1;
    }
    let count = count.max(1) as f32;
    sum.iter_mut().for_each(|value| *value /= count);
    sum
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file is not there.
    #[error("Checkpoint `{checkpoint}` has no `{file}`; expected config.json, tokenizer.json and model.safetensors")]
    Missing {
        /// The directory.
        checkpoint: String,
        /// The file.
        file: String,
    },
    /// A file cannot be read.
    #[error("Failed to read `{file}` of checkpoint `{checkpoint}`")]
    Read {
        /// The directory.
        checkpoint: String,
        /// The file.
        file: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{file}` of checkpoint `{checkpoint}` cannot be used: {problem}")]
    Invalid {
        /// The directory.
        checkpoint: String,
        /// The file.
        file: String,
        /// What is wrong, with the tensor or key.
        problem: String,
    },
}

/// Where the files of a checkpoint or bundle lie.
#[derive(Debug, Clone)]
pub enum Files {
    /// In a directory.
    Directory(PathBuf),
    /// In the program.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Files {
    /// The content of a file, or `None` where there is no such file.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn get(&self, name: &str) -> std::io::Result<Option<Cow<'static, [u8]>>> {
        match self {
            Files::Directory(directory) => match std::fs::read(directory.join(name)) {
                Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Files::Embedded(files) => {
                Ok(files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
        }
    }

    /// The content of a large file, mapped into memory where it lies on disk, or `None` where there is no such file.
    ///
    /// # Errors
    /// The file is there and cannot be mapped.
    pub fn map(&self, name: &str) -> std::io::Result<Option<Bytes>> {
        match self {
            Files::Directory(directory) => match Bytes::map(&directory.join(name)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Files::Embedded(files) => {
                Ok(files.iter().find(|(file, _)| *file == name).map(|(_, bytes)| Bytes::Static(bytes)))
            }
        }
    }

    /// How messages name this place.
    pub fn label(&self) -> String {
        match self {
            Files::Directory(directory) => directory.display().to_string(),
            Files::Embedded(_) => "built-in".to_owned(),
        }
    }
}

/// A checkpoint whose configuration has been read and checked; weights load with [`Checkpoint::load`].
pub struct Checkpoint {
    files: Files,
    /// The architecture's sizes.
    pub config: Config,
    /// First row of the position table that is used: 0, or behind the padding row in RoBERTa's family.
    pub position_offset: usize,
    /// How one vector is made of hidden states.
    pub pooling: Pooling,
    /// Whether text vectors are scaled to length 1.
    pub normalize: bool,
    /// Most tokens of a window, special tokens included.
    pub max_tokens: usize,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PoolingConfig {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

#[derive(Deserialize)]
struct SentenceBertConfig {
    max_seq_length: Option<usize>,
}

impl Checkpoint {
    /// Reads the configuration of a checkpoint in a directory.
    ///
    /// # Errors
    /// A file is missing, broken, or asks for something that this program does not do.
    pub fn open(directory: &Path) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::from_files(Files::Directory(directory.to_owned()))
    }

    /// Reads the configuration of a checkpoint.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_files(files: Files) -> Result<Checkpoint, CheckpointError> {
        let reader = Reader { files: &files };
        let value: serde_json::Value = reader.json("config.json")?.ok_or_else(|| reader.missing("config.json"))?;
        let model_type = value.get("model_type").and_then(|kind| kind.as_str()).unwrap_or("bert").to_owned();
        // The architecture first: the configuration of another one has other keys, and a missing key tells less.
        if !["bert", "roberta", "xlm-roberta"].contains(&model_type.as_str()) {
            let problem = format!("`model_type` is `{model_type}`; expected `bert`, `roberta` or `xlm-roberta`");
            return Err(reader.invalid("config.json", problem));
        }
        let config: Config =
            serde_json::from_value(value).map_err(|error| reader.invalid("config.json", error.to_string()))?;
        let position_offset = if model_type == "bert" { 0 } else { config.pad_token_id + 1 };
        let heads = config.num_attention_heads;
        if heads == 0 || !config.hidden_size.is_multiple_of(heads) {
            let problem =
                format!("`hidden_size` {} is not a multiple of `num_attention_heads` {heads}", config.hidden_size);
            return Err(reader.invalid("config.json", problem));
        }
        let (pooling, normalize) = reader.modules()?;
        let positions = config.max_position_embeddings.saturating_sub(position_offset);
        let sentence: Option<SentenceBertConfig> = reader.json("sentence_bert_config.json")?;
        let wanted = sentence.and_then(|sentence| sentence.max_seq_length).unwrap_or(positions);
        let max_tokens = wanted.min(positions);
        Ok(Checkpoint { files, config, position_offset, pooling, normalize, max_tokens })
    }

    /// The tokenizer with this checkpoint's window.
    ///
    /// # Errors
    /// `tokenizer.json` is missing, broken, or has tokens that the model does not know.
    pub fn tokenizer(&self, truncate: bool) -> Result<TextTokenizer, CheckpointError> {
        let reader = Reader { files: &self.files };
        let file = "tokenizer.json";
        let bytes = reader.bytes(file)?.ok_or_else(|| reader.missing(file))?;
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| reader.invalid(file, error.to_string()))?;
        let tokenizer = TextTokenizer::new(tokenizer, self.max_tokens, truncate)
            .map_err(|problem| reader.invalid(file, problem))?;
        let (highest, rows) = (tokenizer.highest_id(), self.config.vocab_size);
        if highest as usize >= rows {
            let problem = format!("token ids up to {highest}, but `vocab_size` in config.json is {rows}");
            return Err(reader.invalid(file, problem));
        }
        Ok(tokenizer)
    }

    /// The weights, as stored.
    ///
    /// # Errors
    /// `model.safetensors` is missing or broken.
    pub fn tensors(&self) -> Result<Tensors, CheckpointError> {
        let reader = Reader { files: &self.files };
        let file = "model.safetensors";
        let bytes = self.files.map(file).map_err(|source| reader.read_error(file, source))?;
        let bytes = bytes.ok_or_else(|| reader.missing(file))?;
        Tensors::of_checkpoint(bytes).map_err(|problem| reader.invalid(file, problem))
    }

    /// Loads tokenizer and weights for inference.
    ///
    /// # Errors
    /// A file is missing or broken, or a tensor does not have the shape that the configuration asks for.
    pub fn load(&self, backend: &Backend, truncate: bool) -> Result<TextEncoder, CheckpointError> {
        let tokenizer = self.tokenizer(truncate)?;
        let tensors = self.tensors()?;
        let (config, offset) = (&self.config, self.position_offset);
        let encoder: Result<Box<dyn Encoder>, String> = match backend {
            Backend::Cpu { quantized } => {
                CpuBert::load(config, offset, &tensors, *quantized).map(|bert| Box::new(bert) as Box<dyn Encoder>)
            }
            Backend::Candle { device, dtype } => {
                let mut weights = Weights::new(tensors, device, *dtype);
                Bert::load(config, offset, &mut weights).map(|bert| Box::new(bert) as Box<dyn Encoder>)
            }
        };
        let encoder = encoder.map_err(|problem| Reader { files: &self.files }.invalid("model.safetensors", problem))?;
        Ok(TextEncoder {
            batch_tokens: encoder.batch_tokens(),
            tokenizer,
            encoder,
            pooling: self.pooling,
            normalize: self.normalize,
        })
    }
}

/// Reads files and names them in errors.
struct Reader<'a> {
    files: &'a Files,
}

impl Reader<'_> {
    fn bytes(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>, CheckpointError> {
        self.files.get(file).map_err(|source| self.read_error(file, source))
    }

    fn read_error(&self, file: &str, source: std::io::Error) -> CheckpointError {
        CheckpointError::Read { checkpoint: self.files.label(), file: file.to_owned(), source }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, file: &str) -> Result<Option<T>, CheckpointError> {
        let Some(bytes) = self.bytes(file)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.invalid(file, error.to_string()))
    }

    fn missing(&self, file: &str) -> CheckpointError {
        CheckpointError::Missing { checkpoint: self.files.label(), file: file.to_owned() }
    }

    fn invalid(&self, file: &str, problem: String) -> CheckpointError {
        CheckpointError::Invalid { checkpoint: self.files.label(), file: file.to_owned(), problem }
    }

    /// Pooling and normalisation as `modules.json` names them; mean and none where there is no such file.
    fn modules(&self) -> Result<(Pooling, bool), CheckpointError> {
        let Some(modules) = self.json::<Vec<Module>>("modules.json")? else {
            return Ok((Pooling::Mean, false));
        };
        let (mut pooling, mut normalize) = (Pooling::Mean, false);
        for module in modules {
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Normalize" => normalize = true,
                "Pooling" => {
                    let file = format!("{}/config.json", module.path);
                    let config: PoolingConfig = self.json(&file)?.ok_or_else(|| {
                        self.invalid("modules.json", format!("it names `{file}`, which is not there"))
                    })?;
                    pooling = self.pooling(&file, &config)?;
                }
                other => {
                    let problem =
                        format!("module `{other}` is not supported; expected Transformer, Pooling and Normalize");
                    return Err(self.invalid("modules.json", problem));
                }
            }
        }
        Ok((pooling, normalize))
    }

    fn pooling(&self, file: &str, config: &PoolingConfig) -> Result<Pooling, CheckpointError> {
        if let Some(mode) = &config.pooling_mode {
            return match mode.as_str() {
                "mean" => Ok(Pooling::Mean),
                "cls" => Ok(Pooling::Cls),
                other => {
                    Err(self.invalid(file, format!("pooling mode `{other}` is not supported; expected mean or cls")))
                }
            };
        }
        let other = config.pooling_mode_max_tokens
            || config.pooling_mode_mean_sqrt_len_tokens
            || config.pooling_mode_weightedmean_tokens
            || config.pooling_mode_lasttoken;
        match (config.pooling_mode_cls_token, config.pooling_mode_mean_tokens, other) {
            (true, false, false) => Ok(Pooling::Cls),
            (false, true, false) => Ok(Pooling::Mean),
            _ => Err(self.invalid(file, "expected one pooling mode, mean or cls".to_owned())),
        }
    }
}
