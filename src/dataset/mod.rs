//! Checks of data sets: registries of products (CSV) and labelled texts (JSONL).
//!
//! [`products`] checks a registry; [`near`] finds texts that nearly repeat another; [`Corpus`] holds labelled texts with
//! their places and counts what they cover.

pub mod near;
pub mod products;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::labels::{self, LabelledText, Status};
use crate::taxonomy::{Id, Lang, Taxonomy};

/// Highest similarity of two texts of one corpus that are not marked as a pair.
pub const WITHIN: f64 = 0.6;
/// Highest similarity of a training text and a text held out for evaluation.
pub const HELD_OUT: f64 = 0.35;

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` line {}: {}", self.file.display(), self.line, self.problem)
    }
}

/// A text with its place.
#[derive(Debug, Clone)]
pub struct Placed<T> {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The item.
    pub item: T,
}

/// Labelled texts of one or more files.
#[derive(Debug, Default)]
pub struct Corpus {
    /// The texts, in order.
    pub texts: Vec<Placed<LabelledText>>,
}

impl Corpus {
    /// Adds the texts of a file. Lines that are wrong are returned, the others are kept.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn add_file(&mut self, path: &Path, taxonomy: &Taxonomy) -> std::io::Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for (line, parsed) in labels::parse_lines(&std::fs::read_to_string(path)?, taxonomy) {
            match parsed {
                Ok(item) => self.texts.push(Placed { file: path.to_owned(), line, item }),
                Err(problem) => problems.push(Problem { file: path.to_owned(), line, problem }),
            }
        }
        Ok(problems)
    }

    /// Ids that occur twice, and texts that nearly repeat another one of the corpus.
    pub fn repetitions(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut seen: HashMap<&str, &Placed<LabelledText>> = HashMap::new();
        for text in &self.texts {
            if let Some(first) = seen.insert(&text.item.id, text) {
                let problem = format!(
                    "id `{}` was used in `{}` line {}; ids must be unique",
                    text.item.id,
                    first.file.display(),
                    first.line
                );
                problems.push(Problem { file: text.file.clone(), line: text.line, problem });
            }
        }
        let texts: Vec<&str> = self.texts.iter().map(|text| text.item.text.as_str()).collect();
        for found in near::within(&texts, WITHIN) {
            let (one, other) = (&self.texts[found.first], &self.texts[found.second]);
            if one.item.pair.is_some() && one.item.pair == other.item.pair {
                continue;
            }
            problems.push(repeats(other, &one.file, one.line, found.similarity, WITHIN));
        }
        problems
    }

    /// Texts that nearly repeat a text held out for evaluation.
    pub fn leaks(&self, held_out: &[Placed<String>]) -> Vec<Problem> {
        let texts: Vec<&str> = self.texts.iter().map(|text| text.item.text.as_str()).collect();
        let others: Vec<&str> = held_out.iter().map(|text| text.item.as_str()).collect();
        let found = near::between(&texts, &others, HELD_OUT);
        found
            .into_iter()
            .map(|found| {
                let other = &held_out[found.second];
                repeats(&self.texts[found.first], &other.file, other.line, found.similarity, HELD_OUT)
            })
            .collect()
    }

    /// Counts of what the corpus covers.
    pub fn statistics(&self, taxonomy: &Taxonomy) -> Statistics {
        let items = || self.texts.iter().map(|text| &text.item);
        let count = |keep: &dyn Fn(&LabelledText) -> bool| items().filter(|text| keep(text)).count();
        let mentions: BTreeMap<Id, usize> = taxonomy
            .scenarios
            .iter()
            .map(|scenario| (scenario.id, count(&|text| text.scenarios.contains(&scenario.id))))
            .collect();
        let pairs: BTreeSet<&String> = items().filter_map(|text| text.pair.as_ref()).collect();
        let diversity = |lang: Lang| {
            let texts: Vec<&str> =
                items().filter(|text| text.lang == Some(lang)).map(|text| text.text.as_str()).collect();
            near::Diversity::of(&texts)
        };
        Statistics {
            n_texts: self.texts.len(),
            n_zh: count(&|text| text.lang == Some(Lang::Zh)),
            n_en: count(&|text| text.lang == Some(Lang::En)),
            n_coded: count(&|text| text.status() == Status::Coded),
            n_outside: count(&|text| text.status() == Status::Outside),
            n_unspecified: count(&|text| text.status() == Status::Unspecified),
            n_several: count(&|text| (2..=6).contains(&text.scenarios.len())),
            n_mentions: mentions.values().sum(),
            n_pairs: pairs.len(),
            diversity_zh: diversity(Lang::Zh),
            diversity_en: diversity(Lang::En),
            mentions,
        }
    }
}

fn repeats(text: &Placed<LabelledText>, file: &Path, line: usize, similarity: f64, limit: f64) -> Problem {
    let problem = format!(
        "`{}` nearly repeats `{}` line {line}: similarity {similarity:.2}, expected less than {limit}; rewrite or remove it",
        text.item.id,
        file.display()
    );
    Problem { file: text.file.clone(), line: text.line, problem }
}

/// What a corpus covers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Texts.
    pub n_texts: usize,
    /// Texts in Chinese.
    pub n_zh: usize,
    /// Texts in English.
    pub n_en: usize,
    /// Texts with one or more scenarios.
    pub n_coded: usize,
    /// Texts with a use that no scenario covers.
    pub n_outside: usize,
    /// Texts without a stated use.
    pub n_unspecified: usize,
    /// Texts with two to six scenarios.
    pub n_several: usize,
    /// Mentions.
    pub n_mentions: usize,
    /// Groups of texts marked as minimal pairs.
    pub n_pairs: usize,
    /// How varied the Chinese texts are.
    pub diversity_zh: near::Diversity,
    /// How varied the English texts are.
    pub diversity_en: near::Diversity,
    /// Mentions of every scenario.
    pub mentions: BTreeMap<Id, usize>,
}
