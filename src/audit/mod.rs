//! Audits: samples of coded records that people code again, from which counts are corrected.
//!
//! [`design`] says how records come into a sample, [`sheet`] is what people fill in, [`score`] compares the classifier
//! with what they found. A [`Frame`] is the list that a sample is drawn from: the coded file.

pub mod design;
pub mod score;
pub mod sheet;

use std::collections::HashMap;

use crate::digest;
use crate::prediction::Prediction;
use crate::survey::Coded;
use crate::taxonomy::Taxonomy;
use design::Unit;

/// The coded records that a sample stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Beginning of the SHA-256 of the coded file.
    pub coded: String,
    /// Taxonomy and the beginning of its digest.
    pub taxonomy: String,
    /// What designs need to know of each record.
    pub units: Vec<Unit>,
    ids: Vec<String>,
    texts: Vec<Option<String>>,
    index: HashMap<String, usize>,
}

impl Frame {
    /// An empty frame for a coded file with this SHA-256.
    pub fn new(sha256: &str, taxonomy: &Taxonomy) -> Frame {
        Frame {
            coded: digest::short(sha256).to_owned(),
            taxonomy: taxonomy.label(),
            units: Vec::new(),
            ids: Vec::new(),
            texts: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// Adds a record; ids are unique in a coded file.
    pub fn add(&mut self, prediction: &Prediction, taxonomy: &Taxonomy) {
        let scenarios = prediction.ids();
        self.units.push(Unit::new(&Coded::new(prediction, &scenarios), taxonomy));
        self.index.insert(prediction.id.clone(), self.ids.len());
        self.ids.push(prediction.id.clone());
        self.texts.push(prediction.text.as_deref().map(text_digest));
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Position of a record.
    pub fn position(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }
}

/// Beginning of the SHA-256 of a text. Line ends and blanks around it, which spreadsheets change, do not count.
pub fn text_digest(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    digest::short(&digest::of_bytes(lines.join("\n").trim().as_bytes())).to_owned()
}
