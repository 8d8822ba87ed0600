//! The head: a two-layer perceptron from a clause and its document, plus a linear layer over the clause's words and a
//! linear model of the whole text's, to one score per scenario, and one more for a use that no scenario covers.

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::features::TextFeatures;
use super::words::WordModel;
use crate::encoder::cpu::kernels::{Activation, Kernels};
use crate::encoder::weights::{Bytes, Tensors};

/// Parameters, row-major.
///
/// `scores = second · gelu(first · [clause; document] + first_bias) + second_bias + sum(lexical) / sqrt(grams) + words`,
/// where `lexical` has a row for each n-gram of the clause, and `words` reads the whole text.
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
    /// `[buckets, outputs]`: a hashed n-gram of the clause uses the row of its remainder. No rows: they are not used.
    pub lexical: Vec<f32>,
    /// What the words of the whole text add to the scores of each clause; `None` where words are not used.
    pub words: Option<WordModel>,
}

impl Head {
    /// Scores per clause: one per scenario and one for "outside".
    pub fn outputs(&self) -> usize {
        self.second_bias.len()
    }

    /// Row-major `[clauses, outputs]` scores.
    pub fn scores(&self, features: &TextFeatures) -> Vec<f32> {
        let hidden = self.hidden;
        let kernels = Kernels::detect();
        let row = |unit: usize| &self.first[unit * 2 * hidden..(unit + 1) * 2 * hidden];
        // The document's part of the first layer is the same for every clause.
        let document: Vec<f32> =
            (0..self.units).map(|unit| self.first_bias[unit] + dot(&row(unit)[hidden..], &features.document)).collect();
        let mut start = self.second_bias.clone();
        if let Some(words) = &self.words {
            words.add(&features.words, &mut start);
        }
        let mut scores = Vec::with_capacity(features.clauses.len() * self.outputs());
        for (clause, grams) in features.vectors.chunks_exact(hidden).zip(&features.grams) {
            let first = scores.len();
            let mut units: Vec<f32> =
                (0..self.units).map(|unit| document[unit] + dot(&row(unit)[..hidden], clause)).collect();
            kernels.activate(&mut units, Activation::GeluTanh);
            let second = self.second.chunks_exact(self.units).zip(&start);
            scores.extend(second.map(|(row, start)| start + dot(row, &units)));
            self.add_lexical(grams, &mut scores[first..]);
        }
        scores
    }

    /// One head whose scores are the means of the scores of heads of equal shape, without words: their units side by side.
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
            words: None,
        }
    }

    /// Mixes in a linear model of words: `share` of its scores and the rest of this head's.
    pub fn mix(mut self, mut words: WordModel, share: f32) -> Head {
        let own = self.second.iter_mut().chain(&mut self.second_bias).chain(&mut self.lexical);
        own.for_each(|value| *value *= 1.0 - share);
        words.weights.iter_mut().chain(&mut words.bias).for_each(|value| *value *= share);
        self.words = Some(words);
        self
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
        let tensors = Tensors::parse(Bytes::Owned(bytes.to_vec()))?;
        let get = |name: &str, dimensions: usize| -> Result<(Vec<usize>, Vec<f32>), String> {
            let shape = tensors.shape(name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
            if shape.len() != dimensions {
                return Err(format!("tensor `{name}` has shape {shape:?}; expected {dimensions} dimensions"));
            }
            Ok((shape.to_vec(), tensors.read(name, shape)?))
        };
        let (first_shape, first) = get("first.weight", 2)?;
        let (second_shape, second) = get("second.weight", 2)?;
        let (_, first_bias) = get("first.bias", 1)?;
        let (_, second_bias) = get("second.bias", 1)?;
        let [units, width] = first_shape[..] else { return Err("tensor `first.weight` is not a matrix".to_owned()) };
        let outputs = second_bias.len();
        if second_shape != [outputs, units] || first_bias.len() != units || width % 2 != 0 {
            return Err(format!("shapes {first_shape:?} and {second_shape:?} of its layers do not fit together"));
        }
        let lexical = match tensors.shape("lexical.weight") {
            None => Vec::new(),
            Some(_) => {
                let (shape, values) = get("lexical.weight", 2)?;
                if shape[0] == 0 || shape[1] != outputs {
                    return Err(format!("tensor `lexical.weight` has shape {shape:?}; expected {outputs} columns"));
                }
                values
            }
        };
        let words = match tensors.shape("words.idf") {
            None => None,
            Some(shape) => {
                let [buckets] = *shape else {
                    return Err(format!("tensor `words.idf` has shape {shape:?}; expected 1 dimension"));
                };
                let scales = tensors.read("words.scale", &[outputs])?;
                let steps = tensors.read_bytes("words.weight", &[buckets, outputs])?;
                let weights = steps.iter().zip(scales.iter().cycle()).map(|(&step, scale)| f32::from(step) * scale);
                let weights = weights.collect();
                let bias = tensors.read("words.bias", &[outputs])?;
                Some(WordModel { idf: tensors.read("words.idf", &[buckets])?, weights, bias })
            }
        };
        Ok(Head { hidden: width / 2, units, first, first_bias, second, second_bias, lexical, words })
    }

    /// The head as a safetensors file. Matrices are stored in 16 bits, that of the text's words in 8 with a scale for each output.
    ///
    /// # Panics
    /// Never: the shapes of a head fit together.
    pub fn serialize(&self) -> Vec<u8> {
        let single = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let half = |values: &[f32]| -> Vec<u8> {
            let mut rounded = vec![f16::ZERO; values.len()];
            rounded.convert_from_f32_slice(values);
            rounded.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let outputs = self.outputs();
        let mut tensors = vec![
            ("first.weight", Dtype::F16, vec![self.units, 2 * self.hidden], half(&self.first)),
            ("first.bias", Dtype::F32, vec![self.units], single(&self.first_bias)),
            ("second.weight", Dtype::F16, vec![outputs, self.units], half(&self.second)),
            ("second.bias", Dtype::F32, vec![outputs], single(&self.second_bias)),
        ];
        if !self.lexical.is_empty() {
            tensors.push(("lexical.weight", Dtype::F16, vec![self.buckets(), outputs], half(&self.lexical)));
        }
        if let Some(WordModel { idf, weights, bias }) = &self.words {
            let mut scales = vec![0.0f32; outputs];
            for row in weights.chunks_exact(outputs) {
                scales.iter_mut().zip(row).for_each(|(scale, weight)| *scale = scale.max(weight.abs() / 127.0));
            }
            let step = |(weight, scale): (&f32, &f32)| if *scale > 0.0 { (weight / scale).round() as i8 } else { 0 };
            let steps = weights.iter().zip(scales.iter().cycle()).flat_map(|pair| step(pair).to_le_bytes()).collect();
            tensors.extend([
                ("words.idf", Dtype::F32, vec![idf.len()], single(idf)),
                ("words.weight", Dtype::I8, vec![idf.len(), outputs], steps),
                ("words.scale", Dtype::F32, vec![outputs], single(&scales)),
                ("words.bias", Dtype::F32, vec![outputs], single(bias)),
            ]);
        }
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).expect("the shapes of a head fit together");
            (*name, view)
        });
        safetensors::serialize(views, None).expect("tensors with different names serialize")
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
            words: Some(WordModel { idf: vec![1.0, 2.0], weights: vec![12.7, 0.0, -12.7, 12.7], bias: vec![0.5, 0.0] }),
        }
    }

    #[test]
    fn scores_follow_the_formula() {
        let features = TextFeatures {
            clauses: clauses("a,b"),
            vectors: vec![1.0, 9.0, -3.0, 9.0],
            document: vec![7.0, 0.5],
            grams: vec![vec![], vec![2, 3, 4, 6]],
            words: vec![2, 4],
        };
        // Units: gelu(1 + 0.5 + 0.5) = gelu(2) = 1.9546, gelu(-3 + 0.5 + 0.5) = gelu(-2) = -0.0454.
        // Words of the second clause: three of four grams fall on the row with 0.5, so 3 * 0.5 / 2 = 0.75.
        // Words of the text: both in bucket 0, whose value is 1: 12.7 and 0, with the bias 13.2 and 0.
        let scores = head().scores(&features);
        for (found, expected) in scores.iter().zip([17.1092, -0.9546, 13.8592, 1.0454]) {
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
            words: vec![1, 2, 3],
        };
        let mut head = head();
        head.words = None;
        let mut other = head.clone();
        other.first = vec![0.5, -1.0, 0.25, 2.0];
        other.second = vec![-1.0, 3.0];
        other.second_bias = vec![0.25, 0.0];
        other.lexical = vec![0.0, 1.0, 0.5, -2.0];
        let average = Head::average(&[head.clone(), other.clone()]).scores(&features);
        for ((found, a), b) in average.iter().zip(head.scores(&features)).zip(other.scores(&features)) {
            assert!((found - (a + b) / 2.0).abs() < 1e-4, "{found} {a} {b}");
        }
        let words = WordModel { idf: vec![1.0, 2.0], weights: vec![1.0, 0.0, -1.0, 3.0], bias: vec![0.5, 0.25] };
        let mut alone = vec![0.0, 0.0];
        words.add(&features.words, &mut alone);
        let mixed = other.clone().mix(words, 0.25).scores(&features);
        for ((found, own), words) in mixed.iter().zip(other.scores(&features)).zip(alone.iter().cycle()) {
            assert!((found - (0.75 * own + 0.25 * words)).abs() < 1e-4, "{found} {own} {words}");
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
