//! Totals of a population from an audited sample, corrected by design: prediction-powered inference and its weighted form.
//!
//! The classifier's prediction `f` is known for every record, the truth `y` for the audited ones. The total is
//! `λ Σ f + N · mean(y - λ f)`, with the mean weighted by one over the inclusion probability: PPI++ (Angelopoulos, Duchi
//! & Zrnic 2023, arXiv:2311.01453) in a sample of equal probabilities, the model-assisted difference estimator
//! (Särndal, Swensson & Wretman 1992, ch. 6) in any other. λ is tuned to the smallest variance. In a sample of equal
//! probabilities, this is what was found in the audited records, plus an estimate for the others.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Level of every interval.
const LEVEL: f64 = 0.95;
/// Level of intervals of a model, so that they hold [`LEVEL`] although no model is quite right.
const MODEL_LEVEL: f64 = 0.98;

/// What one audited record says of one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Label {
    /// Mentions found; the mean of two coders.
    pub(super) truth: f64,
    /// Variance of that mean, from the coders' difference.
    pub(super) coder_variance: f64,
    /// Mentions predicted.
    pub(super) prediction: f64,
    /// Probability with which the record came into the sample.
    pub(super) inclusion: f64,
    /// Stratum from which it was drawn.
    pub(super) stratum: usize,
    /// Cluster to which it belongs.
    pub(super) cluster: usize,
}

/// A corrected total with the residuals that its variance comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Corrected {
    /// The estimate.
    pub(super) total: f64,
    /// Residuals of the audited records, in their order.
    pub(super) residuals: Vec<f64>,
}

/// Corrects the total of a prediction over `n_records` records, `predicted`.
pub(super) fn correct(labels: &[Label], n_records: f64, predicted: f64) -> Corrected {
    let weight = |label: &Label| 1.0 / label.inclusion;
    let weights: f64 = labels.iter().map(weight).sum();
    let mean = |value: &dyn Fn(&Label) -> f64| labels.iter().map(|l| weight(l) * value(l)).sum::<f64>() / weights;
    let (truth, prediction) = (mean(&|label| label.truth), mean(&|label| label.prediction));
    let covariance = mean(&|label| (label.truth - truth) * (label.prediction - prediction));
    let variance = mean(&|label| (label.prediction - prediction).powi(2));
    let lambda = if variance > 0.0 { (covariance / variance).clamp(0.0, 1.0) } else { 0.0 };
    let residual = truth - lambda * prediction;
    Corrected {
        total: lambda * predicted + n_records * residual,
        residuals: labels.iter().map(|label| label.truth - lambda * label.prediction - residual).collect(),
    }
}

/// Variance of a total of weighted residuals: Deville's approximation for fixed-size samples (Deville & Tillé 2005),
/// within strata, and between clusters. For simple random samples it is the textbook formula with its
/// finite-population correction.
pub(super) fn variance(labels: &[Label], residuals: &[f64], n_records: f64) -> f64 {
    // Weights are scaled to the known number of records.
    let scale = n_records / labels.iter().map(|label| 1.0 / label.inclusion).sum::<f64>();
    let mut total = 0.0;
    for stratum in strata(labels) {
        let chance = |index: usize| 1.0 - labels[index].inclusion;
        let expanded = |index: usize| scale * residuals[index] / labels[index].inclusion;
        let chances: f64 = stratum.iter().map(|&index| chance(index)).sum();
        if chances <= 0.0 {
            continue;
        }
        let centre = stratum.iter().map(|&index| chance(index) * expanded(index)).sum::<f64>() / chances;
        let mut clusters: std::collections::BTreeMap<usize, f64> = std::collections::BTreeMap::new();
        for &index in &stratum {
            *clusters.entry(labels[index].cluster).or_default() += chance(index).sqrt() * (expanded(index) - centre);
        }
        let n_clusters = clusters.len() as f64;
        if n_clusters > 1.0 {
            total += n_clusters / (n_clusters - 1.0) * clusters.values().map(|sum| sum * sum).sum::<f64>();
        }
    }
    total
}

/// Records of each stratum; one that has a single record joins the one before it, which makes its variance no smaller.
fn strata(labels: &[Label]) -> Vec<Vec<usize>> {
    let mut by_stratum: std::collections::BTreeMap<usize, Vec<usize>> = std::collections::BTreeMap::new();
    for (index, label) in labels.iter().enumerate() {
        by_stratum.entry(label.stratum).or_default().push(index);
    }
    let mut joined: Vec<Vec<usize>> = Vec::new();
    for records in by_stratum.into_values() {
        match joined.last_mut() {
            Some(last) if records.len() == 1 || last.len() == 1 => last.extend(records),
            _ => joined.push(records),
        }
    }
    joined
}

/// Variance that coders add: they might have differed on the records that stand for the others as well.
pub(super) fn coder_variance(labels: &[Label]) -> f64 {
    labels.iter().map(|label| label.coder_variance / label.inclusion).sum()
}

/// How many deviations an interval reaches to each side: Student's t, with a degree of freedom per cluster.
pub(super) fn reach(labels: &[Label]) -> f64 {
    let clusters: std::collections::BTreeSet<usize> = labels.iter().map(|label| label.cluster).collect();
    let freedom = clusters.len().saturating_sub(strata(labels).len()).max(1);
    let student = StudentsT::new(0.0, 1.0, freedom as f64).expect("one degree of freedom or more");
    student.inverse_cdf(0.5 + LEVEL / 2.0)
}

/// Lower and upper place of an interval among sorted draws.
pub(super) fn interval(sorted: &[f64]) -> (f64, f64) {
    let tail = (1.0 - MODEL_LEVEL) / 2.0;
    let last = sorted.len().saturating_sub(1);
    let low = (tail * sorted.len() as f64).floor() as usize;
    let high = ((1.0 - tail) * sorted.len() as f64).ceil() as usize;
    (sorted[low.min(last)], sorted[high.min(last)])
}

/// Factor by which clusters inflate the variance of a sum: of the audited records (estimated from their residuals on
/// all targets together), and of a set of records whose clusters have these sizes.
pub(super) fn design_effect(labels: &[Vec<Label>], sizes: &[f64]) -> (f64, f64) {
    let (mut clustered, mut alone, mut n, mut squares) = (0.0, 0.0, 0.0f64, 0.0f64);
    for target in labels {
        let residuals = correct(target, 1.0, 0.0).residuals;
        let apart: Vec<Label> = target.iter().enumerate().map(|(cluster, label)| Label { cluster, ..*label }).collect();
        clustered += variance(target, &residuals, 1.0);
        alone += variance(&apart, &residuals, 1.0);
    }
    if let Some(target) = labels.first() {
        let mut counts: std::collections::BTreeMap<usize, f64> = std::collections::BTreeMap::new();
        target.iter().for_each(|label| *counts.entry(label.cluster).or_default() += 1.0);
        n = counts.values().sum();
        squares = counts.values().map(|size| size * size).sum();
    }
    let audited = if alone > 0.0 { (clustered / alone).max(1.0) } else { 1.0 };
    // Size-weighted mean size of a cluster, less the record itself (Kish 1965, ch. 5).
    let partners = if n > 0.0 { squares / n - 1.0 } else { 0.0 };
    let correlation = if partners > 0.0 { ((audited - 1.0) / partners).min(1.0) } else { 0.0 };
    let total: f64 = sizes.iter().sum();
    let others = if total > 0.0 { sizes.iter().map(|size| size * size).sum::<f64>() / total - 1.0 } else { 0.0 };
    (audited, 1.0 + correlation * others.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(truth: f64, prediction: f64, inclusion: f64, index: usize) -> Label {
        Label { truth, coder_variance: 0.0, prediction, inclusion, stratum: 0, cluster: index }
    }

    #[test]
    fn a_simple_random_sample_has_the_textbook_estimate_and_variance() {
        // Without a useful prediction: 10 · mean = 10 · 0.5, variance N² (1 - n/N) s² / n = 100 · 0.6 · (1/3) / 4 = 5.
        let labels: Vec<Label> =
            [1.0, 0.0, 1.0, 0.0].iter().enumerate().map(|(index, &y)| label(y, 0.0, 0.4, index)).collect();
        let found = correct(&labels, 10.0, 0.0);
        assert!((found.total - 5.0).abs() < 1e-12);
        assert!((variance(&labels, &found.residuals, 10.0) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_perfect_prediction_leaves_no_variance_and_an_inverted_one_is_not_used() {
        let labels: Vec<Label> =
            [1.0, 0.0, 1.0, 0.0].iter().enumerate().map(|(index, &y)| label(y, y, 0.4, index)).collect();
        let found = correct(&labels, 10.0, 3.0);
        assert!((found.total - 3.0).abs() < 1e-12);
        assert!(variance(&labels, &found.residuals, 10.0) < 1e-12);
        let inverted: Vec<Label> =
            labels.iter().map(|label| Label { prediction: 1.0 - label.truth, ..*label }).collect();
        assert!((correct(&inverted, 10.0, 3.0).total - 5.0).abs() < 1e-12);
    }

    #[test]
    fn weights_undo_unequal_inclusion_probabilities() {
        // 2 records for 0.5 stand for 4, one for 0.1 stands for 10: 14 in all, of which 4 true ones.
        let labels = [label(1.0, 0.0, 0.5, 0), label(1.0, 0.0, 0.5, 1), label(0.0, 0.0, 0.1, 2)];
        assert!((correct(&labels, 14.0, 0.0).total - 4.0).abs() < 1e-12);
    }

    #[test]
    fn clusters_of_equal_records_count_as_one() {
        let labels: Vec<Label> = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
            .iter()
            .enumerate()
            .map(|(index, &y)| label(y, 0.0, 0.01, index / 2))
            .collect();
        let (audited, others) = design_effect(std::slice::from_ref(&labels), &[3.0, 3.0]);
        // Pairs of equal records: variances double, but for the smaller divisor: (4/3) / (8/7) · 2 = 7/3.
        assert!((audited - 7.0 / 3.0).abs() < 1e-9, "{audited}");
        assert!((others - 3.0).abs() < 1e-9, "a correlation is at most 1: {others}");
        let found = correct(&labels, 800.0, 0.0);
        let apart: Vec<Label> = labels.iter().enumerate().map(|(cluster, label)| Label { cluster, ..*label }).collect();
        assert!(variance(&labels, &found.residuals, 800.0) > 2.0 * variance(&apart, &found.residuals, 800.0));
    }

    #[test]
    fn strata_of_one_record_join_their_neighbour() {
        let labels: Vec<Label> = [0, 0, 1, 2, 2]
            .iter()
            .enumerate()
            .map(|(index, &stratum)| Label { stratum, ..label(1.0, 0.0, 0.5, index) })
            .collect();
        assert_eq!(strata(&labels), [vec![0, 1, 2], vec![3, 4]]);
    }
}
