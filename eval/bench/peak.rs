//! What the machine can do at most: multiply-adds in registers on a processor, a large matrix product on a GPU.

use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use cpu_time::ProcessTime;
use serde::Serialize;

/// Operations per second, two per multiply-add; of one core, or of the whole GPU.
#[derive(Serialize)]
pub struct Peak {
    /// The instructions, or the product.
    kind: &'static str,
    f32: f64,
    /// 8-bit products summed in 32 bits; `None` where the processor has no instruction for them.
    int8: Option<f64>,
    /// bf16 products summed in f32, on a GPU.
    bf16: Option<f64>,
}

/// Measures for about half a second with `threads` threads at once.
pub fn measure(device: &Device, threads: usize) -> Result<Peak> {
    if device.is_cuda() {
        let bf16 = Some(product(device, DType::BF16)?);
        return Ok(Peak { kind: "matrix product", f32: product(device, DType::F32)?, int8: None, bf16 });
    }
    let kernels = cpu::kernels();
    let f32 = best(&kernels, |kernel| !kernel.int8, threads);
    let int8 = best(&kernels, |kernel| kernel.int8, threads).map(|(_, peak)| peak);
    let (kind, f32) = f32.unwrap_or(("none", f64::NAN));
    Ok(Peak { kind, f32, int8, bf16: None })
}

fn product(device: &Device, dtype: DType) -> Result<f64> {
    const SIZE: usize = 8192;
    const REPEATS: usize = 20;
    let matrix = || Tensor::randn(0f32, 1f32, (SIZE, SIZE), device)?.to_dtype(dtype);
    let (left, right) = (matrix()?, matrix()?);
    let mut seconds = 0.0;
    // The first round warms up.
    for _ in 0..2 {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..REPEATS {
            left.matmul(&right)?;
        }
        device.synchronize()?;
        seconds = start.elapsed().as_secs_f64();
    }
    Ok(2.0 * (SIZE as f64).powi(3) * REPEATS as f64 / seconds)
}

/// A loop of independent multiply-adds.
struct Kernel {
    name: &'static str,
    int8: bool,
    /// Runs so many rounds, and returns a number so that the work is not left out.
    run: fn(usize) -> f32,
    /// Operations of a round.
    operations: usize,
}

/// The kernel with most operations per second of processor time.
fn best(kernels: &[Kernel], of: impl Fn(&Kernel) -> bool, threads: usize) -> Option<(&'static str, f64)> {
    const ROUNDS: usize = 1 << 24;
    let rate = |kernel: &Kernel| {
        (kernel.run)(ROUNDS / 16);
        let start = ProcessTime::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| std::hint::black_box((kernel.run)(ROUNDS)));
            }
        });
        (threads * ROUNDS * kernel.operations) as f64 / start.elapsed().as_secs_f64()
    };
    let rates = kernels.iter().filter(|kernel| of(kernel)).map(|kernel| (kernel.name, rate(kernel)));
    rates.max_by(|one, other| one.1.total_cmp(&other.1))
}

/// Sums that do not wait for each other: two units with a latency of up to five cycles need ten.
#[allow(dead_code)]
const SUMS: usize = 12;

/// Defines a kernel of `SUMS` multiply-adds a round with the processor's own instructions. The numbers converge, so that no
/// denormal or infinite one slows the loop.
#[allow(unused_macros)]
macro_rules! kernel {
    ($name:ident, $features:literal, $splat:expr, $step:expr, $first:expr) => {
        fn $name(rounds: usize) -> f32 {
            #[target_feature(enable = $features)]
            fn run(rounds: usize) -> f32 {
                let (factor, mut sums) = (std::hint::black_box($splat(1)), [$splat(0); SUMS]);
                for _ in 0..rounds {
                    for sum in &mut sums {
                        *sum = $step(*sum, factor);
                    }
                }
                sums.into_iter().map(|sum| $first(sum)).sum()
            }
            // SAFETY: `kernels` lists it only where the processor has these features.
            #[allow(unsafe_code)]
            unsafe {
                run(rounds)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod cpu {
    use super::{Kernel, SUMS};
    use std::arch::is_x86_feature_detected as has;
    use std::arch::x86_64::*;

    kernel!(
        fma_256,
        "avx2,fma",
        |value| _mm256_set1_ps(value as f32 * 0.5),
        |sum, factor| _mm256_fmadd_ps(sum, factor, factor),
        |sum| _mm256_cvtss_f32(sum)
    );
    kernel!(
        fma_512,
        "avx512f",
        |value| _mm512_set1_ps(value as f32 * 0.5),
        |sum, factor| _mm512_fmadd_ps(sum, factor, factor),
        |sum| _mm512_cvtss_f32(sum)
    );
    kernel!(
        dot_512,
        "avx512f,avx512vnni",
        |value| _mm512_set1_epi32(value),
        |sum, factor| _mm512_dpbusd_epi32(sum, factor, factor),
        |sum| _mm512_cvtsi512_si32(sum) as f32
    );
    kernel!(
        dot_256,
        "avx2,avxvnni",
        |value| _mm256_set1_epi32(value),
        |sum, factor| _mm256_dpbusd_avx_epi32(sum, factor, factor),
        |sum| _mm256_cvtsi256_si32(sum) as f32
    );

    pub fn kernels() -> Vec<Kernel> {
        let mut kernels = Vec::new();
        let mut add = |there: bool, name, int8, run, lanes: usize| {
            if there {
                kernels.push(Kernel { name, int8, run, operations: 2 * SUMS * lanes });
            }
        };
        add(has!("avx2") && has!("fma"), "AVX2 FMA", false, fma_256 as fn(usize) -> f32, 8);
        add(has!("avx512f"), "AVX-512 FMA", false, fma_512, 16);
        add(has!("avx512f") && has!("avx512vnni"), "AVX-512 VNNI", true, dot_512, 64);
        add(has!("avx2") && has!("avxvnni"), "AVX-VNNI", true, dot_256, 32);
        kernels
    }
}

#[cfg(target_arch = "aarch64")]
mod cpu {
    use super::{Kernel, SUMS};
    use std::arch::aarch64::*;

    kernel!(
        fma_128,
        "neon",
        |value| vdupq_n_f32(value as f32 * 0.5),
        |sum, factor| vfmaq_f32(factor, sum, factor),
        |sum| vgetq_lane_f32::<0>(sum)
    );

    pub fn kernels() -> Vec<Kernel> {
        vec![Kernel { name: "NEON FMA", int8: false, run: fma_128, operations: 2 * SUMS * 4 }]
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod cpu {
    pub fn kernels() -> Vec<super::Kernel> {
        Vec::new()
    }
}
