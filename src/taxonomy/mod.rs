//! The taxonomy: a versioned tree of sections, categories and scenarios, read from TOML.
//!
//! Nothing here, or anywhere else in the crate, knows a scenario by its number: another taxonomy in the same format
//! works unchanged. A taxonomy is a directory with a `taxonomy.toml` (identity, sections, categories) and the scenario
//! files that it names. [`Taxonomy::builtin`] is the guideline of China's National Health Commission of November 2024.

mod builtin;
pub mod crosswalk;
pub mod diff;
pub mod export;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Identifier of a section, category or scenario, unique within its level; 0 is reserved for "no scenario".
pub type Id = u32;

/// Position of a scenario in [`Taxonomy::scenarios`]; models index their outputs by it.
pub type ScenarioIndex = usize;

/// A language of names and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// One value in both languages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bilingual<T = String> {
    /// Chinese.
    pub zh: T,
    /// English.
    pub en: T,
}

impl<T> Bilingual<T> {
    /// The value in `lang`.
    pub fn get(&self, lang: Lang) -> &T {
        match lang {
            Lang::Zh => &self.zh,
            Lang::En => &self.en,
        }
    }
}

/// The top level of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Stable identifier.
    pub id: Id,
    /// Official Chinese name and our English one.
    pub name: Bilingual,
}

/// The middle level of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Stable identifier.
    pub id: Id,
    /// The section above.
    pub section: Id,
    /// Official Chinese name and our English one.
    pub name: Bilingual,
}

/// A leaf of the tree: the unit of coding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Stable identifier, never reused.
    pub id: Id,
    /// The category above.
    pub category: Id,
    /// Official Chinese name and our English one.
    pub name: Bilingual,
    /// Whether the document's own text names large models for this scenario.
    #[serde(default)]
    pub names_large_model: bool,
    /// What job is done, and for whom.
    #[serde(default)]
    pub definition: Bilingual,
    /// What counts.
    #[serde(default)]
    pub includes: Bilingual<Vec<String>>,
    /// Other words for the same job.
    #[serde(default)]
    pub terms: Bilingual<Vec<String>>,
    /// What does not count, and where it goes instead.
    #[serde(default)]
    pub excludes: Vec<Exclusion>,
}

/// A border with a neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// The scenario that takes what is excluded; 0 where no scenario does.
    pub neighbour: Id,
    /// The rule in Chinese.
    pub zh: String,
    /// The rule in English.
    pub en: String,
}

/// Why a taxonomy cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaxonomyError {
    /// A file cannot be read.
    #[error("Failed to read taxonomy file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is not TOML of this format.
    #[error("Failed to parse taxonomy file `{file}`")]
    Parse {
        /// The file.
        file: String,
        /// The cause, with line and column.
        source: Box<toml::de::Error>,
    },
    /// The content contradicts itself.
    #[error("Taxonomy `{id}` is not usable: {problem}")]
    Invalid {
        /// The taxonomy's id.
        id: String,
        /// What is wrong, with the entry's id.
        problem: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    id: String,
    version: String,
    title: Bilingual,
    #[serde(default)]
    publisher: Bilingual,
    #[serde(default)]
    document: String,
    #[serde(default)]
    issued: String,
    #[serde(default)]
    scenario_files: Vec<String>,
    #[serde(default)]
    note: Vec<Bilingual>,
    section: Vec<Section>,
    category: Vec<Category>,
    #[serde(default)]
    scenario: Vec<Scenario>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    scenario: Vec<Scenario>,
}

/// A checked taxonomy.
#[derive(Debug, Clone, Serialize)]
pub struct Taxonomy {
    /// Short name, such as `nhc-2024`.
    pub id: String,
    /// Version of the document.
    pub version: String,
    /// Title of the document.
    pub title: Bilingual,
    /// Who issued it.
    pub publisher: Bilingual,
    /// Its document number.
    pub document: String,
    /// When it was issued.
    pub issued: String,
    /// SHA-256 over identity, tree and names: what a label depends on. Definitions and terms are not part of it, so that
    /// a better wording does not orphan a trained model.
    pub digest: String,
    /// Remarks that every reader of the figures should know.
    pub notes: Vec<Bilingual>,
    /// Sections in order.
    pub sections: Vec<Section>,
    /// Categories in order.
    pub categories: Vec<Category>,
    /// Scenarios in order of id.
    pub scenarios: Vec<Scenario>,
    #[serde(skip)]
    index: HashMap<Id, ScenarioIndex>,
}

impl Taxonomy {
    /// The taxonomy compiled into the program: the 84 scenarios of the guideline of November 2024.
    ///
    /// # Panics
    /// Never: the test suite loads the same bytes.
    pub fn builtin() -> Taxonomy {
        Taxonomy::load(&|name| {
            let text = builtin::FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned());
            text.ok_or_else(|| TaxonomyError::Read {
                path: PathBuf::from(name),
                source: std::io::Error::from(std::io::ErrorKind::NotFound),
            })
        })
        .expect("the built-in taxonomy is checked by the test suite")
    }

    /// Reads a taxonomy from a directory that holds `taxonomy.toml`, or from that file itself.
    ///
    /// # Errors
    /// Unreadable file, wrong TOML, or a tree that contradicts itself.
    pub fn from_path(path: &Path) -> Result<Taxonomy, TaxonomyError> {
        let (directory, header) = if path.is_dir() {
            (path.to_owned(), "taxonomy.toml".to_owned())
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (path.parent().unwrap_or(Path::new("")).to_owned(), name)
        };
        Taxonomy::load(&|name| {
            let file = directory.join(if name == "taxonomy.toml" { header.as_str() } else { name });
            std::fs::read_to_string(&file).map_err(|source| TaxonomyError::Read { path: file, source })
        })
        .map_err(|error| match error {
            TaxonomyError::Parse { file, source } => {
                let file = directory.join(if file == "taxonomy.toml" { &header } else { &file }).display().to_string();
                TaxonomyError::Parse { file, source }
            }
            other => other,
        })
    }

    fn load(read: &dyn Fn(&str) -> Result<String, TaxonomyError>) -> Result<Taxonomy, TaxonomyError> {
        let parse_error = |file: &str, source| TaxonomyError::Parse { file: file.to_owned(), source: Box::new(source) };
        let header: Header =
            toml::from_str(&read("taxonomy.toml")?).map_err(|source| parse_error("taxonomy.toml", source))?;
        let mut scenarios = header.scenario;
        for file in &header.scenario_files {
            let part: ScenarioFile = toml::from_str(&read(file)?).map_err(|source| parse_error(file, source))?;
            scenarios.extend(part.scenario);
        }
        scenarios.sort_by_key(|scenario| scenario.id);
        let index = scenarios.iter().enumerate().map(|(index, scenario)| (scenario.id, index)).collect();
        let mut taxonomy = Taxonomy {
            id: header.id,
            version: header.version,
            title: header.title,
            publisher: header.publisher,
            document: header.document,
            issued: header.issued,
            digest: String::new(),
            notes: header.note,
            sections: header.section,
            categories: header.category,
            scenarios,
            index,
        };
        taxonomy.check(header.format).map_err(|problem| TaxonomyError::Invalid { id: taxonomy.id.clone(), problem })?;
        taxonomy.digest = taxonomy.compute_digest();
        Ok(taxonomy)
    }

    fn check(&self, format: u32) -> Result<(), String> {
        if format != 1 {
            return Err(format!("`format` is {format}, and this program reads format 1"));
        }
        let sections = unique("section", self.sections.iter().map(|section| section.id))?;
        let categories = unique("category", self.categories.iter().map(|category| category.id))?;
        let scenarios = unique("scenario", self.scenarios.iter().map(|scenario| scenario.id))?;
        if self.scenarios.is_empty() {
            return Err("it has no scenario".to_owned());
        }
        for category in &self.categories {
            if !sections.contains(&category.section) {
                return Err(format!(
                    "category {} names section {}, which does not exist",
                    category.id, category.section
                ));
            }
        }
        for scenario in &self.scenarios {
            let id = scenario.id;
            if !categories.contains(&scenario.category) {
                return Err(format!("scenario {id} names category {}, which does not exist", scenario.category));
            }
            if scenario.name.zh.trim().is_empty() && scenario.name.en.trim().is_empty() {
                return Err(format!("scenario {id} has no name"));
            }
            for exclusion in &scenario.excludes {
                if exclusion.neighbour == id {
                    return Err(format!("scenario {id} excludes itself"));
                }
                if exclusion.neighbour != 0 && !scenarios.contains(&exclusion.neighbour) {
                    return Err(format!("scenario {id} names neighbour {}, which does not exist", exclusion.neighbour));
                }
            }
        }
        Ok(())
    }

    fn compute_digest(&self) -> String {
        let mut text = format!("{}\n{}\n", self.id, self.version);
        for section in &self.sections {
            text += &format!("section\t{}\t{}\t{}\n", section.id, section.name.zh, section.name.en);
        }
        for category in &self.categories {
            let (id, above) = (category.id, category.section);
            text += &format!("category\t{id}\t{above}\t{}\t{}\n", category.name.zh, category.name.en);
        }
        for scenario in &self.scenarios {
            let (id, above) = (scenario.id, scenario.category);
            text += &format!("scenario\t{id}\t{above}\t{}\t{}\n", scenario.name.zh, scenario.name.en);
        }
        crate::digest::hex(&Sha256::digest(text.as_bytes()))
    }

    /// How outputs name the taxonomy: its id and the first digits of its digest.
    pub fn label(&self) -> String {
        format!("{}@{}", self.id, crate::digest::short(&self.digest))
    }

    /// Number of scenarios.
    pub fn len(&self) -> usize {
        self.scenarios.len()
    }

    /// Whether there is no scenario; never true of a checked taxonomy.
    pub fn is_empty(&self) -> bool {
        self.scenarios.is_empty()
    }

    /// Position of the scenario with this id.
    pub fn position(&self, id: Id) -> Option<ScenarioIndex> {
        self.index.get(&id).copied()
    }

    /// The scenario with this id.
    pub fn scenario(&self, id: Id) -> Option<&Scenario> {
        self.position(id).map(|index| &self.scenarios[index])
    }

    /// The category with this id.
    pub fn category(&self, id: Id) -> Option<&Category> {
        self.categories.iter().find(|category| category.id == id)
    }

    /// The category above a scenario.
    pub fn category_of(&self, scenario: Id) -> Option<Id> {
        self.scenario(scenario).map(|scenario| scenario.category)
    }

    /// The section above a category.
    pub fn section_of(&self, category: Id) -> Option<Id> {
        self.category(category).map(|category| category.section)
    }

    /// Distinct categories and sections above a set of scenarios, each in ascending order; unknown ids are ignored.
    pub fn ancestors(&self, scenarios: impl IntoIterator<Item = Id>) -> (Vec<Id>, Vec<Id>) {
        let categories: BTreeSet<Id> = scenarios.into_iter().filter_map(|id| self.category_of(id)).collect();
        let sections: BTreeSet<Id> = categories.iter().filter_map(|&id| self.section_of(id)).collect();
        (categories.into_iter().collect(), sections.into_iter().collect())
    }

    /// Finds one scenario by number, or by a name or term that contains `query` (case-insensitive).
    ///
    /// # Errors
    /// The ids that match, when none or several do.
    pub fn find(&self, query: &str) -> Result<&Scenario, Vec<Id>> {
        let query = query.trim();
        if let Ok(id) = query.parse() {
            return self.scenario(id).ok_or_else(Vec::new);
        }
        let wanted = query.to_lowercase();
        let name = |scenario: &&Scenario| {
            [&scenario.name.zh, &scenario.name.en].iter().any(|name| name.to_lowercase() == wanted)
        };
        if let Some(scenario) = self.scenarios.iter().find(name) {
            return Ok(scenario);
        }
        let contains = |scenario: &&Scenario| {
            let names = [&scenario.name.zh, &scenario.name.en].into_iter();
            let terms = scenario.terms.zh.iter().chain(&scenario.terms.en);
            !wanted.is_empty() && names.chain(terms).any(|text| text.to_lowercase().contains(&wanted))
        };
        let found: Vec<&Scenario> = self.scenarios.iter().filter(contains).collect();
        match found.as_slice() {
            [one] => Ok(one),
            _ => Err(found.iter().map(|scenario| scenario.id).collect()),
        }
    }

    /// Scenarios of each category, in order.
    pub fn tree(&self) -> BTreeMap<Id, Vec<&Scenario>> {
        let mut tree: BTreeMap<Id, Vec<&Scenario>> = BTreeMap::new();
        for scenario in &self.scenarios {
            tree.entry(scenario.category).or_default().push(scenario);
        }
        tree
    }
}

fn unique(level: &str, ids: impl Iterator<Item = Id>) -> Result<BTreeSet<Id>, String> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if id == 0 {
            return Err(format!("a {level} has id 0, which is reserved; ids start at 1"));
        }
        if !seen.insert(id) {
            return Err(format!("{level} id {id} occurs twice"));
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        format = 1
        id = "small"
        version = "1"
        title = { zh = "小", en = "Small" }
        section = [{ id = 1, name = { zh = "部", en = "S" } }]
        category = [{ id = 7, section = 1, name = { zh = "类", en = "C" } }]
        [[scenario]]
        id = 20
        category = 7
        name = { zh = "乙", en = "B" }
        [[scenario]]
        id = 10
        category = 7
        name = { zh = "甲", en = "A" }
        terms = { zh = ["别名"], en = ["alias"] }
    "#;

    fn small(change: impl Fn(String) -> String) -> Result<Taxonomy, TaxonomyError> {
        Taxonomy::load(&|_| Ok(change(SMALL.to_owned())))
    }

    #[test]
    fn builtin_has_the_counts_of_the_guideline() {
        let taxonomy = Taxonomy::builtin();
        let counts = (taxonomy.sections.len(), taxonomy.categories.len(), taxonomy.len());
        assert_eq!(counts, (4, 13, 84));
        assert_eq!(taxonomy.scenarios.iter().filter(|scenario| scenario.names_large_model).count(), 20);
        assert!(taxonomy.scenarios.iter().enumerate().all(|(index, scenario)| scenario.id as usize == index + 1));
    }

    #[test]
    fn builtin_entries_are_complete_in_both_languages() {
        for scenario in Taxonomy::builtin().scenarios {
            for lang in [Lang::Zh, Lang::En] {
                assert!(!scenario.definition.get(lang).is_empty(), "scenario {} {lang:?}", scenario.id);
                assert!(scenario.includes.get(lang).len() >= 3, "scenario {} {lang:?}", scenario.id);
                assert!(scenario.terms.get(lang).len() >= 8, "scenario {} {lang:?}", scenario.id);
            }
            assert!(!scenario.excludes.is_empty(), "scenario {}", scenario.id);
        }
    }

    #[test]
    fn another_taxonomy_loads_sorted_and_is_found_by_name_or_term() {
        let taxonomy = small(|text| text).expect("valid");
        assert_eq!(taxonomy.position(10), Some(0));
        assert_eq!(taxonomy.find("alias").map(|scenario| scenario.id), Ok(10));
        assert_eq!(taxonomy.find("乙").map(|scenario| scenario.id), Ok(20));
        assert_eq!(taxonomy.find("nothing").map(|scenario| scenario.id), Err(vec![]));
        assert_eq!(taxonomy.ancestors([10, 20, 999]), (vec![7], vec![1]));
    }

    #[test]
    fn digest_follows_names_and_not_terms() {
        let digest = |change: fn(String) -> String| small(change).expect("valid").digest;
        assert_eq!(digest(|text| text), digest(|text| text.replace("alias", "other")));
        assert_ne!(digest(|text| text), digest(|text| text.replace("\"A\"", "\"Z\"")));
    }

    #[test]
    fn contradictions_are_named() {
        let problem = |from: &'static str, to: &'static str| {
            small(move |text| text.replace(from, to)).expect_err("invalid").to_string()
        };
        assert!(problem("id = 20", "id = 10").contains("scenario id 10 occurs twice"));
        assert!(problem("id = 20", "id = 0").contains("reserved"));
        assert!(problem("category = 7", "category = 8").contains("category 8, which does not exist"));
        assert!(problem("section = 1", "section = 3").contains("section 3, which does not exist"));
        assert!(problem("format = 1", "format = 2").contains("reads format 1"));
        assert!(problem("version = \"1\"", "version = 1").contains("Failed to parse"));
    }
}
