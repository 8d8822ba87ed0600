//! Mention frequencies: how many records mention each scenario, category and section.
//!
//! A mention is one (record, scenario) pair, so that a scenario counts once per product, as in VBInsight's survey. A
//! category's mentions are the mentions of its scenarios; its records are the records with at least one of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::labels::Status;
use crate::taxonomy::{Bilingual, Id, Taxonomy};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Sections.
    Section,
    /// Categories.
    Category,
    /// Scenarios.
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
    total: Tally,
    by: Vec<(String, BTreeMap<String, Tally>)>,
    n_truncated: u64,
}

impl<'a> Surveyor<'a> {
    /// Starts a survey, broken down by the columns named.
    pub fn new(taxonomy: &'a Taxonomy, by: &[String]) -> Surveyor<'a> {
        let by = by.iter().map(|column| (column.clone(), BTreeMap::new())).collect();
        Surveyor { taxonomy, total: Tally::new(taxonomy), by, n_truncated: 0 }
    }

    /// Counts one record. `value` gives the value of a column.
    pub fn add<'v>(
        &mut self,
        status: Status,
        scenarios: &[Id],
        truncated: bool,
        value: impl Fn(&str) -> Option<&'v str>,
    ) {
        self.total.add(status, scenarios, self.taxonomy);
        self.n_truncated += u64::from(truncated);
        for (column, groups) in &mut self.by {
            let value = if column == "year" { year(&value) } else { value(column) };
            let value = value.unwrap_or_default().trim().to_owned();
            let taxonomy = self.taxonomy;
            groups.entry(value).or_insert_with(|| Tally::new(taxonomy)).add(status, scenarios, taxonomy);
        }
    }

    /// Columns to break down by that no record has; a mistyped name ends here.
    pub fn missing_columns(&self) -> Vec<&str> {
        let empty = |groups: &BTreeMap<String, Tally>| groups.keys().all(String::is_empty);
        self.by
            .iter()
            .filter(|(_, groups)| self.total.n_records > 0 && empty(groups))
            .map(|(column, _)| column.as_str())
            .collect()
    }

    /// Computes shares and totals.
    pub fn finish(self, taxonomy: String, model: String, n_rejected: u64) -> Survey {
        let breakdowns = self
            .by
            .into_iter()
            .map(|(column, groups)| Breakdown {
                column,
                groups: groups
                    .into_iter()
                    .map(|(value, tally)| Group {
                        value,
                        totals: totals(&tally, self.taxonomy),
                        frequencies: frequencies(&tally, self.taxonomy),
                    })
                    .collect(),
            })
            .collect();
        Survey {
            taxonomy,
            model,
            n_rejected,
            n_truncated: self.n_truncated,
            totals: totals(&self.total, self.taxonomy),
            frequencies: frequencies(&self.total, self.taxonomy),
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

fn totals(tally: &Tally, taxonomy: &Taxonomy) -> Totals {
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
    }
}

fn frequencies(tally: &Tally, taxonomy: &Taxonomy) -> Vec<Frequency> {
    let all = tally.n_mentions();
    let frequency = |level, id, name: &Bilingual, mentions, records| Frequency {
        level,
        id,
        name: name.clone(),
        mentions,
        records,
        share_of_mentions: share(mentions, all),
        share_of_records: share(records, tally.n_records),
    };
    let below = |category: Id| -> u64 {
        let pairs = taxonomy.scenarios.iter().zip(&tally.scenarios);
        pairs.filter(|(scenario, _)| scenario.category == category).map(|(_, count)| count).sum()
    };
    let mut rows = Vec::new();
    for (section, &records) in taxonomy.sections.iter().zip(&tally.section_records) {
        let categories = taxonomy.categories.iter().filter(|category| category.section == section.id);
        let mentions = categories.map(|category| below(category.id)).sum();
        rows.push(frequency(Level::Section, section.id, &section.name, mentions, records));
    }
    for (category, &records) in taxonomy.categories.iter().zip(&tally.category_records) {
        rows.push(frequency(Level::Category, category.id, &category.name, below(category.id), records));
    }
    for (scenario, &count) in taxonomy.scenarios.iter().zip(&tally.scenarios) {
        rows.push(frequency(Level::Scenario, scenario.id, &scenario.name, count, count));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn none(_: &str) -> Option<&'static str> {
        None
    }

    #[test]
    fn counts_and_shares_of_a_small_survey() {
        let taxonomy = Taxonomy::builtin();
        let mut surveyor = Surveyor::new(&taxonomy, &[]);
        surveyor.add(Status::Coded, &[8, 10, 39], false, none);
        surveyor.add(Status::Coded, &[8], true, none);
        surveyor.add(Status::Outside, &[], false, none);
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
        surveyor.add(Status::Coded, &[8], false, |column| (column == "released").then_some("2024-05"));
        surveyor.add(Status::Coded, &[8], false, |column| (column == "released").then_some("soon"));
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
                let status = if ids.is_empty() { Status::Unspecified } else { Status::Coded };
                let parity = if ids.len().is_multiple_of(2) { "even" } else { "odd" };
                surveyor.add(status, &ids, false, |_| Some(parity));
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
}
