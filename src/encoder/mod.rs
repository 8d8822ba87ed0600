//! From texts to vectors: one seam, [`Encoder`], between checkpoints and everything that uses them.
//!
//! [`checkpoint`] reads a Hugging Face directory, [`tokenizer`] turns text into windows of token ids, [`batch`] packs
//! windows, [`bert`] computes hidden states, and [`TextEncoder`] joins them.

pub mod batch;
pub mod bert;
pub mod checkpoint;
pub mod hub;
pub mod tokenizer;

use rayon::prelude::*;

pub use checkpoint::{Checkpoint, CheckpointError, Pooling};
pub use tokenizer::{TextTokenizer, TokenizedText};

/// Computes hidden states of token sequences.
///
/// Implementations promise that the states of a sequence do not depend on the other sequences of the batch beyond
/// rounding, and not at all on the others when all have the same length.
pub trait Encoder: Send + Sync {
    /// Width of a hidden state.
    fn hidden_size(&self) -> usize;

    /// Hidden states of the last layer, one row-major `[tokens, hidden]` buffer per sequence.
    ///
    /// # Errors
    /// The backend fails; the message is the backend's.
    fn encode(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, EncodeError>;
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

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The program was built without GPU support.
    #[error(
        "This program was built without GPU support; build it with `cargo build --release --features cuda`, or use `--device cpu`"
    )]
    NotBuilt,
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
#[derive(Debug, Clone, PartialEq)]
pub struct TextStates {
    /// Bytes of the text that each token stands for.
    pub offsets: Vec<(usize, usize)>,
    /// Row-major `[tokens, hidden]`, without the special tokens.
    pub states: Vec<f32>,
    /// Pooled over all tokens as the checkpoint asks, special tokens included; not normalised. Zeros without a token.
    pub pooled: Vec<f32>,
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
    /// Hidden states of texts, in their order. Equal texts give equal bytes, whatever else is in the call.
    ///
    /// # Errors
    /// The backend fails.
    pub fn states(&self, texts: &[&str]) -> Result<Vec<TextStates>, EncodeError> {
        let tokenized: Vec<TokenizedText> = texts.par_iter().map(|text| self.tokenizer.tokenize(text)).collect();
        let windows: Vec<(usize, usize)> = tokenized
            .iter()
            .enumerate()
            .flat_map(|(text, tokens)| (0..tokens.windows.len()).map(move |window| (text, window)))
            .collect();
        let ids = |&(text, window): &(usize, usize)| tokenized[text].windows[window].ids.as_slice();
        let lengths: Vec<usize> = windows.iter().map(|at| ids(at).len()).collect();
        let mut batches = batch::pack(&lengths, self.batch_tokens);
        // Without special tokens a text can have no token at all.
        batches.retain(|members| lengths[members[0]] > 0);
        let encoded: Vec<(Vec<usize>, Vec<Vec<f32>>)> = batches
            .into_par_iter()
            .map(|members| {
                let batch: Vec<&[u32]> = members.iter().map(|&member| ids(&windows[member])).collect();
                self.encoder.encode(&batch).map(|states| (members, states))
            })
            .collect::<Result<_, _>>()?;
        let mut by_window: Vec<Vec<f32>> = vec![Vec::new(); windows.len()];
        for (members, states) in encoded {
            for (member, states) in members.into_iter().zip(states) {
                by_window[member] = states;
            }
        }
        let mut by_window = by_window.into_iter();
        let hidden = self.encoder.hidden_size();
        Ok(tokenized
            .into_iter()
            .map(|tokens| {
                let states: Vec<Vec<f32>> = by_window.by_ref().take(tokens.windows.len()).collect();
                tokens.assemble(&states, hidden, self.pooling)
            })
            .collect())
    }

    /// One vector per text, pooled and normalised as the checkpoint asks.
    ///
    /// # Errors
    /// The backend fails.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncodeError> {
        let mut vectors: Vec<Vec<f32>> = self.states(texts)?.into_iter().map(|states| states.pooled).collect();
        if self.normalize {
            vectors.iter_mut().for_each(|vector| normalize(vector));
        }
        Ok(vectors)
    }
}

/// Scales a vector to length 1; the zero vector stays as it is.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}
