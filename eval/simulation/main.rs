//! Do the corrected counts of a survey hold what their intervals promise? Populations with known truth are classified,
//! audited and surveyed, and the intervals are compared with the truth. Prints Markdown.
//!
//! ```sh
//! cargo run --release --example simulation -- 100             # populations per setting
//! cargo run --release --example simulation -- 100 'F1 0.85'   # only settings that contain this
//! ```

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use medscenario::agreement::Coding;
use medscenario::audit::design::{Design, Unit, draw, inclusions};
use medscenario::labels::{self, Status};
use medscenario::survey::{Audit, AuditedRecord, Coded, Estimate, Level, Survey, Surveyor};
use medscenario::taxonomy::{Id, Taxonomy};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal};

/// Joint draws of each survey: fewer than the program takes, because many surveys are averaged.
const DRAWS: usize = 1000;
/// True counts are reported in these bands.
const BANDS: [(&str, u32, u32); 4] = [("0", 0, 0), ("1-3", 1, 3), ("4-10", 4, 10), (">10", 11, u32::MAX)];

/// A classifier whose errors are known.
#[derive(Clone, Copy)]
enum Classifier {
    /// Numbers alone; finds true mentions with this sensitivity, and leaves others alone with this specificity.
    Labels { sensitivity: f64, specificity: f64 },
    /// Calibrated probabilities, and the threshold at which micro-F1 is highest, with this value.
    Calibrated { f1: f64 },
    /// The same, but the probabilities are too sure, too high, and differently so for each scenario.
    Miscalibrated { f1: f64 },
    /// The same as calibrated, but only the numbers are kept.
    WithoutProbabilities { f1: f64 },
}

impl Classifier {
    fn name(self) -> String {
        match self {
            Classifier::Labels { sensitivity, specificity } => {
                format!("sensitivity {sensitivity}, specificity {specificity}")
            }
            Classifier::Calibrated { f1 } => format!("F1 {f1}, calibrated"),
            Classifier::Miscalibrated { f1 } => format!("F1 {f1}, miscalibrated"),
            Classifier::WithoutProbabilities { f1 } => format!("F1 {f1}, numbers only"),
        }
    }

    fn has_probabilities(self) -> bool {
        matches!(self, Classifier::Calibrated { .. } | Classifier::Miscalibrated { .. })
    }
}

#[derive(Clone, Copy)]
struct Setting {
    n_records: usize,
    classifier: Classifier,
    design: Design,
    n_audited: usize,
    clustered: bool,
}

impl Setting {
    fn name(&self) -> String {
        let vendors = if self.clustered { ", vendors" } else { "" };
        let (design, classifier) = (self.design.name(), self.classifier.name());
        format!("{} | {classifier}{vendors} | {design} | {}", self.n_records, self.n_audited)
    }
}

/// What real products mention.
struct Gold {
    taxonomy: Taxonomy,
    sets: Vec<Vec<usize>>,
    /// Chance of each scenario among mentions, with a little for those never seen.
    chances: Vec<f64>,
    /// Chance of each scenario in a record.
    prevalences: Vec<f64>,
}

/// Part of the mentions that are drawn anew from all scenarios, so that rare ones occur.
const ANEW: f64 = 0.1;

impl Gold {
    fn read() -> Gold {
        let taxonomy = Taxonomy::builtin();
        let files = ["dev-zh.jsonl", "test-zh.jsonl"];
        let paths = files.map(|name| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("eval/gold").join(name));
        let texts = labels::read(&paths, &taxonomy).expect("gold labels");
        let sets: Vec<Vec<usize>> =
            texts.iter().map(|text| text.scenarios.iter().filter_map(|&id| taxonomy.position(id)).collect()).collect();
        let mut counts = vec![0.0f64; taxonomy.len()];
        sets.iter().flatten().for_each(|&scenario| counts[scenario] += 1.0);
        let n_mentions: f64 = counts.iter().sum();
        let all = n_mentions + 0.3 * counts.len() as f64;
        let chances: Vec<f64> = counts.iter().map(|count| (count + 0.3) / all).collect();
        let per_record = n_mentions / sets.len() as f64;
        let prevalences = counts
            .iter()
            .zip(&chances)
            .map(|(count, chance)| (1.0 - ANEW) * count / sets.len() as f64 + ANEW * per_record * chance)
            .collect();
        Gold { taxonomy, sets, chances, prevalences }
    }

    fn record(&self, random: &mut ChaCha8Rng) -> BTreeSet<usize> {
        let set = &self.sets[random.random_range(0..self.sets.len())];
        set.iter()
            .map(|&scenario| if random.random::<f64>() < ANEW { pick(&self.chances, random) } else { scenario })
            .collect()
    }
}

fn pick(chances: &[f64], random: &mut ChaCha8Rng) -> usize {
    let mut left = random.random::<f64>() * chances.iter().sum::<f64>();
    for (index, chance) in chances.iter().enumerate() {
        left -= chance;
        if left < 0.0 {
            return index;
        }
    }
    chances.len() - 1
}

fn normal() -> Normal {
    Normal::new(0.0, 1.0).expect("standard")
}

fn gauss(random: &mut ChaCha8Rng) -> f64 {
    normal().inverse_cdf(random.random::<f64>().clamp(1e-12, 1.0 - 1e-12))
}

fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Separation of the scores of true and other records, and threshold, at which the best micro-F1 is the one wanted.
fn separation(wanted: f64, prevalences: &[f64]) -> (f64, f64) {
    let best = |d: f64| -> (f64, f64) {
        let f1 = |threshold: f64| {
            let (mut hits, mut assigned) = (0.0, 0.0);
            for &prevalence in prevalences {
                let cut = (logit(threshold) - logit(prevalence) + d * d / 2.0) / d;
                hits += prevalence * normal().cdf(d - cut);
                assigned += prevalence * normal().cdf(d - cut) + (1.0 - prevalence) * normal().cdf(-cut);
            }
            2.0 * hits / (assigned + prevalences.iter().sum::<f64>())
        };
        (5..=70)
            .map(|hundredth| f64::from(hundredth) / 100.0)
            .map(|threshold| (f1(threshold), threshold))
            .fold((0.0, 0.5), |a, b| if b.0 > a.0 { b } else { a })
    };
    let (mut low, mut high) = (1.0, 8.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if best(middle).0 < wanted { low = middle } else { high = middle }
    }
    (low, best(low).1)
}

/// Errors of one row of one survey.
#[derive(Clone, Copy, Default)]
struct Tally {
    rows: f64,
    covered: f64,
    below: f64,
    width: f64,
    raw: f64,
    expected: f64,
    corrected: f64,
}

impl Tally {
    fn add(&mut self, truth: f64, raw: f64, expected: Option<f64>, estimate: &Estimate) {
        self.rows += 1.0;
        self.covered += f64::from(u8::from(estimate.low - 1e-9 <= truth && truth <= estimate.high + 1e-9));
        self.below += f64::from(u8::from(truth < estimate.low - 1e-9));
        self.width += estimate.high - estimate.low;
        self.raw += (raw - truth).abs();
        self.expected += expected.map_or(f64::NAN, |expected| (expected - truth).abs());
        self.corrected += (estimate.value - truth).abs();
    }

    fn merge(&mut self, other: &Tally) {
        self.rows += other.rows;
        self.covered += other.covered;
        self.below += other.below;
        self.width += other.width;
        self.raw += other.raw;
        self.expected += other.expected;
        self.corrected += other.corrected;
    }
}

/// Results of one setting: scenarios by band, all scenarios, categories (records, mentions), sections (both), methods.
#[derive(Clone, Default)]
struct Outcome {
    bands: [Tally; 4],
    scenarios: Tally,
    category_records: Tally,
    category_mentions: Tally,
    section_records: Tally,
    section_mentions: Tally,
    shares: Tally,
    methods: HashMap<&'static str, usize>,
}

impl Outcome {
    fn merge(mut self, other: Outcome) -> Outcome {
        for (own, other) in self.bands.iter_mut().zip(&other.bands) {
            own.merge(other);
        }
        self.scenarios.merge(&other.scenarios);
        self.category_records.merge(&other.category_records);
        self.category_mentions.merge(&other.category_mentions);
        self.section_records.merge(&other.section_records);
        self.section_mentions.merge(&other.section_mentions);
        self.shares.merge(&other.shares);
        for (method, count) in other.methods {
            *self.methods.entry(method).or_default() += count;
        }
        self
    }
}

fn simulate(gold: &Gold, setting: &Setting, models: &HashMap<String, (f64, f64)>, seed: u64) -> Outcome {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let taxonomy = &gold.taxonomy;
    let n_scenarios = taxonomy.len();
    // Records of one vendor resemble each other, and so do the errors on them.
    let mut truths: Vec<BTreeSet<usize>> = Vec::new();
    let mut vendors: Vec<usize> = Vec::new();
    let mut noise: Vec<Vec<f64>> = Vec::new();
    let mut vendor = 0;
    while truths.len() < setting.n_records {
        let size = if setting.clustered { [1, 1, 1, 2, 2, 3, 4, 6, 8, 12][random.random_range(0..10)] } else { 1 };
        let base = gold.record(&mut random);
        let common: Vec<f64> = (0..n_scenarios).map(|_| gauss(&mut random)).collect();
        for _ in 0..size.min(setting.n_records - truths.len()) {
            let same = setting.clustered && random.random::<f64>() < 0.5;
            truths.push(if same { base.clone() } else { gold.record(&mut random) });
            vendors.push(vendor);
            let part: f64 = if setting.clustered { 0.4 } else { 0.0 };
            let own = |common: &f64| part.sqrt() * common + (1.0 - part).sqrt() * gauss(&mut random);
            noise.push(common.iter().map(own).collect());
        }
        vendor += 1;
    }
    let tilt: Vec<f64> = (0..n_scenarios).map(|_| 0.5 * gauss(&mut random)).collect();
    let mut assigned: Vec<Vec<Id>> = Vec::new();
    let mut probabilities: Vec<Vec<f64>> = Vec::new();
    for (truth, noise) in truths.iter().zip(&noise) {
        let mut ids = Vec::new();
        let mut given = Vec::new();
        for scenario in 0..n_scenarios {
            let positive = truth.contains(&scenario);
            let mut yes = |probability: f64, threshold: f64| {
                given.push((probability * 1e6).round() / 1e6);
                if probability >= threshold {
                    ids.push(taxonomy.scenarios[scenario].id);
                }
            };
            match setting.classifier {
                Classifier::Labels { sensitivity, specificity } => {
                    let chance = if positive { sensitivity } else { 1.0 - specificity };
                    yes(normal().cdf(noise[scenario]), 1.0 - chance);
                }
                Classifier::Calibrated { f1 }
                | Classifier::Miscalibrated { f1 }
                | Classifier::WithoutProbabilities { f1 } => {
                    let (d, threshold) = models[&f1.to_string()];
                    let score = if positive { d } else { 0.0 } + noise[scenario];
                    let true_logit = logit(gold.prevalences[scenario]) + d * score - d * d / 2.0;
                    match setting.classifier {
                        Classifier::Miscalibrated { .. } => {
                            yes(sigmoid(1.3 * true_logit + 0.5 + tilt[scenario]), threshold)
                        }
                        _ => yes(sigmoid(true_logit), threshold),
                    }
                }
            }
        }
        assigned.push(ids);
        probabilities.push(if setting.classifier.has_probabilities() { given } else { Vec::new() });
    }
    let ids: Vec<String> = (0..truths.len()).map(|index| index.to_string()).collect();
    let coded = |index: usize| Coded {
        id: &ids[index],
        status: if assigned[index].is_empty() { Status::Unspecified } else { Status::Coded },
        scenarios: &assigned[index],
        probabilities: &probabilities[index],
        truncated: false,
    };
    let units: Vec<Unit> = (0..ids.len()).map(|index| Unit::new(&coded(index), taxonomy)).collect();
    let inclusions = inclusions(setting.design, &units, setting.n_audited).expect("a possible design");
    let record = |index: usize| {
        let scenarios: BTreeSet<Id> = truths[index].iter().map(|&scenario| taxonomy.scenarios[scenario].id).collect();
        let status = if scenarios.is_empty() { Status::Unspecified } else { Status::Coded };
        let codings = vec![Coding { status, scenarios }];
        (
            ids[index].clone(),
            AuditedRecord { codings, inclusion: inclusions[index].probability, stratum: inclusions[index].stratum },
        )
    };
    let records = draw(&inclusions, random.random()).into_iter().map(record).collect();
    let cluster = setting.clustered.then(|| "vendor".to_owned());
    let mut surveyor = Surveyor::new(taxonomy, &[]).with_audit(Audit { records, cluster }).with_draws(DRAWS);
    let names: Vec<String> = vendors.iter().map(|vendor| vendor.to_string()).collect();
    for (index, name) in names.iter().enumerate() {
        surveyor.add(&coded(index), |_| Some(name.as_str()));
    }
    judge(&surveyor.finish(String::new(), String::new(), 0), &truths, taxonomy)
}

/// Compares a survey with the truth.
fn judge(survey: &Survey, truths: &[BTreeSet<usize>], taxonomy: &Taxonomy) -> Outcome {
    let mut outcome = Outcome::default();
    let all: f64 = truths.iter().map(|truth| truth.len() as f64).sum();
    for row in &survey.frequencies {
        let below = |scenario: &usize| {
            let scenario = &taxonomy.scenarios[*scenario];
            match row.level {
                Level::Scenario => scenario.id == row.id,
                Level::Category => scenario.category == row.id,
                Level::Section => taxonomy.section_of(scenario.category) == Some(row.id),
            }
        };
        let counts: Vec<usize> =
            truths.iter().map(|truth| truth.iter().filter(|scenario| below(scenario)).count()).collect();
        let mentions = counts.iter().sum::<usize>() as f64;
        let records = counts.iter().filter(|count| **count > 0).count() as f64;
        let corrected = row.corrected.expect("an audit");
        let (raw_mentions, raw_records) = (row.mentions as f64, row.records as f64);
        if row.level == Level::Scenario {
            let band =
                BANDS.iter().position(|(_, low, high)| (*low..=*high).contains(&(mentions as u32))).expect("a band");
            outcome.bands[band].add(mentions, raw_mentions, row.expected_mentions, &corrected.mentions);
            outcome.scenarios.add(mentions, raw_mentions, row.expected_mentions, &corrected.mentions);
            outcome.shares.add(mentions / all, row.share_of_mentions, None, &corrected.share_of_mentions);
        } else {
            let (of_records, of_mentions) = match row.level {
                Level::Category => (&mut outcome.category_records, &mut outcome.category_mentions),
                _ => (&mut outcome.section_records, &mut outcome.section_mentions),
            };
            of_records.add(records, raw_records, row.expected_records, &corrected.records);
            of_mentions.add(mentions, raw_mentions, row.expected_mentions, &corrected.mentions);
        }
        *outcome.methods.entry(corrected.mentions.method.name()).or_default() += 1;
    }
    outcome
}

fn settings() -> Vec<Setting> {
    let classifiers = [
        Classifier::Labels { sensitivity: 0.9, specificity: 0.99 },
        Classifier::Labels { sensitivity: 0.9, specificity: 0.999 },
        Classifier::Labels { sensitivity: 0.7, specificity: 0.998 },
        Classifier::WithoutProbabilities { f1: 0.6 },
        Classifier::Calibrated { f1: 0.6 },
        Classifier::Calibrated { f1: 0.85 },
        Classifier::Miscalibrated { f1: 0.85 },
    ];
    let mut settings = Vec::new();
    for n_records in [300, 3000] {
        for classifier in classifiers {
            for design in Design::ALL {
                if design == Design::Uncertainty && !classifier.has_probabilities() {
                    continue;
                }
                for n_audited in [60, 100, 200] {
                    settings.push(Setting { n_records, classifier, design, n_audited, clustered: false });
                }
            }
        }
    }
    for classifier in [Classifier::Calibrated { f1: 0.6 }, Classifier::Calibrated { f1: 0.85 }, classifiers[0]] {
        settings.push(Setting { n_records: 300, classifier, design: Design::Random, n_audited: 100, clustered: true });
        settings.push(Setting { n_records: 3000, classifier, design: Design::Random, n_audited: 200, clustered: true });
    }
    settings
}

fn main() {
    let replications: u64 = std::env::args().nth(1).and_then(|argument| argument.parse().ok()).unwrap_or(20);
    let gold = Gold::read();
    let models: HashMap<String, (f64, f64)> =
        [0.6f64, 0.85].iter().map(|f1| (f1.to_string(), separation(*f1, &gold.prevalences))).collect();
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let settings: Vec<Setting> = settings().into_iter().filter(|setting| setting.name().contains(&wanted)).collect();
    let results: Vec<Outcome> = settings
        .par_iter()
        .enumerate()
        .map(|(index, setting)| {
            let run = |replication: u64| simulate(&gold, setting, &models, 1_000_000 * index as u64 + replication);
            (0..replications)
                .into_par_iter()
                .map(run)
                .collect::<Vec<_>>()
                .into_iter()
                .fold(Outcome::default(), Outcome::merge)
        })
        .collect();
    println!("{replications} populations per setting, {DRAWS} draws per survey.\n");
    println!(
        "| records | classifier | design | audited | coverage by true count {} | all | categories: records, mentions | sections: records, mentions | shares | mean width | error: raw | expected | corrected | methods |",
        BANDS.map(|band| band.0).join(" / ")
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut problems = Vec::new();
    for (setting, outcome) in settings.iter().zip(&results) {
        let coverage = |tally: &Tally| {
            if tally.rows > 0.0 { format!("{:.1}", 100.0 * tally.covered / tally.rows) } else { "-".to_owned() }
        };
        let mean =
            |sum: f64, tally: &Tally| if sum.is_nan() { "-".to_owned() } else { format!("{:.2}", sum / tally.rows) };
        let all = &outcome.scenarios;
        let name = setting.name();
        let mut methods: Vec<(&&str, &usize)> = outcome.methods.iter().collect();
        methods.sort();
        let rows: usize = outcome.methods.values().sum();
        let methods: Vec<String> = methods
            .iter()
            .map(|(method, count)| format!("{method} {:.1}%", 100.0 * **count as f64 / rows as f64))
            .collect();
        println!(
            "| {name} | {} | {} | {}, {} | {}, {} | {} | {} | {} | {} | {} | {} |",
            outcome.bands.iter().map(coverage).collect::<Vec<_>>().join(" / "),
            coverage(all),
            coverage(&outcome.category_records),
            coverage(&outcome.category_mentions),
            coverage(&outcome.section_records),
            coverage(&outcome.section_mentions),
            coverage(&outcome.shares),
            mean(all.width, all),
            mean(all.raw, all),
            mean(all.expected, all),
            mean(all.corrected, all),
            methods.join(", ")
        );
        for (band, tally) in BANDS.iter().zip(&outcome.bands) {
            if tally.rows > 0.0 && tally.covered / tally.rows < 0.93 {
                problems.push(format!(
                    "{name}: coverage {} in band {}, {} rows, {:.1}% below their interval",
                    coverage(tally),
                    band.0,
                    tally.rows,
                    100.0 * tally.below / tally.rows
                ));
            }
        }
        for (what, tally) in [
            ("category records", &outcome.category_records),
            ("category mentions", &outcome.category_mentions),
            ("section records", &outcome.section_records),
            ("section mentions", &outcome.section_mentions),
            ("shares", &outcome.shares),
        ] {
            if tally.covered / tally.rows < 0.93 {
                problems.push(format!(
                    "{name}: coverage {} of {what}, {} rows, {:.1}% below their interval",
                    coverage(tally),
                    tally.rows,
                    100.0 * tally.below / tally.rows
                ));
            }
        }
        if all.corrected >= all.raw {
            problems.push(format!(
                "{name}: error corrected {} >= raw {}",
                mean(all.corrected, all),
                mean(all.raw, all)
            ));
        }
    }
    println!(
        "\nBars: coverage 93% or more in every setting and band, corrected error below raw error in every setting.\n"
    );
    match problems.is_empty() {
        true => println!("All bars hold."),
        false => problems.iter().for_each(|problem| println!("- {problem}")),
    }
}
