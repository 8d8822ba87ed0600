//! From texts to analyses: every scenario's probability, the decision, and the clauses that carried it.
//!
//! A text is encoded whole, so that a clause is read in its context. [`features`] pools the hidden states of each
//! clause; the [`head`] scores clauses; [`calibration`] turns scores into probabilities and decides. A text mentions a
//! scenario as strongly as its strongest clause, which is its evidence.

pub mod calibration;
pub mod features;
pub mod head;
pub mod lexical;

use rayon::prelude::*;

use crate::encoder::{EncodeError, TextEncoder};
use crate::labels::Status;
use crate::segment::Span;
use crate::taxonomy::ScenarioIndex;
use calibration::{Calibration, sigmoid};
use features::TextFeatures;
use head::Head;

/// Most evidence spans kept for one scenario.
const MAX_EVIDENCE: usize = 3;

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
}

/// An encoder with a head, its calibration and thresholds.
pub struct Classifier {
    /// Text to hidden states.
    pub encoder: TextEncoder,
    /// Clause features to scores.
    pub head: Head,
    /// Scores to probabilities and decisions.
    pub calibration: Calibration,
}

impl Classifier {
    /// Analyses texts, in their order. The analysis of a text does not depend on the others.
    ///
    /// # Errors
    /// The encoder's backend fails.
    pub fn analyze(&self, texts: &[&str]) -> Result<Vec<Analysis>, EncodeError> {
        let states = self.encoder.states(texts)?;
        let hidden = self.encoder.encoder.hidden_size();
        let pairs: Vec<_> = texts.iter().zip(states).collect();
        Ok(pairs
            .into_par_iter()
            .map(|(text, states)| {
                let features = TextFeatures::new(text, &states, hidden);
                self.analyze_features(text, &features)
            })
            .collect())
    }

    fn analyze_features(&self, text: &str, features: &TextFeatures) -> Analysis {
        let scores = self.head.scores(features);
        let outputs = self.head.outputs();
        let strongest = head::strongest(&scores, outputs);
        let scenarios = outputs - 1;
        let probability = |output: usize, score: f32| sigmoid(self.calibration.logit(output, score));
        let probabilities: Vec<f32> = (0..scenarios).map(|output| probability(output, strongest[output])).collect();
        let outside = probability(scenarios, strongest[scenarios]);
        let mut assignments = Vec::new();
        for scenario in self.calibration.decide(&probabilities) {
            // A clause is evidence when it would carry the scenario alone, or nearly as well as the strongest.
            let floor = self.calibration.thresholds[scenario].max(probabilities[scenario] / 2.0);
            let mut carriers: Vec<(f32, usize)> = scores
                .chunks_exact(outputs)
                .enumerate()
                .map(|(clause, scores)| (probability(scenario, scores[scenario]), clause))
                .filter(|(probability, _)| *probability >= floor)
                .collect();
            carriers.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            carriers.truncate(MAX_EVIDENCE);
            let evidence = carriers.into_iter().map(|(_, clause)| features.clauses[clause].span(text)).collect();
            assignments.push(Assignment { scenario, probability: probabilities[scenario], evidence });
        }
        let status = match assignments.is_empty() {
            false => Status::Coded,
            true if outside >= self.calibration.outside_threshold => Status::Outside,
            true => Status::Unspecified,
        };
        Analysis { status, assignments, probabilities, outside }
    }
}
