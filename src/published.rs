//! Published surveys: figures that others have counted, with their wording and source. They are data of their own and
//! are never mixed with counts of ours; [`crate::comparison`] sets the two side by side.
//!
//! A published survey is a TOML file, described in `data/reference/vbinsight-2025/README.md`. A figure says in `counts`
//! what it counts; one without it is context and is compared with nothing.

use serde::{Deserialize, Serialize};

use crate::taxonomy::{Bilingual, Id, Taxonomy};

/// The files compiled into the program.
const BUILTIN: [(&str, &str); 1] = [("vbinsight-2025", include_str!("../data/reference/vbinsight-2025/survey.toml"))];

/// Name of the survey that `--compare` takes where none is given.
pub const DEFAULT: &str = "vbinsight-2025";

/// Why a published survey cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishedError {
    /// The file is not TOML of this format.
    #[error("Failed to parse the published survey `{name}`")]
    Parse {
        /// Its name.
        name: String,
        /// The cause, with line and column.
        source: Box<toml::de::Error>,
    },
    /// The content contradicts itself or the taxonomy.
    #[error("The published survey `{name}` is not usable: {problem}")]
    Invalid {
        /// Its name.
        name: String,
        /// What is wrong, with the entry's id.
        problem: String,
    },
}

/// A survey that others have published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedSurvey {
    /// Version of the file's format, 1.
    pub format: u32,
    /// Short name, by which `--compare` finds it.
    pub id: String,
    /// The taxonomy whose numbers it uses.
    pub taxonomy: String,
    /// Date of publication.
    pub published: String,
    /// Its title.
    pub title: Bilingual,
    /// Who published it.
    pub publisher: Bilingual,
    /// What was counted, when, by whom, in which unit.
    pub scope: PublishedScope,
    /// Where the figures stand.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// The figures.
    #[serde(rename = "figure")]
    pub figures: Vec<Figure>,
    /// Statements on order, without figures.
    #[serde(rename = "ranking", default)]
    pub rankings: Vec<Ranking>,
    /// Other divisions of the field by the same house.
    #[serde(rename = "classification", default)]
    pub classifications: Vec<Classification>,
}

/// What a published survey covers, in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedScope {
    /// Which products.
    pub population: Bilingual,
    /// Between which dates.
    pub window: Bilingual,
    /// Who read and coded them.
    pub coder: Bilingual,
    /// What one count is.
    pub unit: Bilingual,
}

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name by which figures refer to it.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Who published it.
    pub publisher: String,
    /// When.
    pub date: String,
    /// Its address; empty where none is known.
    #[serde(default)]
    pub url: String,
}

/// What a published figure counts, in terms that this program can count too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// Products.
    Records,
    /// Mentions of scenarios.
    Mentions,
    /// Mentions by all mentions.
    ShareOfMentions,
    /// Categories with mentions.
    CategoriesTouched,
    /// Scenarios with mentions.
    ScenariosTouched,
    /// Scenarios whose text in the document names large models.
    ScenariosNamingLargeModels,
}

impl Counted {
    /// Whether values are shares in [0, 1] instead of counts.
    pub fn is_share(self) -> bool {
        self == Counted::ShareOfMentions
    }
}

/// One published figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Unique in its survey.
    pub id: String,
    /// Id of its source.
    pub source: String,
    /// The figure; shares in [0, 1].
    pub value: f64,
    /// The figure as it is printed.
    pub quote: String,
    /// What it says, in our words.
    pub wording: Bilingual,
    /// What this program sets beside it; nothing where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counted>,
    /// Only mentions of this category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Id>,
    /// Only products released in this year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<u16>,
    /// Only products released before this month of that year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_month: Option<u8>,
    /// Only products of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// What a reader must know beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<Bilingual>,
}

/// A statement such as "most mentioned", which names entries and gives no figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranking {
    /// Unique in its survey.
    pub id: String,
    /// Id of its source.
    pub source: String,
    /// What it says, in our words.
    pub wording: Bilingual,
    /// Scenarios that it names.
    #[serde(default)]
    pub scenarios: Vec<Named>,
    /// Categories that it names.
    #[serde(default)]
    pub categories: Vec<Named>,
}

/// An entry of the taxonomy under the name that a publication uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its number in the taxonomy.
    pub id: Id,
    /// Its name in the publication.
    pub as_named: Bilingual,
}

/// Another division of the field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// Unique in its survey.
    pub id: String,
    /// Id of its source.
    pub source: String,
    /// Its name.
    pub name: Bilingual,
    /// What it was used for.
    pub remark: Bilingual,
    /// Its classes, as far as they are known.
    pub classes: Vec<Bilingual>,
}

impl PublishedSurvey {
    /// The built-in survey of this name.
    pub fn builtin(name: &str) -> Option<Result<PublishedSurvey, PublishedError>> {
        BUILTIN.iter().find(|(known, _)| *known == name).map(|(name, text)| PublishedSurvey::parse(name, text))
    }

    /// Names of the built-in surveys.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    fn parse(name: &str, text: &str) -> Result<PublishedSurvey, PublishedError> {
        let survey: PublishedSurvey = toml::from_str(text)
            .map_err(|source| PublishedError::Parse { name: name.to_owned(), source: Box::new(source) })?;
        survey.check().map_err(|problem| PublishedError::Invalid { name: name.to_owned(), problem })?;
        Ok(survey)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("`format` is {}, and this program reads format 1", self.format));
        }
        let references = self
            .figures
            .iter()
            .map(|figure| (&figure.id, &figure.source))
            .chain(self.rankings.iter().map(|ranking| (&ranking.id, &ranking.source)))
            .chain(self.classifications.iter().map(|other| (&other.id, &other.source)));
        let mut seen = std::collections::HashSet::new();
        for (id, source) in references {
            if !seen.insert(id) {
                return Err(format!("id `{id}` is used twice"));
            }
            if self.source(source).is_none() {
                return Err(format!("`{id}` names source `{source}`, which is not listed"));
            }
        }
        for figure in &self.figures {
            let share = figure.counts.is_some_and(Counted::is_share);
            if figure.value < 0.0 || (share && figure.value > 1.0) {
                return Err(format!("figure `{}` has the value {}, out of its range", figure.id, figure.value));
            }
        }
        Ok(())
    }

    /// Checks that the survey speaks of this taxonomy.
    ///
    /// # Errors
    /// Another taxonomy, or a number that it does not have.
    pub fn check_taxonomy(&self, taxonomy: &Taxonomy) -> Result<(), PublishedError> {
        let invalid = |problem| Err(PublishedError::Invalid { name: self.id.clone(), problem });
        if self.taxonomy != taxonomy.id {
            return invalid(format!("it uses taxonomy `{}`, and `{}` is loaded", self.taxonomy, taxonomy.id));
        }
        let categories = self.figures.iter().filter_map(|figure| figure.category);
        let categories = categories.chain(self.rankings.iter().flat_map(|r| &r.categories).map(|named| named.id));
        if let Some(unknown) = categories.into_iter().find(|&id| taxonomy.category(id).is_none()) {
            return invalid(format!("category {unknown} is not in the taxonomy"));
        }
        let scenarios = self.rankings.iter().flat_map(|ranking| &ranking.scenarios);
        if let Some(unknown) = scenarios.map(|named| named.id).find(|&id| taxonomy.scenario(id).is_none()) {
            return invalid(format!("scenario {unknown} is not in the taxonomy"));
        }
        Ok(())
    }

    /// The source with this id.
    pub fn source(&self, id: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_survey_is_sound_and_fits_the_built_in_taxonomy() {
        let taxonomy = Taxonomy::builtin();
        for name in PublishedSurvey::names() {
            let survey = PublishedSurvey::builtin(name).expect("listed").expect("sound");
            assert_eq!(survey.id, name);
            survey.check_taxonomy(&taxonomy).expect("fits");
        }
        assert!(PublishedSurvey::names().any(|name| name == DEFAULT));
    }

    #[test]
    fn published_figures_agree_among_themselves_where_they_should() {
        let survey = PublishedSurvey::builtin(DEFAULT).expect("listed").expect("sound");
        let value = |id: &str| survey.figures.iter().find(|figure| figure.id == id).expect("a figure").value;
        assert_eq!(value("models-2023") + value("models-2024") + value("models-2025"), value("models"));
        assert!((value("medical-services") / value("mentions") - value("medical-services-share")).abs() < 0.005);
    }

    #[test]
    fn an_unknown_source_or_field_is_named() {
        let text = BUILTIN[0].1;
        let wrong = text.replacen("source = \"report\"", "source = \"elsewhere\"", 1);
        let error = PublishedSurvey::parse("x", &wrong).expect_err("refused").to_string();
        assert!(error.contains("`models` names source `elsewhere`"), "{error}");
        let wrong = text.replacen("quote =", "quotation =", 1);
        assert!(matches!(PublishedSurvey::parse("x", &wrong), Err(PublishedError::Parse { .. })));
        let wrong = text.replacen("category = 1", "category = 99", 1);
        let survey = PublishedSurvey::parse("x", &wrong).expect("parses");
        assert!(survey.check_taxonomy(&Taxonomy::builtin()).is_err());
    }
}
