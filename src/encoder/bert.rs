//! BERT (Devlin et al. 2019, arXiv:1810.04805) on candle, for training and for GPUs.
//!
//! The blocks mirror the checkpoint's names. candle-transformers' own BERT is the reference in the tests; it cannot be
//! trained, because its fused LayerNorm has no gradient.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::Linear;
use candle_transformers::models::bert::{Config, HiddenAct};

use super::weights::Tensors;
use super::{EncodeError, Encoder};

/// Tensors of a checkpoint on their way to candle.
pub struct Weights {
    tensors: Tensors,
    device: Device,
    dtype: DType,
    trained: Option<BTreeMap<String, Var>>,
}

impl Weights {
    /// Tensors for a device, in the number format to compute in.
    pub fn new(tensors: Tensors, device: &Device, dtype: DType) -> Weights {
        Weights { tensors, device: device.clone(), dtype, trained: None }
    }

    /// Makes every tensor that is loaded from here trainable.
    pub fn trainable(mut self) -> Weights {
        self.trained = Some(BTreeMap::new());
        self
    }

    /// The trainable tensors that were loaded, by their name without prefix.
    pub fn variables(self) -> BTreeMap<String, Var> {
        self.trained.unwrap_or_default()
    }

    fn get(&mut self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, String> {
        let values = self.tensors.read(name, shape)?;
        let failed = |error: candle_core::Error| format!("tensor `{name}`: {error}");
        let tensor = Tensor::from_vec(values, shape, &self.device).and_then(|tensor| tensor.to_dtype(self.dtype));
        let tensor = tensor.map_err(failed)?;
        match &mut self.trained {
            None => Ok(tensor),
            Some(variables) => {
                let variable = Var::from_tensor(&tensor).map_err(failed)?;
                let tensor = variable.as_tensor().clone();
                variables.insert(name.to_owned(), variable);
                Ok(tensor)
            }
        }
    }

    fn linear(&mut self, name: &str, input: usize, output: usize) -> std::result::Result<Linear, String> {
        let mut weight = self.get(&format!("{name}.weight"), &[output, input])?;
        if self.trained.is_none() {
            // Lay the numbers out as `[input, output]`. As stored, candle takes another kernel for small products than
            // for large ones; it adds in another order, and a text's vector would depend on the size of its batch.
            let laid_out = weight.t().and_then(|weight| weight.contiguous()?.t());
            weight = laid_out.map_err(|error| format!("tensor `{name}.weight`: {error}"))?;
        }
        let bias = self.get(&format!("{name}.bias"), &[output])?;
        Ok(Linear::new(weight, Some(bias)))
    }

    fn norm(&mut self, name: &str, size: usize, epsilon: f64) -> std::result::Result<Norm, String> {
        let weight = self.get(&format!("{name}.weight"), &[size])?;
        let bias = self.get(&format!("{name}.bias"), &[size])?;
        Ok(Norm { weight, bias, epsilon })
    }
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl Norm {
    fn forward(&self, states: &Tensor, training: bool) -> Result<Tensor> {
        if training {
            candle_nn::ops::layer_norm_slow(states, &self.weight, &self.bias, self.epsilon as f32)
        } else {
            candle_nn::ops::layer_norm(&states.contiguous()?, &self.weight, &self.bias, self.epsilon as f32)
        }
    }
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

impl Layer {
    fn load(weights: &mut Weights, index: usize, config: &Config) -> std::result::Result<Layer, String> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(Layer {
            query: weights.linear(&name("attention.self.query"), hidden, hidden)?,
            key: weights.linear(&name("attention.self.key"), hidden, hidden)?,
            value: weights.linear(&name("attention.self.value"), hidden, hidden)?,
            attention_output: weights.linear(&name("attention.output.dense"), hidden, hidden)?,
            attention_norm: weights.norm(&name("attention.output.LayerNorm"), hidden, config.layer_norm_eps)?,
            intermediate: weights.linear(&name("intermediate.dense"), hidden, inner)?,
            output: weights.linear(&name("output.dense"), inner, hidden)?,
            output_norm: weights.norm(&name("output.LayerNorm"), hidden, config.layer_norm_eps)?,
        })
    }

    /// `[batch, tokens, hidden]` in and out; `mask` is added to the scores `[batch, heads, tokens, tokens]`.
    fn forward(&self, states: &Tensor, mask: Option<&Tensor>, config: &Config, training: bool) -> Result<Tensor> {
        let (batch, tokens, hidden) = states.dims3()?;
        let heads = config.num_attention_heads;
        let split = |states: Tensor| -> Result<Tensor> {
            states.reshape((batch, tokens, heads, hidden / heads))?.transpose(1, 2)?.contiguous()
        };
        let query = (split(self.query.forward(states)?)? * (1.0 / ((hidden / heads) as f64).sqrt()))?;
        let key = split(self.key.forward(states)?)?;
        let value = split(self.value.forward(states)?)?;
        let mut scores = query.matmul(&key.t()?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let weights = if training {
            candle_nn::ops::softmax(&scores, D::Minus1)?
        } else {
            candle_nn::ops::softmax_last_dim(&scores)?
        };
        let context = weights.matmul(&value)?.transpose(1, 2)?.contiguous()?.reshape((batch, tokens, hidden))?;
        let states = self.attention_norm.forward(&(self.attention_output.forward(&context)? + states)?, training)?;
        let inner = self.intermediate.forward(&states)?;
        let inner = match config.hidden_act {
            HiddenAct::Gelu => inner.gelu_erf()?,
            HiddenAct::GeluApproximate => inner.gelu()?,
            HiddenAct::Relu => inner.relu()?,
        };
        self.output_norm.forward(&(self.output.forward(&inner)? + states)?, training)
    }
}

/// A BERT-type encoder on candle.
pub struct Bert {
    words: Tensor,
    positions: Tensor,
    types: Option<Tensor>,
    norm: Norm,
    layers: Vec<Layer>,
    config: Config,
    position_offset: usize,
    device: Device,
}

impl Bert {
    /// Takes the tensors that `config` asks for out of `weights`.
    ///
    /// # Errors
    /// A sentence that names the tensor.
    pub fn load(config: &Config, position_offset: usize, weights: &mut Weights) -> std::result::Result<Bert, String> {
        let hidden = config.hidden_size;
        let words = weights.get("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let positions =
            weights.get("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        let types = match config.type_vocab_size {
            0 => None,
            rows => Some(weights.get("embeddings.token_type_embeddings.weight", &[rows, hidden])?),
        };
        let norm = weights.norm("embeddings.LayerNorm", hidden, config.layer_norm_eps)?;
        let layers = (0..config.num_hidden_layers).map(|index| Layer::load(weights, index, config));
        let layers = layers.collect::<std::result::Result<Vec<Layer>, String>>()?;
        let (config, device) = (config.clone(), weights.device.clone());
        Ok(Bert { words, positions, types, norm, layers, config, position_offset, device })
    }

    /// Width of a hidden state.
    pub fn width(&self) -> usize {
        self.config.hidden_size
    }

    /// Hidden states `[batch, tokens, layers * hidden]` of token ids behind the named layers, ascending, 0 for the embeddings;
    /// padded to the longest sequence where lengths differ. With `training` every operation has a gradient.
    ///
    /// # Errors
    /// candle fails, for example for lack of memory.
    pub fn forward(&self, batch: &[&[u32]], layers: &[usize], training: bool) -> Result<Tensor> {
        let tokens = batch.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let padding = self.config.pad_token_id as u32;
        let mut ids = Vec::with_capacity(batch.len() * tokens);
        for sequence in batch {
            ids.extend_from_slice(sequence);
            ids.resize(ids.len() + tokens - sequence.len(), padding);
        }
        let ids = Tensor::from_vec(ids, batch.len() * tokens, &self.device)?;
        let words = self.words.index_select(&ids, 0)?.reshape((batch.len(), tokens, self.config.hidden_size))?;
        let mut states = words.broadcast_add(&self.positions.narrow(0, self.position_offset, tokens)?)?;
        if let Some(types) = &self.types {
            states = states.broadcast_add(&types.narrow(0, 0, 1)?)?;
        }
        let mut states = self.norm.forward(&states, training)?;
        let mask = self.mask(batch, tokens)?;
        let mut wanted = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            if layers.contains(&index) {
                wanted.push(states.clone());
            }
            states = layer.forward(&states, mask.as_ref(), &self.config, training)?;
        }
        if layers.contains(&self.layers.len()) {
            wanted.push(states);
        }
        Tensor::cat(&wanted, D::Minus1)
    }

    /// Scores of padding get -10,000 (`[batch, 1, 1, tokens]`): enough for a weight of exactly 0, small enough for f16.
    fn mask(&self, batch: &[&[u32]], tokens: usize) -> Result<Option<Tensor>> {
        if batch.iter().all(|ids| ids.len() == tokens) {
            return Ok(None);
        }
        let row = |ids: &&[u32]| (0..tokens).map(|at| if at < ids.len() { 0.0 } else { -1e4 }).collect::<Vec<f32>>();
        let mask: Vec<f32> = batch.iter().flat_map(row).collect();
        Tensor::from_vec(mask, (batch.len(), 1, 1, tokens), &self.device)?.to_dtype(self.words.dtype()).map(Some)
    }
}

impl Encoder for Bert {
    fn hidden_size(&self) -> usize {
        self.width()
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn arithmetic(&self) -> String {
        format!("candle {:?} {:?}", self.words.dtype(), self.device.location())
    }

    fn batch_tokens(&self) -> usize {
        if self.device.is_cpu() { 4096 } else { 32_768 }
    }

    fn mixes_lengths(&self) -> bool {
        // Sums over a padded row add in another order, and a text's bytes would depend on its batch.
        false
    }

    fn encode(
        &self,
        batch: &[&[u32]],
        layers: &[usize],
        read: &mut dyn FnMut(usize, &[f32]),
    ) -> std::result::Result<(), EncodeError> {
        let mut run = || -> Result<()> {
            let states = self.forward(batch, layers, false)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            let (_, tokens, width) = states.dims3()?;
            let flat = states.flatten_all()?.to_vec1::<f32>()?;
            let sequences = flat.chunks_exact(tokens * width).zip(batch).enumerate();
            sequences.for_each(|(place, (states, ids))| read(place, &states[..ids.len() * width]));
            Ok(())
        };
        run().map_err(|source| EncodeError {
            sequences: batch.len(),
            tokens: batch.iter().map(|ids| ids.len()).max().unwrap_or(0),
            source,
        })
    }
}
