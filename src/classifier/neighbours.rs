//! Labelled texts that read like a text, and what their labels say of it: nearest neighbours (Cover and Hart 1967), which remember
//! single uses that the head has blurred.
//!
//! A text is remembered as the signs of its vector around the mean of all, one bit a dimension; the share of bits in which two
//! texts differ grows with the angle between them (Charikar 2002, "Similarity estimation techniques from rounding algorithms").

use std::ops::Range;

use pulp::Arch;
use safetensors::Dtype;

use super::features::Widths;
use crate::encoder::weights::Tensors;

/// Neighbours that vote.
const VOTERS: usize = 10;
/// Bits of a word.
const BITS: usize = u64::BITS as usize;

/// Remembered texts with their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// `[dimensions]`: mean vector of the texts.
    center: Vec<f32>,
    /// `[texts, words]`: the signs, a bit each, filled up with zeros.
    codes: Vec<u64>,
    /// `[texts, outputs]`: whether a text has a label.
    labels: Vec<bool>,
    outputs: usize,
}

/// Where in a document's vector stands what is compared: its layers but for the embeddings, which tell its words.
fn compared(widths: Widths) -> Range<usize> {
    let embeddings = if widths.document > widths.hidden() { widths.hidden() } else { 0 };
    embeddings..widths.document
}

impl Neighbours {
    /// Remembers texts by their documents' vectors, each with its labels, one per output.
    ///
    /// # Panics
    /// If the vectors, or the labels, are not all of one length.
    pub fn new<'a>(texts: impl Iterator<Item = (&'a [f32], Vec<bool>)>, widths: Widths, outputs: usize) -> Neighbours {
        let (vectors, labels): (Vec<&[f32]>, Vec<Vec<bool>>) =
            texts.map(|(document, labels)| (&document[compared(widths)], labels)).unzip();
        let mut center = vec![0.0; vectors.first().map_or(0, |vector| vector.len())];
        for vector in &vectors {
            assert_eq!(vector.len(), center.len(), "vectors of one length");
            center.iter_mut().zip(*vector).for_each(|(sum, value)| *sum += value / vectors.len() as f32);
        }
        assert!(labels.iter().all(|labels| labels.len() == outputs), "a label for each output");
        let codes = vectors.iter().flat_map(|vector| code(vector, &center)).collect();
        Neighbours { center, codes, labels: labels.concat(), outputs }
    }

    /// What the nearest texts say of each output: the logit of the share that have its label, above that of none.
    pub fn votes(&self, document: &[f32], widths: Widths) -> Vec<f32> {
        let code = code(&document[compared(widths)], &self.center);
        let words = code.len().max(1);
        let mut distances: Vec<(u32, usize)> = Vec::with_capacity(self.codes.len() / words);
        // With the instruction that counts bits, where there is one.
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (text, other) in self.codes.chunks_exact(words).enumerate() {
                    distances.push((code.iter().zip(other).map(|(a, b)| (a ^ b).count_ones()).sum(), text));
                }
            },
        );
        let voters = VOTERS.min(distances.len());
        if voters == 0 {
            return vec![0.0; self.outputs];
        }
        // Of texts equally near the first counts.
        distances.select_nth_unstable(voters - 1);
        let mut counts = vec![0usize; self.outputs];
        for (_, text) in &distances[..voters] {
            let labels = &self.labels[text * self.outputs..(text + 1) * self.outputs];
            counts.iter_mut().zip(labels).for_each(|(count, label)| *count += usize::from(*label));
        }
        let logit = |count: usize| ((count as f32 + 0.5) / ((voters - count) as f32 + 0.5)).ln();
        counts.into_iter().map(|count| logit(count) - logit(0)).collect()
    }

    /// Reads the tensors whose names begin with `neighbours`; `None` where there are none.
    ///
    /// # Errors
    /// A sentence that names the tensor.
    pub fn parse(tensors: &Tensors, widths: Widths, outputs: usize) -> Result<Option<Neighbours>, String> {
        let Some(shape) = tensors.shape("neighbours.code") else { return Ok(None) };
        let (dimensions, texts) = (compared(widths).len(), shape.first().copied().unwrap_or(0));
        let read = |name: &str, bits: usize| {
            let expected = [texts, bits.div_ceil(8)];
            match tensors.shape(name) {
                Some(shape) if shape != expected => {
                    Err(format!("tensor `{name}` has shape {shape:?}; expected {expected:?}"))
                }
                _ => tensors.read_bytes(name, &expected, Dtype::U8),
            }
        };
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        let codes = read("neighbours.code", dimensions)?.chunks_exact(dimensions.div_ceil(8));
        let codes = codes.flat_map(|row| row.chunks(BITS / 8).map(word)).collect();
        let labels = read("neighbours.label", outputs)?.chunks_exact(outputs.div_ceil(8));
        let label = |row: &'_ [u8], output: usize| row[output / 8] >> (output % 8) & 1 == 1;
        let labels = labels.flat_map(|row| (0..outputs).map(move |output| label(row, output))).collect();
        let center = tensors.read("neighbours.center", &[dimensions])?;
        Ok(Some(Neighbours { center, codes, labels, outputs }))
    }

    /// Name, type, shape and bytes of each tensor.
    pub fn tensors(&self) -> [(&'static str, Dtype, Vec<usize>, Vec<u8>); 3] {
        let texts = self.labels.len() / self.outputs;
        let words = self.center.len().div_ceil(BITS).max(1);
        let (code_bytes, label_bytes) = (self.center.len().div_ceil(8), self.outputs.div_ceil(8));
        let center = self.center.iter().flat_map(|value| value.to_le_bytes()).collect();
        let bytes = |row: &[u64]| row.iter().flat_map(|word| word.to_le_bytes()).take(code_bytes).collect::<Vec<u8>>();
        let codes = self.codes.chunks_exact(words).flat_map(bytes).collect();
        let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
        let labels = self.labels.chunks_exact(self.outputs).flat_map(|row| row.chunks(8).map(byte)).collect();
        [
            ("neighbours.center", Dtype::F32, vec![self.center.len()], center),
            ("neighbours.code", Dtype::U8, vec![texts, code_bytes], codes),
            ("neighbours.label", Dtype::U8, vec![texts, label_bytes], labels),
        ]
    }
}

/// The signs of a vector around a center, from the lowest bit of the first word on.
fn code(vector: &[f32], center: &[f32]) -> Vec<u64> {
    let bits: Vec<bool> = vector.iter().zip(center).map(|(value, center)| value > center).collect();
    bits.chunks(BITS).map(|bits| bits.iter().rev().fold(0, |word, &bit| word << 1 | u64::from(bit))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::weights::Bytes;
    use safetensors::tensor::TensorView;

    /// Embeddings of one dimension, and two layers of 40.
    const WIDTHS: Widths = Widths { clause: 120, document: 80 };

    /// A document whose compared part is `sign` from dimension `from` on, and the opposite before it.
    fn document(from: usize, sign: f32) -> Vec<f32> {
        (0..80)
            .map(|index| {
                if index < 40 {
                    9.0
                } else if index - 40 < from {
                    -sign
                } else {
                    sign
                }
            })
            .collect()
    }

    fn neighbours() -> Neighbours {
        // Twelve texts with label 0 on one side, and twelve with labels 1 and 8 on the other.
        let documents: Vec<(Vec<f32>, Vec<bool>)> = (0..24)
            .map(|index| {
                let labels = |from: &[usize]| (0..9).map(|label| from.contains(&label)).collect();
                match index % 2 {
                    0 => (document(index / 4, 1.0), labels(&[0])),
                    _ => (document(index / 4, -1.0), labels(&[1, 8])),
                }
            })
            .collect();
        Neighbours::new(documents.iter().map(|(vector, labels)| (vector.as_slice(), labels.clone())), WIDTHS, 9)
    }

    #[test]
    fn the_nearest_texts_vote() {
        let votes = neighbours().votes(&document(0, 1.0), WIDTHS);
        // All ten have label 0: ln(10.5 / 0.5) twice.
        assert!((votes[0] - 6.089).abs() < 1e-3, "{votes:?}");
        assert_eq!(votes[1..], [0.0; 8]);
        let votes = neighbours().votes(&document(0, -1.0), WIDTHS);
        assert_eq!((votes[0], votes[1] > 6.0, votes[8] > 6.0), (0.0, true, true));
    }

    #[test]
    fn votes_rise_with_the_share_of_neighbours_and_fewer_texts_than_voters_all_vote() {
        let vector = document(0, 1.0);
        let texts = [vec![true, true], vec![true, false], vec![true, false]].map(|labels| (vector.as_slice(), labels));
        let votes = Neighbours::new(texts.into_iter(), WIDTHS, 2).votes(&vector, WIDTHS);
        // ln(3.5 / 0.5) and ln(1.5 / 2.5), above ln(0.5 / 3.5).
        assert!((votes[0] - 3.892).abs() < 1e-3 && (votes[1] - 1.435).abs() < 1e-3, "{votes:?}");
        let none = Neighbours::new(std::iter::empty(), WIDTHS, 2);
        assert_eq!(none.votes(&[], Widths { clause: 0, document: 0 }), [0.0, 0.0]);
    }

    #[test]
    fn the_embeddings_do_not_count_unless_there_is_nothing_else() {
        assert_eq!(compared(WIDTHS), 40..80);
        assert_eq!(compared(Widths { clause: 16, document: 8 }), 0..8);
    }

    fn read_back(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Result<Option<Neighbours>, String> {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("as long as its shape"))
        });
        let bytes = safetensors::serialize(views, None).expect("tensors with different names");
        Neighbours::parse(&Tensors::parse(Bytes::Owned(bytes))?, WIDTHS, 9)
    }

    #[test]
    fn neighbours_survive_their_file_and_damage_is_named() {
        let neighbours = neighbours();
        let tensors = neighbours.tensors();
        assert_eq!(tensors.iter().map(|(.., bytes)| bytes.len()).collect::<Vec<_>>(), [160, 24 * 5, 24 * 2]);
        assert_eq!(read_back(&tensors), Ok(Some(neighbours)));
        assert_eq!(read_back(&tensors[..1]), Ok(None));
        let missing = "tensor `neighbours.label` is missing; expected shape [24, 2]";
        assert_eq!(read_back(&tensors[..2]), Err(missing.to_owned()));
        let mut other = tensors;
        other[1].2 = vec![40, 3];
        let shape = "tensor `neighbours.code` has shape [40, 3]; expected [40, 5]";
        assert_eq!(read_back(&other), Err(shape.to_owned()));
    }
}
