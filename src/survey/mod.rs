//! Mention frequencies: how many records mention each scenario, category and section.
//!
//! A mention is one (record, scenario) pair, so that a scenario counts once per product, as in VBInsight's survey. A
//! category's mentions are the mentions of its scenarios; its records are the records with at least one of them.
//!
//! Counts come in three ways: as classified (raw); expected, the sum of the calibrated probabilities, where every record
//! has them; and corrected with an audited sample, with 95% intervals, as [`correction`] describes.

mod bayes;
pub mod correction;
mod estimate;
pub mod plan;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::labels::Status;
use crate::prediction::Prediction;
use crate::taxonomy::{Bilingual, Id, Taxonomy};
pub use correction::{Audit, AuditedRecord, Corrected, Estimate, Method};
use correction::{Corrections, Corrector, DRAWS, Entry, Joined, Part, Targets};

/// Counts over a set of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Records counted.
    pub n_records: u64,
    /// Records by status, in the order of [`Status::ALL`].
    pub by_status: [u64; 3],
    /// Mentions of each scenario, in the taxonomy's order.
    pub scenarios: Vec<u64>,
    /// Records that mention each category, in the taxonomy's order.
    pub category_records: Vec<u64>,
    /// Records that mention each section, in the taxonomy's order.
    pub section_records: Vec<u64>,
}

impl Tally {
    fn new(taxonomy: &Taxonomy) -> Tally {
        Tally {
            n_records: 0,
            by_status: [0; 3],
            scenarios: vec![0; taxonomy.len()],
            category_records: vec![0; taxonomy.categories.len()],
            section_records: vec![0; taxonomy.sections.len()],
        }
    }

    fn add(&mut self, status: Status, scenarios: &[Id], taxonomy: &Taxonomy) {
        self.n_records += 1;
        self.by_status[Status::ALL.iter().position(|&known| known == status).unwrap_or(0)] += 1;
        for index in scenarios.iter().filter_map(|&id| taxonomy.position(id)) {
            self.scenarios[index] += 1;
        }
        let (categories, sections) = taxonomy.ancestors(scenarios.iter().copied());
        for (index, category) in taxonomy.categories.iter().enumerate() {
            self.category_records[index] += u64::from(categories.contains(&category.id));
        }
        for (index, section) in taxonomy.sections.iter().enumerate() {
            self.section_records[index] += u64::from(sections.contains(&section.id));
        }
    }

    /// Mentions of all scenarios together.
    pub fn n_mentions(&self) -> u64 {
        self.scenarios.iter().sum()
    }
}

/// A level of the taxonomy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Sections
    Section,
    /// Categories
    Category,
    /// Scenarios
    Scenario,
}

/// How often one entry of the taxonomy is mentioned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frequency {
    /// Its level.
    pub level: Level,
    /// Its number.
    pub id: Id,
    /// Its name.
    pub name: Bilingual,
    /// Mentions of it, or of the scenarios below it.
    pub mentions: u64,
    /// Records with at least one such mention.
    pub records: u64,
    /// Mentions by all mentions, in [0, 1]; 0 where there are none.
    pub share_of_mentions: f64,
    /// Records by all records, in [0, 1]; 0 where there are none.
    pub share_of_records: f64,
    /// Sum of the probabilities of mentions; `None` where a record has none.
    pub expected_mentions: Option<f64>,
    /// Sum of the probabilities that a record has at least one such mention; `None` where a record has none.
    pub expected_records: Option<f64>,
    /// Corrected figures; `None` without an audit.
    pub corrected: Option<Corrected>,
}

/// Totals of a set of records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// Records counted.
    pub n_records: u64,
    /// Records with one or more scenarios.
    pub n_coded: u64,
    /// Records with a use that no scenario covers.
    pub n_outside: u64,
    /// Records without a stated use.
    pub n_unspecified: u64,
    /// Mentions.
    pub n_mentions: u64,
    /// Mentions by records.
    pub mentions_per_record: f64,
    /// Sections with mentions.
    pub sections_touched: usize,
    /// Sections of the taxonomy.
    pub sections_total: usize,
    /// Categories with mentions.
    pub categories_touched: usize,
    /// Categories of the taxonomy.
    pub categories_total: usize,
    /// Scenarios with mentions.
    pub scenarios_touched: usize,
    /// Scenarios of the taxonomy.
    pub scenarios_total: usize,
    /// Sum of the probabilities of mentions; `None` where a record has none.
    pub expected_mentions: Option<f64>,
    /// Mentions and records with one or more scenarios, corrected; `None` without an audit.
    pub corrected: Option<Corrected>,
}

impl<'a> Coded<'a> {
    /// From a prediction and its [`ids`](Prediction::ids).
    pub fn new(prediction: &'a Prediction, scenarios: &'a [Id]) -> Coded<'a> {
        Coded {
            id: &prediction.id,
            status: prediction.status,
            scenarios,
            probabilities: &prediction.probabilities,
            truncated: prediction.truncated,
        }
    }
}

/// What the corrected figures rest on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditSummary {
    /// Audited records.
    pub n_audited: u64,
    /// Audited records with two codings that nobody has reconciled, and that differ.
    pub n_differing: u64,
    /// Column of the clusters.
    pub cluster: Option<String>,
    /// Factor by which clusters inflate variances, 1 without clusters.
    pub design_effect: f64,
}

/// What is known of counts that were derived from codes in another taxonomy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Derived {
    /// The crosswalk and the beginning of its digest.
    pub crosswalk: String,
    /// The taxonomy of the codes and the beginning of its digest.
    pub from: String,
    /// Mentions in that taxonomy.
    pub n_mentions: u64,
    /// Those of them that have no counterpart.
    pub n_without_counterpart: u64,
    /// Coded records without any counterpart, which are counted as outside.
    pub n_records_without_counterpart: u64,
}

/// One coded record, as a survey counts it.
#[derive(Debug, Clone, Copy)]
pub struct Coded<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its status.
    pub status: Status,
    /// Its scenarios.
    pub scenarios: &'a [Id],
    /// Probability of every scenario in the taxonomy's order; empty where they were not kept.
    pub probabilities: &'a [f64],
    /// Whether its description was cut.
    pub truncated: bool,
}

/// Totals and frequencies of the records with one value of a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The value; empty where the column is.
    pub value: String,
    /// Its totals.
    pub totals: Totals,
    /// Its frequencies.
    pub frequencies: Vec<Frequency>,
}

/// A breakdown by one column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Breakdown {
    /// The column, or `year`.
    pub column: String,
    /// One group per value, ascending.
    pub groups: Vec<Group>,
}

/// A finished survey.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survey {
    /// Taxonomy and the beginning of its digest.
    pub taxonomy: String,
    /// The model that coded the records; empty where they came coded.
    pub model: String,
    /// Rows that were turned away and are in no count.
    pub n_rejected: u64,
    /// Records whose description was cut.
    pub n_truncated: u64,
    /// The crosswalk behind the counts; `None` where records were coded in this taxonomy.
    pub derived: Option<Derived>,
    /// The audit; `None` without one.
    pub audit: Option<AuditSummary>,
    /// Totals over all records.
    pub totals: Totals,
    /// Frequencies over all records.
    pub frequencies: Vec<Frequency>,
    /// Breakdowns, in the order asked for.
    pub breakdowns: Vec<Breakdown>,
}

/// Counts records one by one.
pub struct Surveyor<'a> {
    taxonomy: &'a Taxonomy,
    targets: Targets,
    total: Counts,
    by: Vec<(String, BTreeMap<String, Counts>)>,
    n_truncated: u64,
    probable: bool,
    audit: Option<Audit>,
    joined: Vec<Joined>,
    n_differing: u64,
    /// Number and records without audit of each cluster.
    clusters: HashMap<String, (usize, f64)>,
    draws: usize,
}

/// Counts of a set of records, with what corrections need.
struct Counts {
    tally: Tally,
    part: Part,
}

impl Counts {
    fn new(taxonomy: &Taxonomy, targets: &Targets) -> Counts {
        Counts { tally: Tally::new(taxonomy), part: Part::new(targets) }
    }
}

impl<'a> Surveyor<'a> {
    /// Starts a survey, broken down by the columns named.
    pub fn new(taxonomy: &'a Taxonomy, by: &[String]) -> Surveyor<'a> {
        let by = by.iter().map(|column| (column.clone(), BTreeMap::new())).collect();
        let targets = Targets::new(taxonomy);
        Surveyor {
            taxonomy,
            total: Counts::new(taxonomy, &targets),
            targets,
            by,
            n_truncated: 0,
            probable: true,
            audit: None,
            joined: Vec::new(),
            n_differing: 0,
            clusters: HashMap::new(),
            draws: DRAWS,
        }
    }

    /// Corrects the counts with an audited sample of the records that follow.
    pub fn with_audit(mut self, audit: Audit) -> Surveyor<'a> {
        self.audit = Some(audit);
        self
    }

    /// Draws from the model less or more often than [`DRAWS`] times: for simulations, which repeat surveys instead.
    pub fn with_draws(mut self, draws: usize) -> Surveyor<'a> {
        self.draws = draws;
        self
    }

    /// Counts one record. `value` gives the value of a column.
    pub fn add<'v>(&mut self, coded: &Coded<'_>, value: impl Fn(&str) -> Option<&'v str>) {
        self.n_truncated += u64::from(coded.truncated);
        self.probable &= coded.probabilities.len() == self.taxonomy.len();
        let expected = if self.probable { self.targets.values(coded.probabilities) } else { Vec::new() };
        let mut flags = vec![0.0; self.taxonomy.len()];
        coded.scenarios.iter().filter_map(|&id| self.taxonomy.position(id)).for_each(|index| flags[index] = 1.0);
        let assigned = self.targets.values(&flags);
        let audited = self.join(coded.id, &assigned, &expected, &value);
        let detailed = self.audit.is_some();
        let (taxonomy, targets) = (self.taxonomy, &self.targets);
        let count = |group: &mut Counts| {
            group.tally.add(coded.status, coded.scenarios, taxonomy);
            group.part.add(&assigned, &expected, audited, detailed.then_some(targets));
        };
        count(&mut self.total);
        for (column, groups) in &mut self.by {
            let value = if column == "year" { year(&value) } else { value(column) };
            let value = value.unwrap_or_default().trim().to_owned();
            count(groups.entry(value).or_insert_with(|| Counts::new(taxonomy, targets)));
        }
    }

    /// Joins a record with its audit: its position among the audited records, where it is one.
    fn join<'v>(
        &mut self,
        id: &str,
        assigned: &[f64],
        expected: &[f64],
        value: &impl Fn(&str) -> Option<&'v str>,
    ) -> Option<usize> {
        let audit = self.audit.as_ref()?;
        // A record without a value is a cluster of its own.
        let name =
            audit.cluster.as_ref().and_then(|column| value(column)).map(str::trim).filter(|name| !name.is_empty());
        let next = self.clusters.len();
        let key = name.map_or_else(|| format!("\u{0}{next}"), str::to_owned);
        let record = audit.records.get(id);
        let mut cluster = self.joined.len();
        if audit.cluster.is_some() {
            let (number, others) = self.clusters.entry(key).or_insert((next, 0.0));
            cluster = *number;
            *others += f64::from(u8::from(record.is_none()));
        }
        let record = record?;
        self.n_differing += u64::from(record.codings.windows(2).any(|pair| pair[0] != pair[1]));
        let (assigned, expected) = (assigned.to_vec(), expected.to_vec());
        self.joined.push(Joined::new(record, assigned, expected, cluster, &self.targets, self.taxonomy));
        Some(self.joined.len() - 1)
    }

    /// Columns to break down by that no record has; a mistyped name ends here.
    pub fn missing_columns(&self) -> Vec<&str> {
        let empty = |groups: &BTreeMap<String, Counts>| groups.keys().all(String::is_empty);
        self.by
            .iter()
            .filter(|(_, groups)| self.total.tally.n_records > 0 && empty(groups))
            .map(|(column, _)| column.as_str())
            .collect()
    }

    /// The column of clusters, where no record has it.
    pub fn missing_cluster(&self) -> Option<&str> {
        let column = self.audit.as_ref()?.cluster.as_deref()?;
        self.clusters.keys().all(|name| name.starts_with('\u{0}')).then_some(column)
    }

    /// Computes shares and totals, and corrects counts where there is an audit.
    pub fn finish(self, taxonomy: String, model: String, n_rejected: u64) -> Survey {
        let sizes: Vec<f64> = {
            let mut sizes: Vec<(usize, f64)> = self.clusters.values().copied().collect();
            sizes.sort_by_key(|(number, _)| *number);
            sizes.into_iter().map(|(_, size)| size).collect()
        };
        let clustered = self.audit.as_ref().is_some_and(|audit| audit.cluster.is_some());
        let corrector = (!self.joined.is_empty()).then(|| {
            let clusters = clustered.then_some(sizes.as_slice());
            Corrector::new(&self.targets, &self.joined, &self.total.part, self.probable, clusters, self.draws)
        });
        let corrected =
            |group: &Counts, whole| corrector.as_ref().map(|corrector| corrector.correct(&group.part, whole));
        let describe = |group: &Counts, whole: bool| {
            let corrections = corrected(group, whole);
            let view = View {
                tally: &group.tally,
                expected: self.probable.then_some(group.part.expected.as_slice()),
                corrections: corrections.as_ref(),
                targets: &self.targets,
            };
            (view.totals(self.taxonomy), view.frequencies(self.taxonomy))
        };
        let breakdowns = self
            .by
            .iter()
            .map(|(column, groups)| Breakdown {
                column: column.clone(),
                groups: groups
                    .iter()
                    .map(|(value, group)| {
                        let (totals, frequencies) = describe(group, false);
                        Group { value: value.clone(), totals, frequencies }
                    })
                    .collect(),
            })
            .collect();
        let (totals, frequencies) = describe(&self.total, true);
        let audit = corrector.as_ref().map(|corrector| AuditSummary {
            n_audited: self.joined.len() as u64,
            n_differing: self.n_differing,
            cluster: self.audit.as_ref().and_then(|audit| audit.cluster.clone()),
            design_effect: corrector.design_effect(),
        });
        Survey {
            taxonomy,
            model,
            n_rejected,
            n_truncated: self.n_truncated,
            derived: None,
            audit,
            totals,
            frequencies,
            breakdowns,
        }
    }
}

/// Columns that usually hold a release date; its first four digits are the year.
pub(crate) const DATES: [&str; 9] = [
    "released",
    "release_month",
    "release_date",
    "release date",
    "date",
    "发布时间",
    "发布日期",
    "上市时间",
    "发布年月",
];

pub(crate) fn year<'v>(value: &impl Fn(&str) -> Option<&'v str>) -> Option<&'v str> {
    if let Some(year) = ["year", "Year", "年份"].iter().find_map(|column| value(column)) {
        return Some(year);
    }
    let date = DATES.iter().find_map(|column| value(column))?.trim();
    date.get(..4).filter(|year| year.bytes().all(|byte| byte.is_ascii_digit()))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// All that is known of a set of records.
struct View<'a> {
    tally: &'a Tally,
    expected: Option<&'a [f64]>,
    corrections: Option<&'a Corrections>,
    targets: &'a Targets,
}

impl View<'_> {
    fn corrected(&self, entry: Entry) -> Option<Corrected> {
        self.corrections.map(|corrections| corrections.of(entry, self.targets))
    }

    fn totals(&self, taxonomy: &Taxonomy) -> Totals {
        let tally = self.tally;
        let touched = |counts: &[u64]| counts.iter().filter(|&&count| count > 0).count();
        let [n_coded, n_outside, n_unspecified] = tally.by_status;
        Totals {
            n_records: tally.n_records,
            n_coded,
            n_outside,
            n_unspecified,
            n_mentions: tally.n_mentions(),
            mentions_per_record: share(tally.n_mentions(), tally.n_records),
            sections_touched: touched(&tally.section_records),
            sections_total: taxonomy.sections.len(),
            categories_touched: touched(&tally.category_records),
            categories_total: taxonomy.categories.len(),
            scenarios_touched: touched(&tally.scenarios),
            scenarios_total: taxonomy.len(),
            expected_mentions: self.expected.map(|expected| expected[self.targets.places(Entry::All).0]),
            corrected: self.corrected(Entry::All),
        }
    }

    fn frequencies(&self, taxonomy: &Taxonomy) -> Vec<Frequency> {
        let tally = self.tally;
        let all = tally.n_mentions();
        let frequency = |level, id, name: &Bilingual, mentions, records, entry| {
            let places = self.targets.places(entry);
            Frequency {
                level,
                id,
                name: name.clone(),
                mentions,
                records,
                share_of_mentions: share(mentions, all),
                share_of_records: share(records, tally.n_records),
                expected_mentions: self.expected.map(|expected| expected[places.0]),
                expected_records: self.expected.map(|expected| expected[places.1]),
                corrected: self.corrected(entry),
            }
        };
        let below = |category: Id| -> u64 {
            let pairs = taxonomy.scenarios.iter().zip(&tally.scenarios);
            pairs.filter(|(scenario, _)| scenario.category == category).map(|(_, count)| count).sum()
        };
        let mut rows = Vec::new();
        for (index, (section, &records)) in taxonomy.sections.iter().zip(&tally.section_records).enumerate() {
            let categories = taxonomy.categories.iter().filter(|category| category.section == section.id);
            let mentions = categories.map(|category| below(category.id)).sum();
            rows.push(frequency(Level::Section, section.id, &section.name, mentions, records, Entry::Section(index)));
        }
        for (index, (category, &records)) in taxonomy.categories.iter().zip(&tally.category_records).enumerate() {
            let (id, mentions) = (category.id, below(category.id));
            rows.push(frequency(Level::Category, id, &category.name, mentions, records, Entry::Category(index)));
        }
        for (index, (scenario, &count)) in taxonomy.scenarios.iter().zip(&tally.scenarios).enumerate() {
            let id = scenario.id;
            rows.push(frequency(Level::Scenario, id, &scenario.name, count, count, Entry::Scenario(index)));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn none(_: &str) -> Option<&'static str> {
        None
    }

    fn coded(scenarios: &[Id]) -> Coded<'_> {
        let status = if scenarios.is_empty() { Status::Outside } else { Status::Coded };
        Coded { id: "", status, scenarios, probabilities: &[], truncated: false }
    }

    #[test]
    fn counts_and_shares_of_a_small_survey() {
        let taxonomy = Taxonomy::builtin();
        let mut surveyor = Surveyor::new(&taxonomy, &[]);
        surveyor.add(&coded(&[8, 10, 39]), none);
        surveyor.add(&Coded { truncated: true, ..coded(&[8]) }, none);
        surveyor.add(&coded(&[]), none);
        let survey = surveyor.finish("t".to_owned(), String::new(), 2);
        let totals = &survey.totals;
        assert_eq!((totals.n_records, totals.n_coded, totals.n_outside, totals.n_mentions), (3, 2, 1, 4));
        assert_eq!((totals.sections_touched, totals.categories_touched, totals.scenarios_touched), (2, 2, 3));
        let find = |level, id| survey.frequencies.iter().find(|row| row.level == level && row.id == id).expect("a row");
        assert_eq!((find(Level::Scenario, 8).mentions, find(Level::Scenario, 8).share_of_mentions), (2, 0.5));
        assert_eq!((find(Level::Category, 1).mentions, find(Level::Category, 1).records), (3, 2));
        assert_eq!((survey.n_rejected, survey.n_truncated), (2, 1));
    }

    #[test]
    fn years_come_from_the_release_date_and_wrong_columns_are_noticed() {
        let taxonomy = Taxonomy::builtin();
        let by = ["year".to_owned(), "typo".to_owned()];
        let mut surveyor = Surveyor::new(&taxonomy, &by);
        surveyor.add(&coded(&[8]), |column| (column == "released").then_some("2024-05"));
        surveyor.add(&coded(&[8]), |column| (column == "released").then_some("soon"));
        assert_eq!(surveyor.missing_columns(), ["typo"]);
        let survey = surveyor.finish(String::new(), String::new(), 0);
        let values: Vec<&str> = survey.breakdowns[0].groups.iter().map(|group| group.value.as_str()).collect();
        assert_eq!(values, ["", "2024"]);
    }

    proptest! {
        #[test]
        fn counts_add_up(sets in proptest::collection::vec(proptest::collection::btree_set(1u32..=84, 0..6), 0..40)) {
            let taxonomy = Taxonomy::builtin();
            let mut surveyor = Surveyor::new(&taxonomy, &["parity".to_owned()]);
            for set in &sets {
                let ids: Vec<Id> = set.iter().copied().collect();
                let parity = if ids.len().is_multiple_of(2) { "even" } else { "odd" };
                surveyor.add(&coded(&ids), |_| Some(parity));
            }
            let survey = surveyor.finish(String::new(), String::new(), 0);
            let sum = |rows: &[Frequency], level| rows.iter().filter(|row| row.level == level).map(|row| row.mentions).sum::<u64>();
            let expected = sets.iter().map(|set| set.len() as u64).sum::<u64>();
            for level in [Level::Section, Level::Category, Level::Scenario] {
                prop_assert_eq!(sum(&survey.frequencies, level), expected);
                let shares: f64 = survey.frequencies.iter().filter(|row| row.level == level).map(|row| row.share_of_mentions).sum();
                prop_assert!(expected == 0 || (shares - 1.0).abs() < 1e-9);
            }
            for row in &survey.frequencies {
                prop_assert!(row.records <= row.mentions && row.records <= survey.totals.n_records);
                let parts = survey.breakdowns[0].groups.iter();
                let parts: u64 = parts.flat_map(|group| group.frequencies.iter().filter(|other| (other.level, other.id) == (row.level, row.id))).map(|row| row.mentions).sum();
                prop_assert_eq!(parts, row.mentions);
            }
        }
    }

    proptest! {
        // Each case corrects three sets of records.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn corrected_figures_stay_within_what_is_known(
            records in proptest::collection::vec((0u32..6, 0u32..6, 0.02f64..0.98, 0u32..4), 12..60),
            audited in 2usize..12,
            probable: bool,
        ) {
            let taxonomy = Taxonomy::builtin();
            let ids: Vec<String> = (0..records.len()).map(|index| index.to_string()).collect();
            // Numbers from 1 are scenarios; 0 is none.
            let set = |scenario: u32| if scenario == 0 { Vec::new() } else { vec![scenario, 80] };
            let step = records.len().div_ceil(audited);
            let seen: Vec<usize> = (0..records.len()).step_by(step).collect();
            let inclusion = seen.len() as f64 / records.len() as f64;
            let record = |&index: &usize| {
                let scenarios = set(records[index].1).into_iter().collect();
                let status = if records[index].1 == 0 { Status::Unspecified } else { Status::Coded };
                let first = crate::agreement::Coding { status, scenarios };
                // Every fourth record has a second coder, who found nothing.
                let second = crate::agreement::Coding { status: Status::Unspecified, scenarios: [].into() };
                let codings = if records[index].3 == 0 { vec![first, second] } else { vec![first] };
                (ids[index].clone(), AuditedRecord { codings, inclusion, stratum: 0 })
            };
            let audit = Audit { records: seen.iter().map(record).collect(), cluster: None };
            let sure = |scenario: u32| {
                let found = |&&index: &&usize| records[index].3 != 0 && set(records[index].1).contains(&scenario);
                seen.iter().filter(found).count() as f64
            };
            let mut surveyor = Surveyor::new(&taxonomy, &["parity".to_owned()]).with_audit(audit).with_draws(100);
            for (index, (assigned, _, probability, _)) in records.iter().enumerate() {
                let scenarios = set(*assigned);
                let of = |id: Id| if scenarios.contains(&id) { *probability } else { 0.01 };
                let probabilities: Vec<f64> = taxonomy.scenarios.iter().map(|scenario| of(scenario.id)).collect();
                let status = if scenarios.is_empty() { Status::Unspecified } else { Status::Coded };
                let probabilities: &[f64] = if probable { &probabilities } else { &[] };
                let coded = Coded { id: &ids[index], status, scenarios: &scenarios, probabilities, truncated: false };
                surveyor.add(&coded, |_| Some(if index % 2 == 0 { "even" } else { "odd" }));
            }
            let survey = surveyor.finish(String::new(), String::new(), 0);
            let n = survey.totals.n_records as f64;
            for row in &survey.frequencies {
                let corrected = row.corrected.expect("there is an audit");
                for (figure, most) in [
                    (corrected.records, n),
                    (corrected.mentions, n * 84.0),
                    (corrected.share_of_mentions, 1.0),
                    (corrected.share_of_records, 1.0),
                ] {
                    prop_assert!(0.0 <= figure.low && figure.low <= figure.value, "{row:?}");
                    prop_assert!(figure.value <= figure.high && figure.high <= most + 1e-9, "{row:?}");
                }
                if row.level == Level::Scenario {
                    prop_assert!(corrected.mentions.low >= sure(row.id), "{row:?}");
                }
                if let Some(expected) = row.expected_mentions {
                    let parts = survey.breakdowns[0].groups.iter();
                    let parts = parts.flat_map(|group| group.frequencies.iter());
                    let parts = parts.filter(|other| (other.level, other.id) == (row.level, row.id));
                    let sum: f64 = parts.filter_map(|part| part.expected_mentions).sum();
                    prop_assert!((sum - expected).abs() < 1e-6);
                }
            }
            let sum = |level| {
                let rows = survey.frequencies.iter().filter(|row| row.level == level);
                rows.filter_map(|row| row.expected_mentions).sum::<f64>()
            };
            prop_assert!((sum(Level::Section) - sum(Level::Scenario)).abs() < 1e-6);
            prop_assert!((sum(Level::Category) - sum(Level::Scenario)).abs() < 1e-6);
        }
    }
}
