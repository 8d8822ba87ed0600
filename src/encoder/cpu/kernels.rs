//! The arithmetic of the CPU engine: matrix products over packed panels, softmax, GELU and layer normalisation.
//!
//! Everything is written once over [`pulp::Simd`] and compiled for AVX-512, AVX2, NEON and plain code; [`Kernels`] holds
//! what this processor has. A value of a result is summed in one order, over the depth from first to last, whatever
//! the number of rows in a call, so that a row's result is the same bytes in every batch.

use aligned_vec::AVec;
use pulp::{Arch, Simd, WithSimd};

/// Vectors of a panel's width.
const PANEL_VECTORS: usize = 2;
/// Bytes; a vector that lies across two lines takes twice as long to load.
const CACHE_LINE: usize = 64;
/// Most values of a tile: 12 rows of 32 columns.
const MOST_TILE: usize = 384;
/// Steps of the depth in one turn of a product's loop; with one a turn, counting and loading leave a processor too few slots for its
/// multiply-adds.
const STEPS: usize = 4;
/// Rows of the tiles behind the last full one.
const FEW_ROWS: usize = 4;

/// The instruction set in use.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    arch: Arch,
}

/// A matrix `[depth, columns]` cut into panels of a few columns each, row-major `[panels][depth][width]` and filled up
/// with zeros, so that a product reads it from first to last.
#[derive(Debug, Clone)]
pub struct Panels {
    depth: usize,
    columns: usize,
    width: usize,
    values: AVec<f32>,
}

impl Default for Panels {
    /// An empty matrix.
    fn default() -> Panels {
        Panels { depth: 0, columns: 0, width: 1, values: AVec::new(CACHE_LINE) }
    }
}

impl Panels {
    /// Number of rows.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    fn reshape(&mut self, depth: usize, columns: usize, width: usize) {
        (self.depth, self.columns, self.width) = (depth, columns, width);
        self.values.resize(columns.div_ceil(width) * depth * width, 0.0);
    }

    /// Takes the rows of a matrix `[depth, columns]`, in the buffer that is there.
    fn fill<'a>(&mut self, depth: usize, columns: usize, width: usize, row: impl Fn(usize) -> &'a [f32]) {
        self.reshape(depth, columns, width);
        for (panel, values) in self.values.chunks_exact_mut(depth * width).enumerate() {
            let start = panel * width;
            let valid = width.min(columns - start);
            for (index, values) in values.chunks_exact_mut(width).enumerate() {
                values[..valid].copy_from_slice(&row(index)[start..start + valid]);
                values[valid..].fill(0.0);
            }
        }
    }

    /// Takes the columns of a matrix `[depth, columns]`, in the buffer that is there. `read` writes a column
    /// into a buffer of length `depth`.
    fn fill_transposed(&mut self, columns: usize, depth: usize, width: usize, mut read: impl FnMut(usize, &mut [f32])) {
        self.reshape(depth, columns, width);
        let mut side_by_side = vec![0.0; depth * width];
        for (panel, values) in self.values.chunks_exact_mut(depth * width).enumerate() {
            let valid = width.min(columns - panel * width);
            for (place, column) in side_by_side.chunks_exact_mut(depth).take(valid).enumerate() {
                read(panel * width + place, column);
            }
            side_by_side[valid * depth..].fill(0.0);
            for (row, values) in values.chunks_exact_mut(width).enumerate() {
                for (value, column) in values.iter_mut().zip(side_by_side.chunks_exact(depth)) {
                    *value = column[row];
                }
            }
        }
    }
}

/// What is done to a product's values before they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x · Φ(x)`, exact to rounding (Hendrycks and Gimpel 2016, arXiv:1606.08415).
    Gelu,
    /// GELU's approximation by tanh, from the same paper.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// Rows within a larger buffer: row `i` starts at `i * stride`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The buffer.
    pub values: &'a [f32],
    /// Number of rows.
    pub count: usize,
    /// Distance between the starts of two rows.
    pub stride: usize,
}

impl Kernels {
    /// The best instruction set of this processor.
    pub fn detect() -> Kernels {
        Kernels { arch: Arch::new() }
    }

    /// Every instruction set that this processor has.
    #[cfg(test)]
    fn all() -> Vec<Kernels> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "x86 alone has more than two"))]
        let mut all = vec![Kernels::detect(), Kernels { arch: Arch::Scalar }];
        #[cfg(target_arch = "x86_64")]
        all.extend(pulp::x86::V3::try_new().map(|simd| Kernels { arch: Arch::V3(simd) }));
        all
    }

    /// Name of the instruction set.
    pub fn instruction_set(self) -> String {
        format!("{:?}", self.arch)
    }

    fn width(self) -> usize {
        struct Lanes;
        impl WithSimd for Lanes {
            type Output = usize;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> usize {
                PANEL_VECTORS * S::F32_LANES
            }
        }
        self.arch.dispatch(Lanes)
    }

    /// Packs the transpose of a matrix of `count` rows, so that a product with it is a linear layer whose weight it is.
    /// `read` writes a row into a buffer of length `depth`.
    pub fn pack_transposed(self, count: usize, depth: usize, read: impl FnMut(usize, &mut [f32]), panels: &mut Panels) {
        panels.fill_transposed(count, depth, self.width(), read);
    }

    /// Packs a matrix `[depth, columns]`.
    pub fn pack(self, matrix: Rows, columns: usize, panels: &mut Panels) {
        let Rows { values, count, stride } = matrix;
        panels.fill(count, columns, self.width(), |row| &values[row * stride..row * stride + columns]);
    }

    /// `output = activation(input · panels + bias)`; `output` has rows at multiples of `output_stride`.
    ///
    /// # Panics
    /// If the input has fewer columns than the panels are deep, or the output is too small.
    pub fn multiply(
        self,
        input: Rows,
        panels: &Panels,
        bias: &[f32],
        activation: Activation,
        output: &mut [f32],
        output_stride: usize,
    ) {
        self.arch.dispatch(Multiply { input, panels, bias, activation, output, output_stride });
    }

    /// Applies an activation to every value.
    pub fn activate(self, values: &mut [f32], activation: Activation) {
        self.arch.dispatch(Activate { values, activation });
    }

    /// `row = softmax(scale · row)` for the first `columns` values of each row; up to a vector of the others is overwritten.
    ///
    /// # Panics
    /// If the rows' stride is not one of [`Kernels::padded`].
    pub fn softmax(self, rows: &mut [f32], stride: usize, columns: usize, scale: f32) {
        assert_eq!(stride, self.padded(stride), "rows of whole panels");
        self.arch.dispatch(Softmax { rows, stride, columns, scale });
    }

    /// The least number of columns of whole panels that has room for these.
    pub fn padded(self, columns: usize) -> usize {
        columns.next_multiple_of(self.width())
    }

    /// `states = normalise(states + added) · weight + bias` row by row (Ba et al. 2016, arXiv:1607.06450).
    pub fn add_and_normalize(self, states: &mut [f32], added: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) {
        self.arch.dispatch(Normalize { states, added, weight, bias, epsilon });
    }
}

struct Multiply<'a> {
    input: Rows<'a>,
    panels: &'a Panels,
    bias: &'a [f32],
    activation: Activation,
    output: &'a mut [f32],
    output_stride: usize,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many rows as leave registers for two vectors of a panel: 32 registers in AVX-512 and NEON, 16 in AVX2.
        match S::F32_LANES {
            8 => self.with_rows::<S, 6>(simd),
            4 | 16 => self.with_rows::<S, 12>(simd),
            _ => self.with_rows::<S, 4>(simd),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn with_rows<S: Simd, const ROWS: usize>(self, simd: S) {
        let Multiply { input, panels, bias, activation, output, output_stride } = self;
        let Panels { depth, columns, width, .. } = *panels;
        assert_eq!(width, PANEL_VECTORS * S::F32_LANES, "panels packed for this instruction set");
        let (vectors, _) = S::as_simd_f32s(&panels.values);
        let (vectors, _) = vectors.as_chunks::<PANEL_VECTORS>();
        for panel in 0..columns.div_ceil(width) {
            let values = &vectors[panel * depth..(panel + 1) * depth];
            let first = panel * width;
            let valid = width.min(columns - first);
            let mut start = [simd.splat_f32s(0.0); PANEL_VECTORS];
            if !bias.is_empty() {
                let bias = &bias[first..first + valid];
                for (vector, start) in start.iter_mut().enumerate() {
                    let from = (vector * S::F32_LANES).min(valid);
                    *start = simd.partial_load_f32s(&bias[from..(from + S::F32_LANES).min(valid)]);
                }
            }
            let strip = Strip { input, values, start, valid, activation };
            let mut row = 0;
            while row + ROWS <= input.count {
                strip.tile::<ROWS>(simd, row, &mut output[row * output_stride + first..], output_stride);
                row += ROWS;
            }
            while row < input.count {
                strip.tile::<FEW_ROWS>(simd, row, &mut output[row * output_stride + first..], output_stride);
                row += FEW_ROWS;
            }
        }
    }
}

/// One panel and all rows.
#[derive(Clone, Copy)]
struct Strip<'a, S: Simd> {
    input: Rows<'a>,
    values: &'a [[S::f32s; PANEL_VECTORS]],
    start: [S::f32s; PANEL_VECTORS],
    /// Columns that the panel has without its filling.
    valid: usize,
    activation: Activation,
}

impl<S: Simd> Strip<'_, S> {
    /// Computes a few rows from `row` on and stores them; `output` begins with the first one's.
    #[inline(always)]
    fn tile<const ROWS: usize>(self, simd: S, row: usize, output: &mut [f32], output_stride: usize) {
        let Strip { input, values, start, valid, activation } = self;
        let width = PANEL_VECTORS * S::F32_LANES;
        // Rows behind the last are the last again; they are computed and not stored.
        let rows: [&[f32]; ROWS] = std::array::from_fn(|index| {
            let row = (row + index).min(input.count - 1);
            &input.values[row * input.stride..row * input.stride + values.len()]
        });
        let sums = sums(simd, rows, values, start);
        let count = ROWS.min(input.count - row);
        if count == ROWS && valid == width {
            for index in 0..ROWS {
                let (vectors, _) = S::as_mut_simd_f32s(&mut output[index * output_stride..][..width]);
                vectors[..PANEL_VECTORS].copy_from_slice(&sums[index]);
            }
        } else {
            let mut whole = [0.0; MOST_TILE];
            for index in 0..ROWS {
                let (vectors, _) = S::as_mut_simd_f32s(&mut whole[index * width..][..width]);
                vectors[..PANEL_VECTORS].copy_from_slice(&sums[index]);
            }
            for (index, whole) in whole.chunks_exact(width).take(count).enumerate() {
                output[index * output_stride..][..valid].copy_from_slice(&whole[..valid]);
            }
        }
        if activation != Activation::None {
            for index in 0..count {
                activate(simd, activation, &mut output[index * output_stride..][..valid]);
            }
        }
    }
}

struct Activate<'a> {
    values: &'a mut [f32],
    activation: Activation,
}

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        activate(simd, self.activation, self.values);
    }
}

#[inline(always)]
fn activate<S: Simd>(simd: S, activation: Activation, values: &mut [f32]) {
    let (body, tail) = S::as_mut_simd_f32s(values);
    match activation {
        Activation::None => {}
        Activation::Gelu => map(
            simd,
            body,
            tail,
            #[inline(always)]
            |value| gelu(simd, value),
        ),
        Activation::GeluTanh => map(
            simd,
            body,
            tail,
            #[inline(always)]
            |value| gelu_tanh(simd, value),
        ),
        Activation::Relu => {
            let zero = simd.splat_f32s(0.0);
            map(
                simd,
                body,
                tail,
                #[inline(always)]
                |value| simd.max_f32s(value, zero),
            );
        }
    }
}

#[inline(always)]
fn map<S: Simd>(simd: S, body: &mut [S::f32s], tail: &mut [f32], function: impl Fn(S::f32s) -> S::f32s) {
    for value in body {
        *value = function(*value);
    }
    if !tail.is_empty() {
        let value = function(simd.partial_load_f32s(tail));
        simd.partial_store_f32s(tail, value);
    }
}

/// Sums of a few rows times one panel, on top of `start`; everything stays in registers.
#[inline(always)]
fn sums<S: Simd, const ROWS: usize>(
    simd: S,
    rows: [&[f32]; ROWS],
    panel: &[[S::f32s; PANEL_VECTORS]],
    start: [S::f32s; PANEL_VECTORS],
) -> [[S::f32s; PANEL_VECTORS]; ROWS] {
    let (turns, rest) = panel.as_chunks::<STEPS>();
    // Known lengths keep checks out of the loops.
    let mut row_turns = [&[][..]; ROWS];
    let mut row_rests = [&[][..]; ROWS];
    for index in 0..ROWS {
        let (turns_of_row, rest_of_row) = rows[index].as_chunks::<STEPS>();
        (row_turns[index], row_rests[index]) = (&turns_of_row[..turns.len()], &rest_of_row[..rest.len()]);
    }
    let mut sums = [start; ROWS];
    for (turn, columns) in turns.iter().enumerate() {
        for step in 0..STEPS {
            for index in 0..ROWS {
                add(simd, row_turns[index][turn][step], &columns[step], &mut sums[index]);
            }
        }
    }
    for (step, columns) in rest.iter().enumerate() {
        for index in 0..ROWS {
            add(simd, row_rests[index][step], columns, &mut sums[index]);
        }
    }
    sums
}

/// Adds `value · columns`.
#[inline(always)]
fn add<S: Simd>(simd: S, value: f32, columns: &[S::f32s; PANEL_VECTORS], sums: &mut [S::f32s; PANEL_VECTORS]) {
    let value = simd.splat_f32s(value);
    for vector in 0..PANEL_VECTORS {
        sums[vector] = simd.mul_add_e_f32s(value, columns[vector], sums[vector]);
    }
}

/// 0, 1, 2 and so on.
#[inline(always)]
fn lanes<S: Simd>(_: S) -> S::f32s {
    const LANES: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];
    S::as_simd_f32s(&LANES).0[0]
}

/// `c[0] + c[1] x + c[2] x² + …`
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: [f32; N]) -> S::f32s {
    let mut value = simd.splat_f32s(coefficients[N - 1]);
    for index in (0..N - 1).rev() {
        value = simd.mul_add_e_f32s(value, x, simd.splat_f32s(coefficients[index]));
    }
    value
}

#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
    let erf = erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2)));
    simd.mul_add_e_f32s(half, erf, half)
}

/// The error function, within 4e-7: `x P(x²) / Q(x²)` up to 3.9, from where on f32 cannot tell it from 1. The
/// coefficients are a weighted least-squares fit of our own.
// The first one only comes near 2/√π.
#[allow(clippy::approx_constant)]
#[inline(always)]
fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const LIMIT: f32 = 3.9;
    let x = simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(LIMIT)), simd.splat_f32s(-LIMIT));
    let square = simd.mul_f32s(x, x);
    let numerator = [1.128_379, 0.191_933_95, 0.052_965_984, 3.836_57e-3, 2.874_496_7e-4, 2.050_434_2e-6];
    let denominator = [1.0, 0.503_428_8, 0.114_755_28, 0.015_108_597, 1.181_658_5e-3, 3.823_082_8e-5];
    let numerator = polynomial(simd, square, numerator);
    let denominator = polynomial(simd, square, denominator);
    simd.mul_f32s(x, simd.div_f32s(numerator, denominator))
}

#[inline(always)]
fn gelu_tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)) with u = sqrt(2/π) (x + 0.044715 x³).
    let square = simd.mul_f32s(x, x);
    let inner = simd.mul_add_e_f32s(
        square,
        simd.splat_f32s(-2.0 * 0.797_884_6 * 0.044_715),
        simd.splat_f32s(-2.0 * 0.797_884_6),
    );
    let exponent = simd.min_f32s(simd.mul_f32s(inner, x), simd.splat_f32s(80.0));
    simd.div_f32s(x, simd.add_f32s(simd.splat_f32s(1.0), exp(simd, exponent)))
}

/// The exponential function, within 2 ulp from -64 on; below it stays at 1.6e-28, which is nothing beside 1 and far from
/// the denormal numbers that a smaller one becomes when it is divided: on some processors they take a hundred times longer.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    let x = simd.max_f32s(x, simd.splat_f32s(-64.0));
    let rounder = simd.splat_f32s(12_582_912.0);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), rounder);
    let n = simd.sub_f32s(shifted, rounder);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    let power = polynomial(simd, r, [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0]);
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(power), exponent))
}

struct Softmax<'a> {
    rows: &'a mut [f32],
    stride: usize,
    columns: usize,
    scale: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Softmax { rows, stride, columns, scale } = self;
        let scales = simd.splat_f32s(scale);
        let least = simd.splat_f32s(f32::MIN);
        // What stands behind the columns is left out in registers: a vector that was written in parts is slow to load.
        let whole = columns / S::F32_LANES;
        let valid = simd.splat_f32s((columns % S::F32_LANES) as f32);
        let within = simd.less_than_f32s(lanes(simd), valid);
        for row in rows.chunks_exact_mut(stride) {
            let (row, _) = S::as_mut_simd_f32s(row);
            let (row, behind) = row.split_at_mut(whole);
            let last = &mut behind[..usize::from(columns % S::F32_LANES > 0)];
            let mut largest = least;
            for value in row.iter() {
                largest = simd.max_f32s(largest, *value);
            }
            for value in last.iter() {
                largest = simd.max_f32s(largest, simd.select_f32s(within, *value, least));
            }
            let shift = simd.splat_f32s(-simd.reduce_max_f32s(largest) * scale);
            let zero = simd.splat_f32s(0.0);
            let mut sum = zero;
            for value in row.iter_mut() {
                *value = exp(simd, simd.mul_add_e_f32s(*value, scales, shift));
                sum = simd.add_f32s(sum, *value);
            }
            for value in last.iter_mut() {
                let power = exp(simd, simd.mul_add_e_f32s(*value, scales, shift));
                *value = simd.select_f32s(within, power, zero);
                sum = simd.add_f32s(sum, *value);
            }
            let inverse = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
            for value in row.iter_mut().chain(last) {
                *value = simd.mul_f32s(*value, inverse);
            }
        }
    }
}

struct Normalize<'a> {
    states: &'a mut [f32],
    added: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
}

impl WithSimd for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.weight.len();
        let bias = &self.bias[..width];
        for (states, added) in self.states.chunks_exact_mut(width).zip(self.added.chunks_exact(width)) {
            let (weights, weight_tail) = S::as_simd_f32s(self.weight);
            let (biases, bias_tail) = S::as_simd_f32s(bias);
            let (states, state_tail) = S::as_mut_simd_f32s(states);
            let (added, added_tail) = S::as_simd_f32s(added);
            let mut sum = simd.splat_f32s(0.0);
            for (state, added) in states.iter_mut().zip(added) {
                *state = simd.add_f32s(*state, *added);
                sum = simd.add_f32s(sum, *state);
            }
            let mut sum = simd.reduce_sum_f32s(sum);
            for (state, added) in state_tail.iter_mut().zip(added_tail) {
                *state += added;
                sum += *state;
            }
            let mean = sum / width as f32;
            let means = simd.splat_f32s(mean);
            let mut squares = simd.splat_f32s(0.0);
            for state in states.iter_mut() {
                *state = simd.sub_f32s(*state, means);
                squares = simd.mul_add_e_f32s(*state, *state, squares);
            }
            let mut squares = simd.reduce_sum_f32s(squares);
            for state in state_tail.iter_mut() {
                *state -= mean;
                squares += *state * *state;
            }
            let factor = 1.0 / (squares / width as f32 + self.epsilon).sqrt();
            let factors = simd.splat_f32s(factor);
            for ((state, weight), bias) in states.iter_mut().zip(weights).zip(biases) {
                *state = simd.mul_add_e_f32s(simd.mul_f32s(*state, factors), *weight, *bias);
            }
            for ((state, weight), bias) in state_tail.iter_mut().zip(weight_tail).zip(bias_tail) {
                *state = *state * factor * weight + bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use statrs::function::erf::erf;

    /// Numbers from -1 to 1 without a pattern.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    fn assert_near(found: f32, expected: f64, tolerance: f64, what: &dyn std::fmt::Debug) {
        assert!((f64::from(found) - expected).abs() <= tolerance, "{found} for {expected}: {what:?}");
    }

    fn linear(kernels: Kernels, input: &[f32], weight: &[f32], bias: &[f32], depth: usize) -> Vec<f32> {
        let mut panels = Panels::default();
        let read = |row: usize, into: &mut [f32]| into.copy_from_slice(&weight[row * depth..(row + 1) * depth]);
        kernels.pack_transposed(bias.len(), depth, read, &mut panels);
        let rows = Rows { values: input, count: input.len() / depth, stride: depth };
        let mut output = vec![f32::NAN; rows.count * bias.len()];
        kernels.multiply(rows, &panels, bias, Activation::None, &mut output, bias.len());
        output
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition_and_do_not_depend_on_other_rows(
            rows in 1usize..30,
            depth in 1usize..70,
            columns in 1usize..70,
        ) {
            let (input, weight, bias) = (numbers(rows * depth, 1), numbers(columns * depth, 2), numbers(columns, 3));
            for kernels in Kernels::all() {
                let output = linear(kernels, &input, &weight, &bias, depth);
                for (row, input) in input.chunks_exact(depth).enumerate() {
                    for (column, weight) in weight.chunks_exact(depth).enumerate() {
                        let products = input.iter().zip(weight).map(|(a, b)| f64::from(*a) * f64::from(*b));
                        let expected = products.sum::<f64>() + f64::from(bias[column]);
                        assert_near(output[row * columns + column], expected, 1e-5, &(kernels, row, column));
                    }
                    let alone = linear(kernels, input, &weight, &bias, depth);
                    prop_assert_eq!(&alone, &output[row * columns..(row + 1) * columns]);
                }
                // The same weight, laid out the other way round.
                let transposed: Vec<f32> =
                    (0..depth * columns).map(|at| weight[(at % columns) * depth + at / columns]).collect();
                let mut panels = Panels::default();
                kernels.pack(Rows { values: &transposed, count: depth, stride: columns }, columns, &mut panels);
                let rows = Rows { values: &input, count: rows, stride: depth };
                let mut again = vec![f32::NAN; output.len()];
                kernels.multiply(rows, &panels, &bias, Activation::None, &mut again, columns);
                prop_assert_eq!(again, output);
            }
        }

        #[test]
        fn softmax_and_normalisation_are_those_of_their_definitions(rows in 1usize..4, columns in 1usize..70) {
            let values: Vec<f32> = numbers(rows * columns, 4).iter().map(|value| value * 30.0).collect();
            let (added, weight, bias) = (numbers(rows * columns, 5), numbers(columns, 6), numbers(columns, 7));
            for kernels in Kernels::all() {
                let stride = kernels.padded(columns);
                let mut shares = vec![f32::NAN; rows * stride];
                for (shares, row) in shares.chunks_exact_mut(stride).zip(values.chunks_exact(columns)) {
                    shares[..columns].copy_from_slice(row);
                }
                kernels.softmax(&mut shares, stride, columns, 0.5);
                for (found, row) in shares.chunks_exact(stride).zip(values.chunks_exact(columns)) {
                    let largest = row.iter().copied().fold(f32::MIN, f32::max);
                    let powers: Vec<f64> = row.iter().map(|value| (0.5 * f64::from(value - largest)).exp()).collect();
                    let sum: f64 = powers.iter().sum();
                    for (found, power) in found.iter().zip(powers) {
                        assert_near(*found, power / sum, 1e-6, &kernels);
                    }
                }
                let mut normal = values.clone();
                kernels.add_and_normalize(&mut normal, &added, &weight, &bias, 1e-6);
                let sums: Vec<f64> = values.iter().zip(&added).map(|(a, b)| f64::from(a + b)).collect();
                for (found, row) in normal.chunks_exact(columns).zip(sums.chunks_exact(columns)) {
                    let mean = row.iter().sum::<f64>() / columns as f64;
                    let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / columns as f64;
                    let places = weight.iter().zip(&bias);
                    for ((found, value), (weight, bias)) in found.iter().zip(row).zip(places) {
                        let expected = (value - mean) / (variance + 1e-6).sqrt() * f64::from(*weight) + f64::from(*bias);
                        assert_near(*found, expected, 2e-5, &kernels);
                    }
                }
            }
        }
    }

    #[test]
    fn softmax_keeps_clear_of_denormal_numbers() {
        for kernels in Kernels::all() {
            let stride = kernels.padded(70);
            let mut shares: Vec<f32> = (0..stride).map(|column| -3.0 * column as f32).collect();
            kernels.softmax(&mut shares, stride, 70, 1.0);
            assert!(shares[..70].iter().all(|share| share.is_normal()), "{kernels:?} {shares:?}");
        }
    }

    #[test]
    fn activations_are_those_of_their_definitions() {
        let values: Vec<f32> = (-8000..=8000).map(|step| step as f32 / 1000.0).chain([-1e4, 1e4]).collect();
        for kernels in Kernels::all() {
            let activated = |activation| {
                let mut values = values.clone();
                kernels.activate(&mut values, activation);
                values
            };
            let tanh =
                |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
            let gelu = |x: f64| 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2));
            let [relu, exact, approximate, none] =
                [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::None].map(activated);
            for (index, value) in values.iter().enumerate() {
                let (x, size) = (f64::from(*value), f64::from(value.abs()).max(1.0));
                assert_near(relu[index], x.max(0.0), 0.0, &(kernels, x));
                assert_near(exact[index], gelu(x), 5e-7 * size, &(kernels, x));
                assert_near(approximate[index], tanh(x), 5e-7 * size, &(kernels, x));
                assert_near(none[index], x, 0.0, &(kernels, x));
            }
        }
    }
}
