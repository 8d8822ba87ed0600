//! Scores to probabilities, and probabilities to decisions.
//!
//! Platt scaling (Platt 1999) with one slope for all outputs and an offset per category and per scenario. Offsets are
//! penalised, so that a rare scenario stays near its category and a rare category near the whole. Beside its own score an output
//! heeds that of its strongest rival: few texts mention many scenarios, so that a second one needs more to be believed. It heeds, too,
//! what labelled texts like this one say.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::labels::Status;
use crate::taxonomy::ScenarioIndex;

/// Penalties: how many observations it takes to move away from the level above.
const SLOPE_PENALTY: f64 = 2.0;
const RIVALRY_PENALTY: f64 = 20.0;
const VOTES_PENALTY: f64 = 20.0;
const CATEGORY_PENALTY: f64 = 1.0;
const SCENARIO_PENALTY: f64 = 2.0;

/// Positives that a scenario needs for its own threshold to weigh as much as the common one.
const THRESHOLD_PRIOR: f64 = 20.0;

/// Fitted parameters. Outputs are the scenarios in the taxonomy's order, and "outside" last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Factor of every score.
    pub slope: f32,
    /// Factor of the score of an output's strongest rival, as [`rivals`] gives it.
    pub rivalry: f32,
    /// Factor of the votes of neighbours for an output.
    pub votes: f32,
    /// Added to the scaled scores of each output.
    pub offsets: Vec<f32>,
    /// Probability from which a scenario is assigned.
    pub thresholds: Vec<f32>,
    /// Probability from which a text without scenarios is `outside`.
    pub outside_threshold: f32,
    /// Probability from which a text that would be `unspecified` states a use all the same: it gets its likeliest
    /// scenario.
    pub use_threshold: f32,
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

/// What is decided on a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Coded, outside or unspecified.
    pub status: Status,
    /// Positions of the assigned scenarios, ascending.
    pub scenarios: Vec<ScenarioIndex>,
    /// How sure all this is.
    pub certainty: Certainty,
}

fn certainty(probabilities: &[f32], thresholds: &[f32]) -> Certainty {
    let logit = |probability: f32| {
        let inside = probability.clamp(1e-6, 1.0 - 1e-6);
        (inside / (1.0 - inside)).ln()
    };
    let mut certainty = Certainty { score: 1.0, margin: f32::MAX };
    for (&probability, &threshold) in probabilities.iter().zip(thresholds) {
        certainty.score *= if probability >= threshold { probability } else { 1.0 - probability };
        certainty.margin = certainty.margin.min((logit(probability) - logit(threshold)).abs());
    }
    certainty
}

/// What a calibration is fitted to: the strongest scores of a text, and its gold codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// One score per output.
    pub scores: Vec<f32>,
    /// For each output the votes of neighbours; 0 where there are none.
    pub votes: Vec<f32>,
    /// Positions of the coded scenarios.
    pub scenarios: Vec<ScenarioIndex>,
    /// Whether the text was coded `outside`.
    pub outside: bool,
}

/// For each output the score of its strongest rival, the highest of the other scenarios; 0 where there is no other. Outputs are the
/// scenarios and, last, "outside", which is nobody's rival.
pub fn rivals(scores: &[f32]) -> Vec<f32> {
    let scenarios = &scores[..scores.len().saturating_sub(1)];
    let strongest = (0..scenarios.len()).max_by(|&a, &b| scenarios[a].total_cmp(&scenarios[b]));
    let others = scenarios.iter().enumerate().filter(|(scenario, _)| Some(*scenario) != strongest);
    let second = others.map(|(_, &score)| score).max_by(f32::total_cmp).unwrap_or(0.0);
    let first = strongest.map_or(0.0, |scenario| scenarios[scenario]);
    (0..scores.len()).map(|output| if Some(output) == strongest { second } else { first }).collect()
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
            rivalry: 0.0,
            votes: 0.0,
            offsets: vec![0.0; scenarios + 1],
            thresholds: vec![0.5; scenarios],
            outside_threshold: 0.5,
            use_threshold: 1.0,
            accept: Certainty { score: 0.0, margin: 0.0 },
        }
    }

    /// The calibrated logit of an output's score, beside its strongest rival's and the votes for it.
    pub fn logit(&self, output: usize, score: f32, rival: f32, votes: f32) -> f32 {
        self.slope * score + self.rivalry * rival + self.votes * votes + self.offsets[output]
    }

    /// Decides on a text by the probabilities of its scenarios and of a use outside of them.
    pub fn decide(&self, probabilities: &[f32], outside: f32) -> Decision {
        let pairs = probabilities.iter().zip(&self.thresholds).enumerate();
        let reached = pairs.filter(|(_, (probability, threshold))| probability >= threshold);
        let mut scenarios: Vec<ScenarioIndex> = reached.map(|(index, _)| index).collect();
        let mut thresholds = Cow::Borrowed(&self.thresholds);
        let is_outside = outside >= self.outside_threshold;
        if scenarios.is_empty() && !is_outside {
            let likeliest = (0..probabilities.len())
                .max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]).then(b.cmp(&a)))
                .filter(|&scenario| self.use_threshold < self.thresholds[scenario]);
            if let Some(scenario) = likeliest {
                thresholds.to_mut()[scenario] = self.use_threshold;
                if probabilities[scenario] >= self.use_threshold {
                    scenarios.push(scenario);
                }
            }
        }
        let status = match scenarios.is_empty() {
            false => Status::Coded,
            true if is_outside => Status::Outside,
            true => Status::Unspecified,
        };
        Decision { status, scenarios, certainty: certainty(probabilities, &thresholds) }
    }

    /// Fits factors, offsets and thresholds. `categories` gives the group of each scenario.
    ///
    /// # Panics
    /// If an observation has another number of scores or votes than `categories` has scenarios plus one.
    pub fn fit(observations: &[Observation], categories: &[usize]) -> Calibration {
        let scenarios = categories.len();
        let mut calibration = Calibration::identity(scenarios);
        if observations.is_empty() {
            return calibration;
        }
        calibration.fit_offsets(observations, categories);
        calibration.fit_thresholds(observations);
        calibration.fit_use(observations);
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
                assert_eq!(observation.votes.len(), scenarios + 1, "votes for each scenario and for outside");
                let mut target = vec![0.0; scenarios + 1];
                observation.scenarios.iter().for_each(|&scenario| target[scenario] = 1.0);
                target[scenarios] = f64::from(u8::from(observation.outside));
                target
            })
            .collect();
        let rivals: Vec<Vec<f32>> = observations.iter().map(|observation| rivals(&observation.scores)).collect();
        let (mut log_slope, mut rivalry, mut votes, mut common) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        let mut by_group = vec![0.0f64; groups + 1];
        let mut by_output = vec![0.0f64; scenarios + 1];
        // Newton steps with a diagonal Hessian: the problem is convex in all but the slope, and small. Six parameters at most move
        // one logit, so that a quarter of each step never overshoots by more than it gains.
        for _ in 0..600 {
            let slope = log_slope.exp();
            let mut gradient = Gradient::new(groups + 1, scenarios + 1);
            for ((observation, rivals), target) in observations.iter().zip(&rivals).zip(&targets) {
                let inputs = observation.scores.iter().zip(rivals).zip(&observation.votes);
                for (output, ((&score, &rival), &voted)) in inputs.enumerate() {
                    let (score, rival, voted) = (slope * f64::from(score), f64::from(rival), f64::from(voted));
                    let offset = common + by_group[group(output)] + by_output[output];
                    let logit = score + rivalry * rival + votes * voted + offset;
                    let probability = 1.0 / (1.0 + (-logit).exp());
                    let (error, curvature) = (probability - target[output], probability * (1.0 - probability));
                    gradient.add(group(output), output, error, curvature, [score, rival, voted]);
                }
            }
            let step = |first: f64, second: f64| 0.25 * first / second.max(1e-3);
            log_slope -=
                step(gradient.slope.0 + SLOPE_PENALTY * log_slope, gradient.slope.1 + SLOPE_PENALTY).clamp(-0.2, 0.2);
            rivalry -= step(gradient.rivalry.0 + RIVALRY_PENALTY * rivalry, gradient.rivalry.1 + RIVALRY_PENALTY)
                .clamp(-0.1, 0.1);
            votes -= step(gradient.votes.0 + VOTES_PENALTY * votes, gradient.votes.1 + VOTES_PENALTY).clamp(-0.1, 0.1);
            common -= step(gradient.common.0, gradient.common.1).clamp(-1.0, 1.0);
            for (value, (first, second)) in by_group.iter_mut().zip(&gradient.by_group) {
                *value -= step(first + CATEGORY_PENALTY * *value, second + CATEGORY_PENALTY).clamp(-1.0, 1.0);
            }
            for (value, (first, second)) in by_output.iter_mut().zip(&gradient.by_output) {
                *value -= step(first + SCENARIO_PENALTY * *value, second + SCENARIO_PENALTY).clamp(-1.0, 1.0);
            }
        }
        self.slope = log_slope.exp() as f32;
        self.rivalry = rivalry as f32;
        self.votes = votes as f32;
        for output in 0..=scenarios {
            self.offsets[output] = (common + by_group[group(output)] + by_output[output]) as f32;
        }
    }

    fn fit_thresholds(&mut self, observations: &[Observation]) {
        let scenarios = self.thresholds.len();
        let judged: Vec<(Vec<f32>, f32)> = observations
            .iter()
            .map(|observation| self.probabilities(&observation.scores, &observation.votes))
            .collect();
        let all: Vec<Vec<(f32, bool)>> = (0..scenarios)
            .map(|scenario| {
                let pair = |(observation, (probabilities, _)): (&Observation, &(Vec<f32>, f32))| {
                    (probabilities[scenario], observation.scenarios.contains(&scenario))
                };
                observations.iter().zip(&judged).map(pair).collect()
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
            .zip(&judged)
            .filter(|(observation, _)| observation.scenarios.is_empty())
            .map(|(observation, (_, outside))| (*outside, observation.outside));
        self.outside_threshold = best_threshold(outside);
        self.thresholds = thresholds;
    }
}

impl Calibration {
    /// Probabilities of the scenarios, and of a use outside of them, from the scores of all outputs and the votes for them.
    pub fn probabilities(&self, scores: &[f32], votes: &[f32]) -> (Vec<f32>, f32) {
        let outputs = scores.iter().zip(rivals(scores)).zip(votes).enumerate();
        let probability = |(output, ((&score, rival), &votes))| sigmoid(self.logit(output, score, rival, votes));
        let mut probabilities: Vec<f32> = outputs.map(probability).collect();
        let outside = probabilities.pop().unwrap_or_default();
        (probabilities, outside)
    }

    /// The threshold with which most texts are rightly told to state a use or not; of equals the highest.
    fn fit_use(&mut self, observations: &[Observation]) {
        // Texts on which it decides: the likeliest probability, and whether a scenario was coded.
        let open: Vec<(f32, bool)> = observations
            .iter()
            .filter_map(|observation| {
                let (probabilities, outside) = self.probabilities(&observation.scores, &observation.votes);
                let likeliest = probabilities.iter().copied().fold(0.0, f32::max);
                let decision = self.decide(&probabilities, outside);
                (decision.status == Status::Unspecified).then_some((likeliest, !observation.scenarios.is_empty()))
            })
            .collect();
        let right =
            |threshold: f32| open.iter().filter(|(likeliest, coded)| (*likeliest >= threshold) == *coded).count();
        let grid = (5..=100).map(|hundredth| hundredth as f32 / 100.0);
        let best = grid.max_by_key(|&threshold| right(threshold));
        self.use_threshold = best.unwrap_or(1.0);
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
                let (probabilities, outside) = self.probabilities(&observation.scores, &observation.votes);
                let Decision { scenarios, certainty, .. } = self.decide(&probabilities, outside);
                let right = scenarios.iter().filter(|scenario| observation.scenarios.contains(scenario)).count();
                (certainty, scenarios.len(), right)
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
    rivalry: (f64, f64),
    votes: (f64, f64),
    common: (f64, f64),
    by_group: Vec<(f64, f64)>,
    by_output: Vec<(f64, f64)>,
}

impl Gradient {
    fn new(groups: usize, outputs: usize) -> Gradient {
        Gradient {
            slope: (0.0, 0.0),
            rivalry: (0.0, 0.0),
            votes: (0.0, 0.0),
            common: (0.0, 0.0),
            by_group: vec![(0.0, 0.0); groups],
            by_output: vec![(0.0, 0.0); outputs],
        }
    }

    /// Adds one output of a text; `inputs` are what slope, rivalry and votes are the factors of.
    fn add(&mut self, group: usize, output: usize, error: f64, curvature: f64, inputs: [f64; 3]) {
        for sum in [&mut self.common, &mut self.by_group[group], &mut self.by_output[output]] {
            sum.0 += error;
            sum.1 += curvature;
        }
        for (sum, input) in [&mut self.slope, &mut self.rivalry, &mut self.votes].into_iter().zip(inputs) {
            sum.0 += error * input;
            sum.1 += curvature * input * input;
        }
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
                Observation { scores, votes: vec![0.0; 3], scenarios, outside: positive[2] }
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
    fn rivals_are_the_highest_of_the_other_scenarios() {
        assert_eq!(rivals(&[1.0, 3.0, 2.0, 9.0]), [3.0, 2.0, 3.0, 3.0]);
        assert_eq!(rivals(&[2.0, 2.0, 9.0]), [2.0, 2.0, 2.0]);
        assert_eq!(rivals(&[4.0, 9.0]), [0.0, 4.0]);
        assert_eq!(rivals(&[9.0]), [0.0]);
    }

    #[test]
    fn a_scenario_is_less_likely_beside_a_stronger_one_where_texts_mention_few() {
        let mut observations = simulated(4000);
        assert!(Calibration::fit(&observations, &[0, 1]).rivalry.abs() < 0.1, "independent scenarios are no rivals");
        for Observation { scores, scenarios, .. } in &mut observations {
            scenarios.retain(|&scenario| scores[scenario] >= scores[1 - scenario]);
        }
        let calibration = Calibration::fit(&observations, &[0, 1]);
        assert!(calibration.rivalry < -0.5, "{calibration:?}");
        let beside = |rival: f32| calibration.probabilities(&[1.0, rival, -9.0], &[0.0; 3]).0[0];
        assert!(beside(3.0) < beside(-3.0), "{calibration:?}");
    }

    #[test]
    fn what_neighbours_say_counts_as_far_as_it_proves_true() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(8);
        let mut observations = simulated(4000);
        assert_eq!(Calibration::fit(&observations, &[0, 1]).votes, 0.0, "nobody voted");
        // Votes at random say nothing; then the log-odds of the first scenario are 2 * score + votes - 1.
        observations.iter_mut().for_each(|one| one.votes.fill_with(|| random.random_range(0.0..4.0)));
        let calibration = Calibration::fit(&observations, &[0, 1]);
        assert!(calibration.votes.abs() < 0.1, "{calibration:?}");
        for Observation { scores, votes, scenarios, outside } in &mut observations {
            let mut truth =
                |output: usize| random.random::<f32>() < sigmoid(2.0 * scores[output] + votes[output] - 1.0);
            *scenarios = (0..2).filter(|&scenario| truth(scenario)).collect();
            *outside = truth(2);
        }
        let calibration = Calibration::fit(&observations, &[0, 1]);
        assert!((calibration.votes - 1.0).abs() < 0.15 && (calibration.slope - 2.0).abs() < 0.2, "{calibration:?}");
        assert!(calibration.offsets.iter().all(|offset| (offset + 1.0).abs() < 0.3), "{calibration:?}");
    }

    #[test]
    fn a_scenario_without_positives_stays_near_its_category() {
        let mut observations = simulated(400);
        for observation in &mut observations {
            let rare = observation.scores[0] - 8.0;
            observation.scores.insert(1, rare);
            observation.votes.push(0.0);
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
        let Decision { certainty, .. } = calibration.decide(&[0.8, 0.25], 0.0);
        assert!((certainty.score - 0.6).abs() < 1e-6, "{certainty:?}");
        // log(0.25 / 0.75) is closer to log(0.5 / 0.5) than log(0.8 / 0.2).
        assert!((certainty.margin - 3.0f32.ln()).abs() < 1e-5, "{certainty:?}");
    }

    #[test]
    fn texts_are_accepted_up_to_the_certainty_at_which_they_are_precise() {
        let observation = |score: f32, right: bool| Observation {
            scores: vec![score, -30.0],
            votes: vec![0.0; 2],
            scenarios: if right { vec![0] } else { vec![] },
            outside: false,
        };
        let mut calibration = Calibration::identity(1);
        // Sure texts are right, unsure ones are wrong every other time.
        let mixed: Vec<Observation> = (0..60)
            .map(|index| if index < 30 { observation(4.0, true) } else { observation(0.4, index % 2 == 0) })
            .collect();
        calibration.fit_acceptance(&mixed);
        let accepts = |calibration: &Calibration, score: f32| {
            calibration.decide(&[sigmoid(score)], 0.0).certainty.reaches(calibration.accept)
        };
        assert!(accepts(&calibration, 4.0));
        assert!(!accepts(&calibration, 0.4));
        let wrong: Vec<Observation> = (0..60).map(|_| observation(4.0, false)).collect();
        calibration.fit_acceptance(&wrong);
        assert!(!accepts(&calibration, 9.0));
    }

    #[test]
    fn decisions_include_the_threshold_itself() {
        let mut calibration = Calibration::identity(3);
        calibration.thresholds[2] = 0.2;
        assert_eq!(calibration.decide(&[0.5, 0.4, 0.3], 0.0).scenarios, [0, 2]);
    }

    #[test]
    fn a_text_that_states_a_use_gets_its_likeliest_scenario_unless_the_use_lies_outside() {
        let mut calibration = Calibration::identity(3);
        calibration.use_threshold = 0.2;
        let decide = |probabilities: &[f32], outside: f32| {
            let Decision { status, scenarios, certainty } = calibration.decide(probabilities, outside);
            (status, scenarios, (certainty.score * 1000.0).round())
        };
        assert_eq!(decide(&[0.1, 0.3, 0.3], 0.0), (Status::Coded, vec![1], 189.0));
        assert_eq!(decide(&[0.1, 0.1, 0.1], 0.0), (Status::Unspecified, vec![], 729.0));
        assert_eq!(decide(&[0.1, 0.3, 0.3], 0.5), (Status::Outside, vec![], 441.0));
        assert_eq!(decide(&[0.6, 0.3, 0.3], 0.5), (Status::Coded, vec![0], 294.0));
    }

    #[test]
    fn the_use_threshold_parts_texts_with_a_scenario_from_those_without() {
        let observation = |score: f32, coded: bool| Observation {
            scores: vec![score, -30.0],
            votes: vec![0.0; 2],
            scenarios: if coded { vec![0] } else { vec![] },
            outside: false,
        };
        let mut calibration = Calibration::identity(1);
        // Below the threshold of one half (score 0), texts from 0.2 on (score -1.386) are coded all the same.
        let below: Vec<Observation> =
            (0..40).map(|index| -4.0 + 0.095 * index as f32).map(|score| observation(score, score > -1.386)).collect();
        calibration.fit_use(&below);
        assert!((0.17..=0.23).contains(&calibration.use_threshold), "{calibration:?}");
        calibration.fit_use(&[observation(-1.0, false), observation(4.0, true)]);
        assert_eq!(calibration.use_threshold, 1.0, "no text shows that one is needed");
    }
}
