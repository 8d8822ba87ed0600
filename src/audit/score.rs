//! How well the classifier did on an audited sample, with every record weighted by one over its inclusion probability:
//! figures of the sample would otherwise be those of the design, not of the population.

use std::collections::HashMap;

use serde::Serialize;

use crate::agreement::Coding;
use crate::survey::AuditedRecord;
use crate::taxonomy::{Bilingual, Id, Taxonomy};

/// Weighted counts of mentions, and figures of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accuracy {
    /// Mentions that classifier and coders gave, in audited records.
    pub n_both: f64,
    /// Mentions of the classifier alone.
    pub n_classifier: f64,
    /// Mentions of the coders alone.
    pub n_coders: f64,
    /// Part of the classifier's mentions that is right, weighted; `None` where it gave none.
    pub precision: Option<f64>,
    /// Part of the coders' mentions that the classifier found, weighted; `None` where they gave none.
    pub recall: Option<f64>,
}

/// Accuracy on one category.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CategoryAccuracy {
    /// Its number.
    pub id: Id,
    /// Its name.
    pub name: Bilingual,
    /// The figures.
    #[serde(flatten)]
    pub accuracy: Accuracy,
}

/// Accuracy on the population that a sample stands for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Audited records.
    pub n_audited: usize,
    /// Part of the records with the right status, weighted.
    pub status_accuracy: f64,
    /// Over all scenarios.
    pub all: Accuracy,
    /// By category.
    pub categories: Vec<CategoryAccuracy>,
}

/// Compares predictions with audited records, joined by id.
pub fn score(
    predictions: &HashMap<String, Coding>,
    audited: &HashMap<String, AuditedRecord>,
    taxonomy: &Taxonomy,
) -> Score {
    // In order of ids, so that sums are the same in every run.
    let mut ids: Vec<&String> = audited.keys().filter(|id| predictions.contains_key(*id)).collect();
    ids.sort();
    let accuracy = |keep: &dyn Fn(Id) -> bool| {
        let (mut counts, mut weighted) = ([0.0f64; 3], [0.0f64; 3]);
        for id in &ids {
            let (predicted, record) = (&predictions[*id].scenarios, &audited[*id]);
            let part = 1.0 / record.codings.len() as f64;
            for coding in &record.codings {
                let found = [
                    predicted.intersection(&coding.scenarios).filter(|&&id| keep(id)).count(),
                    predicted.difference(&coding.scenarios).filter(|&&id| keep(id)).count(),
                    coding.scenarios.difference(predicted).filter(|&&id| keep(id)).count(),
                ];
                for (index, count) in found.into_iter().enumerate() {
                    counts[index] += part * count as f64;
                    weighted[index] += part * count as f64 / record.inclusion;
                }
            }
        }
        let [both, classifier, coders] = weighted;
        let part = |whole: f64| (whole > 0.0).then(|| both / whole);
        Accuracy {
            n_both: counts[0],
            n_classifier: counts[1],
            n_coders: counts[2],
            precision: part(both + classifier),
            recall: part(both + coders),
        }
    };
    let (mut right, mut all) = (0.0, 0.0);
    for id in &ids {
        let record = &audited[*id];
        let same = record.codings.iter().filter(|coding| coding.status == predictions[*id].status).count();
        right += same as f64 / record.codings.len() as f64 / record.inclusion;
        all += 1.0 / record.inclusion;
    }
    let categories = taxonomy
        .categories
        .iter()
        .map(|category| CategoryAccuracy {
            id: category.id,
            name: category.name.clone(),
            accuracy: accuracy(&|id| taxonomy.category_of(id) == Some(category.id)),
        })
        .collect();
    let status_accuracy = if all > 0.0 { right / all } else { 0.0 };
    Score { n_audited: ids.len(), status_accuracy, all: accuracy(&|_| true), categories }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Status;

    fn coding(scenarios: &[Id]) -> Coding {
        let status = if scenarios.is_empty() { Status::Unspecified } else { Status::Coded };
        Coding { status, scenarios: scenarios.iter().copied().collect() }
    }

    #[test]
    fn records_weigh_as_many_as_they_stand_for() {
        let audited = |codings: &[&[Id]], inclusion| AuditedRecord {
            codings: codings.iter().map(|ids| coding(ids)).collect(),
            inclusion,
            stratum: 0,
        };
        let records = HashMap::from([
            ("a".to_owned(), audited(&[&[8]], 0.5)),
            ("b".to_owned(), audited(&[&[]], 0.1)),
            ("c".to_owned(), audited(&[&[8], &[8, 10]], 1.0)),
        ]);
        let predictions = HashMap::from([
            ("a".to_owned(), coding(&[8])),
            ("b".to_owned(), coding(&[8])),
            ("c".to_owned(), coding(&[])),
        ]);
        let found = score(&predictions, &records, &Taxonomy::builtin());
        // Right: 2 records; wrong: 10; missed: 8 by both coders of one record, and half a mention of 10.
        assert!((found.all.precision.expect("given") - 2.0 / 12.0).abs() < 1e-12);
        assert!((found.all.recall.expect("given") - 2.0 / 3.5).abs() < 1e-12);
        assert_eq!((found.all.n_both, found.all.n_classifier, found.all.n_coders), (1.0, 1.0, 1.5));
        assert!((found.status_accuracy - 2.0 / 13.0).abs() < 1e-12);
        assert_eq!(found.categories[1].accuracy.precision, None);
    }
}
