//! Scores to probabilities, and probabilities to decisions.
//!
//! Platt scaling (Platt 1999) with one slope for all outputs and an offset per category and per scenario. Offsets are
//! penalised, so that a rare scenario stays near its category and a rare category near the whole.

use serde::{Deserialize, Serialize};

use crate::taxonomy::ScenarioIndex;

/// Penalties: how many observations it takes to move away from the level above.
const SLOPE_PENALTY: f64 = 2.0;
const CATEGORY_PENALTY: f64 = 1.0;
const SCENARIO_PENALTY: f64 = 2.0;

/// Positives that a scenario needs for its own threshold to weigh as much as the common one.
const THRESHOLD_PRIOR: f64 = 20.0;

/// Fitted parameters. Outputs are the scenarios in the taxonomy's order, and "outside" last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factor of every score.
    pub slope: f32,
    /// Added to the scaled score of each output.
    pub offsets: Vec<f32>,
    /// Probability from which a scenario is assigned.
    pub thresholds: Vec<f32>,
    /// Probability from which a text without scenarios is `outside` rather than `unspecified`.
    pub outside_threshold: f32,
    /// What a text must reach to need no review.
    pub accept: Certainty,
}

/// How sure the decisions on one text are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Certainty {
    /// Probability that all decisions are right, if they were independent: the product of the probabilities of what was
    /// assigned and of the counter-probabilities of what was not. In [0, 1].
    pub score: f32,
    /// Distance, in logits, between the closest decision and its threshold.
    pub margin: f32,
}

impl Certainty {
    /// Whether both figures reach those of `least`.
    pub fn reaches(self, least: Certainty) -> bool {
        self.score >= least.score && self.margin >= least.margin
    }
}

/// What a calibration is fitted to: the strongest scores of a text, and its gold codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// One score per output.
    pub scores: Vec<f32>,
    /// Positions of the coded scenarios.
    pub scenarios: Vec<ScenarioIndex>,
    /// Whether the text was coded `outside`.
    pub outside: bool,
}

/// The logistic function.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

impl Calibration {
    /// The identity, with thresholds of one half.
    pub fn identity(scenarios: usize) -> Calibration {
        Calibration {
            slope: 1.0,
            offsets: vec![0.0; scenarios + 1],
            thresholds: vec![0.5; scenarios],
            outside_threshold: 0.5,
            accept: Certainty { score: 0.0, margin: 0.0 },
        }
    }

    /// The calibrated logit of a score.
    pub fn logit(&self, output: usize, score: f32) -> f32 {
        self.slope * score + self.offsets[output]
    }

    /// How sure the decisions on these probabilities are.
    pub fn certainty(&self, probabilities: &[f32]) -> Certainty {
        let logit = |probability: f32| {
            let inside = probability.clamp(1e-6, 1.0 - 1e-6);
            (inside / (1.0 - inside)).ln()
        };
        let mut certainty = Certainty { score: 1.0, margin: f32::MAX };
        for (&probability, &threshold) in probabilities.iter().zip(&self.thresholds) {
            certainty.score *= if probability >= threshold { probability } else { 1.0 - probability };
            certainty.margin = certainty.margin.min((logit(probability) - logit(threshold)).abs());
        }
        certainty
    }

    /// Positions whose probability reaches its threshold, ascending.
    pub fn decide(&self, probabilities: &[f32]) -> Vec<ScenarioIndex> {
        let pairs = probabilities.iter().zip(&self.thresholds).enumerate();
        pairs.filter(|(_, (probability, threshold))| probability >= threshold).map(|(index, _)| index).collect()
    }

    /// Fits slope, offsets and thresholds. `categories` gives the group of each scenario.
    ///
    /// # Panics
    /// If an observation has another number of scores than `categories` has scenarios plus one.
    pub fn fit(observations: &[Observation], categories: &[usize]) -> Calibration {
        let scenarios = categories.len();
        let mut calibration = Calibration::identity(scenarios);
        if observations.is_empty() {
            return calibration;
        }
        calibration.fit_offsets(observations, categories);
        calibration.fit_thresholds(observations);
        calibration.fit_acceptance(observations);
        calibration
    }

    fn fit_offsets(&mut self, observations: &[Observation], categories: &[usize]) {
        let scenarios = categories.len();
        let groups = categories.iter().max().map_or(0, |last| last + 1);
        // "Outside" is a category of its own with one scenario.
        let group = |output: usize| if output < scenarios { categories[output] } else { groups };
        let targets: Vec<Vec<f64>> = observations
            .iter()
            .map(|observation| {
                assert_eq!(observation.scores.len(), scenarios + 1, "one score per scenario and one for outside");
                let mut target = vec![0.0; scenarios + 1];
                observation.scenarios.iter().for_each(|&scenario| target[scenario] = 1.0);
                target[scenarios] = f64::from(u8::from(observation.outside));
                target
            })
            .collect();
        let (mut log_slope, mut common) = (0.0f64, 0.0f64);
        let mut by_group = vec![0.0f64; groups + 1];
        let mut by_output = vec![0.0f64; scenarios + 1];
        // Newton steps with a diagonal Hessian, damped: the problem is convex in all but the slope, and small.
        for _ in 0..400 {
            let slope = log_slope.exp();
            let mut gradient = Gradient::new(groups + 1, scenarios + 1);
            for (observation, target) in observations.iter().zip(&targets) {
                for (output, &score) in observation.scores.iter().enumerate() {
                    let score = f64::from(score);
                    let logit = slope * score + common + by_group[group(output)] + by_output[output];
                    let probability = 1.0 / (1.0 + (-logit).exp());
                    let (error, curvature) = (probability - target[output], probability * (1.0 - probability));
                    gradient.add(group(output), output, error, curvature, slope * score);
                }
            }
            let step = |first: f64, second: f64| 0.5 * first / second.max(1e-3);
            log_slope -=
                step(gradient.slope.0 + SLOPE_PENALTY * log_slope, gradient.slope.1 + SLOPE_PENALTY).clamp(-0.2, 0.2);
            common -= step(gradient.common.0, gradient.common.1).clamp(-1.0, 1.0);
            for (value, (first, second)) in by_group.iter_mut().zip(&gradient.by_group) {
                *value -= step(first + CATEGORY_PENALTY * *value, second + CATEGORY_PENALTY).clamp(-1.0, 1.0);
            }
            for (value, (first, second)) in by_output.iter_mut().zip(&gradient.by_output) {
                *value -= step(first + SCENARIO_PENALTY * *value, second + SCENARIO_PENALTY).clamp(-1.0, 1.0);
            }
        }
        self.slope = log_slope.exp() as f32;
        for output in 0..=scenarios {
            self.offsets[output] = (common + by_group[group(output)] + by_output[output]) as f32;
        }
    }

    fn fit_thresholds(&mut self, observations: &[Observation]) {
        let scenarios = self.thresholds.len();
        let probability =
            |observation: &Observation, output: usize| sigmoid(self.logit(output, observation.scores[output]));
        let all: Vec<Vec<(f32, bool)>> = (0..scenarios)
            .map(|scenario| {
                let pair = |observation: &Observation| {
                    (probability(observation, scenario), observation.scenarios.contains(&scenario))
                };
                observations.iter().map(pair).collect()
            })
            .collect();
        let common = best_threshold(all.iter().flatten().copied());
        let thresholds = all.iter().map(|pairs| {
            let positives = pairs.iter().filter(|(_, positive)| *positive).count() as f64;
            let own = f64::from(best_threshold(pairs.iter().copied()));
            ((positives * own + THRESHOLD_PRIOR * f64::from(common)) / (positives + THRESHOLD_PRIOR)) as f32
        });
        let thresholds: Vec<f32> = thresholds.collect();
        let outside = observations
            .iter()
            .filter(|observation| observation.scenarios.is_empty())
            .map(|observation| (probability(observation, scenarios), observation.outside));
        self.outside_threshold = best_threshold(outside);
        self.thresholds = thresholds;
    }
}

/// Of the texts that need no review, this share of the assigned scenarios shall be right.
const ACCEPTED_PRECISION: f64 = 0.9;
/// Fewer accepted texts do not show a precision.
const ACCEPTED_TEXTS: usize = 20;

impl Calibration {
    /// The least certainty that accepts most texts at the precision wanted. Where no certainty gives it, none accepts.
    fn fit_acceptance(&mut self, observations: &[Observation]) {
        let judged: Vec<(Certainty, usize, usize)> = observations
            .iter()
            .map(|observation| {
                let scores = observation.scores[..self.thresholds.len()].iter().enumerate();
                let probabilities: Vec<f32> =
                    scores.map(|(output, &score)| sigmoid(self.logit(output, score))).collect();
                let assigned = self.decide(&probabilities);
                let right = assigned.iter().filter(|scenario| observation.scenarios.contains(scenario)).count();
                (self.certainty(&probabilities), assigned.len(), right)
            })
            .collect();
        let mut best: Option<(usize, Certainty)> = None;
        for score in (0..20).map(|step| step as f32 * 0.05) {
            for margin in (0..10).map(|step| step as f32 * 0.2) {
                let least = Certainty { score, margin };
                let accepted = judged.iter().filter(|(certainty, ..)| certainty.reaches(least));
                let (texts, assigned, right) =
                    accepted.fold((0, 0, 0), |sum, &(_, assigned, right)| (sum.0 + 1, sum.1 + assigned, sum.2 + right));
                let precise = right as f64 >= ACCEPTED_PRECISION * assigned as f64;
                if precise && texts >= ACCEPTED_TEXTS && best.is_none_or(|(most, _)| texts > most) {
                    best = Some((texts, least));
                }
            }
        }
        self.accept = best.map_or(Certainty { score: 1.0, margin: f32::MAX }, |(_, least)| least);
    }
}

/// First and second derivative of each parameter.
struct Gradient {
    slope: (f64, f64),
    common: (f64, f64),
    by_group: Vec<(f64, f64)>,
    by_output: Vec<(f64, f64)>,
}

impl Gradient {
    fn new(groups: usize, outputs: usize) -> Gradient {
        Gradient {
            slope: (0.0, 0.0),
            common: (0.0, 0.0),
            by_group: vec![(0.0, 0.0); groups],
            by_output: vec![(0.0, 0.0); outputs],
        }
    }

    fn add(&mut self, group: usize, output: usize, error: f64, curvature: f64, by_slope: f64) {
        for sum in [&mut self.common, &mut self.by_group[group], &mut self.by_output[output]] {
            sum.0 += error;
            sum.1 += curvature;
        }
        self.slope.0 += error * by_slope;
        self.slope.1 += curvature * by_slope * by_slope;
    }
}

/// The threshold on a grid of hundredths with the highest F1; of equals the one nearest to one half. One half where
/// there is no positive.
fn best_threshold(pairs: impl Iterator<Item = (f32, bool)>) -> f32 {
    let pairs: Vec<(f32, bool)> = pairs.collect();
    let positives = pairs.iter().filter(|(_, positive)| *positive).count();
    if positives == 0 {
        return 0.5;
    }
    let mut best = (-1.0, 0.5f32);
    for hundredth in 5..=95 {
        let threshold = hundredth as f32 / 100.0;
        let (mut hits, mut assigned) = (0usize, 0usize);
        for (probability, positive) in &pairs {
            if *probability >= threshold {
                assigned += 1;
                hits += usize::from(*positive);
            }
        }
        let f1 = 2.0 * hits as f64 / (assigned + positives) as f64;
        let nearer = (threshold - 0.5).abs() < (best.1 - 0.5).abs();
        if f1 > best.0 + 1e-12 || (f1 > best.0 - 1e-12 && nearer) {
            best = (f1, threshold);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    /// Texts of two scenarios in two categories, whose log-odds are 2 * score - 1.
    fn simulated(count: usize) -> Vec<Observation> {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        (0..count)
            .map(|_| {
                let scores: Vec<f32> = (0..3).map(|_| random.random_range(-3.0..3.0)).collect();
                let positive: Vec<bool> =
                    scores.iter().map(|score| random.random::<f32>() < sigmoid(2.0 * score - 1.0)).collect();
                let scenarios = (0..2).filter(|&scenario| positive[scenario]).collect();
                Observation { scores, scenarios, outside: positive[2] }
            })
            .collect()
    }

    #[test]
    fn slope_and_offsets_are_recovered() {
        let calibration = Calibration::fit(&simulated(4000), &[0, 1]);
        assert!((calibration.slope - 2.0).abs() < 0.15, "{calibration:?}");
        assert!(calibration.offsets.iter().all(|offset| (offset + 1.0).abs() < 0.2), "{calibration:?}");
    }

    #[test]
    fn a_scenario_without_positives_stays_near_its_category() {
        let mut observations = simulated(400);
        for observation in &mut observations {
            let rare = observation.scores[0] - 8.0;
            observation.scores.insert(1, rare);
            observation.scenarios =
                observation.scenarios.iter().map(|&scenario| if scenario == 1 { 2 } else { 0 }).collect();
        }
        let calibration = Calibration::fit(&observations, &[0, 0, 1]);
        assert!((calibration.offsets[1] - calibration.offsets[0]).abs() < 1.0, "{calibration:?}");
    }

    #[test]
    fn thresholds_maximise_f1_and_default_to_a_half() {
        let pairs = [(0.9, true), (0.7, false), (0.6, true), (0.2, false)];
        assert_eq!(best_threshold(pairs.into_iter()), 0.5);
        assert_eq!(best_threshold([(0.3, true), (0.2, false)].into_iter()), 0.3);
        assert_eq!(best_threshold([(0.3, false)].into_iter()), 0.5);
        assert_eq!(Calibration::fit(&[], &[0, 1]), Calibration::identity(2));
    }

    #[test]
    fn certainty_is_the_product_and_the_closest_decision() {
        let calibration = Calibration::identity(2);
        let certainty = calibration.certainty(&[0.8, 0.25]);
        assert!((certainty.score - 0.6).abs() < 1e-6, "{certainty:?}");
        // log(0.25 / 0.75) is closer to log(0.5 / 0.5) than log(0.8 / 0.2).
        assert!((certainty.margin - 3.0f32.ln()).abs() < 1e-5, "{certainty:?}");
    }

    #[test]
    fn texts_are_accepted_up_to_the_certainty_at_which_they_are_precise() {
        let observation = |score: f32, right: bool| Observation {
            scores: vec![score, -30.0],
            scenarios: if right { vec![0] } else { vec![] },
            outside: false,
        };
        let mut calibration = Calibration::identity(1);
        // Sure texts are right, unsure ones are wrong every other time.
        let mixed: Vec<Observation> = (0..60)
            .map(|index| if index < 30 { observation(4.0, true) } else { observation(0.4, index % 2 == 0) })
            .collect();
        calibration.fit_acceptance(&mixed);
        assert!(calibration.certainty(&[sigmoid(4.0)]).reaches(calibration.accept));
        assert!(!calibration.certainty(&[sigmoid(0.4)]).reaches(calibration.accept));
        let wrong: Vec<Observation> = (0..60).map(|_| observation(4.0, false)).collect();
        calibration.fit_acceptance(&wrong);
        assert!(!calibration.certainty(&[sigmoid(9.0)]).reaches(calibration.accept));
    }

    #[test]
    fn decisions_include_the_threshold_itself() {
        let mut calibration = Calibration::identity(3);
        calibration.thresholds[2] = 0.2;
        assert_eq!(calibration.decide(&[0.5, 0.4, 0.3]), [0, 2]);
    }
}
