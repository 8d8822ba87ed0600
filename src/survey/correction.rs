//! From counts and an audited sample to corrected counts with intervals, and the rule that chooses the method of each row.
//!
//! A row is corrected by design ([`Method::PpiPlusPlus`], [`Method::Ipw`]) where the audit found [`EVENTS`] or more
//! records that mention it, as many on which classifier and coder differ, and [`CLUSTERS`] or more clusters: there the
//! total is nearly normally distributed, and nothing needs to be assumed. Every other row comes from the hierarchical
//! model ([`Method::Bayes`]), which borrows strength from its category. Where every record is audited, nothing is left to
//! estimate ([`Method::Census`]).

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::bayes::{self, Cell, Histogram, Pool, Prior, Seen};
use super::estimate::{self, Label};
use crate::agreement::Coding;
use crate::taxonomy::{Id, Taxonomy};

/// Audited records with a mention, and audited records on which classifier and coder differ, from which a row is
/// corrected by design. Thirty is where textbooks trust a normal distribution of a mean.
pub const EVENTS: usize = 30;
/// Clusters from which a row is corrected by design; robust variances of few clusters are too small.
pub const CLUSTERS: usize = 20;
/// Joint draws from the hierarchical model.
pub const DRAWS: usize = 4000;

/// Labels of an audited sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Audit {
    /// The audited records by id.
    pub records: HashMap<String, AuditedRecord>,
    /// Column whose values are clusters, such as the vendor.
    pub cluster: Option<String>,
}

/// What people found in one record.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditedRecord {
    /// The final coding, or those of two coders who were not reconciled.
    pub codings: Vec<Coding>,
    /// Probability with which the record came into the sample, in (0, 1].
    pub inclusion: f64,
    /// Stratum from which it was drawn.
    pub stratum: usize,
}

/// How a figure was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Counted as classified.
    Raw,
    /// Prediction-powered inference, in a sample of equal probabilities.
    #[serde(rename = "ppi++")]
    PpiPlusPlus,
    /// Residuals weighted by one over their inclusion probability.
    Ipw,
    /// The hierarchical model of what the classifier adds and misses.
    Bayes,
    /// All records are audited.
    Census,
}

impl Method {
    /// The word that outputs use.
    pub fn name(self) -> &'static str {
        match self {
            Method::Raw => "raw",
            Method::PpiPlusPlus => "ppi++",
            Method::Ipw => "ipw",
            Method::Bayes => "bayes",
            Method::Census => "census",
        }
    }
}

/// A figure with its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How it was made.
    pub method: Method,
}

impl Estimate {
    /// The interval within bounds, and never without the value itself.
    fn within(value: f64, (low, high): (f64, f64), (least, most): (f64, f64), method: Method) -> Estimate {
        let value = value.clamp(least, most);
        Estimate { value, low: low.clamp(least, value), high: high.clamp(value, most), method }
    }

    fn scaled(self, factor: f64) -> Estimate {
        Estimate { value: self.value * factor, low: self.low * factor, high: self.high * factor, ..self }
    }
}

/// Corrected figures of one entry of the taxonomy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Corrected {
    /// Mentions of it, or of the scenarios below it.
    pub mentions: Estimate,
    /// Records with at least one such mention.
    pub records: Estimate,
    /// Mentions by all mentions.
    pub share_of_mentions: Estimate,
    /// Records by all records.
    pub share_of_records: Estimate,
}

/// What is estimated. Per record, a target has a value: whether there is a mention, or the number of mentions.
/// Values stand in one list: of scenarios, of any mention (categories, sections, all), and of numbers (the same).
#[derive(Debug, Clone)]
pub(super) struct Targets {
    scenario_category: Vec<usize>,
    category_section: Vec<usize>,
    n_sections: usize,
}

impl Targets {
    pub(super) fn new(taxonomy: &Taxonomy) -> Targets {
        let category = |id| taxonomy.categories.iter().position(|category| category.id == id).unwrap_or(0);
        let section = |id| taxonomy.sections.iter().position(|section| section.id == id).unwrap_or(0);
        Targets {
            scenario_category: taxonomy.scenarios.iter().map(|scenario| category(scenario.category)).collect(),
            category_section: taxonomy.categories.iter().map(|category| section(category.section)).collect(),
            n_sections: taxonomy.sections.len(),
        }
    }

    /// Entries above scenarios: categories, sections, and all together.
    fn n_above(&self) -> usize {
        self.category_section.len() + self.n_sections + 1
    }

    fn n_binary(&self) -> usize {
        self.scenario_category.len() + self.n_above()
    }

    pub(super) fn len(&self) -> usize {
        self.n_binary() + self.n_above()
    }

    /// Entries above a scenario, as positions among those.
    fn above(&self, scenario: usize) -> [usize; 3] {
        let category = self.scenario_category[scenario];
        let section = self.category_section.len() + self.category_section[category];
        [category, section, self.n_above() - 1]
    }

    /// Values of one record, from 0 and 1 or from a probability per scenario.
    pub(super) fn values(&self, scenarios: &[f64]) -> Vec<f64> {
        let n_scenarios = scenarios.len();
        let mut none = vec![1.0; self.n_above()];
        let mut sums = vec![0.0; self.n_above()];
        for (scenario, &value) in scenarios.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            for entry in self.above(scenario) {
                none[entry] *= 1.0 - value;
                sums[entry] += value;
            }
        }
        let mut values = Vec::with_capacity(n_scenarios + 2 * none.len());
        values.extend_from_slice(scenarios);
        values.extend(none.into_iter().map(|none| 1.0 - none));
        values.extend(sums);
        values
    }

    /// Places of the mentions and the records of an entry: a scenario, or a position above scenarios.
    pub(super) fn places(&self, entry: Entry) -> (usize, usize) {
        match entry {
            Entry::Scenario(index) => (index, index),
            Entry::Category(index) => self.above_places(index),
            Entry::Section(index) => self.above_places(self.category_section.len() + index),
            Entry::All => self.above_places(self.n_above() - 1),
        }
    }

    fn above_places(&self, entry: usize) -> (usize, usize) {
        (self.n_binary() + entry, self.scenario_category.len() + entry)
    }

    /// Binary targets that are modelled together, with the group of each: scenarios by category, categories by section,
    /// and sections with the whole.
    fn levels(&self) -> [(std::ops::Range<usize>, Vec<usize>); 3] {
        let (scenarios, categories) = (self.scenario_category.len(), self.category_section.len());
        [
            (0..scenarios, self.scenario_category.clone()),
            (scenarios..scenarios + categories, self.category_section.clone()),
            (scenarios + categories..self.n_binary(), vec![0; self.n_sections + 1]),
        ]
    }
}

/// An entry of the taxonomy by its position in its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Scenario(usize),
    Category(usize),
    Section(usize),
    All,
}

/// An audited record joined with its prediction.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    truth: Vec<f64>,
    coder_variance: Vec<f64>,
    assigned: Vec<f64>,
    expected: Vec<f64>,
    inclusion: f64,
    stratum: usize,
    cluster: usize,
}

impl Joined {
    pub(super) fn new(
        record: &AuditedRecord,
        assigned: Vec<f64>,
        expected: Vec<f64>,
        cluster: usize,
        targets: &Targets,
        taxonomy: &Taxonomy,
    ) -> Joined {
        let values = |coding: &Coding| {
            let found = |id: Id| f64::from(u8::from(coding.scenarios.contains(&id)));
            targets.values(&taxonomy.scenarios.iter().map(|scenario| found(scenario.id)).collect::<Vec<_>>())
        };
        let codings: Vec<Vec<f64>> = record.codings.iter().map(values).collect();
        let n = codings.len() as f64;
        let truth: Vec<f64> =
            (0..targets.len()).map(|at| codings.iter().map(|values| values[at]).sum::<f64>() / n).collect();
        // The variance of the mean of two is a quarter of their squared difference.
        let spread = |at: usize| match codings.as_slice() {
            [first, second] => (first[at] - second[at]).powi(2) / 4.0,
            _ => 0.0,
        };
        let coder_variance = (0..targets.len()).map(spread).collect();
        Joined {
            truth,
            coder_variance,
            assigned,
            expected,
            inclusion: record.inclusion,
            stratum: record.stratum,
            cluster,
        }
    }
}

/// Records of a part of the survey that were not audited, and what is predicted for all of them.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// All records.
    pub(super) n_records: f64,
    /// Sums of assigned values.
    pub(super) assigned: Vec<f64>,
    /// Sums of expected values.
    pub(super) expected: Vec<f64>,
    /// Records without audit by binary target: not assigned, assigned.
    unaudited: Vec<[f64; 2]>,
    histograms: Vec<[Histogram; 2]>,
    /// Positions of the audited records.
    pub(super) audited: Vec<usize>,
}

impl Part {
    pub(super) fn new(targets: &Targets) -> Part {
        Part {
            n_records: 0.0,
            assigned: vec![0.0; targets.len()],
            expected: vec![0.0; targets.len()],
            unaudited: Vec::new(),
            histograms: Vec::new(),
            audited: Vec::new(),
        }
    }

    /// Counts one record; `expected` is empty where there are no probabilities. What corrections need is kept only where
    /// `targets` are given.
    pub(super) fn add(
        &mut self,
        assigned: &[f64],
        expected: &[f64],
        audited: Option<usize>,
        targets: Option<&Targets>,
    ) {
        self.n_records += 1.0;
        let add = |sums: &mut [f64], values: &[f64]| sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        add(&mut self.assigned, assigned);
        add(&mut self.expected, expected);
        let Some(n_binary) = targets.map(Targets::n_binary) else { return };
        if let Some(index) = audited {
            self.audited.push(index);
            return;
        }
        if self.unaudited.is_empty() {
            self.unaudited = vec![[0.0; 2]; n_binary];
        }
        for (counts, &value) in self.unaudited.iter_mut().zip(assigned) {
            counts[usize::from(value > 0.0)] += 1.0;
        }
        if !expected.is_empty() {
            if self.histograms.is_empty() {
                self.histograms = (0..n_binary).map(|_| [Histogram::new(), Histogram::new()]).collect();
            }
            for (target, histograms) in self.histograms.iter_mut().enumerate() {
                histograms[usize::from(assigned[target] > 0.0)].add(expected[target].clamp(FLOOR, 1.0 - FLOOR), 1.0);
            }
        }
    }
}

/// Probabilities have six decimals; nothing is entirely certain.
const FLOOR: f64 = 1e-6;
/// Without probabilities: how often an assignment is right, and how many mentions are missed by mentions assigned,
/// before the audit says otherwise.
const USUAL_PRECISION: f64 = 0.7;
const USUAL_MISSED: f64 = 0.25;

/// What all parts of a survey share: the audited records, and the model fitted to them.
pub(super) struct Corrector<'a> {
    targets: &'a Targets,
    joined: &'a [Joined],
    /// Whether every record has probabilities.
    probable: bool,
    design_effect: (f64, f64),
    baselines: Vec<Baseline>,
    /// By level: the cells of records to which targets were not assigned, and of those to which they were.
    pools: Vec<[Pool; 2]>,
    draws: usize,
}

/// What stands for the classifier's probability of a target where there is none, and how frequent the target is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Baseline {
    probability: [f64; 2],
    covariate: f64,
}

impl<'a> Corrector<'a> {
    /// `clusters` gives the sizes of clusters among the records that were not audited, where there are clusters.
    pub(super) fn new(
        targets: &'a Targets,
        joined: &'a [Joined],
        whole: &Part,
        probable: bool,
        clusters: Option<&[f64]>,
        draws: usize,
    ) -> Corrector<'a> {
        let mut corrector = Corrector {
            targets,
            joined,
            probable,
            design_effect: (1.0, 1.0),
            baselines: baselines(targets, whole, probable),
            pools: Vec::new(),
            draws,
        };
        if let Some(sizes) = clusters {
            let labels: Vec<Vec<Label>> =
                (0..targets.scenario_category.len()).map(|target| corrector.labels(whole, target)).collect();
            corrector.design_effect = estimate::design_effect(&labels, sizes);
        }
        let pools = targets.levels().map(|(range, groups)| {
            corrector.cells(whole, range).map(|cells| Pool::new(cells, groups.clone(), corrector.prior()))
        });
        corrector.pools = pools.into();
        corrector
    }

    /// Factor by which clusters inflate the variance of the audited sample.
    pub(super) fn design_effect(&self) -> f64 {
        self.design_effect.0
    }

    fn prior(&self) -> Prior {
        if self.probable { bayes::CALIBRATED } else { bayes::UNKNOWN }
    }

    fn cells(&self, part: &Part, range: std::ops::Range<usize>) -> [Vec<Cell>; 2] {
        [0, 1].map(|side| {
            range
                .clone()
                .map(|target| {
                    let baseline = self.baselines[target];
                    let usual = baseline.probability[side];
                    let mut alone = Histogram::new();
                    let unaudited = match part.histograms.get(target) {
                        Some(histograms) if self.probable => &histograms[side],
                        _ => {
                            alone.add(usual, part.unaudited.get(target).map_or(0.0, |counts| counts[side]));
                            &alone
                        }
                    };
                    let seen: Vec<Seen> = part
                        .audited
                        .iter()
                        .map(|&index| &self.joined[index])
                        .filter(|joined| usize::from(joined.assigned[target] > 0.0) == side)
                        .map(|joined| {
                            let probability = if self.probable { joined.expected[target] } else { usual };
                            Seen {
                                logit: bayes::logit(probability.clamp(FLOOR, 1.0 - FLOOR)),
                                truth: joined.truth[target],
                                weight: 1.0 / joined.inclusion,
                            }
                        })
                        .collect();
                    Cell::new(unaudited, &seen, baseline.covariate, self.design_effect)
                })
                .collect()
        })
    }

    fn labels(&self, part: &Part, target: usize) -> Vec<Label> {
        let label = |joined: &Joined| Label {
            truth: joined.truth[target],
            coder_variance: joined.coder_variance[target],
            prediction: if self.probable { joined.expected[target] } else { joined.assigned[target] },
            inclusion: joined.inclusion,
            stratum: joined.stratum,
            cluster: joined.cluster,
        };
        part.audited.iter().map(|&index| label(&self.joined[index])).collect()
    }

    /// Joint draws of the totals of all targets.
    fn draws(&self, part: &Part, whole: bool, random: &mut ChaCha8Rng) -> Draws {
        let n_scenarios = self.targets.scenario_category.len();
        let mut present = vec![vec![0.0; self.draws]; self.targets.len()];
        let mut perhaps = present.clone();
        for ((range, _), pools) in self.targets.levels().iter().zip(&self.pools) {
            let own = (!whole).then(|| self.cells(part, range.clone()));
            let shifts = [0, 1]
                .map(|side| pools[side].draw(self.draws, own.as_ref().map(|cells| cells[side].as_slice()), random));
            let cells = match &own {
                Some([first, second]) => [first, second],
                None => [&pools[0].cells, &pools[1].cells],
            };
            for (item, target) in range.clone().enumerate() {
                let found = part.audited.iter().map(|&index| self.joined[index].truth[target]);
                let (known, open) = found.fold((0.0, 0), |(known, open), truth| match truth {
                    0.0 | 1.0 => (known + truth, open),
                    _ => (known, open + 1),
                });
                let pair = [&cells[0][item], &cells[1][item]];
                for draw in 0..self.draws {
                    let sides = [shifts[0][draw][item], shifts[1][draw][item]];
                    let others = bayes::unaudited(pair, sides, random);
                    let open = (0..open).filter(|_| random.random::<bool>()).count() as f64;
                    present[target][draw] = known + open + others;
                    // An audit without a mention is certain where there is none, and had this likelihood otherwise.
                    let otherwise = (1.0 - ABSENT) * sides[0].likelihood * sides[1].likelihood;
                    let absent = known == 0.0 && random.random::<f64>() < ABSENT / (ABSENT + otherwise);
                    perhaps[target][draw] = if absent { open } else { present[target][draw] };
                }
            }
        }
        for totals in [&mut present, &mut perhaps] {
            let (scenarios, above) = totals.split_at_mut(n_scenarios);
            for (scenario, draws) in scenarios.iter().enumerate() {
                for entry in self.targets.above(scenario) {
                    let sums = &mut above[self.targets.n_binary() - n_scenarios + entry];
                    sums.iter_mut().zip(draws).for_each(|(sum, draw)| *sum += draw);
                }
            }
        }
        Draws { present, perhaps }
    }

    /// Corrects all figures of a part of the survey. `whole` says that it is all of it.
    pub(super) fn correct(&self, part: &Part, whole: bool) -> Corrections {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let census = part.audited.len() as f64 == part.n_records;
        let draws = if census { Draws::default() } else { self.draws(part, whole, &mut random) };
        let rows: Vec<Row> = (0..self.targets.len())
            .map(|target| {
                let labels = self.labels(part, target);
                let found: f64 = labels.iter().map(|label| label.truth).sum();
                // What coders did not agree on may be wrong either way.
                let open: f64 = labels.iter().map(|label| label.coder_variance.sqrt()).sum();
                let most = match target < self.targets.n_binary() {
                    true => part.n_records - labels.iter().map(|label| 1.0 - label.truth).sum::<f64>() + open,
                    false => f64::INFINITY,
                };
                let bounds = (found - open, most);
                let coders = estimate::coder_variance(&labels);
                if census {
                    let half = NORMAL * coders.sqrt();
                    let estimate = Estimate::within(found, (found - half, found + half), bounds, Method::Census);
                    return Row { estimate, design: Some((labels, Vec::new())) };
                }
                if !by_design(&labels, part.audited.iter().map(|&index| self.joined[index].assigned[target])) {
                    let mut sorted = draws.perhaps[target].clone();
                    sorted.sort_by(f64::total_cmp);
                    let mut present = draws.present[target].clone();
                    present.sort_by(f64::total_cmp);
                    // The median: the smallest absolute error, where a few draws are very large.
                    let (value, interval) = (present[present.len() / 2], estimate::interval(&sorted));
                    return Row { estimate: Estimate::within(value, interval, bounds, Method::Bayes), design: None };
                }
                let predicted = if self.probable { part.expected[target] } else { part.assigned[target] };
                let estimate::Corrected { total, residuals } = estimate::correct(&labels, part.n_records, predicted);
                let variance = estimate::variance(&labels, &residuals, part.n_records) + coders;
                let half = estimate::reach(&labels) * variance.sqrt();
                let equal = labels.iter().all(|label| (label.inclusion - labels[0].inclusion).abs() < 1e-9);
                let method = if equal { Method::PpiPlusPlus } else { Method::Ipw };
                let estimate = Estimate::within(total, (total - half, total + half), bounds, method);
                Row { estimate, design: Some((labels, residuals)) }
            })
            .collect();
        let shares = self.shares(part, &rows, &draws.perhaps);
        Corrections { rows: rows.into_iter().map(|row| row.estimate).collect(), shares, n_records: part.n_records }
    }

    /// Shares of all mentions: ratios of the draws, or of totals with their joint variance (delta method).
    fn shares(&self, part: &Part, rows: &[Row], draws: &[Vec<f64>]) -> Vec<Estimate> {
        let all = self.targets.places(Entry::All).0;
        let total = rows[all].estimate;
        rows.iter()
            .enumerate()
            .map(|(target, row)| {
                let value = if total.value > 0.0 { row.estimate.value / total.value } else { 0.0 };
                let method = row.estimate.method;
                let interval = match (&row.design, &rows[all].design) {
                    (Some((labels, residuals)), Some((_, of_total))) if total.value > 0.0 => {
                        let ratio = residuals.iter().zip(of_total).map(|(one, all)| one - value * all);
                        let ratio: Vec<f64> = ratio.collect();
                        let sampling = match ratio.is_empty() {
                            true => 0.0,
                            false => estimate::variance(labels, &ratio, part.n_records),
                        };
                        let reach = if ratio.is_empty() { NORMAL } else { estimate::reach(labels) };
                        let half = reach * (sampling + estimate::coder_variance(labels)).sqrt() / total.value;
                        (value - half, value + half)
                    }
                    _ if draws.is_empty() => (value, value),
                    _ => {
                        let ratios = draws[target].iter().zip(&draws[all]);
                        let mut ratios: Vec<f64> =
                            ratios.map(|(one, all)| if *all > 0.0 { one / all } else { 0.0 }).collect();
                        ratios.sort_by(f64::total_cmp);
                        estimate::interval(&ratios)
                    }
                };
                Estimate::within(value, interval, (0.0, 1.0), method)
            })
            .collect()
    }
}

/// Joint draws of the totals of all targets, `[targets][draws]`.
#[derive(Default)]
struct Draws {
    /// Of targets that are mentioned somewhere: for estimates.
    present: Vec<Vec<f64>>,
    /// Of targets that may not be mentioned at all: for intervals.
    perhaps: Vec<Vec<f64>>,
}

/// Chance that a target is not mentioned in any record, before the audit. Of the taxonomy's scenarios, more than a
/// fourth never are in a few hundred products. Intervals allow for it; estimates stay with the model of errors.
const ABSENT: f64 = 0.25;

/// Seed of all draws: the same survey gives the same figures.
const SEED: u64 = 1;
/// How many deviations a normal interval of 95% reaches.
const NORMAL: f64 = 1.959_964;

struct Row {
    estimate: Estimate,
    /// Labels and residuals, where the row was corrected by design.
    design: Option<(Vec<Label>, Vec<f64>)>,
}

fn by_design(labels: &[Label], assigned: impl Iterator<Item = f64>) -> bool {
    let found = labels.iter().filter(|label| label.truth > 0.0).count();
    let differing = labels.iter().zip(assigned).filter(|(label, assigned)| label.truth != *assigned).count();
    let clusters: std::collections::BTreeSet<usize> = labels.iter().map(|label| label.cluster).collect();
    found >= EVENTS && differing >= EVENTS && clusters.len() >= CLUSTERS
}

fn baselines(targets: &Targets, whole: &Part, probable: bool) -> Vec<Baseline> {
    let mut baselines = Vec::new();
    for (range, _) in targets.levels() {
        let counts = if probable { &whole.expected[range] } else { &whole.assigned[range] };
        let average = counts.iter().sum::<f64>() / counts.len() as f64 + 0.5;
        for count in counts {
            let missed = (USUAL_MISSED * average / whole.n_records.max(1.0)).clamp(FLOOR, 0.5);
            let covariate = ((count + 0.5) / average).ln();
            baselines.push(Baseline { probability: [missed, USUAL_PRECISION], covariate });
        }
    }
    baselines
}

/// Corrected figures of a part of a survey.
pub(super) struct Corrections {
    rows: Vec<Estimate>,
    shares: Vec<Estimate>,
    n_records: f64,
}

impl Corrections {
    pub(super) fn of(&self, entry: Entry, targets: &Targets) -> Corrected {
        let (of_mentions, of_records) = targets.places(entry);
        let (mentions, mut records) = (self.rows[of_mentions], self.rows[of_records]);
        // Both are estimated apart, and no more records than mentions can have one.
        records.value = records.value.min(mentions.value);
        records.low = records.low.min(records.value);
        Corrected {
            mentions,
            records,
            share_of_mentions: self.shares[of_mentions],
            share_of_records: records.scaled(1.0 / self.n_records.max(1.0)),
        }
    }
}
