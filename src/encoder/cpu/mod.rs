//! BERT on the CPU, for inference: sequences of a batch lie one after the other without padding, and every buffer is
//! used again.
//!
//! [`kernels`] does the arithmetic in 32-bit floats, [`int8`] products of quantised weights. A token's states depend on
//! its own sequence alone, in the order of their sums too, so that they are the same bytes in every batch.

pub mod int8;
pub mod kernels;

use std::sync::{Mutex, PoisonError};

use candle_transformers::models::bert::{Config, HiddenAct};

use super::weights::{Table, Tensors};
use super::{EncodeError, Encoder};
use int8::{IntegerKernels, QuantizedPanels, QuantizedRows};
use kernels::{Activation, Kernels, Panels, Rows};

/// Rows that go through a layer's products together: few enough for the core's own cache.
const BLOCK_ROWS: usize = 96;

/// Added to the width of the inner states' rows: where rows lie a power of two apart, the lines of a tile's rows fall on
/// the same places of the core's first cache and push each other out.
const INNER_PADDING: usize = 16;

/// A linear layer.
enum Linear {
    Exact { panels: Panels, bias: Vec<f32> },
    Quantized(QuantizedPanels),
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    /// Query, key and value side by side.
    attention_input: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

/// A BERT-type encoder with packed weights.
pub struct CpuBert {
    kernels: Kernels,
    integers: Option<IntegerKernels>,
    words: Table,
    /// Embeddings of position and of the first token type, added up.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    hidden: usize,
    inner: usize,
    heads: usize,
    activation: Activation,
    epsilon: f32,
    /// Buffers that are not in use.
    spare: Mutex<Vec<Workspace>>,
}

/// Buffers of one batch, `[tokens, width]` where not said otherwise.
#[derive(Default)]
struct Workspace {
    states: Vec<f32>,
    attention_input: Vec<f32>,
    context: Vec<f32>,
    /// Of a block of rows.
    inner: Vec<f32>,
    /// Of a block of rows.
    projected: Vec<f32>,
    /// Keys of one head, `[head width, tokens]`, tokens filled up to whole panels.
    keys: Panels,
    /// Values of one head, `[tokens, head width]`.
    values: Panels,
    /// Attention of a block of one head's rows, `[rows, tokens]`, with rows of whole panels.
    scores: Vec<f32>,
    quantized: QuantizedRows,
    /// What is handed over: `[tokens, layers * hidden]`.
    kept: Vec<f32>,
}

/// Reads and packs weights.
struct Loader<'a> {
    tensors: &'a Tensors,
    kernels: Kernels,
    integers: Option<IntegerKernels>,
}

impl Loader<'_> {
    /// Linear layers over the same input, side by side.
    fn linear(&self, names: &[String], inputs: usize, outputs: usize) -> Result<Linear, String> {
        let table = |name: &String| self.tensors.table(&format!("{name}.weight"), [outputs, inputs]);
        let tables: Vec<Table> = names.iter().map(table).collect::<Result<_, _>>()?;
        let read = |row: usize, into: &mut [f32]| tables[row / outputs].read_row(row % outputs, into);
        let mut bias = Vec::new();
        for name in names {
            bias.extend(self.tensors.read(&format!("{name}.bias"), &[outputs])?);
        }
        Ok(match self.integers {
            Some(integers) => Linear::Quantized(integers.pack(bias, inputs, read)),
            None => {
                let mut panels = Panels::default();
                self.kernels.pack_transposed(bias.len(), inputs, read, &mut panels);
                Linear::Exact { panels, bias }
            }
        })
    }

    fn norm(&self, name: &str, size: usize) -> Result<Norm, String> {
        let read = |part: &str| self.tensors.read(&format!("{name}.{part}"), &[size]);
        Ok(Norm { weight: read("weight")?, bias: read("bias")? })
    }

    fn layer(&self, index: usize, config: &Config) -> Result<Layer, String> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let attention = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Layer {
            attention_input: self.linear(&attention, hidden, hidden)?,
            attention_output: self.linear(&[name("attention.output.dense")], hidden, hidden)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), hidden)?,
            intermediate: self.linear(&[name("intermediate.dense")], hidden, inner)?,
            output: self.linear(&[name("output.dense")], inner, hidden)?,
            output_norm: self.norm(&name("output.LayerNorm"), hidden)?,
        })
    }
}

impl CpuBert {
    /// Takes the tensors that `config` asks for out of a file and packs them; with `quantized` linear layers compute in
    /// 8-bit integers, and everything else as it does without.
    ///
    /// # Errors
    /// A sentence that names the tensor.
    pub fn load(
        config: &Config,
        position_offset: usize,
        tensors: &Tensors,
        quantized: bool,
    ) -> Result<CpuBert, String> {
        let hidden = config.hidden_size;
        let words = tensors.table("embeddings.word_embeddings.weight", [config.vocab_size, hidden])?;
        let shape = [config.max_position_embeddings, hidden];
        let mut positions = tensors.read("embeddings.position_embeddings.weight", &shape)?;
        positions.drain(..position_offset * hidden);
        if config.type_vocab_size > 0 {
            let types = tensors.read("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
            for row in positions.chunks_exact_mut(hidden) {
                row.iter_mut().zip(&types).for_each(|(value, added)| *value += added);
            }
        }
        let integers = quantized.then(IntegerKernels::detect);
        let loader = Loader { tensors, kernels: Kernels::detect(), integers };
        Ok(CpuBert {
            kernels: loader.kernels,
            integers,
            words,
            positions,
            norm: loader.norm("embeddings.LayerNorm", hidden)?,
            layers: (0..config.num_hidden_layers).map(|index| loader.layer(index, config)).collect::<Result<_, _>>()?,
            hidden,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            activation: match config.hidden_act {
                HiddenAct::Gelu => Activation::Gelu,
                HiddenAct::GeluApproximate => Activation::GeluTanh,
                HiddenAct::Relu => Activation::Relu,
            },
            epsilon: config.layer_norm_eps as f32,
            spare: Mutex::new(Vec::new()),
        })
    }

    fn linear(
        &self,
        layer: &Linear,
        input: Rows,
        activation: Activation,
        output: &mut [f32],
        output_stride: usize,
        quantized: &mut QuantizedRows,
    ) {
        match (layer, self.integers) {
            (Linear::Exact { panels, bias }, _) => {
                self.kernels.multiply(input, panels, bias, activation, output, output_stride);
            }
            (Linear::Quantized(panels), Some(integers)) => {
                integers.multiply(input, panels, quantized, output, output_stride);
                if activation != Activation::None {
                    self.kernels.activate(output, activation);
                }
            }
            (Linear::Quantized(_), None) => unreachable!("quantised weights come with their kernels"),
        }
    }

    /// Adds to the states, and normalises them.
    fn add_norm(&self, states: &mut [f32], added: &[f32], norm: &Norm) {
        self.kernels.add_and_normalize(states, added, &norm.weight, &norm.bias, self.epsilon);
    }

    fn embed(&self, batch: &[&[u32]], states: &mut [f32]) {
        let mut rows = states.chunks_exact_mut(self.hidden);
        for ids in batch {
            for (&id, position) in ids.iter().zip(self.positions.chunks_exact(self.hidden)) {
                let row = rows.next().expect("a row for each token");
                self.words.read_row(id as usize, row);
                self.add_norm(row, position, &self.norm);
            }
        }
    }

    /// Scaled dot-product attention within each sequence (Vaswani et al. 2017, arXiv:1706.03762).
    fn attend(&self, batch: &[&[u32]], workspace: &mut Workspace) {
        let (hidden, width) = (self.hidden, self.hidden / self.heads);
        let scale = 1.0 / (width as f32).sqrt();
        let Workspace { attention_input, context, keys, values, scores, .. } = workspace;
        let mut start = 0;
        for tokens in batch.iter().map(|ids| ids.len()) {
            let stride = self.kernels.padded(tokens);
            for head in 0..self.heads {
                let part = |which: usize, row: usize, count: usize| {
                    let from = (start + row) * 3 * hidden + which * hidden + head * width;
                    Rows { values: &attention_input[from..], count, stride: 3 * hidden }
                };
                // Keys of no token fill the last panel, so that it is stored whole.
                let key = |row: usize, into: &mut [f32]| match row < tokens {
                    true => into.copy_from_slice(&part(1, row, 1).values[..width]),
                    false => into.fill(0.0),
                };
                self.kernels.pack_transposed(stride, width, key, keys);
                self.kernels.pack(part(2, 0, tokens), width, values);
                for row in (0..tokens).step_by(BLOCK_ROWS) {
                    let count = BLOCK_ROWS.min(tokens - row);
                    scores.resize(count * stride, 0.0);
                    self.kernels.multiply(part(0, row, count), keys, &[], Activation::None, scores, stride);
                    self.kernels.softmax(scores, stride, tokens, scale);
                    let weights = Rows { values: scores, count, stride };
                    let output = &mut context[(start + row) * hidden + head * width..];
                    self.kernels.multiply(weights, values, &[], Activation::None, output, hidden);
                }
            }
            start += tokens;
        }
    }

    /// Calls `seen` with the states behind the embeddings and behind each layer.
    fn forward(&self, batch: &[&[u32]], workspace: &mut Workspace, mut seen: impl FnMut(usize, &[f32])) {
        let (hidden, inner_stride) = (self.hidden, self.inner + INNER_PADDING);
        let tokens: usize = batch.iter().map(|ids| ids.len()).sum();
        workspace.states.resize(tokens * hidden, 0.0);
        workspace.attention_input.resize(tokens * 3 * hidden, 0.0);
        workspace.context.resize(tokens * hidden, 0.0);
        self.embed(batch, &mut workspace.states);
        seen(0, &workspace.states);
        for (index, layer) in self.layers.iter().enumerate() {
            let Workspace { states, attention_input, quantized, .. } = workspace;
            let blocks = states.chunks(BLOCK_ROWS * hidden).zip(attention_input.chunks_mut(BLOCK_ROWS * 3 * hidden));
            for (states, output) in blocks {
                let rows = Rows { values: states, count: states.len() / hidden, stride: hidden };
                self.linear(&layer.attention_input, rows, Activation::None, output, 3 * hidden, quantized);
            }
            self.attend(batch, workspace);
            let Workspace { states, context, inner, projected, quantized, .. } = workspace;
            let blocks = states.chunks_mut(BLOCK_ROWS * hidden).zip(context.chunks(BLOCK_ROWS * hidden));
            for (states, context) in blocks {
                let count = states.len() / hidden;
                let rows = |values| Rows { values, count, stride: hidden };
                projected.resize(count * hidden, 0.0);
                inner.resize(count * inner_stride, 0.0);
                self.linear(&layer.attention_output, rows(context), Activation::None, projected, hidden, quantized);
                self.add_norm(states, projected, &layer.attention_norm);
                self.linear(&layer.intermediate, rows(states), self.activation, inner, inner_stride, quantized);
                let inner = Rows { values: inner, count, stride: inner_stride };
                self.linear(&layer.output, inner, Activation::None, projected, hidden, quantized);
                self.add_norm(states, projected, &layer.output_norm);
            }
            seen(index + 1, &workspace.states);
        }
    }
}

impl Encoder for CpuBert {
    fn hidden_size(&self) -> usize {
        self.hidden
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn arithmetic(&self) -> String {
        let floats = self.kernels.instruction_set();
        match self.integers {
            None => format!("f32 {floats}"),
            Some(integers) => format!("f32 {floats}, int8 {}", integers.instruction_set()),
        }
    }

    fn batch_tokens(&self) -> usize {
        // Few enough for their states to stay in the core's own cache.
        256
    }

    fn mixes_lengths(&self) -> bool {
        true
    }

    fn encode(
        &self,
        batch: &[&[u32]],
        layers: &[usize],
        read: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), EncodeError> {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = spare().pop().unwrap_or_default();
        let width = layers.len() * self.hidden;
        let mut kept = std::mem::take(&mut workspace.kept);
        kept.resize(batch.iter().map(|ids| ids.len()).sum::<usize>() * width, 0.0);
        self.forward(batch, &mut workspace, |layer, seen| {
            let Some(column) = layers.iter().position(|&wanted| wanted == layer) else { return };
            let from = column * self.hidden;
            let pairs = kept.chunks_exact_mut(width).zip(seen.chunks_exact(self.hidden));
            pairs.for_each(|(row, seen)| row[from..from + self.hidden].copy_from_slice(seen));
        });
        let mut rest = kept.as_slice();
        for (place, ids) in batch.iter().enumerate() {
            let (states, others) = rest.split_at(ids.len() * width);
            read(place, states);
            rest = others;
        }
        workspace.kept = kept;
        spare().push(workspace);
        Ok(())
    }
}
