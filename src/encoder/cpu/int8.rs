//! Matrix products of 8-bit integers with 32-bit sums, for the faster mode.
//!
//! Weights are quantised per output, symmetrically; inputs per row when they come, symmetrically too, and shifted by 128
//! because the instructions multiply unsigned by signed bytes. Sums are exact, so that a result is the same bytes on
//! every instruction set that quantises alike.

#![allow(unsafe_code)]

use aligned_vec::AVec;

use super::kernels::Rows;

/// Bytes that one instruction multiplies and adds into one sum.
const GROUP: usize = 4;
/// What is added to a quantised input to make it unsigned.
const SHIFT: i32 = 128;

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// `vpdpbusd` of AVX-512 VNNI.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// `vpmaddubsw` of AVX2, which holds pairs of products in 16 bits: weights are kept to 7 bits so that they fit.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Products in 16 bits and pairwise sums of NEON, of signed bytes.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain code.
    Portable,
}

/// The instruction set in use for integers.
#[derive(Debug, Clone, Copy)]
pub struct IntegerKernels {
    method: Method,
}

/// A quantised linear layer: panels of columns, `[panels][depth / 4][width][4]`, filled up with zeros.
#[derive(Debug, Clone)]
pub struct QuantizedPanels {
    depth: usize,
    groups: usize,
    columns: usize,
    width: usize,
    values: AVec<i8>,
    /// Factor of each column, filled up.
    scales: Vec<f32>,
    /// What the shift of the inputs adds to each column's sum, negated; filled up.
    starts: Vec<i32>,
    bias: Vec<f32>,
}

/// Quantised rows, `[rows][depth / 4][4]`.
#[derive(Debug, Default)]
pub struct QuantizedRows {
    groups: usize,
    values: Vec<[u8; GROUP]>,
    scales: Vec<f32>,
}

impl QuantizedRows {
    /// Quantises rows of `depth` values, in the buffer that is there.
    #[inline(always)]
    fn fill(&mut self, input: Rows, depth: usize) {
        self.groups = depth.div_ceil(GROUP);
        let Rows { values: input, count: rows, stride } = input;
        self.values.clear();
        self.values.resize(rows * self.groups, [SHIFT as u8; GROUP]);
        self.scales.clear();
        for (row, values) in self.values.chunks_exact_mut(self.groups).enumerate() {
            let input = &input[row * stride..row * stride + depth];
            let mut lanes = [0.0f32; 32];
            let (body, tail) = input.as_chunks::<32>();
            for chunk in body {
                for (lane, value) in lanes.iter_mut().zip(chunk) {
                    *lane = lane.max(value.abs());
                }
            }
            let largest = tail.iter().chain(&lanes).fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = largest / 127.0;
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            self.scales.push(scale);
            // Adding 1.5 * 2^23 rounds; the integer then stands in the low bits.
            for (&value, byte) in input.iter().zip(values.as_flattened_mut()) {
                *byte = ((value * inverse + (12_582_912.0 + SHIFT as f32)).to_bits() & 0xff) as u8;
            }
        }
    }
}

impl IntegerKernels {
    /// The best instruction set of this processor.
    pub fn detect() -> IntegerKernels {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                return IntegerKernels { method: Method::Vnni };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return IntegerKernels { method: Method::Avx2 };
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return IntegerKernels { method: Method::Neon };
        }
        IntegerKernels { method: Method::Portable }
    }

    /// Every instruction set that this processor has.
    #[cfg(test)]
    fn all() -> Vec<IntegerKernels> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "x86 alone has more than two"))]
        let mut all = vec![IntegerKernels::detect(), IntegerKernels { method: Method::Portable }];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(IntegerKernels { method: Method::Avx2 });
        }
        all
    }

    /// Name of the instruction set.
    pub fn instruction_set(self) -> String {
        format!("{:?}", self.method)
    }

    fn width(self) -> usize {
        match self.method {
            #[cfg(target_arch = "x86_64")]
            Method::Avx2 => 16,
            #[cfg(target_arch = "aarch64")]
            Method::Neon => neon::WIDTH,
            _ => 32,
        }
    }

    fn largest_weight(self) -> f32 {
        match self.method {
            #[cfg(target_arch = "x86_64")]
            Method::Avx2 => 63.0,
            _ => 127.0,
        }
    }

    /// Quantises and packs a weight `[outputs, inputs]` and its bias. `read` writes a row into a buffer of length `inputs`.
    pub fn pack(self, bias: Vec<f32>, inputs: usize, mut read: impl FnMut(usize, &mut [f32])) -> QuantizedPanels {
        let (columns, width, groups) = (bias.len(), self.width(), inputs.div_ceil(GROUP));
        let panels = columns.div_ceil(width);
        let mut packed = QuantizedPanels {
            depth: inputs,
            groups,
            columns,
            width,
            values: AVec::new(64),
            scales: vec![0.0; panels * width],
            starts: vec![0; panels * width],
            bias,
        };
        packed.values.resize(panels * groups * width * GROUP, 0);
        let mut row = vec![0.0; inputs];
        for column in 0..columns {
            read(column, &mut row);
            let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = largest / self.largest_weight();
            packed.scales[column] = scale;
            let (panel, place) = (column / width, column % width);
            let mut sum = 0;
            for (input, value) in row.iter().enumerate() {
                let quantized = if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
                sum += i32::from(quantized);
                let group = (panel * groups + input / GROUP) * width + place;
                packed.values[group * GROUP + input % GROUP] = quantized;
            }
            packed.starts[column] = -SHIFT * sum;
        }
        packed
    }

    /// `output = input · panels + bias`; `output` has rows at multiples of `output_stride`, and `rows` holds the quantised
    /// input.
    ///
    /// # Panics
    /// If the input has fewer columns than the panels are deep, or the output is too small.
    pub fn multiply(
        self,
        input: Rows,
        panels: &QuantizedPanels,
        rows: &mut QuantizedRows,
        output: &mut [f32],
        output_stride: usize,
    ) {
        match self.method {
            // SAFETY: `detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Method::Vnni => unsafe { x86::multiply_vnni(input, panels, rows, output, output_stride) },
            // SAFETY: `detect` found the features.
            #[cfg(target_arch = "x86_64")]
            Method::Avx2 => unsafe { x86::multiply_avx2(input, panels, rows, output, output_stride) },
            // SAFETY: `detect` found the features.
            #[cfg(target_arch = "aarch64")]
            Method::Neon => unsafe { neon::multiply(input, panels, rows, output, output_stride) },
            Method::Portable => {
                rows.fill(input, panels.depth);
                product::<4, 32>(panels, rows, output, output_stride, portable_tile::<4, 32>);
            }
        }
    }
}

/// One tile after the other: sums as integers, then scaled, with the bias.
#[inline(always)]
fn product<const ROWS: usize, const WIDTH: usize>(
    panels: &QuantizedPanels,
    input: &QuantizedRows,
    output: &mut [f32],
    output_stride: usize,
    tile: impl Fn([&[[u8; GROUP]]; ROWS], &[[[i8; GROUP]; WIDTH]], &[i32; WIDTH], &mut [[i32; WIDTH]; ROWS]),
) {
    let (groups, columns) = (panels.groups, panels.columns);
    assert_eq!(panels.width, WIDTH, "panels packed for this instruction set");
    let (values, _) = panels.values.as_chunks::<GROUP>();
    let (values, _) = values.as_chunks::<WIDTH>();
    let (starts, _) = panels.starts.as_chunks::<WIDTH>();
    let (scales, _) = panels.scales.as_chunks::<WIDTH>();
    let count = input.scales.len();
    let mut sums = [[0i32; WIDTH]; ROWS];
    for (panel, (start, scale)) in starts.iter().zip(scales).enumerate() {
        let values = &values[panel * groups..(panel + 1) * groups];
        let first = panel * WIDTH;
        let valid = WIDTH.min(columns - first);
        let mut bias = [0.0; WIDTH];
        bias[..valid].copy_from_slice(&panels.bias[first..first + valid]);
        for row in (0..count).step_by(ROWS) {
            let rows: [&[[u8; GROUP]]; ROWS] = std::array::from_fn(|index| {
                let row = (row + index).min(count - 1);
                &input.values[row * groups..(row + 1) * groups]
            });
            tile(rows, values, start, &mut sums);
            for (index, sums) in sums.iter().enumerate().take(count - row) {
                let factor = input.scales[row + index];
                let mut values = [0.0; WIDTH];
                for column in 0..WIDTH {
                    values[column] = sums[column] as f32 * (scale[column] * factor) + bias[column];
                }
                let output = &mut output[(row + index) * output_stride + first..][..valid];
                if valid == WIDTH { output.copy_from_slice(&values) } else { output.copy_from_slice(&values[..valid]) }
            }
        }
    }
}

fn portable_tile<const ROWS: usize, const WIDTH: usize>(
    rows: [&[[u8; GROUP]]; ROWS],
    panel: &[[[i8; GROUP]; WIDTH]],
    start: &[i32; WIDTH],
    sums: &mut [[i32; WIDTH]; ROWS],
) {
    *sums = [*start; ROWS];
    for (step, columns) in panel.iter().enumerate() {
        for (row, sums) in rows.iter().zip(sums.iter_mut()) {
            let input = row[step].map(i32::from);
            for (sum, weight) in sums.iter_mut().zip(columns) {
                for (input, weight) in input.iter().zip(weight) {
                    *sum += input * i32::from(*weight);
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::{GROUP, QuantizedPanels, QuantizedRows, Rows, SHIFT, product};

    const ROWS: usize = 4;
    /// Columns of a vector, and vectors of a panel: with four rows their sums fill half of the registers.
    const LANES: usize = 4;
    const VECTORS: usize = 4;
    pub(super) const WIDTH: usize = LANES * VECTORS;

    #[target_feature(enable = "neon")]
    pub(super) fn multiply(
        input: Rows,
        panels: &QuantizedPanels,
        rows: &mut QuantizedRows,
        output: &mut [f32],
        output_stride: usize,
    ) {
        rows.fill(input, panels.depth);
        product::<ROWS, WIDTH>(panels, rows, output, output_stride, |rows, panel, _, sums| tile(rows, panel, sums));
    }

    /// Both factors are signed here: the shift of the inputs is taken back, and its sum has not to be.
    #[inline]
    #[target_feature(enable = "neon")]
    fn tile(rows: [&[[u8; GROUP]]; ROWS], panel: &[[[i8; GROUP]; WIDTH]], sums: &mut [[i32; WIDTH]; ROWS]) {
        let mut same = [&[][..]; ROWS];
        for index in 0..ROWS {
            same[index] = &rows[index][..panel.len()];
        }
        let mut held = [[vdupq_n_s32(0); VECTORS]; ROWS];
        for (step, columns) in panel.iter().enumerate() {
            for vector in 0..VECTORS {
                // SAFETY: the pointer is that of 16 bytes of the columns' 64.
                let weights = unsafe { vld1q_s8(columns.as_ptr().add(vector * LANES).cast()) };
                for index in 0..ROWS {
                    let input = same[index][step].map(|byte| byte ^ SHIFT as u8);
                    let input = vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(input)));
                    let low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(input)));
                    let high = vpaddlq_s16(vmull_high_s8(weights, input));
                    held[index][vector] = vaddq_s32(held[index][vector], vpaddq_s32(low, high));
                }
            }
        }
        for index in 0..ROWS {
            for vector in 0..VECTORS {
                // SAFETY: the pointer is that of 4 of the row's 16 sums.
                unsafe { vst1q_s32(sums[index].as_mut_ptr().add(vector * LANES), held[index][vector]) };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{GROUP, QuantizedPanels, QuantizedRows, Rows, product};

    /// `product` with a tile of two vectors a row in registers.
    macro_rules! multiply {
        ($name:ident, $features:literal, $rows:literal, $lanes:literal, $load:ident, $store:ident, $set:ident, $dot:expr) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(
                input: Rows,
                panels: &QuantizedPanels,
                rows: &mut QuantizedRows,
                output: &mut [f32],
                output_stride: usize,
            ) {
                const ROWS: usize = $rows;
                const WIDTH: usize = 2 * $lanes;
                #[inline]
                #[target_feature(enable = $features)]
                fn tile(
                    rows: [&[[u8; GROUP]]; ROWS],
                    panel: &[[[i8; GROUP]; WIDTH]],
                    start: &[i32; WIDTH],
                    sums: &mut [[i32; WIDTH]; ROWS],
                ) {
                    let depth = panel.len();
                    let mut same = [&[][..]; ROWS];
                    for index in 0..ROWS {
                        same[index] = &rows[index][..depth];
                    }
                    // SAFETY: the pointers are those of arrays of twice the vector's size; unaligned access is allowed.
                    let low = unsafe { $load(start.as_ptr().cast()) };
                    let high = unsafe { $load(start.as_ptr().add($lanes).cast()) };
                    let mut held = [[low, high]; ROWS];
                    for step in 0..depth {
                        let columns = &panel[step];
                        // SAFETY: as above.
                        let low = unsafe { $load(columns.as_ptr().cast()) };
                        let high = unsafe { $load(columns.as_ptr().add($lanes).cast()) };
                        for index in 0..ROWS {
                            let input = $set(i32::from_le_bytes(same[index][step]));
                            held[index][0] = $dot(held[index][0], input, low);
                            held[index][1] = $dot(held[index][1], input, high);
                        }
                    }
                    for index in 0..ROWS {
                        // SAFETY: as above.
                        unsafe {
                            $store(sums[index].as_mut_ptr().cast(), held[index][0]);
                            $store(sums[index].as_mut_ptr().add($lanes).cast(), held[index][1]);
                        }
                    }
                }
                rows.fill(input, panels.depth);
                product::<ROWS, WIDTH>(panels, rows, output, output_stride, |rows, panel, start, sums| {
                    tile(rows, panel, start, sums)
                });
            }
        };
    }

    multiply!(
        multiply_vnni,
        "avx512f,avx512bw,avx512vl,avx512vnni,fma",
        12,
        16,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        _mm512_set1_epi32,
        _mm512_dpbusd_epi32
    );

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn dot_avx2(sum: __m256i, input: __m256i, weights: __m256i) -> __m256i {
        _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(input, weights), _mm256_set1_epi16(1)))
    }

    multiply!(multiply_avx2, "avx2,fma", 4, 8, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_set1_epi32, dot_avx2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    fn multiply(kernels: IntegerKernels, input: &[f32], weight: &[f32], bias: &[f32], depth: usize) -> Vec<f32> {
        let read = |row: usize, into: &mut [f32]| into.copy_from_slice(&weight[row * depth..(row + 1) * depth]);
        let panels = kernels.pack(bias.to_vec(), depth, read);
        let mut output = vec![f32::NAN; input.len() / depth * bias.len()];
        let rows = Rows { values: input, count: input.len() / depth, stride: depth };
        kernels.multiply(rows, &panels, &mut QuantizedRows::default(), &mut output, bias.len());
        output
    }

    proptest! {
        #[test]
        fn products_of_quantised_weights_stay_within_the_rounding_and_do_not_depend_on_other_rows(
            rows in 1usize..30,
            depth in 1usize..200,
            columns in 1usize..70,
        ) {
            let (input, weight, bias) = (numbers(rows * depth, 1), numbers(columns * depth, 2), numbers(columns, 3));
            for kernels in IntegerKernels::all() {
                let output = multiply(kernels, &input, &weight, &bias, depth);
                // Each factor is off by half a step at most, and no factor is greater than 1.
                let bound = depth as f32 * (0.5 / 127.0 + 0.5 / kernels.largest_weight() + 0.001);
                for (row, input) in input.chunks_exact(depth).enumerate() {
                    for (column, weight) in weight.chunks_exact(depth).enumerate() {
                        let exact = input.iter().zip(weight).map(|(a, b)| a * b).sum::<f32>() + bias[column];
                        let found = output[row * columns + column];
                        prop_assert!((found - exact).abs() <= bound, "{kernels:?} {row} {column}: {found} for {exact}");
                    }
                    let alone = multiply(kernels, input, &weight, &bias, depth);
                    prop_assert_eq!(&alone, &output[row * columns..(row + 1) * columns]);
                }
            }
        }
    }

    #[test]
    fn integer_sums_do_not_overflow_at_the_ends_of_the_range() {
        // One step is 1 for inputs up to 127; weights are 1 and -1, so that they are quantised without loss.
        let input: Vec<f32> = (0..128).map(|index| if index % 2 == 0 { 127.0 } else { -127.0 }).collect();
        let weight: Vec<f32> = input.iter().map(|value| value.signum()).chain((0..128).map(|_| 1.0)).collect();
        for kernels in IntegerKernels::all() {
            let output = multiply(kernels, &input, &weight, &[0.5, 0.0], 128);
            // A sum that is off by one step is off by 1/63 at least; the factors are rounded.
            assert!((output[0] - (127.0 * 128.0 + 0.5)).abs() < 0.01 && output[1] == 0.0, "{kernels:?}: {output:?}");
        }
    }

    #[test]
    fn rows_of_zeros_give_the_bias() {
        for kernels in IntegerKernels::all() {
            assert_eq!(multiply(kernels, &[0.0; 6], &[0.0, 1.0, 2.0], &[0.25], 3), [0.25, 0.25], "{kernels:?}");
        }
    }
}
