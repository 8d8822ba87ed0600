//! From texts to analyses: every scenario's probability, the decision, and the clauses that carried it.
//!
//! A text is encoded whole, so that a clause is read in its context. [`features`] pools the hidden states of each
//! clause; the [`head`] scores clauses; [`neighbours`] vote; [`calibration`] turns both into probabilities and decides. A text mentions a
//! scenario as strongly as its strongest clause, which is its evidence.

pub mod calibration;
pub mod features;
pub mod head;
pub mod neighbours;
pub mod precision;
pub mod similarity;
pub mod words;

use rayon::prelude::*;

use crate::encoder::{EncodeError, TextEncoder};
use crate::labels::Status;
use crate::segment::Span;
use crate::taxonomy::ScenarioIndex;
use calibration::{Calibration, Decision, rivals, sigmoid};
use features::TextFeatures;
use head::PackedHead;
use similarity::LabelVectors;

/// Most evidence spans kept for one scenario.
const MAX_EVIDENCE: usize = 2;
/// Least probability of an evidence clause, as a share of the strongest one's.
const EVIDENCE_SHARE: f32 = 0.6;

/// A scenario assigned to a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Position of the scenario in the taxonomy.
    pub scenario: ScenarioIndex,
    /// Calibrated probability that the text mentions it.
    pub probability: f32,
    /// The clauses that carried it, the strongest first.
    pub evidence: Vec<Span>,
}

/// What the classifier says of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Coded, outside or unspecified.
    pub status: Status,
    /// Assigned scenarios in the taxonomy's order.
    pub assignments: Vec<Assignment>,
    /// Probability of every scenario, in the taxonomy's order.
    pub probabilities: Vec<f32>,
    /// Probability that a use is stated that no scenario covers.
    pub outside: f32,
    /// Probability that all decisions are right, as [`calibration::Certainty`] defines it.
    pub confidence: f32,
    /// Whether a person should look: the decisions are less sure than those that proved precise.
    pub review: bool,
}

/// An encoder and what decides from its features.
pub struct Classifier {
    /// Text to hidden states.
    pub encoder: TextEncoder,
    /// Clause features to decisions.
    pub scorer: Scorer,
}

/// How features become decisions.
pub enum Scorer {
    /// A head that was trained on labels, with its calibration.
    Trained {
        /// Clause features to scores.
        head: Box<PackedHead>,
        /// Scores to probabilities and decisions.
        calibration: Calibration,
    },
    /// Similarity to the taxonomy's own texts. It ranks; it was fitted to nothing.
    ZeroShot(LabelVectors),
}

impl Classifier {
    /// Analyses texts, in their order. The analysis of a text does not depend on the others.
    ///
    /// # Errors
    /// The encoder's backend fails.
    pub fn analyze(&self, texts: &[&str]) -> Result<Vec<Analysis>, EncodeError> {
        Ok(self.analyze_features(texts, &features::of_texts(&self.encoder, texts)?))
    }

    /// Analyses texts whose features are known, in their order, without the encoder.
    pub fn analyze_features(&self, texts: &[&str], features: &[TextFeatures]) -> Vec<Analysis> {
        let analyze = |(text, features): (&&str, &TextFeatures)| match &self.scorer {
            Scorer::Trained { head, calibration } => decide(text, features, head, calibration),
            Scorer::ZeroShot(labels) => nearest(text, features, labels),
        };
        texts.par_iter().zip(features).map(analyze).collect()
    }
}

/// What a trained head and its calibration make of a text.
pub fn decide(text: &str, features: &TextFeatures, head: &PackedHead, calibration: &Calibration) -> Analysis {
    let scores = head.scores(features);
    let outputs = head.outputs();
    let strongest = head::strongest(&scores, outputs);
    let votes = head.votes(features);
    let (probabilities, outside) = calibration.probabilities(&strongest, &votes);
    let rivals = rivals(&strongest);
    let Decision { status, scenarios, certainty } = calibration.decide(&probabilities, outside);
    let assign = |&scenario: &ScenarioIndex| {
        // A clause is evidence when it would carry the scenario alone, and nearly as well as the strongest. Votes are for the
        // whole text: they would lift every clause.
        let probability = |score: f32| sigmoid(calibration.logit(scenario, score, rivals[scenario], 0.0));
        let strongest = probability(strongest[scenario]);
        let floor = calibration.thresholds[scenario].min(strongest).max(EVIDENCE_SHARE * strongest);
        let by_clause = scores.chunks_exact(outputs).map(|scores| probability(scores[scenario]));
        let evidence = strongest_clauses(text, features, by_clause.collect(), floor, MAX_EVIDENCE);
        Assignment { scenario, probability: probabilities[scenario], evidence }
    };
    let assignments = scenarios.iter().map(assign).collect();
    let review = !certainty.reaches(calibration.accept);
    Analysis { status, assignments, probabilities, outside, confidence: certainty.score, review }
}

/// The scenario nearest to a text. Whether the text states any use is not judged, so that a person should look at all.
fn nearest(text: &str, features: &TextFeatures, labels: &LabelVectors) -> Analysis {
    let cosines = labels.cosines(features);
    let probabilities = labels.shares(&cosines);
    let best = (0..probabilities.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]).then(b.cmp(&a)));
    let assignments: Vec<Assignment> = best
        .filter(|_| !features.clauses.is_empty())
        .map(|scenario| {
            let by_clause = cosines.chunks_exact(probabilities.len()).map(|cosines| cosines[scenario]);
            let by_clause: Vec<f32> = by_clause.take(features.clauses.len()).collect();
            let evidence = strongest_clauses(text, features, by_clause, f32::MIN, 1);
            Assignment { scenario, probability: probabilities[scenario], evidence }
        })
        .into_iter()
        .collect();
    let status = if assignments.is_empty() { Status::Unspecified } else { Status::Coded };
    let confidence = assignments.first().map_or(0.0, |assignment| assignment.probability);
    Analysis { status, assignments, probabilities, outside: 0.0, confidence, review: true }
}

/// The clauses whose value reaches a floor, the strongest first.
fn strongest_clauses(text: &str, features: &TextFeatures, values: Vec<f32>, floor: f32, most: usize) -> Vec<Span> {
    let mut carriers: Vec<(f32, usize)> = values.into_iter().zip(0..).filter(|(value, _)| *value >= floor).collect();
    carriers.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    carriers.truncate(most);
    carriers.into_iter().map(|(_, clause)| features.clauses[clause].span(text)).collect()
}
