//! How records come into an audit: fixed-size designs with known inclusion probabilities.
//!
//! Probabilities are a function of the coded records, the design and the sample's size alone, so that a filled sheet can
//! be checked against them. Only the drawing itself is random.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::survey::Coded;
use crate::taxonomy::{Id, Taxonomy};

/// A way to draw a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Design {
    /// Every record with the same probability
    Random,
    /// A random sample from each stratum: records without scenarios, of one category, of several; rare ones more often
    Stratified,
    /// The more uncertain the classifier is of a record, the more probable; needs every scenario's probability
    Uncertainty,
}

impl Design {
    /// All of them.
    pub const ALL: [Design; 3] = [Design::Random, Design::Stratified, Design::Uncertainty];

    /// The word that sheets use.
    pub fn name(self) -> &'static str {
        match self {
            Design::Random => "random",
            Design::Stratified => "stratified",
            Design::Uncertainty => "uncertainty",
        }
    }
}

/// Records below which a stratum joins the rest.
const SMALLEST_STRATUM: usize = 10;
/// Sampled records that a stratum needs for a variance.
const PER_STRATUM: usize = 2;
/// Part of the uncertainty design that does not depend on uncertainty: no record is less probable than under the random
/// design by more than this factor, so that no weight is extreme.
const EVEN_PART: f64 = 0.5;

/// What a design needs to know of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// 0 without a scenario, the category where there is one, [`Id::MAX`] for several.
    category: Id,
    /// Sum of p(1 - p) over scenarios: the variance of its number of mentions.
    uncertainty: Option<f64>,
}

impl Unit {
    /// From a coded record.
    pub fn new(coded: &Coded<'_>, taxonomy: &Taxonomy) -> Unit {
        let (categories, _) = taxonomy.ancestors(coded.scenarios.iter().copied());
        let category = match categories.as_slice() {
            [] => 0,
            [one] => *one,
            _ => Id::MAX,
        };
        let uncertainty = (coded.probabilities.len() == taxonomy.len())
            .then(|| coded.probabilities.iter().map(|probability| probability * (1.0 - probability)).sum());
        Unit { category, uncertainty }
    }
}

/// How a record may come into the sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inclusion {
    /// Probability of being drawn, in (0, 1].
    pub probability: f64,
    /// Stratum: 0 but for the stratified design.
    pub stratum: usize,
}

/// Why no sample can be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DesignError {
    /// There are not as many records.
    #[error("a sample of {wanted} was asked for, and there are {present} records; take 2 to {present}")]
    Size {
        /// Records wanted.
        wanted: usize,
        /// Records there.
        present: usize,
    },
    /// The probabilities are missing.
    #[error("the uncertainty design needs every scenario's probability; classify again with --probabilities")]
    NoProbabilities,
}

/// Inclusion probability of every record, in order.
///
/// # Errors
/// A sample larger than the population, or no probabilities for the uncertainty design.
pub fn inclusions(design: Design, units: &[Unit], size: usize) -> Result<Vec<Inclusion>, DesignError> {
    if size < PER_STRATUM || size > units.len() {
        return Err(DesignError::Size { wanted: size, present: units.len() });
    }
    match design {
        Design::Random => {
            let probability = size as f64 / units.len() as f64;
            Ok(vec![Inclusion { probability, stratum: 0 }; units.len()])
        }
        Design::Stratified => {
            let strata = strata(units, size);
            let mut counts = vec![0usize; strata.iter().max().map_or(0, |last| last + 1)];
            strata.iter().for_each(|&stratum| counts[stratum] += 1);
            let allocation = allocation(&counts, size);
            let inclusion = |&stratum: &usize| Inclusion {
                probability: allocation[stratum] as f64 / counts[stratum] as f64,
                stratum,
            };
            Ok(strata.iter().map(inclusion).collect())
        }
        Design::Uncertainty => {
            let uncertainty: Option<Vec<f64>> = units.iter().map(|unit| unit.uncertainty).collect();
            let uncertainty = uncertainty.ok_or(DesignError::NoProbabilities)?;
            let total: f64 = uncertainty.iter().sum();
            let even = 1.0 / units.len() as f64;
            let size_of = |value: &f64| {
                let uneven = if total > 0.0 { value / total } else { even };
                EVEN_PART * even + (1.0 - EVEN_PART) * uneven
            };
            let sizes: Vec<f64> = uncertainty.iter().map(size_of).collect();
            Ok(proportional(&sizes, size)
                .into_iter()
                .map(|probability| Inclusion { probability, stratum: 0 })
                .collect())
        }
    }
}

/// Probabilities proportional to size; those that would exceed 1 are certain, and the others share the rest.
fn proportional(sizes: &[f64], n: usize) -> Vec<f64> {
    let mut certain = vec![false; sizes.len()];
    loop {
        let left = n - certain.iter().filter(|certain| **certain).count();
        let pairs = || sizes.iter().zip(&certain);
        let total: f64 = pairs().filter(|(_, certain)| !**certain).map(|(size, _)| size).sum();
        let probability = |size: f64| left as f64 * size / total;
        let over: Vec<usize> = pairs()
            .enumerate()
            .filter(|(_, (size, certain))| !**certain && probability(**size) >= 1.0)
            .map(|(index, _)| index)
            .collect();
        if over.is_empty() {
            return pairs().map(|(&size, &certain)| if certain { 1.0 } else { probability(size) }).collect();
        }
        over.into_iter().for_each(|index| certain[index] = true);
    }
}

/// Stratum of each record, from 0. The smallest strata are joined until each can have its records in the sample.
fn strata(units: &[Unit], size: usize) -> Vec<usize> {
    let mut counts: BTreeMap<Id, usize> = BTreeMap::new();
    units.iter().for_each(|unit| *counts.entry(unit.category).or_default() += 1);
    let mut by_count: Vec<(usize, Id)> = counts.iter().map(|(&category, &count)| (count, category)).collect();
    by_count.sort_by(|a, b| b.cmp(a));
    let small = by_count.iter().filter(|(count, _)| *count >= SMALLEST_STRATUM).count();
    let kept = small.min((size / PER_STRATUM).saturating_sub(1));
    let mut own: Vec<Id> = by_count[..kept].iter().map(|(_, category)| *category).collect();
    own.sort_unstable();
    let mut strata: Vec<usize> =
        units.iter().map(|unit| own.binary_search(&unit.category).unwrap_or(own.len())).collect();
    // What is left over may be too little for a stratum; then it joins the last one.
    let rest = strata.iter().filter(|&&stratum| stratum == own.len()).count();
    if rest < PER_STRATUM && !own.is_empty() {
        strata.iter_mut().for_each(|stratum| *stratum = (*stratum).min(own.len() - 1));
    }
    strata
}

/// Records to draw from strata of these sizes: proportional to the root of the size (Bankier 1988), so that rare
/// categories are seen, with two or more in each.
fn allocation(counts: &[usize], size: usize) -> Vec<usize> {
    let mut allocated: Vec<usize> = counts.iter().map(|&count| count.min(PER_STRATUM)).collect();
    while allocated.iter().sum::<usize>() < size {
        // The stratum that is furthest behind its part is next.
        let behind = |&stratum: &usize| (counts[stratum] as f64).sqrt() / (allocated[stratum] + 1) as f64;
        let open = (0..counts.len()).filter(|&stratum| allocated[stratum] < counts[stratum]);
        let Some(next) = open.max_by(|a, b| behind(a).total_cmp(&behind(b)).then(b.cmp(a))) else { break };
        allocated[next] += 1;
    }
    allocated
}

/// Draws a sample: positions of records, ascending. Equal probabilities within strata give simple random samples; unequal
/// ones are drawn systematically from a random order (Madow 1949), which keeps them exactly.
pub fn draw(inclusions: &[Inclusion], seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let n_strata = inclusions.iter().map(|inclusion| inclusion.stratum + 1).max().unwrap_or(0);
    let mut drawn = Vec::new();
    for stratum in 0..n_strata {
        let mut order: Vec<usize> =
            (0..inclusions.len()).filter(|&index| inclusions[index].stratum == stratum).collect();
        order.shuffle(&mut random);
        let size = order.iter().map(|&index| inclusions[index].probability).sum::<f64>().round() as usize;
        let start: f64 = random.random();
        let (mut sum, mut taken) = (0.0, 0usize);
        for (place, &index) in order.iter().enumerate() {
            sum += inclusions[index].probability;
            // Sums of many parts miss whole numbers by a little; the last record makes up for it.
            let last = place + 1 == order.len();
            if (taken as f64 + start < sum || last) && taken < size {
                drawn.push(index);
                taken += 1;
            }
        }
    }
    drawn.sort_unstable();
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn units(seed: u64, count: usize) -> Vec<Unit> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..count)
            .map(|_| Unit {
                category: [0, 1, 1, 1, 2, 3, Id::MAX][random.random_range(0..7)],
                uncertainty: Some(random.random::<f64>().powi(4)),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_design_has_its_size_and_possible_probabilities(seed in 0u64..1000, count in 20usize..300, part in 0.05f64..1.0) {
            let units = units(seed, count);
            let size = ((count as f64 * part) as usize).max(2);
            for design in Design::ALL {
                let inclusions = inclusions(design, &units, size).expect("possible");
                prop_assert!(inclusions.iter().all(|inclusion| inclusion.probability > 0.0 && inclusion.probability <= 1.0 + 1e-12));
                let sum: f64 = inclusions.iter().map(|inclusion| inclusion.probability).sum();
                prop_assert!((sum - size as f64).abs() < 1e-6, "{design:?}: {sum} for {size}");
                let drawn = draw(&inclusions, seed);
                prop_assert_eq!(drawn.len(), size);
                prop_assert!(drawn.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn records_are_drawn_as_often_as_their_probability_says() {
        let units = units(3, 40);
        for design in Design::ALL {
            let inclusions = inclusions(design, &units, 12).expect("possible");
            let mut counts = vec![0.0; units.len()];
            let repetitions = 4000;
            for seed in 0..repetitions {
                draw(&inclusions, seed).into_iter().for_each(|index| counts[index] += 1.0 / repetitions as f64);
            }
            for (count, inclusion) in counts.iter().zip(&inclusions) {
                assert!((count - inclusion.probability).abs() < 0.035, "{design:?}: {count} {inclusion:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_sample() {
        let inclusions = inclusions(Design::Uncertainty, &units(5, 100), 20).expect("possible");
        assert_eq!(draw(&inclusions, 7), draw(&inclusions, 7));
        assert_ne!(draw(&inclusions, 7), draw(&inclusions, 8));
    }

    #[test]
    fn samples_that_cannot_be_drawn_are_refused() {
        let mut few = units(1, 10);
        assert_eq!(inclusions(Design::Random, &few, 11), Err(DesignError::Size { wanted: 11, present: 10 }));
        few[3].uncertainty = None;
        assert_eq!(inclusions(Design::Uncertainty, &few, 5), Err(DesignError::NoProbabilities));
    }
}
