//! The head: a two-layer perceptron from a clause and its document, plus a linear layer over the clause's words, to one
//! score per scenario, and one more for a use that no scenario covers.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::features::TextFeatures;

/// Parameters, row-major.
/// `scores = second · gelu(first · [clause; document] + first_bias) + second_bias + sum(lexical[grams]) / sqrt(grams)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Width of a clause vector.
    pub hidden: usize,
    /// Units of the first layer.
    pub units: usize,
    /// `[units, 2 * hidden]`.
    pub first: Vec<f32>,
    /// `[units]`.
    pub first_bias: Vec<f32>,
    /// `[outputs, units]`.
    pub second: Vec<f32>,
    /// `[outputs]`.
    pub second_bias: Vec<f32>,
    /// `[buckets, outputs]`: a hashed n-gram uses the row of its remainder. No rows: words are not used.
    pub lexical: Vec<f32>,
}

impl Head {
    /// Scores per clause: one per scenario and one for "outside".
    pub fn outputs(&self) -> usize {
        self.second_bias.len()
    }

    /// Row-major `[clauses, outputs]` scores.
    pub fn scores(&self, features: &TextFeatures) -> Vec<f32> {
        let hidden = self.hidden;
        let row = |unit: usize| &self.first[unit * 2 * hidden..(unit + 1) * 2 * hidden];
        // The document's part of the first layer is the same for every clause.
        let document: Vec<f32> =
            (0..self.units).map(|unit| self.first_bias[unit] + dot(&row(unit)[hidden..], &features.document)).collect();
        let mut scores = Vec::with_capacity(features.clauses.len() * self.outputs());
        for (clause, grams) in features.vectors.chunks_exact(hidden).zip(&features.grams) {
            let start = scores.len();
            let units: Vec<f32> =
                (0..self.units).map(|unit| gelu(document[unit] + dot(&row(unit)[..hidden], clause))).collect();
            let second = self.second.chunks_exact(self.units).zip(&self.second_bias);
            scores.extend(second.map(|(row, bias)| bias + dot(row, &units)));
            self.add_lexical(grams, &mut scores[start..]);
        }
        scores
    }

    /// One head whose scores are the means of the scores of heads of equal shape: their units side by side.
    ///
    /// # Panics
    /// Without a head, or if their shapes differ.
    pub fn average(heads: &[Head]) -> Head {
        let count = heads.len() as f32;
        let (hidden, outputs) = (heads[0].hidden, heads[0].outputs());
        let mean = |values: &dyn Fn(&Head) -> &[f32]| {
            let mut sum = vec![0.0; values(&heads[0]).len()];
            for head in heads {
                assert_eq!(values(head).len(), sum.len(), "heads of equal shape");
                sum.iter_mut().zip(values(head)).for_each(|(sum, value)| *sum += value / count);
            }
            sum
        };
        let row = |head: &Head, output: usize| -> Vec<f32> {
            head.second[output * head.units..(output + 1) * head.units].iter().map(|value| value / count).collect()
        };
        Head {
            hidden,
            units: heads.iter().map(|head| head.units).sum(),
            first: heads.iter().flat_map(|head| head.first.iter().copied()).collect(),
            first_bias: heads.iter().flat_map(|head| head.first_bias.iter().copied()).collect(),
            second: (0..outputs).flat_map(|output| heads.iter().flat_map(move |head| row(head, output))).collect(),
            second_bias: mean(&|head| &head.second_bias),
            lexical: mean(&|head| &head.lexical),
        }
    }

    /// Rows of the lexical layer.
    pub fn buckets(&self) -> usize {
        self.lexical.len() / self.outputs()
    }

    fn add_lexical(&self, grams: &[u32], scores: &mut [f32]) {
        if self.lexical.is_empty() || grams.is_empty() {
            return;
        }
        let weight = 1.0 / (grams.len() as f32).sqrt();
        let buckets = self.buckets() as u32;
        for gram in grams {
            let row = (gram % buckets) as usize * scores.len();
            for (score, value) in scores.iter_mut().zip(&self.lexical[row..]) {
                *score += weight * value;
            }
        }
    }

    /// Reads the head of a bundle.
    ///
    /// # Errors
    /// A sentence that names the tensor.
    pub fn parse(bytes: &[u8]) -> Result<Head, String> {
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(|error| error.to_string())?;
        let get = |name: &str, dimensions: usize| -> Result<(Vec<usize>, Vec<f32>), String> {
            let tensor = tensors.get(name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
            let shape = tensor.dims().to_vec();
            if shape.len() != dimensions {
                return Err(format!("tensor `{name}` has shape {shape:?}; expected {dimensions} dimensions"));
            }
            let values = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1());
            Ok((shape, values.map_err(|error| format!("tensor `{name}`: {error}"))?))
        };
        let (first_shape, first) = get("first.weight", 2)?;
        let (second_shape, second) = get("second.weight", 2)?;
        let (_, first_bias) = get("first.bias", 1)?;
        let (_, second_bias) = get("second.bias", 1)?;
        let lexical = match tensors.contains_key("lexical.weight") {
            true => Some(get("lexical.weight", 2)?),
            false => None,
        };
        let [units, width] = first_shape[..] else { return Err("tensor `first.weight` is not a matrix".to_owned()) };
        if second_shape != [second_bias.len(), units] || first_bias.len() != units || width % 2 != 0 {
            return Err(format!("shapes {first_shape:?} and {second_shape:?} of its layers do not fit together"));
        }
        if let Some((shape, _)) = &lexical
            && (shape[0] == 0 || shape[1] != second_bias.len())
        {
            return Err(format!("tensor `lexical.weight` has shape {shape:?}; expected {} columns", second_bias.len()));
        }
        let lexical = lexical.map(|(_, values)| values).unwrap_or_default();
        Ok(Head { hidden: width / 2, units, first, first_bias, second, second_bias, lexical })
    }

    /// The head as a safetensors file. Matrices are stored in 16 bits.
    ///
    /// # Panics
    /// Never: the shapes of a head fit together.
    pub fn serialize(&self) -> Vec<u8> {
        let tensor = |values: &[f32], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::Cpu).expect("the shapes of a head fit together")
        };
        let matrix = |values: &[f32], shape: &[usize]| {
            tensor(values, shape).to_dtype(DType::F16).expect("any number has 16 bits")
        };
        let outputs = self.outputs();
        let mut tensors = BTreeMap::from([
            ("first.weight", matrix(&self.first, &[self.units, 2 * self.hidden])),
            ("first.bias", tensor(&self.first_bias, &[self.units])),
            ("second.weight", matrix(&self.second, &[outputs, self.units])),
            ("second.bias", tensor(&self.second_bias, &[outputs])),
        ]);
        if !self.lexical.is_empty() {
            tensors.insert("lexical.weight", matrix(&self.lexical, &[self.buckets(), outputs]));
        }
        safetensors::serialize(tensors, None).expect("tensors on the CPU serialize")
    }
}

/// The strongest score of each output over all clauses; scores far below any threshold when there is no clause.
pub fn strongest(scores: &[f32], outputs: usize) -> Vec<f32> {
    let mut best = vec![f32::NEG_INFINITY; outputs];
    for clause in scores.chunks_exact(outputs) {
        for (best, score) in best.iter_mut().zip(clause) {
            *best = best.max(*score);
        }
    }
    best.iter().map(|score| if score.is_finite() { *score } else { -30.0 }).collect()
}

/// Sums in eight lanes, so that the compiler can use vector instructions without changing the order of additions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// GELU with the tanh approximation (Hendrycks and Gimpel 2016, arXiv:1606.08415).
fn gelu(value: f32) -> f32 {
    0.5 * value * (1.0 + (0.797_884_6 * (value + 0.044_715 * value * value * value)).tanh())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::clauses;

    fn head() -> Head {
        Head {
            hidden: 2,
            units: 1,
            first: vec![1.0, 0.0, 0.0, 1.0],
            first_bias: vec![0.5],
            second: vec![2.0, -1.0],
            second_bias: vec![0.0, 1.0],
            lexical: vec![0.5, 0.0, 0.0, 0.0],
        }
    }

    #[test]
    fn scores_follow_the_formula() {
        let features = TextFeatures {
            clauses: clauses("a,b"),
            vectors: vec![1.0, 9.0, -3.0, 9.0],
            document: vec![7.0, 0.5],
            grams: vec![vec![], vec![2, 3, 4, 6]],
        };
        // Units: gelu(1 + 0.5 + 0.5) = gelu(2) = 1.9546, gelu(-3 + 0.5 + 0.5) = gelu(-2) = -0.0454.
        // Words of the second clause: three of four grams fall on the row with 0.5, so 3 * 0.5 / 2 = 0.75.
        let scores = head().scores(&features);
        for (found, expected) in scores.iter().zip([3.9092, -0.9546, 0.6592, 1.0454]) {
            assert!((found - expected).abs() < 1e-3, "{scores:?}");
        }
        assert_eq!(strongest(&scores, 2), [scores[0], scores[3]]);
    }

    #[test]
    fn an_average_scores_the_mean() {
        let features = TextFeatures {
            clauses: clauses("a,b"),
            vectors: vec![1.0, 9.0, -3.0, 9.0],
            document: vec![7.0, 0.5],
            grams: vec![vec![2, 3], vec![5]],
        };
        let mut other = head();
        other.first = vec![0.5, -1.0, 0.25, 2.0];
        other.second = vec![-1.0, 3.0];
        other.second_bias = vec![0.25, 0.0];
        other.lexical = vec![0.0, 1.0, 0.5, -2.0];
        let average = Head::average(&[head(), other.clone()]).scores(&features);
        for ((found, a), b) in average.iter().zip(head().scores(&features)).zip(other.scores(&features)) {
            assert!((found - (a + b) / 2.0).abs() < 1e-4, "{found} {a} {b}");
        }
    }

    #[test]
    fn a_head_survives_its_file_and_a_damaged_file_is_named() {
        assert_eq!(Head::parse(&head().serialize()), Ok(head()));
        assert!(Head::parse(b"no").is_err());
        let mut other = head();
        other.first_bias.push(0.0);
        other.units = 2;
        other.first.extend([0.0; 4]);
        assert!(std::panic::catch_unwind(|| other.serialize()).is_err());
    }
}
