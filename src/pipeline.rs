//! Records to predictions, in pieces of bounded size. Equal texts are analysed once.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::classifier::{Analysis, Classifier};
use crate::digest;
use crate::encoder::EncodeError;
use crate::prediction::Prediction;
use crate::record::Record;
use crate::taxonomy::Taxonomy;

/// Most records in a piece.
const PIECE_RECORDS: usize = 2048;
/// Most bytes of text in a piece, which bounds the hidden states in memory; a longer text is a piece of its own.
const PIECE_BYTES: usize = 128 << 10;
/// Distinct texts whose analysis is remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// Analyses records with one model.
pub struct Pipeline<'a> {
    classifier: &'a Classifier,
    taxonomy: &'a Taxonomy,
    known: LruCache<u128, Arc<Analysis>>,
}

impl<'a> Pipeline<'a> {
    /// A pipeline that has seen nothing yet.
    pub fn new(classifier: &'a Classifier, taxonomy: &'a Taxonomy) -> Pipeline<'a> {
        Pipeline { classifier, taxonomy, known: LruCache::new(REMEMBERED) }
    }

    /// Predictions of a piece, in its order.
    ///
    /// # Errors
    /// The encoder's backend fails.
    pub fn predict(&mut self, piece: Vec<Record>) -> Result<Vec<Prediction>, EncodeError> {
        let keys: Vec<u128> = piece.iter().map(|record| digest::key(record.text.as_bytes())).collect();
        let mut analyses: HashMap<u128, Arc<Analysis>> = HashMap::new();
        let mut fresh: Vec<(u128, &str)> = Vec::new();
        let mut seen = HashSet::new();
        for (&key, record) in keys.iter().zip(&piece) {
            if !seen.insert(key) {
                continue;
            }
            match self.known.get(&key) {
                Some(analysis) => drop(analyses.insert(key, Arc::clone(analysis))),
                None => fresh.push((key, &record.text)),
            }
        }
        let texts: Vec<&str> = fresh.iter().map(|(_, text)| *text).collect();
        for ((key, _), analysis) in fresh.iter().zip(self.classifier.analyze(&texts)?) {
            let analysis = Arc::new(analysis);
            self.known.put(*key, Arc::clone(&analysis));
            analyses.insert(*key, analysis);
        }
        Ok(piece
            .into_iter()
            .zip(keys)
            .map(|(record, key)| Prediction::new(record, &analyses[&key], self.taxonomy))
            .collect())
    }
}

/// Collects records into pieces.
#[derive(Default)]
pub struct Piece {
    records: Vec<Record>,
    bytes: usize,
}

impl Piece {
    /// Adds a record; `true` when the piece is full.
    pub fn push(&mut self, record: Record) -> bool {
        self.bytes += record.text.len();
        self.records.push(record);
        self.records.len() >= PIECE_RECORDS || self.bytes >= PIECE_BYTES
    }

    /// Takes the records, in order.
    pub fn take(&mut self) -> Vec<Record> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}
