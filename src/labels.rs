//! Labelled texts: texts and their codes, for training and evaluation. One JSON object a line:
//!
//! ```json
//! {"id": "a-0001", "lang": "zh", "text": "…", "status": "coded", "scenarios": [8, 10],
//!  "evidence": {"8": ["按症状推荐科室"], "10": ["接诊前采集病史"]}}
//! ```
//!
//! `status`, `lang`, `evidence`, `group` and `pair` may be left out; a text without scenarios and status is `unspecified`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::record::json_problem;
use crate::taxonomy::{Id, Lang, Taxonomy};

/// Whether and how a text states what its product is used for, as the codebook defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// One or more scenarios are stated.
    Coded,
    /// A concrete use is stated that no scenario covers.
    Outside,
    /// No use is stated.
    Unspecified,
}

impl Status {
    /// All of them, in the order of reports.
    pub const ALL: [Status; 3] = [Status::Coded, Status::Outside, Status::Unspecified];

    /// The word that outputs use.
    pub fn name(self) -> &'static str {
        match self {
            Status::Coded => "coded",
            Status::Outside => "outside",
            Status::Unspecified => "unspecified",
        }
    }
}

/// One labelled text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelledText {
    /// Unique in its set.
    pub id: String,
    /// Language of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<Lang>,
    /// The text.
    pub text: String,
    /// How it was coded; from `scenarios` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Scenarios, ascending.
    pub scenarios: Vec<Id>,
    /// For each scenario, pieces of the text that justify it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<Id, Vec<String>>,
    /// What must stay together when sets are split, such as a developer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Texts that differ by one clause share a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
}

impl LabelledText {
    /// The status given, or the one that follows from the scenarios.
    pub fn status(&self) -> Status {
        self.status.unwrap_or(if self.scenarios.is_empty() { Status::Unspecified } else { Status::Coded })
    }

    /// Places of the evidence of a scenario, as byte ranges of the text; the first place where a piece occurs twice.
    pub fn evidence_ranges(&self, scenario: Id) -> Vec<(usize, usize)> {
        let quotes = self.evidence.get(&scenario).map(Vec::as_slice).unwrap_or_default();
        quotes
            .iter()
            .filter_map(|quote| self.text.find(quote.as_str()).map(|start| (start, start + quote.len())))
            .collect()
    }

    fn problem(&self, taxonomy: &Taxonomy) -> Option<String> {
        if self.text.trim().is_empty() {
            return Some("`text` is empty; expected a description".to_owned());
        }
        if let Some(id) = self.scenarios.iter().find(|&&id| taxonomy.position(id).is_none()) {
            return Some(format!(
                "scenario {id} is not in taxonomy `{}`; `medscenario taxonomy list` shows those that are",
                taxonomy.id
            ));
        }
        if !self.scenarios.is_sorted_by(|a, b| a < b) {
            return Some("`scenarios` must be ascending without repetition".to_owned());
        }
        match (self.status(), self.scenarios.is_empty()) {
            (Status::Coded, true) => {
                return Some(
                    "`status` is coded, but `scenarios` is empty; name a scenario, or set outside or unspecified"
                        .to_owned(),
                );
            }
            (Status::Outside | Status::Unspecified, false) => {
                return Some(format!(
                    "`status` is {}, but `scenarios` is not empty; set coded, or empty it",
                    self.status().name()
                ));
            }
            _ => {}
        }
        for (id, quotes) in &self.evidence {
            if !self.scenarios.contains(id) {
                return Some(format!(
                    "`evidence` names scenario {id}, which `scenarios` does not; add it there, or remove it"
                ));
            }
            if let Some(quote) = quotes.iter().find(|quote| quote.is_empty() || !self.text.contains(quote.as_str())) {
                return Some(format!(
                    "evidence of scenario {id} is not in the text: `{quote}`; quote the text as it stands"
                ));
            }
        }
        None
    }
}

/// Why labels cannot be used. Labels decide what a model learns and how it is judged, so that nothing is skipped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The file cannot be read.
    #[error("Failed to read labels `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("`{}` line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// There is nothing.
    #[error("`{}` has no labelled text; expected one JSON object a line", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Reads labelled texts from files, in order.
///
/// # Errors
/// The first line that is not a labelled text of this taxonomy, or whose id was used before.
pub fn read(paths: &[PathBuf], taxonomy: &Taxonomy) -> Result<Vec<LabelledText>, LabelError> {
    let mut texts = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for path in paths {
        let before = texts.len();
        let content =
            std::fs::read_to_string(path).map_err(|source| LabelError::Read { path: path.clone(), source })?;
        for (line, parsed) in parse_lines(&content, taxonomy) {
            let wrong = |problem| LabelError::Line { path: path.clone(), line, problem };
            let text = parsed.map_err(wrong)?;
            if !seen.insert(text.id.clone()) {
                return Err(wrong(format!("id `{}` occurs a second time; ids must be unique", text.id)));
            }
            texts.push(text);
        }
        if texts.len() == before {
            return Err(LabelError::Empty { path: path.clone() });
        }
    }
    Ok(texts)
}

/// Parses lines of labelled texts: the number of each line that is not blank, and the text or what is wrong with it.
pub fn parse_lines<'a>(
    content: &'a str,
    taxonomy: &'a Taxonomy,
) -> impl Iterator<Item = (usize, Result<LabelledText, String>)> + 'a {
    let lines = content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| {
        // The parser would take a list for the fields in order.
        let parsed = match line.trim_start().starts_with('{') {
            true => serde_json::from_str::<LabelledText>(line).map_err(|error| json_problem(&error)),
            false => Err("it is no JSON object".to_owned()),
        };
        let parsed = parsed.map_err(|cause| {
            format!("not a labelled text: {cause}; expected an object with `id`, `text` and the numbers of `scenarios`")
        });
        let checked = parsed.and_then(|text| match text.problem(taxonomy) {
            Some(problem) => Err(problem),
            None => Ok(text),
        });
        (index + 1, checked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: &str) -> Option<String> {
        let text: LabelledText = serde_json::from_str(line).expect("valid JSON");
        text.problem(&Taxonomy::builtin())
    }

    #[test]
    fn evidence_gives_byte_ranges() {
        let text: LabelledText =
            serde_json::from_str(r#"{"id":"1","text":"导诊和随访","scenarios":[8,12],"evidence":{"12":["随访"]}}"#)
                .expect("valid");
        assert_eq!(text.evidence_ranges(12), [(9, 15)]);
        assert_eq!(text.evidence_ranges(8), []);
        assert_eq!(text.status(), Status::Coded);
    }

    #[test]
    fn contradictions_are_named() {
        assert_eq!(problem(r#"{"id":"1","text":"a","scenarios":[8]}"#), None);
        let has = |line: &str, words: &str| assert!(problem(line).is_some_and(|found| found.contains(words)), "{line}");
        has(r#"{"id":"1","text":" ","scenarios":[8]}"#, "empty");
        has(r#"{"id":"1","text":"a","scenarios":[999]}"#, "999");
        has(r#"{"id":"1","text":"a","scenarios":[9,8]}"#, "ascending");
        has(r#"{"id":"1","text":"a","scenarios":[],"status":"coded"}"#, "coded");
        has(r#"{"id":"1","text":"a","scenarios":[8],"status":"outside"}"#, "not empty");
        has(r#"{"id":"1","text":"a","scenarios":[8],"evidence":{"9":["a"]}}"#, "scenario 9");
        has(r#"{"id":"1","text":"a","scenarios":[8],"evidence":{"8":["b"]}}"#, "not in the text");
    }
}
