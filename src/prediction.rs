//! Predictions as files carry them: one JSON object a line, schema 1.
//!
//! ```json
//! {"schema": 1, "id": "mp-001", "name": "…", "status": "coded",
//!  "scenarios": [{"scenario": 10, "probability": 0.93, "evidence": [{"start": 5, "end": 9, "text": "…"}]}],
//!  "categories": [1], "sections": [1], "confidence": 0.81, "review": false, "truncated": false,
//!  "taxonomy": "nhc-2024@1a2b3c4d5e6f", "columns": {"developer": "…"}}
//! ```
//!
//! Spans count characters (Unicode scalar values) of the description from 0, half-open. Probabilities have four
//! decimals. With `--labels-only`, `scenarios` holds numbers. With `--probabilities`, `probabilities` holds the probability
//! of every scenario of the taxonomy, in its order, with six decimals, because they are summed; with `--keep-text`, `text`
//! holds the description. Labelled texts read as predictions too.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::classifier::Analysis;
use crate::labels::Status;
use crate::record::Record;
use crate::segment::Span;
use crate::taxonomy::crosswalk::Crosswalk;
use crate::taxonomy::{Id, Taxonomy};

/// Version of the line format.
pub const SCHEMA: u32 = 1;

/// One record's scenarios.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Version of the line format.
    #[serde(default)]
    pub schema: u32,
    /// The record's id.
    pub id: String,
    /// The product's name, where a column gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The description, where it was asked to be kept; reports highlight the evidence in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Coded, outside or unspecified.
    pub status: Status,
    /// Assigned scenarios, ascending.
    pub scenarios: Vec<Assigned>,
    /// Categories above them, ascending.
    #[serde(default)]
    pub categories: Vec<Id>,
    /// Sections above them, ascending.
    #[serde(default)]
    pub sections: Vec<Id>,
    /// Probability that all decisions are right, rounded to four decimals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Whether a person should look at the decisions; `None` where they came without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<bool>,
    /// Whether the description was cut at the limit that the user set.
    #[serde(default)]
    pub truncated: bool,
    /// Taxonomy and the beginning of its digest.
    #[serde(default)]
    pub taxonomy: String,
    /// Probability of every scenario, in the taxonomy's order, rounded to six decimals; empty where they were not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<f64>,
    /// All other columns of the record, as text.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub columns: Map<String, Value>,
}

/// An assigned scenario: in full, or its number alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Assigned {
    /// With probability and evidence.
    Full {
        /// The scenario.
        scenario: Id,
        /// Calibrated probability in [0, 1], rounded to four decimals.
        probability: f64,
        /// The clauses that carried it, the strongest first.
        evidence: Vec<Span>,
    },
    /// The number alone.
    Number(Id),
}

impl Assigned {
    /// The scenario's number.
    pub fn id(&self) -> Id {
        match self {
            Assigned::Full { scenario, .. } => *scenario,
            Assigned::Number(scenario) => *scenario,
        }
    }
}

impl Prediction {
    /// Joins a record and its analysis.
    pub fn new(record: Record, analysis: &Analysis, taxonomy: &Taxonomy) -> Prediction {
        let assigned = |assignment: &crate::classifier::Assignment| Assigned::Full {
            scenario: taxonomy.scenarios[assignment.scenario].id,
            probability: round(assignment.probability),
            evidence: assignment.evidence.clone(),
        };
        let scenarios: Vec<Assigned> = analysis.assignments.iter().map(assigned).collect();
        let (categories, sections) = taxonomy.ancestors(scenarios.iter().map(Assigned::id));
        Prediction {
            schema: SCHEMA,
            id: record.id,
            name: record.name,
            text: Some(record.text),
            status: analysis.status,
            scenarios,
            categories,
            sections,
            confidence: Some(round(analysis.confidence)),
            review: Some(analysis.review),
            truncated: record.truncated,
            taxonomy: taxonomy.label(),
            probabilities: analysis.probabilities.iter().map(|&probability| finely(probability)).collect(),
            columns: record.columns.into_iter().map(|(key, value)| (key.to_string(), Value::String(value))).collect(),
        }
    }

    /// The same without the probabilities of scenarios that are not assigned.
    pub fn without_probabilities(mut self) -> Prediction {
        self.probabilities.clear();
        self
    }

    /// The same without the description.
    pub fn without_text(mut self) -> Prediction {
        self.text = None;
        self
    }

    /// The same without probabilities and evidence of assigned scenarios.
    pub fn labels_only(mut self) -> Prediction {
        self.scenarios = self.scenarios.iter().map(|assigned| Assigned::Number(assigned.id())).collect();
        self
    }

    /// Numbers of the assigned scenarios.
    pub fn ids(&self) -> Vec<Id> {
        self.scenarios.iter().map(Assigned::id).collect()
    }

    /// The same in another taxonomy, and how many mentions have no counterpart there.
    ///
    /// An implied entry has the evidence of all scenarios that imply it. Its probability is that of the most probable one,
    /// below which the entry's own cannot lie. A coded record without a counterpart is outside; what is known of all
    /// scenarios or of all decisions together does not carry over.
    pub fn through(self, crosswalk: &Crosswalk, target: &Taxonomy) -> (Prediction, usize) {
        let implied = crosswalk.implied(self.scenarios.iter().map(Assigned::id));
        let from = |sources: &[Id]| -> Vec<&Assigned> {
            self.scenarios.iter().filter(|assigned| sources.contains(&assigned.id())).collect()
        };
        let scenarios: Vec<Assigned> =
            implied.entries.iter().map(|(&entry, sources)| combined(entry, &from(sources))).collect();
        let (categories, sections) = target.ancestors(implied.entries.keys().copied());
        let lost = self.status == Status::Coded && scenarios.is_empty();
        let prediction = Prediction {
            status: if lost { Status::Outside } else { self.status },
            scenarios,
            categories,
            sections,
            confidence: None,
            review: None,
            taxonomy: target.label(),
            probabilities: Vec::new(),
            ..self
        };
        (prediction, implied.without.len())
    }

    /// The value of another column, as text.
    pub fn column(&self, name: &str) -> Option<&str> {
        self.columns.get(name).and_then(Value::as_str)
    }
}

/// An entry that is implied by some scenarios; a number alone where one of them is.
fn combined(entry: Id, sources: &[&Assigned]) -> Assigned {
    let mut highest: f64 = 0.0;
    let mut spans: Vec<Span> = Vec::new();
    for source in sources {
        let Assigned::Full { probability, evidence, .. } = source else { return Assigned::Number(entry) };
        highest = highest.max(*probability);
        let new: Vec<Span> = evidence.iter().filter(|span| !spans.contains(span)).cloned().collect();
        spans.extend(new);
    }
    Assigned::Full { scenario: entry, probability: highest, evidence: spans }
}

/// Four decimals: more would differ between processors and mean nothing.
pub fn round(probability: f32) -> f64 {
    (f64::from(probability) * 1e4).round() / 1e4
}

/// Six decimals: what is rounded off a rare scenario's probability would be missing in a sum over many records.
fn finely(probability: f32) -> f64 {
    (f64::from(probability) * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_scenarios_read_and_write() {
        let line = r#"{"schema":1,"id":"a","status":"coded","scenarios":[{"scenario":10,"probability":0.93,"evidence":[{"start":0,"end":2,"text":"问诊"}]}],"categories":[1],"sections":[1],"truncated":false,"taxonomy":"t@0"}"#;
        let full: Prediction = serde_json::from_str(line).expect("valid");
        assert_eq!(serde_json::to_string(&full).expect("writes"), line);
        let numbers = full.labels_only();
        assert_eq!(numbers.scenarios, [Assigned::Number(10)]);
        let gold = r#"{"id":"g","text":"x","status":"outside","scenarios":[]}"#;
        assert_eq!(serde_json::from_str::<Prediction>(gold).expect("valid").status, Status::Outside);
    }

    #[test]
    fn probabilities_have_four_decimals() {
        assert_eq!(round(0.123_456), 0.1235);
        assert_eq!(serde_json::to_string(&round(0.9)).expect("writes"), "0.9");
    }
}
