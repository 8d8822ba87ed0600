//! What a classifier adds and misses, as a hierarchical model, for rows on which an audit has little to say.
//!
//! The records of a target (a scenario, or "any scenario of a category") fall into two cells: those to which the classifier
//! assigned it, and the others. In each cell, the probability that a record truly mentions the target is the
//! classifier's own, shifted on the logit scale: `logit(true) = logit(classifier) + shift`. Shifts are exchangeable
//! within a category around its own centre, and categories around a common one; normal distributions, with one spread
//! that the audit decides on. The shift among assigned records says how often an assignment is right, the other how much is missed: the
//! model of sensitivity and specificity of Rogan & Gladen (1978) and Gelman & Carpenter (2020), conditional on the
//! prediction, with partial pooling (Gelman et al. 2013, ch. 5).
//!
//! Everything lives on a grid of shifts, so that the posterior is a sum over a tree and is drawn from exactly
//! (ancestral sampling); no Markov chain has to converge. Audited records are known and stay out: draws are of the
//! number of true ones among the others, given their probabilities.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};

/// Distance of neighbouring shifts, and of neighbouring bins of logits.
const STEP: f64 = 0.2;
/// Shifts: -6.4 to 6.4.
const GRID: usize = 65;
/// Bins of logits: -14 to 14, which covers probabilities with six decimals.
const BINS: usize = 141;
/// Kernels reach this many spreads far.
const REACH: f64 = 4.0;

fn shift(index: usize) -> f64 {
    (index as f64 - (GRID / 2) as f64) * STEP
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// The logit of a probability, held within what the bins cover.
pub(super) fn logit(probability: f64) -> f64 {
    let reach = (BINS / 2) as f64 * STEP;
    (probability.ln() - (-probability).ln_1p()).clamp(-reach, reach)
}

/// How many records have which probability.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    bins: Vec<f64>,
}

impl Histogram {
    pub(super) fn new() -> Histogram {
        Histogram { bins: vec![0.0; BINS] }
    }

    /// Adds `count` records, shared between the two nearest bins so that the probability itself is kept.
    pub(super) fn add(&mut self, probability: f64, count: f64) {
        let position = logit(probability) / STEP + (BINS / 2) as f64;
        let low = (position.floor() as usize).min(BINS - 2);
        let at = |bin: usize| sigmoid((bin as f64 - (BINS / 2) as f64) * STEP);
        let part = ((probability - at(low)) / (at(low + 1) - at(low))).clamp(0.0, 1.0);
        self.bins[low] += count * (1.0 - part);
        self.bins[low + 1] += count * part;
    }
}

/// An audited record in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// Logit of the classifier's probability.
    pub(super) logit: f64,
    /// 1 where the target is truly mentioned; between 0 and 1 where two coders differ.
    pub(super) truth: f64,
    /// One by the inclusion probability.
    pub(super) weight: f64,
}

/// One cell of one target.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    /// Log likelihood of each shift.
    log_likelihood: Vec<f64>,
    /// True ones expected among the records that were not audited, by shift; and the variance of their number.
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// How frequent the target is, relative to the others, on the log scale.
    covariate: f64,
    /// Records that were not audited.
    unaudited: f64,
}

impl Cell {
    /// `design_effect` is the factor by which clusters inflate variances: of the audited sample, and of the others.
    pub(super) fn new(unaudited: &Histogram, seen: &[Seen], covariate: f64, design_effect: (f64, f64)) -> Cell {
        let table: Vec<f64> =
            (0..BINS + GRID - 1).map(|index| sigmoid((index as f64 - ((BINS + GRID) / 2 - 1) as f64) * STEP)).collect();
        let (mut mean, mut variance) = (vec![0.0; GRID], vec![0.0; GRID]);
        for (bin, &count) in unaudited.bins.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            for index in 0..GRID {
                let probability = table[bin + index];
                mean[index] += count * probability;
                variance[index] += count * probability * (1.0 - probability) * design_effect.1;
            }
        }
        // Weights add up to the effective number of records (Kish 1965), so that they shift, but do not sharpen.
        let weights = |power: i32| seen.iter().map(|record| record.weight.powi(power)).sum::<f64>();
        let scale = weights(1) / weights(2).max(f64::MIN_POSITIVE) / design_effect.0;
        let log_likelihood = (0..GRID)
            .map(|index| {
                let term = |record: &Seen| {
                    let logit = record.logit + shift(index);
                    // ln of 1 - sigmoid(x) is -x + ln sigmoid(x).
                    let log_true = -(-logit).exp().ln_1p();
                    record.weight * scale * (log_true - (1.0 - record.truth) * logit)
                };
                seen.iter().map(term).sum()
            })
            .collect();
        let unaudited = unaudited.bins.iter().sum();
        Cell { log_likelihood, mean, variance, covariate, unaudited }
    }

    fn moments(&self, shift_at: f64) -> (f64, f64) {
        let low = (shift_at.floor().max(0.0) as usize).min(GRID - 2);
        let part = (shift_at - low as f64).clamp(0.0, 1.0);
        let between = |values: &[f64]| values[low] * (1.0 - part) + values[low + 1] * part;
        (between(&self.mean), between(&self.variance))
    }
}

/// What is believed before the audit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prior {
    /// Standard deviation of the common centre of all shifts.
    centre: f64,
    /// Spreads of shifts around their centre, with weights.
    spreads: [(f64, f64); 5],
    /// Dependence of the shift on how frequent a target is, with weights.
    slopes: [(f64, f64); 3],
}

/// For calibrated probabilities: shifts are small, unless the audit says otherwise.
pub(super) const CALIBRATED: Prior = Prior {
    centre: 0.5,
    spreads: [(0.15, 1.0), (0.3, 1.0), (0.6, 0.7), (1.0, 0.3), (1.6, 0.1)],
    slopes: [(-0.25, 0.3), (0.0, 1.0), (0.25, 0.3)],
};

/// Without probabilities: targets may differ by orders of magnitude, and frequent ones from rare ones.
pub(super) const UNKNOWN: Prior = Prior {
    centre: 2.0,
    spreads: [(0.4, 0.5), (0.8, 1.0), (1.4, 1.0), (2.2, 1.0), (3.2, 0.5)],
    slopes: [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0)],
};

/// Spread of categories, and of parts of the records, by that of targets.
const CATEGORY_SPREAD: f64 = 0.5;
const PART_SPREAD: f64 = 0.5;

/// A normal distribution on the grid, by distance from its centre.
struct Kernel {
    density: Vec<f64>,
    /// One by the sum over the grid, by centre.
    scale: Vec<f64>,
}

impl Kernel {
    fn new(spread: f64) -> Kernel {
        let reach = ((REACH * spread / STEP).ceil() as usize).clamp(1, GRID - 1);
        let density: Vec<f64> =
            (0..=reach).map(|distance| (-0.5 * (distance as f64 * STEP / spread).powi(2)).exp()).collect();
        let mut kernel = Kernel { density, scale: vec![1.0; GRID] };
        kernel.scale = (0..GRID)
            .map(|centre| 1.0 / kernel.range(centre).map(|at| kernel.density[at.abs_diff(centre)]).sum::<f64>())
            .collect();
        kernel
    }

    fn range(&self, centre: usize) -> std::ops::Range<usize> {
        let reach = self.density.len() - 1;
        centre.saturating_sub(reach)..(centre + reach + 1).min(GRID)
    }

    fn at(&self, at: usize, centre: usize) -> f64 {
        self.density[at.abs_diff(centre)] * self.scale[centre]
    }

    /// The integral of `values` under the kernel at each centre.
    fn smooth(&self, values: &[f64]) -> Vec<f64> {
        let under = |centre: usize| self.range(centre).map(|at| values[at] * self.at(at, centre)).sum();
        (0..GRID).map(under).collect()
    }

    /// Draws a place with a probability proportional to `values` under the kernel; with their integral.
    fn draw(&self, values: &[f64], centre: usize, random: &mut ChaCha8Rng) -> (usize, f64) {
        let total: f64 = self.range(centre).map(|at| values[at] * self.density[at.abs_diff(centre)]).sum();
        let mut left = random.random::<f64>() * total;
        for at in self.range(centre) {
            left -= values[at] * self.density[at.abs_diff(centre)];
            if left < 0.0 {
                return (at, total * self.scale[centre]);
            }
        }
        (centre, total * self.scale[centre])
    }
}

/// Values relative to the largest, from their logs.
fn relative(logs: &[f64]) -> Vec<f64> {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logs.iter().map(|log| (log - most).exp()).collect()
}

/// One spread and slope, with what the audit says given these.
struct Node {
    slope: f64,
    /// Of targets around their category, categories around the common centre, and parts of the records around all.
    items: Kernel,
    categories: Kernel,
    domains: Kernel,
    /// Likelihood of each category's centre, relative to its largest.
    groups: Vec<Vec<f64>>,
    /// Log posterior of each common centre.
    centre: Vec<f64>,
}

/// A drawn shift of one cell of one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shift {
    /// Its place on the grid.
    place: f64,
    /// Likelihood of what the audit found in the cell, given the drawn centre.
    pub(super) likelihood: f64,
}

/// The posterior of one cell of several targets, which `groups` puts into categories.
pub(super) struct Pool {
    /// The cells, by target.
    pub(super) cells: Vec<Cell>,
    groups: Vec<usize>,
    likelihoods: Vec<Vec<f64>>,
    nodes: Vec<Node>,
}

impl Pool {
    pub(super) fn new(cells: Vec<Cell>, groups: Vec<usize>, prior: Prior) -> Pool {
        let likelihoods: Vec<Vec<f64>> = cells.iter().map(|cell| relative(&cell.log_likelihood)).collect();
        let n_groups = groups.iter().max().map_or(0, |last| last + 1);
        let node = |(slope, slope_weight): (f64, f64), (spread, weight): (f64, f64)| {
            let (items, categories) = (Kernel::new(spread), Kernel::new(spread * CATEGORY_SPREAD));
            let mut logs = vec![vec![0.0f64; GRID]; n_groups];
            for ((cell, likelihood), &group) in cells.iter().zip(&likelihoods).zip(&groups) {
                let smooth = items.smooth(likelihood);
                for (centre, log) in logs[group].iter_mut().enumerate() {
                    *log += smooth[moved(centre, slope * cell.covariate)].max(f64::MIN_POSITIVE).ln();
                }
            }
            let mut centre: Vec<f64> =
                (0..GRID).map(|at| (slope_weight * weight).ln() - 0.5 * (shift(at) / prior.centre).powi(2)).collect();
            let mut groups = Vec::new();
            for log in logs {
                let most = log.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let values = relative(&log);
                for (sum, value) in centre.iter_mut().zip(categories.smooth(&values)) {
                    *sum += most + value.max(f64::MIN_POSITIVE).ln();
                }
                groups.push(values);
            }
            Node { slope, items, categories, domains: Kernel::new(spread * PART_SPREAD), groups, centre }
        };
        let nodes = prior.slopes.iter().flat_map(|&slope| prior.spreads.map(|spread| node(slope, spread))).collect();
        Pool { cells, groups, likelihoods, nodes }
    }

    /// Draws the shifts of all targets together, `draws` times, `[draws][targets]`. With `domain`,
    /// the cells of a part of the records, shifts are the part's own, around those of all records.
    pub(super) fn draw(&self, draws: usize, domain: Option<&[Cell]>, random: &mut ChaCha8Rng) -> Vec<Vec<Shift>> {
        let logs: Vec<f64> = self.nodes.iter().flat_map(|node| node.centre.iter().copied()).collect();
        let weights = relative(&logs);
        let total: f64 = weights.iter().sum();
        let parts: Option<Vec<(Vec<f64>, Vec<f64>)>> = domain.map(|cells| {
            let split = |(all, part): (&Cell, &Cell)| {
                let pairs = all.log_likelihood.iter().zip(&part.log_likelihood);
                (relative(&pairs.map(|(all, part)| all - part).collect::<Vec<_>>()), relative(&part.log_likelihood))
            };
            self.cells.iter().zip(cells).map(split).collect()
        });
        let offset: f64 = random.random();
        let (mut at, mut before) = (0, 0.0);
        let mut result = Vec::with_capacity(draws);
        for draw in 0..draws {
            // Equal steps through the posterior of spread and centre leave less to chance.
            let wanted = (draw as f64 + offset) / draws as f64 * total;
            while before + weights[at] < wanted && at + 1 < weights.len() {
                before += weights[at];
                at += 1;
            }
            let (node, root) = (&self.nodes[at / GRID], at % GRID);
            let centres: Vec<usize> =
                node.groups.iter().map(|values| node.categories.draw(values, root, random).0).collect();
            let shifts = (0..self.cells.len()).map(|item| {
                let centre = moved(centres[self.groups[item]], node.slope * self.cells[item].covariate);
                let ((place, under), cell) = match (&parts, domain) {
                    (Some(parts), Some(cells)) => {
                        let (all, _) = node.items.draw(&parts[item].0, centre, random);
                        (node.domains.draw(&parts[item].1, all, random), &cells[item])
                    }
                    _ => (node.items.draw(&self.likelihoods[item], centre, random), &self.cells[item]),
                };
                let most = cell.log_likelihood.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                Shift { place: place as f64 + random.random::<f64>() - 0.5, likelihood: under * most.exp() }
            });
            result.push(shifts.collect());
        }
        // Draws stand in the order of spread and centre; those of the other cell must not meet them in it.
        result.shuffle(random);
        result
    }
}

/// A place on the grid, moved and kept on it.
fn moved(place: usize, by: f64) -> usize {
    (place as f64 + (by / STEP).round()).clamp(0.0, (GRID - 1) as f64) as usize
}

/// A draw of the true ones among the records of both cells that were not audited.
pub(super) fn unaudited(cells: [&Cell; 2], shifts: [Shift; 2], random: &mut ChaCha8Rng) -> f64 {
    let [first, second] = [0, 1].map(|index| cells[index].moments(shifts[index].place));
    let limit = cells[0].unaudited + cells[1].unaudited;
    count(first.0 + second.0, first.1 + second.1, limit, random.random())
}

/// Quantile of a distribution of counts with this mean and variance: binomial where the variance is smaller than the
/// mean, as that of a sum of unequal chances (Ehm 1991), negative binomial where it is larger, normal where it is big.
fn count(mean: f64, variance: f64, limit: f64, quantile: f64) -> f64 {
    if mean <= 0.0 || limit <= 0.0 {
        return 0.0;
    }
    if variance > 25.0 {
        let normal = Normal::new(mean, variance.sqrt()).expect("mean and deviation are finite");
        return normal.inverse_cdf(quantile).round().clamp(0.0, limit.round());
    }
    let ratio = variance / mean;
    let (mut probability, step): (f64, Box<dyn Fn(f64) -> f64>) = if ratio < 0.999 {
        let trials = mean / (1.0 - ratio);
        let (p, q) = (1.0 - ratio, ratio.max(1e-12));
        (q.powf(trials), Box::new(move |k| ((trials - k) / (k + 1.0) * p / q).max(0.0)))
    } else if ratio > 1.001 {
        let size = mean / (ratio - 1.0);
        ((1.0 / ratio).powf(size), Box::new(move |k| (k + size) / (k + 1.0) * (1.0 - 1.0 / ratio)))
    } else {
        ((-mean).exp(), Box::new(move |k| mean / (k + 1.0)))
    };
    // Nearly certain counts leave no probability at 0 to start from.
    if probability < 1e-280 {
        return mean.round().clamp(0.0, limit.round());
    }
    let (mut sum, mut k) = (probability, 0.0);
    while sum < quantile && k < limit.round() && probability > 0.0 {
        probability *= step(k);
        k += 1.0;
        sum += probability;
    }
    k
}
