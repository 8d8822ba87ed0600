//! How large an audit has to be for intervals of a given width.
//!
//! A corrected share has the variance of the residuals of the audited records, `s² / n · (1 - n/N)`: planning is guessing
//! `s²`. In order of trust: from the residuals of a pilot audit; from the probabilities, if they are calibrated; from the
//! share counted, as if the classifier were of no help; or 1/4, the most there is.

use serde::Serialize;

use super::correction::{Entry, Targets};
use super::estimate::{self, Label};
use super::{Audit, Coded, Level};
use crate::agreement::Coding;
use crate::taxonomy::{Bilingual, Id, Taxonomy};

/// Deviations of a 95% interval.
const NORMAL: f64 = 1.959_964;
/// Records that what is believed before a pilot weighs as much as: a pilot without an error does not promise none.
const PILOT_PRIOR: f64 = 10.0;

/// Where the guess of the variance comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Residuals of a pilot audit.
    Pilot,
    /// The classifier's probabilities.
    Probabilities,
    /// The share counted.
    Share,
    /// Nothing; the largest variance there is.
    Nothing,
}

/// The audit that one entry needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Need {
    /// Its number; 0 where nothing is known.
    pub id: Id,
    /// Its name.
    pub name: Bilingual,
    /// Part of the records that mention it, as counted; `None` where nothing was.
    pub share_of_records: Option<f64>,
    /// Standard deviation of a record's residual.
    pub deviation: f64,
    /// Where that comes from.
    pub basis: Basis,
    /// Records to audit, drawn at random.
    pub n_audited: u64,
}

/// Records to audit so that the 95% interval of a share of records is as wide as `width`, from the standard deviation of
/// a residual; no more than there are.
pub fn size(deviation: f64, width: f64, n_records: Option<u64>) -> u64 {
    let infinite = (2.0 * NORMAL * deviation / width).powi(2);
    let finite = n_records.map_or(infinite, |n| infinite / (1.0 + infinite / n.max(1) as f64));
    // Too small a sample has no variance to speak of.
    let least = 30u64.min(n_records.unwrap_or(30));
    (finite.ceil() as u64).clamp(least, n_records.unwrap_or(u64::MAX).max(least))
}

/// Without any coded record: the largest need.
pub fn largest(width: f64) -> Need {
    let deviation = 0.5;
    let name = Bilingual { zh: "任何条目".to_owned(), en: "Any entry".to_owned() };
    let n_audited = size(deviation, width, None);
    Need { id: 0, name, share_of_records: None, deviation, basis: Basis::Nothing, n_audited }
}

/// Collects what planning needs of coded records.
pub struct Planner<'a> {
    taxonomy: &'a Taxonomy,
    targets: Targets,
    pilot: Audit,
    n_records: u64,
    assigned: Vec<f64>,
    variances: Vec<f64>,
    probable: bool,
    /// Predicted and true values of the audited records, and their inclusion probabilities.
    seen: Vec<(Vec<f64>, Vec<f64>, f64)>,
}

impl<'a> Planner<'a> {
    /// Starts a plan; an empty pilot is none.
    pub fn new(taxonomy: &'a Taxonomy, pilot: Audit) -> Planner<'a> {
        let targets = Targets::new(taxonomy);
        let none = vec![0.0; targets.len()];
        Planner {
            taxonomy,
            pilot,
            n_records: 0,
            assigned: none.clone(),
            variances: none,
            targets,
            probable: true,
            seen: Vec::new(),
        }
    }

    /// Adds a record.
    pub fn add(&mut self, coded: &Coded<'_>) {
        let flags = |keep: &dyn Fn(Id) -> bool| {
            let flag = |id: Id| f64::from(u8::from(keep(id)));
            self.targets.values(&self.taxonomy.scenarios.iter().map(|scenario| flag(scenario.id)).collect::<Vec<_>>())
        };
        self.n_records += 1;
        self.probable &= coded.probabilities.len() == self.taxonomy.len();
        let assigned = flags(&|id| coded.scenarios.contains(&id));
        let expected = if self.probable { self.targets.values(coded.probabilities) } else { Vec::new() };
        if let Some(record) = self.pilot.records.get(coded.id) {
            let truth = |coding: &Coding| flags(&|id| coding.scenarios.contains(&id));
            let codings: Vec<Vec<f64>> = record.codings.iter().map(truth).collect();
            let mean = |at: usize| codings.iter().map(|values| values[at]).sum::<f64>() / codings.len() as f64;
            let truth = (0..assigned.len()).map(mean).collect();
            let predicted = if self.probable { expected.clone() } else { assigned.clone() };
            self.seen.push((predicted, truth, record.inclusion));
        }
        self.assigned.iter_mut().zip(&assigned).for_each(|(sum, value)| *sum += value);
        self.variances.iter_mut().zip(&expected).for_each(|(sum, p)| *sum += p * (1.0 - p));
    }

    /// Needs of all entries of a level, in the taxonomy's order.
    pub fn finish(&self, level: Level, width: f64) -> Vec<Need> {
        let entries: Vec<(Id, &Bilingual, Entry)> = match level {
            Level::Section => {
                let entries = self.taxonomy.sections.iter().enumerate();
                entries.map(|(index, section)| (section.id, &section.name, Entry::Section(index))).collect()
            }
            Level::Category => {
                let entries = self.taxonomy.categories.iter().enumerate();
                entries.map(|(index, category)| (category.id, &category.name, Entry::Category(index))).collect()
            }
            Level::Scenario => {
                let entries = self.taxonomy.scenarios.iter().enumerate();
                entries.map(|(index, scenario)| (scenario.id, &scenario.name, Entry::Scenario(index))).collect()
            }
        };
        entries.into_iter().map(|(id, name, entry)| self.need(id, name, entry, width)).collect()
    }

    fn need(&self, id: Id, name: &Bilingual, entry: Entry, width: f64) -> Need {
        let target = self.targets.places(entry).1;
        let n = self.n_records.max(1) as f64;
        let share = self.assigned[target] / n;
        let (guess, basis) = match self.probable {
            true => (self.variances[target] / n, Basis::Probabilities),
            // Half a record more and half a record less: a share of 0 may be a small one.
            false => {
                let share = (self.assigned[target] + 0.5) / (n + 1.0);
                (share * (1.0 - share), Basis::Share)
            }
        };
        let (variance, basis) = match self.seen.is_empty() {
            true => (guess, basis),
            false => {
                let labels: Vec<Label> = self.seen.iter().map(|seen| label(seen, target)).collect();
                let residuals = estimate::correct(&labels, 1.0, 0.0).residuals;
                let weights: f64 = labels.iter().map(|label| 1.0 / label.inclusion).sum();
                let squares = labels.iter().zip(&residuals).map(|(label, residual)| residual.powi(2) / label.inclusion);
                let found = squares.sum::<f64>() / weights;
                let pilot = labels.len() as f64;
                ((found * pilot + guess * PILOT_PRIOR) / (pilot + PILOT_PRIOR), Basis::Pilot)
            }
        };
        let deviation = variance.sqrt();
        let n_audited = size(deviation, width, Some(self.n_records));
        Need { id, name: name.clone(), share_of_records: Some(share), deviation, basis, n_audited }
    }
}

fn label((predicted, truth, inclusion): &(Vec<f64>, Vec<f64>, f64), target: usize) -> Label {
    Label {
        truth: truth[target],
        coder_variance: 0.0,
        prediction: predicted[target],
        inclusion: *inclusion,
        stratum: 0,
        cluster: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_by_hand() {
        // (2 · 1.96 · 0.5 / 0.1)² = 384.1; of 1000 records, 384.1 / (1 + 0.3841) = 277.5.
        assert_eq!(size(0.5, 0.1, None), 385);
        assert_eq!(size(0.5, 0.1, Some(1000)), 278);
        assert_eq!(size(0.5, 0.001, Some(1000)), 1000);
        assert_eq!((size(0.0, 0.1, Some(1000)), size(0.0, 0.1, Some(12))), (30, 12));
    }

    #[test]
    fn a_pilot_counts_for_more_than_the_share() {
        let taxonomy = Taxonomy::builtin();
        let plan = |pilot: Audit| {
            let mut planner = Planner::new(&taxonomy, pilot);
            for index in 0..100 {
                let scenarios: &[Id] = if index % 2 == 0 { &[8] } else { &[] };
                let status = crate::labels::Status::Coded;
                let id = index.to_string();
                planner.add(&Coded { id: &id, status, scenarios, probabilities: &[], truncated: false });
            }
            planner.finish(Level::Scenario, 0.1)[7].clone()
        };
        let none = plan(Audit::default());
        assert_eq!((none.id, none.basis, none.share_of_records), (8, Basis::Share, Some(0.5)));
        assert!((none.deviation - 0.5).abs() < 1e-12);
        // A pilot in which the classifier is always right.
        let record = |index: usize| {
            let scenarios = if index.is_multiple_of(2) { [8].into() } else { [].into() };
            let codings = vec![Coding { status: crate::labels::Status::Coded, scenarios }];
            (index.to_string(), super::super::AuditedRecord { codings, inclusion: 0.4, stratum: 0 })
        };
        let pilot = plan(Audit { records: (0..40).map(record).collect(), cluster: None });
        assert_eq!(pilot.basis, Basis::Pilot);
        assert!(pilot.n_audited < none.n_audited, "{pilot:?} {none:?}");
    }
}
