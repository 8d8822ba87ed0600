//! The records behind the counts of a survey. Comparison resamples them; a report traces its numbers back to them.
//!
//! Of every record a small [`Unit`] is kept: its key, its scenarios and the few columns that reports divide products by.
//! Texts, names and evidence are kept of a bounded number of records ([`Product`]): of the first ones, and of later ones
//! for scenarios that few of the first mention, so that every count has products to show.

use std::collections::HashMap;

use serde::Serialize;

use crate::digest;
use crate::labels::Status;
use crate::prediction::{Assigned, Prediction};
use crate::survey::{DATES, year};
use crate::taxonomy::{Id, ScenarioIndex, Taxonomy};

/// Products that are kept in full.
const PRODUCTS: usize = 4000;
/// Bytes of the texts kept with them.
const BYTES: usize = 16 << 20;
/// Products kept for each scenario beyond these limits.
const PER_SCENARIO: usize = 20;
/// Characters kept of a text.
const CHARACTERS: usize = 4000;

/// Years between the first and the last that are listed without a gap.
const MOST_YEARS: usize = 40;

/// Columns that usually hold what a product works on.
const MODEL_TYPES: [&str; 4] = ["model_type", "modality", "模型类型", "产品类型"];
/// Columns that usually hold the kind of its developer.
const DEVELOPER_TYPES: [&str; 5] = ["developer_type", "organisation_type", "机构类型", "开发者类型", "研发单位类型"];
/// Columns that usually hold its developer.
const DEVELOPERS: [&str; 7] = ["developer", "vendor", "company", "厂商", "开发者", "研发单位", "公司"];
/// Columns that usually hold the address of its source.
const LINKS: [&str; 6] = ["source_url", "url", "link", "来源链接", "链接", "网址"];

/// What is kept of every record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Digest of its id; records of two surveys with equal ids are the same product.
    pub key: u128,
    /// How it was coded.
    pub status: Status,
    /// Positions of its scenarios in the taxonomy, ascending.
    pub scenarios: Vec<ScenarioIndex>,
    /// Year of release.
    pub year: Option<u16>,
    /// Month of release, from 1.
    pub month: Option<u8>,
    /// Type of model, as a position in [`Microdata::model_types`].
    pub model_type: usize,
    /// Type of developer, as a position in [`Microdata::developer_types`].
    pub developer_type: usize,
}

/// A record in full, as reports embed it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Product {
    /// Its id.
    pub id: String,
    /// Its name in Chinese, or the only one.
    pub name_zh: String,
    /// Its name in English, or the only one.
    pub name_en: String,
    /// Its developer in Chinese, or the only name.
    pub developer_zh: String,
    /// Its developer in English, or the only name.
    pub developer_en: String,
    /// Year of release; empty where unknown.
    pub year: String,
    /// Type of model; empty where unknown.
    pub model_type: String,
    /// Type of developer; empty where unknown.
    pub developer_type: String,
    /// How it was coded.
    pub status: Status,
    /// Its scenarios with their evidence.
    pub scenarios: Vec<Finding>,
    /// The description, cut where it is very long; empty where it is not at hand.
    pub text: String,
    /// Whether the description was cut.
    pub cut: bool,
    /// The description in the other language, where a column gives it.
    pub translation: String,
    /// Address of the source; empty unless it is one of the web.
    pub link: String,
    /// Title of the source.
    pub source: String,
}

/// One scenario of a product.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The scenario.
    pub scenario: Id,
    /// Calibrated probability; absent where numbers alone are at hand.
    pub probability: Option<f64>,
    /// Places of the evidence in [`Product::text`], in characters, half-open.
    pub marks: Vec<(usize, usize)>,
    /// Evidence that is not in that text, word for word.
    pub quotes: Vec<String>,
}

/// Distinct values of a column, in order of their first occurrence; the first one is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Values {
    names: Vec<String>,
    index: HashMap<String, usize>,
}

impl Values {
    fn new() -> Values {
        Values { names: vec![String::new()], index: HashMap::from([(String::new(), 0)]) }
    }

    fn position(&mut self, value: &str) -> usize {
        if let Some(&position) = self.index.get(value) {
            return position;
        }
        self.names.push(value.to_owned());
        self.index.insert(value.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}

/// The records of a survey.
#[derive(Debug, Clone)]
pub struct Microdata<'a> {
    taxonomy: &'a Taxonomy,
    /// All records, in the order of the input.
    pub units: Vec<Unit>,
    /// Those that are kept in full, in the order of the input.
    pub products: Vec<Product>,
    model_types: Values,
    developer_types: Values,
    bytes: usize,
    kept_of: Vec<usize>,
}

impl<'a> Microdata<'a> {
    /// No records yet.
    pub fn new(taxonomy: &'a Taxonomy) -> Microdata<'a> {
        Microdata {
            taxonomy,
            units: Vec::new(),
            products: Vec::new(),
            model_types: Values::new(),
            developer_types: Values::new(),
            bytes: 0,
            kept_of: vec![0; taxonomy.len()],
        }
    }

    /// The taxonomy that positions refer to.
    pub fn taxonomy(&self) -> &'a Taxonomy {
        self.taxonomy
    }

    /// Types of models; the first one is empty.
    pub fn model_types(&self) -> &[String] {
        &self.model_types.names
    }

    /// Types of developers; the first one is empty.
    pub fn developer_types(&self) -> &[String] {
        &self.developer_types.names
    }

    /// Adds one record.
    pub fn add(&mut self, prediction: &Prediction) {
        let column = |name: &str| prediction.column(name).map(str::trim).filter(|value| !value.is_empty());
        let first = |names: &[&str]| names.iter().find_map(|name| column(name)).unwrap_or_default();
        let scenarios: Vec<ScenarioIndex> =
            prediction.scenarios.iter().filter_map(|assigned| self.taxonomy.position(assigned.id())).collect();
        let (year, month) = release(&column);
        let model_type = self.model_types.position(first(&MODEL_TYPES));
        let developer_type = self.developer_types.position(first(&DEVELOPER_TYPES));
        let room = self.products.len() < PRODUCTS && self.bytes < BYTES;
        if room || scenarios.iter().any(|&scenario| self.kept_of[scenario] < PER_SCENARIO) {
            let product = Product {
                year: year.map_or(String::new(), |year| year.to_string()),
                model_type: self.model_types.names[model_type].clone(),
                developer_type: self.developer_types.names[developer_type].clone(),
                ..product(prediction, &column)
            };
            self.bytes += product.text.len() + product.translation.len();
            scenarios.iter().for_each(|&scenario| self.kept_of[scenario] += 1);
            self.products.push(product);
        }
        let key = digest::key(prediction.id.as_bytes());
        let status = prediction.status;
        self.units.push(Unit { key, status, scenarios, year, month, model_type, developer_type });
    }

    /// First and last year of release, where any is known.
    pub fn years(&self) -> Option<(u16, u16)> {
        let years = || self.units.iter().filter_map(|unit| unit.year);
        Some((years().min()?, years().max()?))
    }

    /// Products by year of release, ascending, every year between the first and the last; those without one at the end.
    pub fn by_year(&self) -> Vec<(String, u64)> {
        let count = |year| self.units.iter().filter(|unit| unit.year == year).count() as u64;
        let Some((first, last)) = self.years() else { return Vec::new() };
        // A typing error such as the year 20 must not make two thousand rows.
        let all = (first..=last).filter(|&year| usize::from(last - first) < MOST_YEARS || count(Some(year)) > 0);
        let mut rows: Vec<(String, u64)> = all.map(|year| (year.to_string(), count(Some(year)))).collect();
        rows.extend(Some((String::new(), count(None))).filter(|(_, n)| *n > 0));
        rows
    }

    /// Products by type of model, the most frequent first; those without one at the end. Empty without that column.
    pub fn by_model_type(&self) -> Vec<(String, u64)> {
        by_value(self.model_types(), self.units.iter().map(|unit| unit.model_type))
    }

    /// Products by type of developer, in the same way.
    pub fn by_developer_type(&self) -> Vec<(String, u64)> {
        by_value(self.developer_types(), self.units.iter().map(|unit| unit.developer_type))
    }

    /// Records that mention both of two scenarios, for every pair of positions `[low][high]` with `low < high`.
    pub fn co_occurrence(&self) -> Vec<Vec<u64>> {
        let mut pairs = vec![vec![0; self.taxonomy.len()]; self.taxonomy.len()];
        for unit in &self.units {
            for (at, &low) in unit.scenarios.iter().enumerate() {
                unit.scenarios[at + 1..].iter().for_each(|&high| pairs[low.min(high)][low.max(high)] += 1);
            }
        }
        pairs
    }
}

fn by_value(names: &[String], values: impl Iterator<Item = usize>) -> Vec<(String, u64)> {
    if names.len() < 2 {
        return Vec::new();
    }
    let mut counts = vec![0; names.len()];
    values.for_each(|value| counts[value] += 1);
    let mut rows: Vec<(String, u64)> = names.iter().cloned().zip(counts).filter(|(_, n)| *n > 0).collect();
    rows.sort_by(|a, b| a.0.is_empty().cmp(&b.0.is_empty()).then(b.1.cmp(&a.1)).then(a.0.cmp(&b.0)));
    rows
}

/// Year and month of release.
fn release<'v>(column: &impl Fn(&str) -> Option<&'v str>) -> (Option<u16>, Option<u8>) {
    let year = year(column).and_then(|year| year.trim().parse().ok());
    let date = DATES.iter().find_map(|name| column(name)).unwrap_or_default();
    let rest = date.get(4..).unwrap_or_default();
    let digits: String = rest
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .chars()
        .take_while(char::is_ascii_digit)
        .take(2)
        .collect();
    (year, digits.parse().ok().filter(|month| year.is_some() && (1..=12).contains(month)))
}

fn product<'v>(prediction: &Prediction, column: &impl Fn(&str) -> Option<&'v str>) -> Product {
    let both = |zh: &str, en: &str, only: &str| {
        let [zh, en] = [zh, en].map(|name| column(name).unwrap_or(only));
        let other = |one: &str, other: &str| if one.is_empty() { other.to_owned() } else { one.to_owned() };
        (other(zh, en), other(en, zh))
    };
    let only = DEVELOPERS.iter().find_map(|name| column(name)).unwrap_or_default();
    let (developer_zh, developer_en) = both("developer_zh", "developer_en", only);
    let (name_zh, name_en) = both("name_zh", "name_en", prediction.name.as_deref().unwrap_or_default());
    let all = prediction.text.as_deref().unwrap_or_default();
    let text: String = all.chars().take(CHARACTERS).collect();
    let kept = text.chars().count();
    let finding = |assigned: &Assigned| match assigned {
        Assigned::Number(scenario) => {
            Finding { scenario: *scenario, probability: None, marks: Vec::new(), quotes: Vec::new() }
        }
        Assigned::Full { scenario, probability, evidence } => {
            let (marked, quoted): (Vec<_>, Vec<_>) =
                evidence.iter().partition(|span| span.start < span.end && span.end <= kept);
            Finding {
                scenario: *scenario,
                probability: Some(*probability),
                marks: marked.into_iter().map(|span| (span.start, span.end)).collect(),
                quotes: quoted.into_iter().map(|span| span.text.clone()).collect(),
            }
        }
    };
    // A page in two languages can show the other description, but its evidence stands in the one that was read.
    let translation = ["description_zh", "description_en"].iter().find_map(|name| column(name));
    let translation = translation.filter(|other| *other != all).unwrap_or_default();
    let link = LINKS.iter().find_map(|name| column(name)).unwrap_or_default();
    let web = ["http://", "https://"].iter().any(|scheme| link.to_lowercase().starts_with(scheme));
    Product {
        id: prediction.id.clone(),
        name_zh,
        name_en,
        developer_zh,
        developer_en,
        year: String::new(),
        model_type: String::new(),
        developer_type: String::new(),
        status: prediction.status,
        scenarios: prediction.scenarios.iter().map(finding).collect(),
        cut: text.len() < all.len(),
        text,
        translation: translation.chars().take(CHARACTERS).collect(),
        link: if web { link.to_owned() } else { String::new() },
        source: column("source_title").unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn prediction(value: serde_json::Value) -> Prediction {
        serde_json::from_value(value).expect("a prediction")
    }

    #[test]
    fn evidence_beyond_the_kept_text_stays_as_a_quotation() {
        let taxonomy = Taxonomy::builtin();
        let mut microdata = Microdata::new(&taxonomy);
        let evidence = json!([{"start": 0, "end": 2, "text": "导诊"}, {"start": 4999, "end": 5001, "text": "末尾"}]);
        microdata.add(&prediction(json!({
            "id": "a", "status": "coded", "text": format!("导诊{}末尾", "长".repeat(4997)),
            "scenarios": [{"scenario": 8, "probability": 0.5, "evidence": evidence}],
        })));
        let product = &microdata.products[0];
        assert_eq!((product.text.chars().count(), product.cut), (CHARACTERS, true));
        assert_eq!(product.scenarios[0].marks, [(0, 2)]);
        assert_eq!(product.scenarios[0].quotes, ["末尾"]);
    }

    #[test]
    fn columns_give_release_types_names_and_only_links_of_the_web() {
        let taxonomy = Taxonomy::builtin();
        let mut microdata = Microdata::new(&taxonomy);
        let columns = |released: &str, url: &str| {
            json!({"released": released, "model_type": "tcm", "developer_type": "joint", "developer_en": "A",
                   "name_en": "N", "source_url": url})
        };
        for (id, released, url) in
            [("a", "2025-04", "https://x.cn/1"), ("b", "2025", "javascript:alert(1)"), ("c", "", "")]
        {
            microdata.add(&prediction(
                json!({"id": id, "name": "名", "status": "unspecified", "scenarios": [], "columns": columns(released, url)}),
            ));
        }
        let releases: Vec<_> = microdata.units.iter().map(|unit| (unit.year, unit.month)).collect();
        assert_eq!(releases, [(Some(2025), Some(4)), (Some(2025), None), (None, None)]);
        assert_eq!(microdata.years(), Some((2025, 2025)));
        assert_eq!(microdata.by_year(), [("2025".to_owned(), 2), (String::new(), 1)]);
        assert_eq!(microdata.by_model_type(), [("tcm".to_owned(), 3)]);
        assert_eq!(
            (microdata.model_types(), microdata.developer_types()),
            (&["".to_owned(), "tcm".to_owned()][..], &["".to_owned(), "joint".to_owned()][..],)
        );
        let product = &microdata.products[0];
        assert_eq!((&*product.name_zh, &*product.name_en, &*product.developer_zh), ("名", "N", "A"));
        let links: Vec<&str> = microdata.products.iter().map(|product| &*product.link).collect();
        assert_eq!(links, ["https://x.cn/1", "", ""]);
    }

    #[test]
    fn a_rare_scenario_keeps_products_beyond_the_limit() {
        let taxonomy = Taxonomy::builtin();
        let mut microdata = Microdata::new(&taxonomy);
        for index in 0..PRODUCTS + 100 {
            let scenario = if index < PRODUCTS + 50 { 8 } else { 10 };
            microdata.add(&prediction(json!({"id": index.to_string(), "status": "coded", "scenarios": [scenario]})));
        }
        assert_eq!(microdata.units.len(), PRODUCTS + 100);
        assert_eq!(microdata.products.len(), PRODUCTS + PER_SCENARIO);
        assert!(microdata.products.iter().skip(PRODUCTS).all(|product| product.scenarios[0].scenario == 10));
    }

    proptest! {
        #[test]
        fn co_occurrence_counts_every_pair_once(sets in proptest::collection::vec(proptest::collection::btree_set(1u32..=84, 0..6), 0..20)) {
            let taxonomy = Taxonomy::builtin();
            let mut microdata = Microdata::new(&taxonomy);
            for (index, set) in sets.iter().enumerate() {
                microdata.add(&prediction(json!({"id": index.to_string(), "status": "coded", "scenarios": set})));
            }
            let total: u64 = microdata.co_occurrence().iter().flatten().sum();
            prop_assert_eq!(total, sets.iter().map(|set| (set.len() * set.len().saturating_sub(1) / 2) as u64).sum::<u64>());
        }
    }
}
