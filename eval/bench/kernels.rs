//! The kernels of the CPU engine one by one, on one thread, beside candle's.
//!
//! ```sh
//! cargo bench --bench kernels                  # all
//! cargo bench --bench kernels -- linear        # those whose name contains this
//! ```
//!
//! Elements per second are operations, two per multiply-add, for `linear` and `attention`, and values for the others.
//! Sizes are those of the built-in encoder (256 wide, 8 heads) and of all-MiniLM-L6-v2 (384 wide, 12 heads).

use std::hint::black_box;

use candle_core::{D, Device, Module, Tensor};
use candle_nn::Linear;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use medscenario::encoder::cpu::int8::{IntegerKernels, QuantizedRows};
use medscenario::encoder::cpu::kernels::{Activation, Kernels, Panels, Rows};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

// As in the program: with the system's allocator page faults would be most of candle's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a block, as the engine takes them.
const ROWS: usize = 96;
/// Hidden size and heads.
const WIDTHS: [(usize, usize); 2] = [(256, 8), (384, 12)];
const LENGTHS: [usize; 3] = [32, 141, 512];

fn random(count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(count as u64);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).expect("a shape that fits")
}

fn rows(values: &[f32], count: usize) -> Rows<'_> {
    Rows { values, count, stride: values.len() / count }
}

fn linear(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    let kernels = Kernels::detect();
    for (hidden, _) in WIDTHS {
        for (inputs, outputs) in [(hidden, hidden), (hidden, 3 * hidden), (hidden, 4 * hidden), (4 * hidden, hidden)] {
            let (input, weight, bias) = (random(ROWS * inputs), random(outputs * inputs), random(outputs));
            let mut output = vec![0.0; ROWS * outputs];
            let shape = format!("{inputs}x{outputs}");
            group.throughput(Throughput::Elements((2 * ROWS * inputs * outputs) as u64));

            let read = |row: usize, into: &mut [f32]| into.copy_from_slice(&weight[row * inputs..][..inputs]);
            let mut panels = Panels::default();
            kernels.pack_transposed(outputs, inputs, read, &mut panels);
            group.bench_function(BenchmarkId::new("fp32", &shape), |bencher| {
                bencher.iter(|| {
                    let input = rows(black_box(&input), ROWS);
                    kernels.multiply(input, &panels, &bias, Activation::None, &mut output, outputs);
                });
            });

            let integers = IntegerKernels::detect();
            let panels = integers.pack(bias.clone(), inputs, read);
            let mut quantized = QuantizedRows::default();
            group.bench_function(BenchmarkId::new("int8", &shape), |bencher| {
                bencher.iter(|| {
                    let input = rows(black_box(&input), ROWS);
                    integers.multiply(input, &panels, &mut quantized, &mut output, outputs);
                });
            });

            let layer = Linear::new(tensor(&weight, &[outputs, inputs]), Some(tensor(&bias, &[outputs])));
            let input = tensor(&input, &[ROWS, inputs]);
            group.bench_function(BenchmarkId::new("candle", &shape), |bencher| {
                bencher.iter(|| layer.forward(black_box(&input)));
            });
        }
    }
    group.finish();
}

/// All heads of one sequence, from query, key and value to context.
fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    let kernels = Kernels::detect();
    for (hidden, heads) in WIDTHS {
        for tokens in LENGTHS {
            let (width, stride) = (hidden / heads, kernels.padded(tokens));
            let scale = 1.0 / (width as f32).sqrt();
            let (query, key, value) =
                (random(tokens * hidden), random(tokens * hidden + 1), random(tokens * hidden + 2));
            let mut context = vec![0.0; tokens * hidden];
            let (mut keys, mut values, mut scores) = (Panels::default(), Panels::default(), Vec::new());
            let shape = format!("{hidden} wide, {tokens} tokens");
            group.throughput(Throughput::Elements((4 * tokens * tokens * hidden) as u64));
            group.bench_function(BenchmarkId::new("fp32", &shape), |bencher| {
                bencher.iter(|| {
                    for head in (0..hidden).step_by(width) {
                        let read = |row: usize, into: &mut [f32]| match row < tokens {
                            true => into.copy_from_slice(&key[row * hidden + head..][..width]),
                            false => into.fill(0.0),
                        };
                        kernels.pack_transposed(stride, width, read, &mut keys);
                        kernels.pack(
                            Rows { values: &value[head..], count: tokens, stride: hidden },
                            width,
                            &mut values,
                        );
                        for row in (0..tokens).step_by(ROWS) {
                            let (count, from) = (ROWS.min(tokens - row), row * hidden + head);
                            let query = Rows { values: &black_box(&query)[from..], count, stride: hidden };
                            scores.resize(count * stride, 0.0);
                            kernels.multiply(query, &keys, &[], Activation::None, &mut scores, stride);
                            kernels.softmax(&mut scores, stride, tokens, scale);
                            let context = &mut context[from..];
                            kernels.multiply(rows(&scores, count), &values, &[], Activation::None, context, hidden);
                        }
                    }
                });
            });

            let split = |states: &[f32]| tensor(&states[..tokens * hidden], &[1, tokens, heads, width]);
            let (query, key, value) = (split(&query), split(&key), split(&value));
            let candle = || -> candle_core::Result<Tensor> {
                let part = |states: &Tensor| states.transpose(1, 2)?.contiguous();
                let query = (part(black_box(&query))? * f64::from(scale))?;
                let scores = query.matmul(&part(&key)?.t()?)?;
                let weights = candle_nn::ops::softmax_last_dim(&scores)?;
                weights.matmul(&part(&value)?)?.transpose(1, 2)?.contiguous()
            };
            group.bench_function(BenchmarkId::new("candle", &shape), |bencher| bencher.iter(candle));
        }
    }
    group.finish();
}

fn softmax(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("softmax");
    let kernels = Kernels::detect();
    for tokens in LENGTHS {
        let scores = random(ROWS * tokens);
        group.throughput(Throughput::Elements(scores.len() as u64));
        group.bench_function(BenchmarkId::new("fp32", tokens), |bencher| {
            let stride = kernels.padded(tokens);
            let fresh = || random(ROWS * stride);
            bencher.iter_batched_ref(
                fresh,
                |scores| kernels.softmax(scores, stride, tokens, 0.125),
                BatchSize::LargeInput,
            );
        });
        let scores = tensor(&scores, &[ROWS, tokens]);
        let candle = || candle_nn::ops::softmax(&(black_box(&scores) * 0.125)?, D::Minus1);
        group.bench_function(BenchmarkId::new("candle", tokens), |bencher| bencher.iter(candle));
    }
    group.finish();
}

fn gelu(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gelu");
    let kernels = Kernels::detect();
    for (hidden, _) in WIDTHS {
        let values = random(ROWS * 4 * hidden);
        group.throughput(Throughput::Elements(values.len() as u64));
        group.bench_function(BenchmarkId::new("fp32", 4 * hidden), |bencher| {
            let fresh = || values.clone();
            bencher.iter_batched_ref(fresh, |values| kernels.activate(values, Activation::Gelu), BatchSize::LargeInput);
        });
        let values = tensor(&values, &[ROWS, 4 * hidden]);
        group.bench_function(BenchmarkId::new("candle", 4 * hidden), |bencher| {
            bencher.iter(|| black_box(&values).gelu_erf());
        });
    }
    group.finish();
}

/// With the residual connection before it.
fn layer_norm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layer norm");
    let kernels = Kernels::detect();
    for (hidden, _) in WIDTHS {
        let (states, added) = (random(ROWS * hidden), random(ROWS * hidden + 1));
        let (weight, bias) = (random(hidden), random(hidden + 1));
        let (added, bias) = (&added[1..], &bias[1..]);
        group.throughput(Throughput::Elements(states.len() as u64));
        group.bench_function(BenchmarkId::new("fp32", hidden), |bencher| {
            let mut states = states.clone();
            bencher.iter(|| kernels.add_and_normalize(&mut states, black_box(added), &weight, bias, 1e-12));
        });
        let (states, added) = (tensor(&states, &[ROWS, hidden]), tensor(added, &[ROWS, hidden]));
        let (weight, bias) = (tensor(&weight, &[hidden]), tensor(bias, &[hidden]));
        group.bench_function(BenchmarkId::new("candle", hidden), |bencher| {
            bencher.iter(|| candle_nn::ops::layer_norm(&(black_box(&states) + &added)?, &weight, &bias, 1e-12));
        });
    }
    group.finish();
}

/// candle would take all cores.
fn one_thread() -> Criterion {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
    pool.expect("the pool has not been used yet");
    Criterion::default()
}

criterion_group! {
    name = kernels;
    config = one_thread();
    targets = linear, attention, softmax, gelu, layer_norm
}
criterion_main!(kernels);
