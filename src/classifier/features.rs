//! Clause and document vectors of a text.

use super::words::{distinct_words, words};
use crate::encoder::checkpoint::mean;
use crate::encoder::{EncodeError, Encoder, TextEncoder, TextStates};
use crate::segment::{Clause, clauses};

/// Version of the vectors: goes up when they change for the same hidden states, as with other clauses or another mean.
pub const VERSION: u32 = 3;

/// Layers whose states are read: the embeddings, which tell the words, the middle, and the last, which tell what they mean
/// together. Lower layers keep what the last has dropped (Tenney et al. 2019, arXiv:1905.05950).
pub fn layers(encoder: &dyn Encoder) -> Vec<usize> {
    let mut layers = vec![0, encoder.layers() / 2, encoder.layers()];
    layers.dedup();
    layers
}

/// Widths of the vectors of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// Of a clause: the mean states of the layers, and the largest values of the last.
    pub clause: usize,
    /// Of the whole text: the mean states of the layers.
    pub document: usize,
}

impl Widths {
    /// Those that an encoder's states give.
    pub fn of(encoder: &dyn Encoder) -> Widths {
        let document = layers(encoder).len() * encoder.hidden_size();
        Widths { clause: document + encoder.hidden_size(), document }
    }

    /// Of a state in one layer.
    pub fn hidden(self) -> usize {
        self.clause - self.document
    }

    /// The mean states in the last layer, of a clause or of the whole text.
    pub fn last(self, vector: &[f32]) -> &[f32] {
        &vector[self.document - self.hidden()..self.document]
    }
}

/// What the head sees of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextFeatures {
    /// The clauses, in order.
    pub clauses: Vec<Clause>,
    /// Row-major `[clauses, (layers + 1) * hidden]`: mean hidden state of each clause, layer by layer, and the largest value of
    /// each dimension in the last, computed with the whole text in view.
    pub vectors: Vec<f32>,
    /// `[layers * hidden]`: mean hidden state of the text, layer by layer.
    pub document: Vec<f32>,
    /// Hashed n-grams of each clause, ascending and without repetition.
    pub grams: Vec<Vec<u32>>,
    /// Hashed n-grams of the text, in order.
    pub words: Vec<u32>,
}

impl TextFeatures {
    /// Pools the hidden states of a text by clause.
    pub fn new(text: &str, states: TextStates<'_>, widths: Widths) -> TextFeatures {
        let (width, hidden) = (widths.document, widths.hidden());
        let row = |token: usize| &states.states[token * width..(token + 1) * width];
        let document = mean((0..states.offsets.len()).map(row), width);
        let clauses = clauses(text);
        let mut vectors = Vec::with_capacity(clauses.len() * widths.clause);
        for tokens in clause_tokens(&clauses, states.offsets) {
            if tokens.is_empty() {
                vectors.extend_from_slice(&document);
                vectors.extend_from_slice(widths.last(&document));
            } else {
                vectors.extend(mean(tokens.iter().map(|&token| row(token)), width));
                vectors.extend(largest(tokens.iter().map(|&token| widths.last(row(token))), hidden));
            }
        }
        TextFeatures { grams: grams(text, &clauses), words: words(text), clauses, vectors, document }
    }

    /// The same from the document's vector and the clauses' after it; `None` where they are of another text.
    pub fn from_vectors(text: &str, widths: Widths, vectors: &[f32]) -> Option<TextFeatures> {
        let clauses = clauses(text);
        let (document, vectors) = vectors.split_at_checked(widths.document)?;
        (vectors.len() == clauses.len() * widths.clause).then(|| TextFeatures {
            grams: grams(text, &clauses),
            words: words(text),
            clauses,
            vectors: vectors.to_vec(),
            document: document.to_vec(),
        })
    }
}

/// Features of texts, in their order. Those of a text do not depend on the others.
///
/// # Errors
/// The encoder's backend fails.
pub fn of_texts(encoder: &TextEncoder, texts: &[&str]) -> Result<Vec<TextFeatures>, EncodeError> {
    let (layers, widths) = (layers(encoder.encoder.as_ref()), Widths::of(encoder.encoder.as_ref()));
    encoder.states(texts, &layers, |text, states| TextFeatures::new(texts[text], states, widths))
}

/// The largest value of each column of at least one row.
fn largest<'a>(rows: impl Iterator<Item = &'a [f32]>, columns: usize) -> Vec<f32> {
    let mut largest = vec![f32::NEG_INFINITY; columns];
    for row in rows {
        largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(*value));
    }
    largest
}

fn grams(text: &str, clauses: &[Clause]) -> Vec<Vec<u32>> {
    clauses.iter().map(|clause| distinct_words(&text[clause.byte_start..clause.byte_end])).collect()
}

/// For each clause the tokens that overlap it; `offsets` are bytes of the text, ascending.
pub fn clause_tokens(clauses: &[Clause], offsets: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let overlaps = |clause: &Clause, &(start, end): &(usize, usize)| start < clause.byte_end && end > clause.byte_start;
    clauses
        .iter()
        .map(|clause| {
            let from = offsets.partition_point(|&(_, end)| end <= clause.byte_start);
            (from..offsets.len())
                .take_while(|&token| offsets[token].0 < clause.byte_end)
                .filter(|&token| overlaps(clause, &offsets[token]))
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_take_the_tokens_that_overlap_them() {
        let found = clauses("ab,cd ef");
        let offsets = [(0, 2), (2, 3), (3, 5), (5, 8)];
        assert_eq!(clause_tokens(&found, &offsets), [vec![0], vec![2, 3]]);
    }

    /// Two layers of one dimension.
    const WIDTHS: Widths = Widths { clause: 3, document: 2 };

    #[test]
    fn clause_vectors_are_means_of_all_layers_and_largest_values_of_the_last() {
        let states = TextStates {
            offsets: &[(0, 2), (2, 3), (3, 5), (6, 8)],
            states: &[1.0, 0.0, 9.0, 9.0, 2.0, 4.0, 4.0, 8.0],
        };
        let features = TextFeatures::new("ab,cd ef", states, WIDTHS);
        assert_eq!(features.vectors, [1.0, 0.0, 0.0, 3.0, 6.0, 8.0]);
        assert_eq!(features.document, [4.0, 5.25]);
        // A clause without a token of its own counts as the whole text.
        let first = TextStates { offsets: &[(0, 2)], states: &[1.0, 3.0] };
        assert_eq!(TextFeatures::new("ab,cd", first, WIDTHS).vectors, [1.0, 3.0, 3.0, 1.0, 3.0, 3.0]);
        let none = TextStates { offsets: &[], states: &[] };
        assert_eq!(TextFeatures::new("ab", none, WIDTHS).vectors, [0.0, 0.0, 0.0]);
    }

    /// An encoder of which only the shape matters.
    struct Shape(usize);

    impl Encoder for Shape {
        fn hidden_size(&self) -> usize {
            8
        }

        fn layers(&self) -> usize {
            self.0
        }

        fn arithmetic(&self) -> String {
            unreachable!("nothing is computed")
        }

        fn batch_tokens(&self) -> usize {
            unreachable!("nothing is computed")
        }

        fn mixes_lengths(&self) -> bool {
            unreachable!("nothing is computed")
        }

        fn encode(&self, _: &[&[u32]], _: &[usize], _: &mut dyn FnMut(usize, &[f32])) -> Result<(), EncodeError> {
            unreachable!("nothing is computed")
        }
    }

    #[test]
    fn embeddings_middle_and_last_layer_are_read_once_each() {
        for (count, expected) in
            [(1, &[0, 1][..]), (2, &[0, 1, 2]), (3, &[0, 1, 3]), (4, &[0, 2, 4]), (12, &[0, 6, 12])]
        {
            assert_eq!(layers(&Shape(count)), expected);
            let widths = Widths::of(&Shape(count));
            assert_eq!(
                (widths.document, widths.clause, widths.hidden()),
                (8 * expected.len(), 8 * expected.len() + 8, 8)
            );
        }
    }
}
