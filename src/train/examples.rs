//! Labelled texts as what the head is trained on: inputs, and what every clause and the text should score.

use std::ops::Range;
use std::sync::Arc;

use crate::classifier::features::{TextFeatures, clause_tokens};
use crate::classifier::words::distinct_words;
use crate::encoder::TextTokenizer;
use crate::labels::{LabelledText, Status};
use crate::segment::{Clause, clauses};
use crate::taxonomy::Taxonomy;

/// Longest training window in tokens: longer texts are trained on their beginning alone, and classified whole.
const TRAINING_TOKENS: usize = 192;

/// What the head is trained on: tokens that the encoder reads anew in every step, or features that it computed once.
pub(super) enum Source {
    Tokens {
        ids: Vec<u32>,
        /// The text's own tokens, without the special ones.
        content: Range<usize>,
        /// Tokens of each clause, counted with the special tokens.
        clauses: Vec<Vec<usize>>,
    },
    Features(Arc<TextFeatures>),
}

/// A text and its targets.
pub(super) struct Example {
    pub(super) source: Source,
    /// Number of clauses.
    pub(super) clauses: usize,
    /// Hashed n-grams of each clause.
    pub(super) grams: Vec<Vec<u32>>,
    /// Positive (clause, output) pairs.
    pub(super) positives: Vec<(usize, usize)>,
    /// Outputs that the text has.
    pub(super) outputs: Vec<usize>,
    /// Whether every scenario of the text has marked evidence, so that clauses can be judged.
    pub(super) clauses_known: bool,
}

/// An example for a frozen encoder.
pub(super) fn feature_example(text: &LabelledText, features: Arc<TextFeatures>, taxonomy: &Taxonomy) -> Example {
    let targets = Targets::new(text, &features.clauses, taxonomy);
    Example::new(features.grams.clone(), targets, Source::Features(features))
}

/// An example for an encoder that is trained too.
pub(super) fn token_example(text: &LabelledText, tokenizer: &TextTokenizer, taxonomy: &Taxonomy) -> Example {
    let tokenized = tokenizer.tokenize(&text.text);
    let window = &tokenized.windows[0];
    let special = window.ids.len() - (window.end - window.start);
    let kept = (window.end - window.start).min(TRAINING_TOKENS - special.min(TRAINING_TOKENS));
    let content = tokenizer.prefix_len();
    let mut ids = window.ids[..content + kept].to_vec();
    ids.extend_from_slice(&window.ids[content + (window.end - window.start)..]);
    let found = clauses(&text.text);
    let tokens = clause_tokens(&found, &tokenized.offsets[..kept]);
    let (seen, clauses): (Vec<Clause>, Vec<Vec<usize>>) = found
        .into_iter()
        .zip(tokens)
        .filter(|(_, tokens)| !tokens.is_empty())
        .map(|(clause, tokens)| (clause, tokens.into_iter().map(|token| token + content).collect::<Vec<usize>>()))
        .unzip();
    let targets = Targets::new(text, &seen, taxonomy);
    let grams = seen.iter().map(|clause| distinct_words(&text.text[clause.byte_start..clause.byte_end])).collect();
    Example::new(grams, targets, Source::Tokens { ids, content: content..content + kept, clauses })
}

/// What a text and its clauses should score.
struct Targets {
    positives: Vec<(usize, usize)>,
    outputs: Vec<usize>,
    clauses_known: bool,
}

impl Targets {
    fn new(text: &LabelledText, clauses: &[Clause], taxonomy: &Taxonomy) -> Targets {
        let mut targets =
            Targets { positives: Vec::new(), outputs: Vec::new(), clauses_known: text.status() != Status::Outside };
        for &id in &text.scenarios {
            let Some(output) = taxonomy.position(id) else { continue };
            targets.outputs.push(output);
            let ranges = text.evidence_ranges(id);
            let before = targets.positives.len();
            for (at, clause) in clauses.iter().enumerate() {
                if ranges.iter().any(|&range| is_evidence(clause, range)) {
                    targets.positives.push((at, output));
                }
            }
            targets.clauses_known &= targets.positives.len() > before;
        }
        if text.status() == Status::Outside {
            targets.outputs.push(taxonomy.len());
        }
        targets
    }
}

impl Example {
    fn new(grams: Vec<Vec<u32>>, targets: Targets, source: Source) -> Example {
        let Targets { positives, outputs, clauses_known } = targets;
        Example { source, clauses: grams.len(), grams, positives, outputs, clauses_known }
    }
}

/// A clause is evidence when the overlap is at least a third of the clause or of the marked piece.
pub(super) fn is_evidence(clause: &Clause, (start, end): (usize, usize)) -> bool {
    let overlap = clause.byte_end.min(end).saturating_sub(clause.byte_start.max(start));
    overlap > 0 && (3 * overlap >= clause.byte_end - clause.byte_start || 3 * overlap >= end - start)
}
