//! Clause and document vectors of a text.

use rayon::prelude::*;

use super::words::{distinct_words, words};
use crate::encoder::checkpoint::mean;
use crate::encoder::{EncodeError, TextEncoder, TextStates};
use crate::segment::{Clause, clauses};

/// Version of the vectors: goes up when they change for the same hidden states, as with other clauses or another mean.
pub const VERSION: u32 = 1;

/// What the head sees of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextFeatures {
    /// The clauses, in order.
    pub clauses: Vec<Clause>,
    /// Row-major `[clauses, hidden]`: mean hidden state of each clause, computed with the whole text in view.
    pub vectors: Vec<f32>,
    /// `[hidden]`: mean hidden state of the text.
    pub document: Vec<f32>,
    /// Hashed n-grams of each clause, ascending and without repetition.
    pub grams: Vec<Vec<u32>>,
    /// Hashed n-grams of the text, in order.
    pub words: Vec<u32>,
}

impl TextFeatures {
    /// Pools the hidden states of a text by clause.
    pub fn new(text: &str, states: &TextStates, hidden: usize) -> TextFeatures {
        let row = |token: usize| &states.states[token * hidden..(token + 1) * hidden];
        let document = mean((0..states.offsets.len()).map(row), hidden);
        let clauses = clauses(text);
        let mut vectors = Vec::with_capacity(clauses.len() * hidden);
        for tokens in clause_tokens(&clauses, &states.offsets) {
            if tokens.is_empty() {
                vectors.extend_from_slice(&document);
            } else {
                vectors.extend(mean(tokens.into_iter().map(row), hidden));
            }
        }
        TextFeatures { grams: grams(text, &clauses), words: words(text), clauses, vectors, document }
    }

    /// The same from its vectors, row-major `[clauses, hidden]` and `[hidden]`; `None` where they are of another text.
    pub fn from_vectors(text: &str, vectors: Vec<f32>, document: Vec<f32>) -> Option<TextFeatures> {
        let clauses = clauses(text);
        (vectors.len() == clauses.len() * document.len()).then(|| TextFeatures {
            grams: grams(text, &clauses),
            words: words(text),
            clauses,
            vectors,
            document,
        })
    }
}

/// Features of texts, in their order. Those of a text do not depend on the others.
///
/// # Errors
/// The encoder's backend fails.
pub fn of_texts(encoder: &TextEncoder, texts: &[&str]) -> Result<Vec<TextFeatures>, EncodeError> {
    let states = encoder.states(texts)?;
    let hidden = encoder.encoder.hidden_size();
    let pairs: Vec<_> = texts.iter().zip(states).collect();
    Ok(pairs.into_par_iter().map(|(text, states)| TextFeatures::new(text, &states, hidden)).collect())
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

    #[test]
    fn clause_vectors_are_means_of_their_states() {
        let states = TextStates {
            offsets: vec![(0, 2), (2, 3), (3, 5), (6, 8)],
            states: vec![1.0, 0.0, 9.0, 9.0, 2.0, 4.0, 4.0, 8.0],
            pooled: vec![],
        };
        let features = TextFeatures::new("ab,cd ef", &states, 2);
        assert_eq!(features.vectors, [1.0, 0.0, 3.0, 6.0]);
        assert_eq!(features.document, [4.0, 5.25]);
    }
}
