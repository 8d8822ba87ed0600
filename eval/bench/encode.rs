//! One engine of the comparison that `run.py` makes: loads a checkpoint, then answers every request on standard input, one
//! JSON object a line, with one on standard output.
//!
//! ```sh
//! cargo build --release --example encode
//! echo '{"what": "ids", "batch_tokens": 4096}' |
//!     target/release/examples/encode --engine ours --threads 1 --checkpoint models/default --ids ids.jsonl
//! ```
//!
//! Requests: `ids` encodes token ids that are ready, `text` goes from text to vectors, `vectors` writes the vectors of all
//! texts to `file` (little-endian f32, row by row), `peak` says what the machine can do.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use clap::{Parser, ValueEnum};
use cpu_time::ProcessTime;
use medscenario::encoder::{Backend, Checkpoint, DeviceChoice, Pooling, Precision, TextEncoder, batch, normalize};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

mod peak;

// As in the program: candle spends a third of its time on page faults without it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    #[arg(long, value_enum)]
    engine: EngineName,
    /// Directory of the checkpoint
    #[arg(long)]
    checkpoint: PathBuf,
    /// Token ids, one JSON array a line [default: those of the texts]
    #[arg(long)]
    ids: Option<PathBuf>,
    /// Texts, one JSON string a line
    #[arg(long)]
    texts: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, value_enum, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    precision: Precision,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// This program
    Ours,
    /// candle-transformers' BertModel
    Candle,
    /// No model: matrix products, or multiply-adds in registers
    Peak,
}

#[derive(Deserialize)]
struct Request {
    what: What,
    #[serde(default)]
    batch_tokens: usize,
    /// Only so many texts, evenly spread.
    texts: Option<usize>,
    file: Option<PathBuf>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum What {
    Ids,
    Text,
    Vectors,
    Peak,
}

/// One timed pass.
#[derive(Serialize)]
struct Timing {
    wall_s: f64,
    cpu_s: f64,
    texts: usize,
    tokens: usize,
    /// Two per multiply-add of the tokens that are there; padding is not counted.
    flops: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    let device = args.device.open()?;
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let engine = match args.engine {
        EngineName::Peak => None,
        EngineName::Ours => {
            Some(Engine::Ours(Box::new(checkpoint.load(&Backend::open(args.device, args.precision)?, true)?)))
        }
        EngineName::Candle => {
            Some(Engine::Candle(Box::new(Stock::load(&checkpoint, &args.checkpoint, device.clone())?)))
        }
    };
    let texts: Vec<String> = read_lines(args.texts.as_deref())?;
    let mut ids: Vec<Vec<u32>> = read_lines(args.ids.as_deref())?;
    if let (None, Some(engine)) = (&args.ids, &engine) {
        ids = engine.tokenize(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for line in std::io::stdin().lines() {
        let request: Request = serde_json::from_str(&line?).context("Failed to read a request")?;
        let reply = match (&engine, request.what) {
            (_, What::Peak) => serde_json::to_value(peak::measure(&device, args.threads)?)?,
            (None, _) => bail!("`--engine peak` answers `peak` alone"),
            (Some(engine), _) => serde_json::to_value(serve(engine, &checkpoint.config, &request, &ids, &texts)?)?,
        };
        println!("{reply}");
    }
    Ok(())
}

fn serve(engine: &Engine, config: &Config, request: &Request, ids: &[Vec<u32>], texts: &[String]) -> Result<Timing> {
    let total = if request.what == What::Text { texts.len() } else { ids.len() };
    let wanted = request.texts.unwrap_or(total).clamp(1, total.max(1));
    let chosen: Vec<usize> = (0..wanted).map(|index| index * total / wanted).collect();
    ensure!(total > 0, "nothing to encode: give --ids and --texts");
    let (lengths, wall_s, cpu_s);
    if request.what == What::Text {
        let texts: Vec<&str> = chosen.iter().map(|&index| texts[index].as_str()).collect();
        let (cpu, wall) = (ProcessTime::now(), Instant::now());
        engine.embed(&texts, request.batch_tokens)?;
        (wall_s, cpu_s) = (wall.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        lengths = engine.tokenize(&texts).iter().map(Vec::len).collect();
    } else {
        let ids: Vec<&[u32]> = chosen.iter().map(|&index| ids[index].as_slice()).collect();
        let (cpu, wall) = (ProcessTime::now(), Instant::now());
        let vectors = engine.encode(&ids, request.batch_tokens)?;
        (wall_s, cpu_s) = (wall.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
        lengths = ids.iter().map(|ids| ids.len()).collect::<Vec<usize>>();
        if request.what == What::Vectors {
            write_vectors(request.file.as_deref().context("`vectors` needs a `file`")?, &vectors)?;
        }
    }
    let flops = lengths.iter().map(|&length| flops(config, length as f64)).sum();
    Ok(Timing { wall_s, cpu_s, texts: wanted, tokens: lengths.iter().sum(), flops })
}

/// Operations of all matrix products for a sequence of `length` tokens.
fn flops(config: &Config, length: f64) -> f64 {
    let (hidden, inner) = (config.hidden_size as f64, config.intermediate_size as f64);
    let linear = 4.0 * hidden * hidden + 2.0 * hidden * inner;
    let attention = 2.0 * hidden * length;
    2.0 * config.num_hidden_layers as f64 * length * (linear + attention)
}

enum Engine {
    Ours(Box<TextEncoder>),
    Candle(Box<Stock>),
}

impl Engine {
    /// Text vectors of token ids, in their order.
    fn encode(&self, ids: &[&[u32]], batch_tokens: usize) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = ids.iter().map(|ids| ids.len()).collect();
        let batches = match self {
            Engine::Ours(ours) => batch::pack(&lengths, batch_tokens, ours.encoder.mixes_lengths()),
            Engine::Candle(_) => pack_padded(&lengths, batch_tokens),
        };
        let encode = |members: Vec<usize>| -> Result<(Vec<usize>, Vec<Vec<f32>>)> {
            let batch: Vec<&[u32]> = members.iter().map(|&member| ids[member]).collect();
            let pool = |states: &[f32], hidden, pooling: Pooling, normalized| {
                let mut vector = pooling.pool(states.chunks_exact(hidden), hidden);
                if normalized {
                    normalize(&mut vector);
                }
                vector
            };
            let vectors = match self {
                Engine::Ours(encoder) => {
                    let mut vectors = Vec::with_capacity(batch.len());
                    encoder.encoder.encode(&batch, &[encoder.encoder.layers()], &mut |_, states| {
                        vectors.push(pool(states, encoder.encoder.hidden_size(), encoder.pooling, encoder.normalize));
                    })?;
                    vectors
                }
                Engine::Candle(stock) => {
                    let states = stock.forward(&batch)?;
                    let pool = |states: &Vec<f32>| pool(states, stock.hidden, stock.pooling, stock.normalize);
                    states.iter().map(pool).collect()
                }
            };
            Ok((members, vectors))
        };
        let encoded: Vec<(Vec<usize>, Vec<Vec<f32>>)> = batches.into_par_iter().map(encode).collect::<Result<_>>()?;
        let mut vectors = vec![Vec::new(); ids.len()];
        for (member, vector) in encoded.into_iter().flat_map(|(members, vectors)| members.into_iter().zip(vectors)) {
            vectors[member] = vector;
        }
        Ok(vectors)
    }

    fn embed(&self, texts: &[&str], batch_tokens: usize) -> Result<Vec<Vec<f32>>> {
        let ids = self.tokenize(texts);
        self.encode(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>(), batch_tokens)
    }

    /// Ids of the first window of each text.
    fn tokenize(&self, texts: &[&str]) -> Vec<Vec<u32>> {
        let tokenizer = match self {
            Engine::Ours(encoder) => &encoder.tokenizer,
            Engine::Candle(stock) => &stock.tokenizer,
        };
        texts.par_iter().map(|text| tokenizer.tokenize(text).windows.swap_remove(0).ids).collect()
    }
}

/// candle-transformers' BERT, as its example uses it: padded batches of texts of about the same length.
struct Stock {
    model: BertModel,
    tokenizer: medscenario::encoder::TextTokenizer,
    pooling: Pooling,
    normalize: bool,
    hidden: usize,
    device: Device,
}

impl Stock {
    fn load(checkpoint: &Checkpoint, directory: &Path, device: Device) -> Result<Stock> {
        let weights = std::fs::read(directory.join("model.safetensors"))?;
        let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &device)?;
        Ok(Stock {
            model: BertModel::load(weights, &checkpoint.config)?,
            tokenizer: checkpoint.tokenizer(true)?,
            pooling: checkpoint.pooling,
            normalize: checkpoint.normalize,
            hidden: checkpoint.config.hidden_size,
            device,
        })
    }

    /// Row-major `[tokens, hidden]` states of each sequence.
    fn forward(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let tokens = batch.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let shape = (batch.len(), tokens);
        let padded = |ids: &&[u32]| (0..tokens).map(|at| ids.get(at).copied().unwrap_or(0)).collect::<Vec<u32>>();
        let mask = |ids: &&[u32]| (0..tokens).map(|at| u32::from(at < ids.len())).collect::<Vec<u32>>();
        let ids = Tensor::from_vec(batch.iter().flat_map(padded).collect(), shape, &self.device)?;
        let mask = Tensor::from_vec(batch.iter().flat_map(mask).collect(), shape, &self.device)?;
        let states = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let flat = states.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let rows = flat.chunks_exact(tokens * self.hidden).zip(batch);
        Ok(rows.map(|(states, ids)| states[..ids.len() * self.hidden].to_vec()).collect())
    }
}

/// Batches of about the same length: sorted by length, and at most `budget` tokens with padding.
fn pack_padded(lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * lengths[index] <= budget => batch.push(index),
            _ => batches.push(vec![index]),
        }
    }
    batches
}

fn read_lines<T: DeserializeOwned>(path: Option<&Path>) -> Result<Vec<T>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let file = File::open(path).with_context(|| format!("Failed to open `{}`", path.display()))?;
    let parse = |line: std::io::Result<String>| -> Result<T> { Ok(serde_json::from_str(&line?)?) };
    let lines: Result<Vec<T>> = BufReader::new(file).lines().map(parse).collect();
    lines.with_context(|| format!("Failed to read `{}`", path.display()))
}

fn write_vectors(path: &Path, vectors: &[Vec<f32>]) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for value in vectors.iter().flatten() {
        file.write_all(&value.to_le_bytes())?;
    }
    Ok(file.flush()?)
}
