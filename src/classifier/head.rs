//! The head: a two-layer perceptron from a clause and its document, plus a linear layer over the clause's words and a
//! linear model of the whole text's, to one score per scenario, and one more for a use that no scenario covers.

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::features::{TextFeatures, Widths};
use super::neighbours::Neighbours;
use super::words::WordModel;
use crate::encoder::cpu::kernels::{Activation, Kernels, Panels, Rows};
use crate::encoder::weights::{Bytes, Tensors};

/// Parameters, row-major.
///
/// `scores = second · gelu(clause_weights · c + document_weights · d + first_bias) + second_bias + sum(lexical) / sqrt(grams) +
/// words`, where `c` and `d` are the vectors of a clause and of its text, `lexical` has a row for each n-gram of the clause, and `words`
/// reads the whole text.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Widths of the vectors that it reads.
    pub widths: Widths,
    /// Units of the first layer.
    pub units: usize,
    /// `[units, clause width]`.
    pub clause_weights: Vec<f32>,
    /// `[units, document width]`.
    pub document_weights: Vec<f32>,
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
    /// Texts that vote beside the scores; `None` where there are none.
    pub neighbours: Option<Neighbours>,
}

impl Head {
    /// Scores per clause: one per scenario and one for "outside".
    pub fn outputs(&self) -> usize {
        self.second_bias.len()
    }

    /// The head as the kernels read it.
    pub fn pack(self) -> PackedHead {
        let kernels = Kernels::detect();
        let pack = |weights: &[f32], rows: usize| {
            let (mut panels, depth) = (Panels::default(), weights.len() / rows);
            let read = |row: usize, into: &mut [f32]| into.copy_from_slice(&weights[row * depth..(row + 1) * depth]);
            kernels.pack_transposed(rows, depth, read, &mut panels);
            panels
        };
        PackedHead {
            kernels,
            clause: pack(&self.clause_weights, self.units),
            document: pack(&self.document_weights, self.units),
            second: pack(&self.second, self.outputs()),
            head: self,
        }
    }

    /// One head whose scores are the means of the scores of heads of equal shape, without words or neighbours: their units
    /// side by side.
    ///
    /// # Panics
    /// Without a head, or if their shapes differ.
    pub fn average(heads: &[Head]) -> Head {
        let count = heads.len() as f32;
        let (widths, outputs) = (heads[0].widths, heads[0].outputs());
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
            widths,
            units: heads.iter().map(|head| head.units).sum(),
            clause_weights: heads.iter().flat_map(|head| head.clause_weights.iter().copied()).collect(),
            document_weights: heads.iter().flat_map(|head| head.document_weights.iter().copied()).collect(),
            first_bias: heads.iter().flat_map(|head| head.first_bias.iter().copied()).collect(),
            second: (0..outputs).flat_map(|output| heads.iter().flat_map(move |head| row(head, output))).collect(),
            second_bias: mean(&|head| &head.second_bias),
            lexical: mean(&|head| &head.lexical),
            words: None,
            neighbours: None,
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
        let (clause_shape, clause_weights) = get("clause.weight", 2)?;
        let (document_shape, document_weights) = get("document.weight", 2)?;
        let (second_shape, second) = get("second.weight", 2)?;
        let (_, first_bias) = get("first.bias", 1)?;
        let (_, second_bias) = get("second.bias", 1)?;
        let (units, outputs) = (first_bias.len(), second_bias.len());
        let shapes = [&clause_shape, &document_shape, &second_shape];
        if shapes.iter().any(|shape| shape.contains(&0)) {
            return Err(format!("shapes {shapes:?} of its layers leave nothing to compute"));
        }
        // A clause has the states that its text has, and the largest values besides.
        let wide = clause_shape[1] >= document_shape[1];
        if !wide || clause_shape[0] != units || document_shape[0] != units || second_shape != [outputs, units] {
            return Err(format!("shapes {shapes:?} of its layers do not fit together"));
        }
        let widths = Widths { clause: clause_shape[1], document: document_shape[1] };
        let steps = |name: &str, rows: usize| -> Result<Vec<f32>, String> {
            let (weight, expected) = (format!("{name}.weight"), [rows, outputs]);
            if let Some(shape) = tensors.shape(&weight).filter(|shape| *shape != expected) {
                return Err(format!("tensor `{weight}` has shape {shape:?}; expected {expected:?}"));
            }
            let scales = tensors.read(&format!("{name}.scale"), &[outputs])?;
            let steps = tensors.read_bytes(&weight, &expected, Dtype::I8)?;
            let value = |(&step, scale): (&u8, &f32)| f32::from(i8::from_le_bytes([step])) * scale;
            Ok(steps.iter().zip(scales.iter().cycle()).map(value).collect())
        };
        let lexical = match tensors.shape("lexical.weight") {
            None => Vec::new(),
            Some(&[buckets, _]) if buckets > 0 => steps("lexical", buckets)?,
            Some(shape) => {
                return Err(format!("tensor `lexical.weight` has shape {shape:?}; expected rows and columns"));
            }
        };
        let words = match tensors.shape("words.idf") {
            None => None,
            Some(&[buckets]) if buckets > 0 => {
                let (weights, bias) = (steps("words", buckets)?, tensors.read("words.bias", &[outputs])?);
                Some(WordModel { idf: tensors.read("words.idf", &[buckets])?, weights, bias })
            }
            Some(shape) => {
                return Err(format!("tensor `words.idf` has shape {shape:?}; expected 1 dimension that is not empty"));
            }
        };
        let neighbours = Neighbours::parse(&tensors, widths, outputs)?;
        Ok(Head {
            widths,
            units,
            clause_weights,
            document_weights,
            first_bias,
            second,
            second_bias,
            lexical,
            words,
            neighbours,
        })
    }

    /// The head as a safetensors file. Matrices are stored in 16 bits, those over words, of clauses and
    /// of texts, in 8 with a scale for each output.
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
            ("clause.weight", Dtype::F16, vec![self.units, self.widths.clause], half(&self.clause_weights)),
            ("document.weight", Dtype::F16, vec![self.units, self.widths.document], half(&self.document_weights)),
            ("first.bias", Dtype::F32, vec![self.units], single(&self.first_bias)),
            ("second.weight", Dtype::F16, vec![outputs, self.units], half(&self.second)),
            ("second.bias", Dtype::F32, vec![outputs], single(&self.second_bias)),
        ];
        // Scales and steps of rows of scores.
        let steps = |weights: &[f32]| -> (Vec<u8>, Vec<u8>) {
            let mut scales = vec![0.0f32; outputs];
            for row in weights.chunks_exact(outputs) {
                scales.iter_mut().zip(row).for_each(|(scale, weight)| *scale = scale.max(weight.abs() / 127.0));
            }
            let step = |(weight, scale): (&f32, &f32)| if *scale > 0.0 { (weight / scale).round() as i8 } else { 0 };
            (
                single(&scales),
                weights.iter().zip(scales.iter().cycle()).flat_map(|pair| step(pair).to_le_bytes()).collect(),
            )
        };
        if !self.lexical.is_empty() {
            let (scales, steps) = steps(&self.lexical);
            tensors.extend([
                ("lexical.weight", Dtype::I8, vec![self.buckets(), outputs], steps),
                ("lexical.scale", Dtype::F32, vec![outputs], scales),
            ]);
        }
        if let Some(WordModel { idf, weights, bias }) = &self.words {
            let (scales, steps) = steps(weights);
            tensors.extend([
                ("words.idf", Dtype::F32, vec![idf.len()], single(idf)),
                ("words.weight", Dtype::I8, vec![idf.len(), outputs], steps),
                ("words.scale", Dtype::F32, vec![outputs], scales),
                ("words.bias", Dtype::F32, vec![outputs], single(bias)),
            ]);
        }
        tensors.extend(self.neighbours.iter().flat_map(Neighbours::tensors));
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).expect("the shapes of a head fit together");
            (*name, view)
        });
        safetensors::serialize(views, None).expect("tensors with different names serialize")
    }
}

/// A head ready to score.
pub struct PackedHead {
    kernels: Kernels,
    clause: Panels,
    document: Panels,
    second: Panels,
    head: Head,
}

impl PackedHead {
    /// Scores per clause: one per scenario and one for "outside".
    pub fn outputs(&self) -> usize {
        self.head.outputs()
    }

    /// Widths of the vectors that it reads.
    pub fn widths(&self) -> Widths {
        self.head.widths
    }

    /// What the neighbours say of each output, as [`Neighbours::votes`] gives it; 0 where there are none.
    pub fn votes(&self, features: &TextFeatures) -> Vec<f32> {
        match &self.head.neighbours {
            Some(neighbours) => neighbours.votes(&features.document, self.head.widths),
            None => vec![0.0; self.outputs()],
        }
    }

    /// Row-major `[clauses, outputs]` scores.
    pub fn scores(&self, features: &TextFeatures) -> Vec<f32> {
        let PackedHead { kernels, head, .. } = self;
        let multiply = |values: &[f32], panels: &Panels, bias: &[f32], activation| {
            let (stride, columns) = (panels.depth(), panels.columns());
            let count = values.len() / stride;
            let mut output = vec![0.0; count * columns];
            kernels.multiply(Rows { values, count, stride }, panels, bias, activation, &mut output, columns);
            output
        };
        // The document's part of the first layer is the same for every clause.
        let document = multiply(&features.document, &self.document, &head.first_bias, Activation::None);
        let units = multiply(&features.vectors, &self.clause, &document, Activation::GeluTanh);
        let mut start = head.second_bias.clone();
        if let Some(words) = &head.words {
            words.add(&features.words, &mut start);
        }
        let mut scores = multiply(&units, &self.second, &start, Activation::None);
        for (grams, scores) in features.grams.iter().zip(scores.chunks_exact_mut(self.outputs())) {
            head.add_lexical(grams, scores);
        }
        scores
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::clauses;

    fn head() -> Head {
        Head {
            widths: Widths { clause: 2, document: 2 },
            units: 1,
            clause_weights: vec![1.0, 0.0],
            document_weights: vec![0.0, 1.0],
            first_bias: vec![0.5],
            second: vec![2.0, -1.0],
            second_bias: vec![0.0, 1.0],
            lexical: vec![1.27, 0.0, 0.0, 0.0],
            words: Some(WordModel { idf: vec![1.0, 2.0], weights: vec![12.7, 0.0, -12.7, 12.7], bias: vec![0.5, 0.0] }),
            neighbours: Some(Neighbours::new(
                [([0.0, 1.0], [true, false]), ([1.0, 0.0], [false, true])]
                    .iter()
                    .map(|(document, labels)| (document.as_slice(), labels.to_vec())),
                Widths { clause: 2, document: 2 },
                2,
            )),
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
        // Words of the second clause: three of four grams fall on the row with 1.27, so 3 * 1.27 / 2 = 1.905.
        // Words of the text: both in bucket 0, whose value is 1: 12.7 and 0, with the bias 13.2 and 0.
        let scores = head().pack().scores(&features);
        for (found, expected) in scores.iter().zip([17.1092, -0.9546, 15.0142, 1.0454]) {
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
        other.clause_weights = vec![0.5, -1.0];
        other.document_weights = vec![0.25, 2.0];
        other.second = vec![-1.0, 3.0];
        other.second_bias = vec![0.25, 0.0];
        other.lexical = vec![0.0, 1.0, 0.5, -2.0];
        let average = Head::average(&[head.clone(), other.clone()]).pack().scores(&features);
        for ((found, a), b) in
            average.iter().zip(head.pack().scores(&features)).zip(other.clone().pack().scores(&features))
        {
            assert!((found - (a + b) / 2.0).abs() < 1e-4, "{found} {a} {b}");
        }
        let words = WordModel { idf: vec![1.0, 2.0], weights: vec![1.0, 0.0, -1.0, 3.0], bias: vec![0.5, 0.25] };
        let mut alone = vec![0.0, 0.0];
        words.add(&features.words, &mut alone);
        let mixed = other.clone().mix(words, 0.25).pack().scores(&features);
        for ((found, own), words) in mixed.iter().zip(other.pack().scores(&features)).zip(alone.iter().cycle()) {
            assert!((found - (0.75 * own + 0.25 * words)).abs() < 1e-4, "{found} {own} {words}");
        }
    }

    #[test]
    fn a_head_survives_its_file() {
        assert_eq!(Head::parse(&head().serialize()), Ok(head()));
        let mut other = head();
        other.first_bias.push(0.0);
        other.units = 2;
        other.clause_weights.extend([0.0; 2]);
        assert!(std::panic::catch_unwind(|| other.serialize()).is_err());
    }

    /// The file of the head above with a tensor changed to zeros of another shape, or left out.
    fn changed(name: &str, shape: Option<&[usize]>) -> String {
        let bytes = head().serialize();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("what was just written");
        let zeros = [0u8; 64];
        let views = tensors.iter().filter_map(|(found, view)| match (found == name, shape) {
            (false, _) => Some((found, view)),
            (true, None) => None,
            (true, Some(shape)) => {
                let length = shape.iter().product::<usize>() * view.dtype().bitsize() / 8;
                let view = TensorView::new(view.dtype(), shape.to_vec(), &zeros[..length]);
                Some((found, view.expect("as long as its shape")))
            }
        });
        let bytes = safetensors::serialize(views, None).expect("tensors with different names");
        Head::parse(&bytes).expect_err("it cannot be used")
    }

    #[test]
    fn tensors_of_a_damaged_head_are_named() {
        assert!(Head::parse(b"no").is_err());
        let shapes = "shapes [[1, 2], [2, 2], [2, 1]] of its layers do not fit together";
        assert_eq!(changed("document.weight", Some(&[2, 2])), shapes);
        let nothing = "shapes [[1, 0], [1, 2], [2, 1]] of its layers leave nothing to compute";
        assert_eq!(changed("clause.weight", Some(&[1, 0])), nothing);
        assert_eq!(changed("clause.weight", None), "tensor `clause.weight` is missing");
        let narrow = "shapes [[1, 2], [1, 3], [2, 1]] of its layers do not fit together";
        assert_eq!(changed("document.weight", Some(&[1, 3])), narrow, "a clause has what its text has, and more");
        assert_eq!(
            changed("lexical.weight", Some(&[2, 3])),
            "tensor `lexical.weight` has shape [2, 3]; expected [2, 2]"
        );
        assert_eq!(changed("lexical.scale", None), "tensor `lexical.scale` is missing; expected shape [2]");
        let words = "tensor `words.idf` has shape [0]; expected 1 dimension that is not empty";
        assert_eq!(changed("words.idf", Some(&[0])), words);
    }
}
