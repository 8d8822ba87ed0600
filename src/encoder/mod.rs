//! From texts to vectors: one seam, [`Encoder`], between checkpoints and everything that uses them.
//!
//! [`checkpoint`] reads a Hugging Face directory, [`tokenizer`] turns text into windows of token ids, [`batch`] packs
//! windows, [`cpu`] or, on a GPU, [`bert`] computes hidden states from [`weights`], and [`TextEncoder`] joins them.

pub mod batch;
pub mod bert;
pub mod checkpoint;
pub mod cpu;
pub mod hub;
pub mod tokenizer;
pub mod weights;

use rayon::prelude::*;

pub use checkpoint::{Checkpoint, CheckpointError, Pooling};
pub use tokenizer::{TextTokenizer, TokenizedText};

/// Computes hidden states of token sequences.
///
/// Implementations promise that the states of a sequence do not depend on the other sequences of the batch: not at all
/// where lengths may be mixed or are all the same, and not beyond rounding otherwise.
pub trait Encoder: Send + Sync {
    /// Width of a hidden state.
    fn hidden_size(&self) -> usize;

    /// Number of layers above the embeddings.
    fn layers(&self) -> usize;

    /// What decides the last bit beside weights and text: number formats, instruction set, device.
    fn arithmetic(&self) -> String;

    /// Tokens with which a batch takes least time per token.
    fn batch_tokens(&self) -> usize;

    /// Whether a batch of several lengths costs no more than the sequences alone, and gives the same bytes.
    fn mixes_lengths(&self) -> bool;

    /// Calls `read` for each sequence, in order, with its place in the batch and its hidden states behind the named layers,
    /// ascending, 0 for the embeddings: row-major `[tokens, layers * hidden]`, the layers' states side by side. They are
    /// borrowed, so that an engine can use their memory for the next batch.
    ///
    /// # Errors
    /// The backend fails; the message is the backend's.
    fn encode(
        &self,
        batch: &[&[u32]],
        layers: &[usize],
        read: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), EncodeError>;
}

/// A failure while computing.
#[derive(Debug, thiserror::Error)]
#[error("Failed to encode a batch of {sequences} sequences of up to {tokens} tokens")]
pub struct EncodeError {
    /// Sequences in the batch.
    pub sequences: usize,
    /// Length of the longest.
    pub tokens: usize,
    /// The cause.
    pub source: candle_core::Error,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The processor.
    Cpu,
    /// A CUDA GPU; an error where there is none.
    Cuda,
    /// A CUDA GPU where the program was built for one and one is there, the processor otherwise.
    Auto,
}

/// How exactly to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// Linear layers in 8-bit integers, on the CPU alone: faster, and a few decisions differ
    Int8,
    /// Everything in 16-bit brain floats, on a GPU alone: faster, and a few decisions differ
    Bf16,
}

/// What computes.
#[derive(Debug, Clone)]
pub enum Backend {
    /// This crate's engine on the CPU.
    Cpu {
        /// Whether linear layers compute in 8-bit integers.
        quantized: bool,
    },
    /// candle, on a GPU, or on the CPU as a reference.
    Candle {
        /// Where.
        device: candle_core::Device,
        /// Number format of weights and states.
        dtype: candle_core::DType,
    },
}

impl Backend {
    /// The engine for a device and a precision.
    ///
    /// # Errors
    /// The two do not go together, or a GPU was asked for and cannot be had.
    pub fn open(device: DeviceChoice, precision: Precision) -> Result<Backend, DeviceError> {
        let device = match (device, precision) {
            (DeviceChoice::Cuda, Precision::Int8) => return Err(DeviceError::NotOnGpu),
            (DeviceChoice::Cpu, Precision::Bf16) => return Err(DeviceError::NotOnCpu),
            (_, Precision::Int8) => return Ok(Backend::Cpu { quantized: true }),
            (_, Precision::Bf16) => DeviceChoice::Cuda.open()?,
            (device, Precision::F32) => device.open()?,
        };
        Ok(match precision {
            Precision::Bf16 => Backend::Candle { device, dtype: candle_core::DType::BF16 },
            _ => Backend::exact(&device),
        })
    }

    /// The engine for 32-bit floats on a device.
    pub fn exact(device: &candle_core::Device) -> Backend {
        match device {
            candle_core::Device::Cpu => Backend::Cpu { quantized: false },
            gpu => Backend::Candle { device: gpu.clone(), dtype: candle_core::DType::F32 },
        }
    }

    /// How exactly it computes.
    pub fn precision(&self) -> Precision {
        match self {
            Backend::Cpu { quantized: true } => Precision::Int8,
            Backend::Candle { dtype: candle_core::DType::BF16, .. } => Precision::Bf16,
            _ => Precision::F32,
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The program was built without GPU support.
    #[error(
        "This program was built without GPU support; build it with `cargo build --release --features cuda`, or use `--device cpu`"
    )]
    NotBuilt,
    /// 8-bit integers on a GPU.
    #[error("`--precision int8` computes on the CPU; use `--device cpu`, or `--precision bf16` on a GPU")]
    NotOnGpu,
    /// 16-bit floats on a CPU.
    #[error("`--precision bf16` needs a GPU; use `--precision int8` on the CPU")]
    NotOnCpu,
    /// No GPU answers.
    #[error("No CUDA GPU can be used; check the driver with `nvidia-smi`, or use `--device cpu`")]
    NotFound(#[source] candle_core::Error),
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// A GPU was asked for and cannot be had.
    pub fn open(self) -> Result<candle_core::Device, DeviceError> {
        let gpu = || {
            if cfg!(feature = "cuda") {
                candle_core::Device::new_cuda(0).map_err(DeviceError::NotFound)
            } else {
                Err(DeviceError::NotBuilt)
            }
        };
        match self {
            DeviceChoice::Cpu => Ok(candle_core::Device::Cpu),
            DeviceChoice::Cuda => gpu(),
            DeviceChoice::Auto => Ok(gpu().unwrap_or(candle_core::Device::Cpu)),
        }
    }
}

/// Hidden states of one text, put together from its windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextStates<'a> {
    /// Bytes of the text that each token stands for.
    pub offsets: &'a [(usize, usize)],
    /// Row-major `[tokens, layers * hidden]`, without the special tokens.
    pub states: &'a [f32],
}

/// A tokenizer and an encoder that belong together.
pub struct TextEncoder {
    /// Text to token ids.
    pub tokenizer: TextTokenizer,
    /// Token ids to hidden states.
    pub encoder: Box<dyn Encoder>,
    /// How one vector is made of hidden states.
    pub pooling: Pooling,
    /// Whether text vectors are scaled to length 1.
    pub normalize: bool,
    /// Most tokens in a batch, padding included.
    pub batch_tokens: usize,
}

impl TextEncoder {
    /// What `read` makes of the hidden states of each text behind the named layers, in the texts' order. It is called with a
    /// text's place as soon as the text is encoded, so that few states are held at a time; those of texts longer than a
    /// window are held until all are encoded. Equal texts give equal bytes, whatever else is in the call.
    ///
    /// # Errors
    /// The backend fails.
    pub fn states<T: Send>(
        &self,
        texts: &[&str],
        layers: &[usize],
        read: impl Fn(usize, TextStates<'_>) -> T + Sync,
    ) -> Result<Vec<T>, EncodeError> {
        enum Encoded<T> {
            Read(T),
            Windows(Vec<Vec<f32>>),
        }
        let width = layers.len() * self.encoder.hidden_size();
        let tokenized = self.tokenize(texts);
        let encoded =
            self.encode(&tokenized, layers, |text, states| match tokenized[text].of_one_window(states, width) {
                Some(states) => Encoded::Read(read(text, states)),
                None => Encoded::Windows(vec![states.to_vec()]),
            })?;
        let mut texts: Vec<Encoded<T>> = (0..texts.len()).map(|_| Encoded::Windows(Vec::new())).collect();
        for (text, encoded) in encoded {
            match (&mut texts[text], encoded) {
                (Encoded::Windows(windows), Encoded::Windows(mut window)) => windows.append(&mut window),
                // A text of one window comes once.
                (text, encoded) => *text = encoded,
            }
        }
        let read = |(text, encoded): (usize, Encoded<T>)| match encoded {
            Encoded::Read(read) => read,
            Encoded::Windows(windows) => {
                let states = tokenized[text].assemble(&windows, width);
                read(text, TextStates { offsets: &tokenized[text].offsets, states: &states })
            }
        };
        Ok(texts.into_par_iter().enumerate().map(read).collect())
    }

    /// One vector per text, pooled and normalised as the checkpoint asks; zeros for a text without a token.
    ///
    /// # Errors
    /// The backend fails.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncodeError> {
        let hidden = self.encoder.hidden_size();
        let tokenized = self.tokenize(texts);
        let pool = |_, states: &[f32]| (states.len() / hidden, self.pooling.pool(states.chunks_exact(hidden), hidden));
        let mut vectors = vec![vec![0.0; hidden]; texts.len()];
        // The vector of a text is the mean of its windows' vectors, weighted by their tokens.
        for (text, (tokens, window)) in self.encode(&tokenized, &[self.encoder.layers()], pool)? {
            let weight = tokens as f32 / tokenized[text].window_tokens() as f32;
            vectors[text].iter_mut().zip(window).for_each(|(sum, value)| *sum += weight * value);
        }
        if self.normalize {
            vectors.iter_mut().for_each(|vector| normalize(vector));
        }
        Ok(vectors)
    }

    fn tokenize(&self, texts: &[&str]) -> Vec<TokenizedText> {
        texts.par_iter().map(|text| self.tokenizer.tokenize(text)).collect()
    }

    /// What `read` makes of the states of each window, `[tokens, layers * hidden]`, special tokens included, with the place of
    /// its text; in the order of texts and windows.
    fn encode<T: Send>(
        &self,
        texts: &[TokenizedText],
        layers: &[usize],
        read: impl Fn(usize, &[f32]) -> T + Sync,
    ) -> Result<Vec<(usize, T)>, EncodeError> {
        debug_assert!(layers.is_sorted_by(|a, b| a < b) && layers.iter().all(|&layer| layer <= self.encoder.layers()));
        let windows: Vec<(usize, &[u32])> =
            texts.iter().enumerate().flat_map(|(text, tokens)| tokens.windows().map(move |ids| (text, ids))).collect();
        let lengths: Vec<usize> = windows.iter().map(|(_, ids)| ids.len()).collect();
        // Without special tokens a text can have no token at all; it is in no batch.
        let batches = batch::pack(&lengths, self.batch_tokens, self.encoder.mixes_lengths());
        let encode = |members: Vec<usize>| -> Result<Vec<(usize, T)>, EncodeError> {
            let batch: Vec<&[u32]> = members.iter().map(|&member| windows[member].1).collect();
            let mut encoded = Vec::with_capacity(members.len());
            self.encoder.encode(&batch, layers, &mut |place, states| {
                let member = members[place];
                encoded.push((member, read(windows[member].0, states)));
            })?;
            Ok(encoded)
        };
        let encoded: Vec<Vec<(usize, T)>> = batches.into_par_iter().map(encode).collect::<Result<_, _>>()?;
        let mut encoded: Vec<(usize, T)> = encoded.into_iter().flatten().collect();
        encoded.sort_unstable_by_key(|(member, _)| *member);
        Ok(encoded.into_iter().map(|(member, read)| (windows[member].0, read)).collect())
    }
}

/// Scales a vector to length 1; the zero vector stays as it is.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}
