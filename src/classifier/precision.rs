//! What a faster mode changes: decisions of two classifiers on the same texts, side by side.

use serde::Serialize;

use super::Analysis;

/// How many decisions differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Texts compared.
    pub n_texts: usize,
    /// Texts whose status or set of scenarios differs.
    pub texts_changed: usize,
    /// Decisions compared: one for each text and scenario, and one for each text's status.
    pub n_decisions: usize,
    /// Decisions that differ.
    pub decisions_changed: usize,
    /// Mentions that 32-bit floats find.
    pub n_mentions: usize,
    /// Mentions that only the faster mode finds.
    pub mentions_added: usize,
    /// Mentions that the faster mode misses.
    pub mentions_lost: usize,
    /// Largest difference of a probability.
    pub largest_probability_difference: f32,
}

impl Difference {
    /// Adds the analyses of one text.
    pub fn add(&mut self, exact: &Analysis, faster: &Analysis) {
        let scenarios = |analysis: &Analysis| -> Vec<usize> {
            analysis.assignments.iter().map(|assignment| assignment.scenario).collect()
        };
        let (expected, found) = (scenarios(exact), scenarios(faster));
        let added = found.iter().filter(|scenario| !expected.contains(scenario)).count();
        let lost = expected.iter().filter(|scenario| !found.contains(scenario)).count();
        let changed = added + lost + usize::from(exact.status != faster.status);
        self.n_texts += 1;
        self.texts_changed += usize::from(changed > 0);
        self.n_decisions += exact.probabilities.len() + 1;
        self.decisions_changed += changed;
        self.n_mentions += expected.len();
        self.mentions_added += added;
        self.mentions_lost += lost;
        let differences = exact.probabilities.iter().zip(&faster.probabilities).map(|(a, b)| (a - b).abs());
        self.largest_probability_difference = differences.fold(self.largest_probability_difference, f32::max);
    }

    /// Share of decisions that stay as they are; 1 without any.
    pub fn unchanged_decisions(&self) -> f64 {
        share(self.n_decisions, self.decisions_changed)
    }

    /// Share of texts on which every decision stays as it is; 1 without any.
    pub fn unchanged_texts(&self) -> f64 {
        share(self.n_texts, self.texts_changed)
    }
}

fn share(total: usize, changed: usize) -> f64 {
    if total == 0 { 1.0 } else { 1.0 - changed as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Assignment;
    use crate::labels::Status;

    fn analysis(status: Status, scenarios: &[usize], probabilities: [f32; 3]) -> Analysis {
        let assignment = |&scenario: &usize| Assignment { scenario, probability: 0.5, evidence: Vec::new() };
        Analysis {
            status,
            assignments: scenarios.iter().map(assignment).collect(),
            probabilities: probabilities.to_vec(),
            outside: 0.0,
            confidence: 0.5,
            review: false,
        }
    }

    #[test]
    fn differences_are_counted_by_text_decision_and_mention() {
        let mut difference = Difference::default();
        assert_eq!((difference.unchanged_decisions(), difference.unchanged_texts()), (1.0, 1.0));
        let same = analysis(Status::Coded, &[0], [0.9, 0.1, 0.1]);
        difference.add(&same, &same);
        // One mention moves from scenario 0 to 2: two of three decisions, the status stays.
        difference.add(&same, &analysis(Status::Coded, &[2], [0.4, 0.1, 0.6]));
        // The only mention is lost, and with it the status.
        difference.add(&same, &analysis(Status::Unspecified, &[], [0.45, 0.1, 0.1]));
        let expected = Difference {
            n_texts: 3,
            texts_changed: 2,
            n_decisions: 12,
            decisions_changed: 4,
            n_mentions: 3,
            mentions_added: 1,
            mentions_lost: 2,
            largest_probability_difference: 0.5,
        };
        assert_eq!(difference, expected);
        assert_eq!(difference.unchanged_texts(), 1.0 - 2.0 / 3.0);
    }
}
