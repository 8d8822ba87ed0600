//! Predictions against gold: precision, recall and F1 at every level, ranking, status and calibration, each with a 95%
//! interval from a bootstrap over documents (Efron and Tibshirani 1993, percentile method).
//!
//! Conventions: precision, recall and F1 without any positive are 0; macro averages run over the scenarios (or
//! categories) that occur in gold. Hierarchical figures add the ancestors of every scenario to both sides (Kiritchenko
//! et al. 2006). Mean average precision averages over scenarios that occur. Recall at 3 is the share of gold mentions
//! among each document's three most probable scenarios. The calibration error is the expected calibration error over all
//! (document, scenario) pairs, in 10 bins of equal width (Guo et al. 2017). Evidence is compared over the mentions that
//! gold and prediction share, as the mean of their token-level F1.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::labels::Status;
use crate::taxonomy::{Bilingual, Id, ScenarioIndex, Taxonomy};

const BINS: usize = 10;

/// One document: its gold codes and what was predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Positions of the coded scenarios, ascending.
    pub gold: Vec<ScenarioIndex>,
    /// Coded status.
    pub gold_status: Status,
    /// Positions of the predicted scenarios, ascending.
    pub predicted: Vec<ScenarioIndex>,
    /// Predicted status.
    pub predicted_status: Status,
    /// Probability of every scenario; empty where unknown.
    pub probabilities: Vec<f32>,
    /// Probability that all decisions are right, and whether they were marked for review; where known.
    pub certainty: Option<(f64, bool)>,
    /// Token-level F1 of the evidence of each mention that gold and prediction share and give evidence for.
    pub evidence: Vec<f64>,
}

/// A figure with its interval; `null` where it is not defined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measure {
    /// The figure on all documents.
    pub value: Option<f64>,
    /// Lower end of the 95% interval.
    pub low: Option<f64>,
    /// Upper end of the 95% interval.
    pub high: Option<f64>,
}

/// Precision, recall and F1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// Share of predictions that are right.
    pub precision: Measure,
    /// Share of gold that is found.
    pub recall: Measure,
    /// Their harmonic mean.
    pub f1: Measure,
}

/// Scores of one scenario or category.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its number.
    pub id: Id,
    /// Its name.
    pub name: Bilingual,
    /// Documents that have it in gold.
    pub support: usize,
    /// Documents for which it is predicted.
    pub predicted: usize,
    /// Its scores.
    #[serde(flatten)]
    pub scores: Scores,
}

/// What is right among documents that are accepted without review.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Acceptance {
    /// Share of documents that are accepted, in [0, 1].
    pub accepted: f64,
    /// Lowest confidence among them.
    pub confidence: f64,
    /// Share of their predicted mentions that are right.
    pub precision: Option<f64>,
    /// Share of their gold mentions that are found.
    pub recall: Option<f64>,
    /// Share of them whose mentions and status are all right.
    pub entirely_right: f64,
}

/// A finished evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Documents.
    pub n_documents: usize,
    /// Gold mentions.
    pub n_gold: usize,
    /// Predicted mentions.
    pub n_predicted: usize,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Scenarios, pooled.
    pub micro: Scores,
    /// Scenarios, mean over those that occur.
    pub macro_average: Scores,
    /// Categories, pooled.
    pub category_micro: Scores,
    /// Categories, mean over those that occur.
    pub category_macro: Scores,
    /// Scenarios with their ancestors, pooled.
    pub hierarchical: Scores,
    /// Mean over scenarios of average precision.
    pub mean_average_precision: Measure,
    /// Share of gold among the three most probable scenarios.
    pub recall_at_3: Measure,
    /// Share of documents with the right status.
    pub status_accuracy: Measure,
    /// Expected calibration error.
    pub calibration_error: Measure,
    /// Mean token-level F1 of evidence.
    pub evidence_f1: Measure,
    /// The most confident tenth, two tenths … of the documents; empty where confidences are unknown.
    pub acceptance: Vec<Acceptance>,
    /// The documents that are not marked for review.
    pub accepted: Option<Acceptance>,
    /// Every category.
    pub categories: Vec<Entry>,
    /// Every scenario that occurs or is predicted.
    pub scenarios: Vec<Entry>,
}

/// Evaluates documents with `resamples` bootstrap samples.
pub fn evaluate(documents: &[Judged], taxonomy: &Taxonomy, resamples: usize, seed: u64) -> Evaluation {
    let prepared = Prepared::new(documents, taxonomy);
    let whole = prepared.measure(&vec![1; documents.len()]);
    let samples: Vec<Vec<f64>> = (0..resamples)
        .into_par_iter()
        .map(|sample| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(sample as u64);
            let mut weights = vec![0u32; documents.len()];
            for _ in 0..documents.len() {
                weights[random.random_range(0..documents.len())] += 1;
            }
            prepared.measure(&weights)
        })
        .collect();
    let measures: Vec<Measure> = (0..whole.len())
        .into_par_iter()
        .map(|figure| {
            let mut values: Vec<f64> =
                samples.iter().map(|sample| sample[figure]).filter(|value| !value.is_nan()).collect();
            values.sort_by(f64::total_cmp);
            Measure {
                value: Some(whole[figure]).filter(|value| !value.is_nan()),
                low: quantile(&values, 0.025),
                high: quantile(&values, 0.975),
            }
        })
        .collect();
    let mut next = measures.into_iter();
    let mut scores = || {
        let mut one = || next.next().unwrap_or(Measure { value: None, low: None, high: None });
        Scores { precision: one(), recall: one(), f1: one() }
    };
    let (micro, macro_average, category_micro, category_macro, hierarchical) =
        (scores(), scores(), scores(), scores(), scores());
    // Five figures, and an empty place behind them.
    let (first, second) = (scores(), scores());
    let support = |of: &dyn Fn(&Judged) -> bool| documents.iter().filter(|document| of(document)).count();
    let category_of = |index: &ScenarioIndex| taxonomy.scenarios[*index].category;
    let mut categories = Vec::new();
    for category in &taxonomy.categories {
        categories.push(Entry {
            id: category.id,
            name: category.name.clone(),
            support: support(&|document| document.gold.iter().any(|index| category_of(index) == category.id)),
            predicted: support(&|document| document.predicted.iter().any(|index| category_of(index) == category.id)),
            scores: scores(),
        });
    }
    let mut scenarios = Vec::new();
    for (index, scenario) in taxonomy.scenarios.iter().enumerate() {
        let entry = Entry {
            id: scenario.id,
            name: scenario.name.clone(),
            support: support(&|document| document.gold.contains(&index)),
            predicted: support(&|document| document.predicted.contains(&index)),
            scores: scores(),
        };
        if entry.support + entry.predicted > 0 {
            scenarios.push(entry);
        }
    }
    Evaluation {
        n_documents: documents.len(),
        n_gold: documents.iter().map(|document| document.gold.len()).sum(),
        n_predicted: documents.iter().map(|document| document.predicted.len()).sum(),
        resamples,
        seed,
        micro,
        macro_average,
        category_micro,
        category_macro,
        hierarchical,
        mean_average_precision: first.precision,
        recall_at_3: first.recall,
        status_accuracy: first.f1,
        calibration_error: second.precision,
        evidence_f1: second.recall,
        acceptance: acceptance_curve(documents),
        accepted: accepted_by_flag(documents),
        categories,
        scenarios,
    }
}

/// The most confident documents, in tenths. Equal confidences keep the order of the documents.
fn acceptance_curve(documents: &[Judged]) -> Vec<Acceptance> {
    let mut known: Vec<(&Judged, f64)> =
        documents.iter().filter_map(|document| Some((document, document.certainty?.0))).collect();
    if known.is_empty() || known.len() < documents.len() {
        return Vec::new();
    }
    known.sort_by(|a, b| b.1.total_cmp(&a.1));
    let sorted: Vec<&Judged> = known.iter().map(|(document, _)| *document).collect();
    let counts = (1..=10).map(|tenth| (tenth * sorted.len()).div_ceil(10));
    counts.filter_map(|count| acceptance(&sorted[..count], documents.len())).collect()
}

fn accepted_by_flag(documents: &[Judged]) -> Option<Acceptance> {
    let accepted: Vec<&Judged> =
        documents.iter().filter(|document| document.certainty.is_some_and(|(_, review)| !review)).collect();
    acceptance(&accepted, documents.len())
}

fn acceptance(accepted: &[&Judged], of: usize) -> Option<Acceptance> {
    let mut counts = Counts::default();
    let mut right = 0usize;
    let mut confidence = f64::INFINITY;
    for document in accepted {
        let hits = document.predicted.iter().filter(|index| document.gold.contains(index)).count();
        let (predicted, gold) = (document.predicted.len(), document.gold.len());
        counts.add(Counts { hits: hits as f64, predicted: predicted as f64, gold: gold as f64 }, 1.0);
        let status = document.gold_status == document.predicted_status;
        right += usize::from(status && hits == predicted && hits == gold);
        confidence = confidence.min(document.certainty?.0);
    }
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    Some(Acceptance {
        accepted: share(accepted.len() as f64, of as f64).filter(|share| *share > 0.0)?,
        confidence,
        precision: share(counts.hits, counts.predicted),
        recall: share(counts.hits, counts.gold),
        entirely_right: right as f64 / accepted.len() as f64,
    })
}

/// Linear interpolation between order statistics; `None` of nothing.
/// Quantile of sorted values, interpolated; `None` where there are none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = share * last as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64))
}

/// Hits, predictions and gold of one document at one level.
#[derive(Clone, Copy, Default)]
struct Counts {
    hits: f64,
    predicted: f64,
    gold: f64,
}

impl Counts {
    fn add(&mut self, other: Counts, weight: f64) {
        self.hits += weight * other.hits;
        self.predicted += weight * other.predicted;
        self.gold += weight * other.gold;
    }

    fn scores(self) -> [f64; 3] {
        let ratio = |a: f64, b: f64| if b == 0.0 { 0.0 } else { a / b };
        [
            ratio(self.hits, self.predicted),
            ratio(self.hits, self.gold),
            ratio(2.0 * self.hits, self.predicted + self.gold),
        ]
    }
}

/// What every resample needs, computed once.
struct Prepared<'a> {
    documents: &'a [Judged],
    n_scenarios: usize,
    n_categories: usize,
    /// Positions of gold and predicted categories per document.
    categories: Vec<(Vec<usize>, Vec<usize>)>,
    hierarchical: Vec<Counts>,
    /// Documents by falling probability, for each scenario; empty without probabilities.
    rankings: Vec<Vec<usize>>,
    /// Gold scenarios among the three most probable ones.
    top_hits: Vec<f64>,
    /// Per document: (bin, sum of probabilities, positives, count).
    bins: Vec<Vec<(usize, f64, f64, f64)>>,
}

impl<'a> Prepared<'a> {
    fn new(documents: &'a [Judged], taxonomy: &Taxonomy) -> Prepared<'a> {
        let position = |id: Id| taxonomy.categories.iter().position(|category| category.id == id).unwrap_or(0);
        let above = |scenarios: &[ScenarioIndex]| {
            let (categories, sections) =
                taxonomy.ancestors(scenarios.iter().map(|&index| taxonomy.scenarios[index].id));
            (categories.into_iter().map(position).collect::<Vec<usize>>(), sections)
        };
        let mut categories = Vec::new();
        let mut hierarchical = Vec::new();
        for document in documents {
            let (gold, gold_sections) = above(&document.gold);
            let (predicted, predicted_sections) = above(&document.predicted);
            let common = |a: &[usize], b: &[usize]| a.iter().filter(|item| b.contains(item)).count();
            let sections = gold_sections.iter().filter(|section| predicted_sections.contains(section)).count();
            hierarchical.push(Counts {
                hits: (common(&document.gold, &document.predicted) + common(&gold, &predicted) + sections) as f64,
                predicted: (document.predicted.len() + predicted.len() + predicted_sections.len()) as f64,
                gold: (document.gold.len() + gold.len() + gold_sections.len()) as f64,
            });
            categories.push((gold, predicted));
        }
        let known =
            !documents.is_empty() && documents.iter().all(|document| document.probabilities.len() == taxonomy.len());
        let rank = |scenario: usize| {
            let mut order: Vec<usize> = (0..documents.len()).collect();
            let probability = |&document: &usize| documents[document].probabilities[scenario];
            order.sort_by(|a, b| probability(b).total_cmp(&probability(a)).then(a.cmp(b)));
            order
        };
        let rankings = if known { (0..taxonomy.len()).map(rank).collect() } else { Vec::new() };
        let (mut top_hits, mut bins) = (Vec::new(), Vec::new());
        if known {
            for document in documents {
                let mut order: Vec<usize> = (0..taxonomy.len()).collect();
                order.sort_by(|&a, &b| document.probabilities[b].total_cmp(&document.probabilities[a]).then(a.cmp(&b)));
                top_hits.push(order.iter().take(3).filter(|index| document.gold.contains(index)).count() as f64);
                bins.push(bin(document));
            }
        }
        Prepared {
            documents,
            n_scenarios: taxonomy.len(),
            n_categories: taxonomy.categories.len(),
            categories,
            hierarchical,
            rankings,
            top_hits,
            bins,
        }
    }

    /// All figures on documents with these multiplicities, in a fixed order; NaN where one is not defined.
    fn measure(&self, weights: &[u32]) -> Vec<f64> {
        let mut scenarios = vec![Counts::default(); self.n_scenarios];
        let mut categories = vec![Counts::default(); self.n_categories];
        let mut hierarchical = Counts::default();
        let (mut total, mut right) = (0.0, 0.0);
        for (index, document) in self.documents.iter().enumerate() {
            let weight = f64::from(weights[index]);
            if weight == 0.0 {
                continue;
            }
            tally(&mut scenarios, &document.gold, &document.predicted, weight);
            tally(&mut categories, &self.categories[index].0, &self.categories[index].1, weight);
            hierarchical.add(self.hierarchical[index], weight);
            total += weight;
            right += if document.gold_status == document.predicted_status { weight } else { 0.0 };
        }
        let mut figures = Vec::new();
        for level in [&scenarios, &categories] {
            figures.extend(pooled(level).scores());
            figures.extend(averaged(level));
        }
        figures.extend(hierarchical.scores());
        figures.push(self.mean_average_precision(weights));
        figures.push(self.recall_at_3(weights));
        figures.push(if total == 0.0 { f64::NAN } else { right / total });
        figures.push(self.calibration_error(weights));
        figures.extend([self.evidence_f1(weights), f64::NAN]);
        figures.extend(categories.iter().flat_map(|counts| counts.scores()));
        figures.extend(scenarios.iter().flat_map(|counts| counts.scores()));
        figures
    }

    fn mean_average_precision(&self, weights: &[u32]) -> f64 {
        let (mut sum, mut occurring) = (0.0, 0.0);
        for (scenario, ranking) in self.rankings.iter().enumerate() {
            let (mut seen, mut hits, mut precision) = (0.0, 0.0, 0.0);
            for &document in ranking {
                let weight = f64::from(weights[document]);
                seen += weight;
                if weight > 0.0 && self.documents[document].gold.contains(&scenario) {
                    hits += weight;
                    precision += weight * hits / seen;
                }
            }
            if hits > 0.0 {
                sum += precision / hits;
                occurring += 1.0;
            }
        }
        sum / occurring
    }

    fn recall_at_3(&self, weights: &[u32]) -> f64 {
        let (mut hits, mut gold) = (0.0, 0.0);
        for ((document, &top), &weight) in self.documents.iter().zip(&self.top_hits).zip(weights) {
            hits += f64::from(weight) * top;
            gold += f64::from(weight) * document.gold.len() as f64;
        }
        hits / gold
    }

    fn evidence_f1(&self, weights: &[u32]) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for (document, &weight) in self.documents.iter().zip(weights) {
            sum += f64::from(weight) * document.evidence.iter().sum::<f64>();
            count += f64::from(weight) * document.evidence.len() as f64;
        }
        sum / count
    }

    fn calibration_error(&self, weights: &[u32]) -> f64 {
        let mut sums = [(0.0, 0.0, 0.0); BINS];
        for (bins, &weight) in self.bins.iter().zip(weights) {
            let weight = f64::from(weight);
            for &(bin, probability, positive, count) in bins {
                sums[bin].0 += weight * probability;
                sums[bin].1 += weight * positive;
                sums[bin].2 += weight * count;
            }
        }
        let total: f64 = sums.iter().map(|sum| sum.2).sum();
        sums.iter().map(|(probability, positive, _)| (probability - positive).abs()).sum::<f64>() / total
    }
}

fn bin(document: &Judged) -> Vec<(usize, f64, f64, f64)> {
    let mut bins = vec![(0.0, 0.0, 0.0); BINS];
    for (scenario, &probability) in document.probabilities.iter().enumerate() {
        let bin = &mut bins[((probability * BINS as f32) as usize).min(BINS - 1)];
        bin.0 += f64::from(probability);
        bin.1 += if document.gold.contains(&scenario) { 1.0 } else { 0.0 };
        bin.2 += 1.0;
    }
    let filled = bins.into_iter().enumerate().filter(|(_, sums)| sums.2 > 0.0);
    filled.map(|(bin, (probability, positive, count))| (bin, probability, positive, count)).collect()
}

fn tally(counts: &mut [Counts], gold: &[usize], predicted: &[usize], weight: f64) {
    for &index in gold {
        counts[index].gold += weight;
    }
    for &index in predicted {
        counts[index].predicted += weight;
        if gold.contains(&index) {
            counts[index].hits += weight;
        }
    }
}

fn pooled(counts: &[Counts]) -> Counts {
    let mut sum = Counts::default();
    counts.iter().for_each(|counts| sum.add(*counts, 1.0));
    sum
}

fn averaged(counts: &[Counts]) -> [f64; 3] {
    let mut sum = [0.0; 3];
    let mut occurring = 0.0;
    for counts in counts.iter().filter(|counts| counts.gold > 0.0) {
        occurring += 1.0;
        for (sum, score) in sum.iter_mut().zip(counts.scores()) {
            *sum += score;
        }
    }
    sum.map(|sum| sum / occurring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(gold: &[usize], predicted: &[usize], probabilities: &[(usize, f32)]) -> Judged {
        let status = |scenarios: &[usize]| if scenarios.is_empty() { Status::Unspecified } else { Status::Coded };
        let mut all = vec![0.0; 84];
        probabilities.iter().for_each(|&(index, probability)| all[index] = probability);
        Judged {
            gold: gold.to_vec(),
            gold_status: status(gold),
            predicted: predicted.to_vec(),
            predicted_status: status(predicted),
            probabilities: all,
            certainty: None,
            evidence: Vec::new(),
        }
    }

    fn near(measure: Measure, expected: f64) {
        let value = measure.value.expect("defined");
        assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
    }

    #[test]
    fn figures_by_hand() {
        let taxonomy = Taxonomy::builtin();
        // Scenario 1 at position 0 and 16 at position 15 lie in categories 1 and 2 of section 1; 39 at 38 in section 2.
        let documents = [
            judged(&[0, 15], &[0], &[(0, 0.9), (15, 0.2), (38, 0.3)]),
            judged(&[0], &[0, 38], &[(0, 0.6), (38, 0.7)]),
            judged(&[], &[], &[]),
        ];
        let evaluation = evaluate(&documents, &taxonomy, 50, 1);
        // Hits 2, predicted 3, gold 3.
        near(evaluation.micro.precision, 2.0 / 3.0);
        near(evaluation.micro.f1, 2.0 / 3.0);
        // Scenario 1 has F1 1, scenario 16 has F1 0; scenario 39 does not occur.
        near(evaluation.macro_average.f1, 0.5);
        // With ancestors: document 1 hits {1, c1, s1} of gold {1, 16, c1, c2, s1}; document 2 hits 3 of 3, predicted 6.
        near(evaluation.hierarchical.precision, 6.0 / 9.0);
        near(evaluation.hierarchical.recall, 6.0 / 8.0);
        // Scenario 1 ranks both its documents first: 1. Scenario 16: 1.
        near(evaluation.mean_average_precision, 1.0);
        near(evaluation.recall_at_3, 1.0);
        near(evaluation.status_accuracy, 1.0);
        // |0.9-1| in [0.9,1], |0.6-1| in [0.6,0.7), |0.7-0| in [0.7,0.8), |0.2-1| in [0.2,0.3), |0.3-0| in [0.3,0.4), of 252 pairs.
        near(evaluation.calibration_error, (0.1 + 0.4 + 0.7 + 0.8 + 0.3) / 252.0);
    }

    #[test]
    fn without_probabilities_ranking_is_not_defined() {
        let mut document = judged(&[0], &[0], &[]);
        document.probabilities.clear();
        let evaluation = evaluate(&[document], &Taxonomy::builtin(), 5, 1);
        assert_eq!(evaluation.mean_average_precision.value, None);
        assert_eq!(evaluation.calibration_error.value, None);
        near(evaluation.micro.f1, 1.0);
    }

    #[test]
    fn accepted_documents_and_evidence_by_hand() {
        let with = |mut document: Judged, confidence: f64, review: bool, evidence: &[f64]| {
            document.certainty = Some((confidence, review));
            document.evidence = evidence.to_vec();
            document
        };
        let documents = [
            with(judged(&[0], &[0], &[]), 0.9, false, &[1.0]),
            with(judged(&[0, 1], &[0, 2], &[]), 0.2, true, &[0.4]),
            with(judged(&[], &[3], &[]), 0.6, false, &[]),
        ];
        let evaluation = evaluate(&documents, &Taxonomy::builtin(), 5, 1);
        near(evaluation.evidence_f1, 0.7);
        let flagged = evaluation.accepted.expect("two are accepted");
        assert_eq!((flagged.accepted, flagged.confidence), (2.0 / 3.0, 0.6));
        assert_eq!((flagged.precision, flagged.recall, flagged.entirely_right), (Some(0.5), Some(1.0), 0.5));
        // Tenths of three documents: the first is always the surest one, the last holds all.
        assert_eq!(evaluation.acceptance.len(), 10);
        assert_eq!((evaluation.acceptance[0].confidence, evaluation.acceptance[0].precision), (0.9, Some(1.0)));
        assert_eq!(evaluation.acceptance[9].precision, Some(0.5));
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 0.25), Some(1.5));
        assert_eq!(quantile(&[], 0.5), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn intervals_hold_the_figure_and_a_perfect_prediction_is_perfect(
            sets in proptest::collection::vec(proptest::collection::btree_set(0usize..84, 1..5), 2..20)
        ) {
            let documents: Vec<Judged> = sets.iter().map(|set| {
                let gold: Vec<usize> = set.iter().copied().collect();
                let probabilities: Vec<(usize, f32)> = gold.iter().map(|&index| (index, 1.0)).collect();
                judged(&gold, &gold, &probabilities)
            }).collect();
            let evaluation = evaluate(&documents, &Taxonomy::builtin(), 20, 3);
            for measure in [evaluation.micro.f1, evaluation.macro_average.f1, evaluation.hierarchical.f1, evaluation.mean_average_precision] {
                prop_assert!((measure.value.unwrap_or(0.0) - 1.0).abs() < 1e-9);
                prop_assert!(measure.low <= measure.value && measure.value <= measure.high);
            }
            prop_assert!(evaluation.calibration_error.value.unwrap_or(1.0) < 1e-9);
        }
    }
}
