//! What differs between two taxonomies, or two versions of one, entry by entry and in both languages.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Bilingual, Exclusion, Id, Lang, Scenario, Taxonomy};

/// All differences between two taxonomies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The first taxonomy and the beginning of its digest.
    pub old: String,
    /// The second one.
    pub new: String,
    /// Differences of the document: id, version, title, publisher, number, date and notes.
    pub document: Vec<Edit>,
    /// Sections that differ, ascending.
    pub sections: Vec<Entry>,
    /// Categories that differ, ascending.
    pub categories: Vec<Entry>,
    /// Scenarios that differ, ascending.
    pub scenarios: Vec<Entry>,
}

impl Diff {
    /// Whether the taxonomies are equal in all that a reader sees.
    pub fn is_empty(&self) -> bool {
        self.document.is_empty() && self.sections.is_empty() && self.categories.is_empty() && self.scenarios.is_empty()
    }
}

/// One section, category or scenario that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number.
    pub id: Id,
    /// Its name; the new one where it was renamed.
    pub name: Bilingual,
    /// What happened to it.
    #[serde(flatten)]
    pub change: Change,
}

/// What happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", content = "edits", rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is in both, and differs.
    Changed(Vec<Edit>),
}

/// One difference of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// The key of the taxonomy's files; `category` and `section` are moves, `name` is a new name.
    pub field: &'static str,
    /// The language of the text; `None` where it has none.
    pub lang: Option<Lang>,
    /// From what to what.
    #[serde(flatten)]
    pub values: Values,
}

/// Values before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Values {
    /// A single value.
    One {
        /// Before.
        old: String,
        /// After.
        new: String,
    },
    /// A list; where it lost and gained nothing, its order or repetitions differ.
    Many {
        /// What the list gained, in its order.
        added: Vec<String>,
        /// What it lost, in its order.
        removed: Vec<String>,
    },
}

/// Compares two taxonomies. Entries are the same where their numbers are.
pub fn diff(old: &Taxonomy, new: &Taxonomy) -> Diff {
    let mut document = Edits::default();
    document.one("id", None, &old.id, &new.id);
    document.one("version", None, &old.version, &new.version);
    document.name("title", &old.title, &new.title);
    document.name("publisher", &old.publisher, &new.publisher);
    document.one("document", None, &old.document, &new.document);
    document.one("issued", None, &old.issued, &new.issued);
    for lang in [Lang::Zh, Lang::En] {
        let notes = |taxonomy: &Taxonomy| taxonomy.notes.iter().map(|note| note.get(lang).clone()).collect();
        document.many("note", lang, notes(old), notes(new));
    }
    Diff {
        old: old.label(),
        new: new.label(),
        document: document.0,
        sections: entries(&old.sections, &new.sections, |entry| (entry.id, &entry.name), |_, _, _| {}),
        categories: entries(
            &old.categories,
            &new.categories,
            |entry| (entry.id, &entry.name),
            |edits, old, new| edits.one("section", None, &old.section.to_string(), &new.section.to_string()),
        ),
        scenarios: entries(&old.scenarios, &new.scenarios, |entry| (entry.id, &entry.name), scenario),
    }
}

fn scenario(edits: &mut Edits, old: &Scenario, new: &Scenario) {
    edits.one("category", None, &old.category.to_string(), &new.category.to_string());
    edits.one("names_large_model", None, &old.names_large_model.to_string(), &new.names_large_model.to_string());
    edits.name("definition", &old.definition, &new.definition);
    for lang in [Lang::Zh, Lang::En] {
        edits.many("includes", lang, old.includes.get(lang).clone(), new.includes.get(lang).clone());
        edits.many("terms", lang, old.terms.get(lang).clone(), new.terms.get(lang).clone());
        let rules = |scenario: &Scenario| scenario.excludes.iter().map(|rule| border(rule, lang)).collect();
        edits.many("excludes", lang, rules(old), rules(new));
    }
}

/// An exclusion as one text.
fn border(rule: &Exclusion, lang: Lang) -> String {
    let text = match lang {
        Lang::Zh => &rule.zh,
        Lang::En => &rule.en,
    };
    format!("{text} → {}", rule.neighbour)
}

fn entries<T>(
    old: &[T],
    new: &[T],
    identity: impl Fn(&T) -> (Id, &Bilingual),
    compare: impl Fn(&mut Edits, &T, &T),
) -> Vec<Entry> {
    let find = |entries: &[T], id: Id| entries.iter().position(|entry| identity(entry).0 == id);
    let ids: BTreeSet<Id> = old.iter().chain(new).map(|entry| identity(entry).0).collect();
    let changed = |id: Id| {
        let (before, after) = (find(old, id).map(|at| &old[at]), find(new, id).map(|at| &new[at]));
        let name = after.or(before).map(|entry| identity(entry).1.clone())?;
        let change = match (before, after) {
            (Some(before), Some(after)) => {
                let mut edits = Edits::default();
                edits.name("name", identity(before).1, identity(after).1);
                compare(&mut edits, before, after);
                if edits.0.is_empty() {
                    return None;
                }
                Change::Changed(edits.0)
            }
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        Some(Entry { id, name, change })
    };
    ids.into_iter().filter_map(changed).collect()
}

#[derive(Debug, Default)]
struct Edits(Vec<Edit>);

impl Edits {
    fn one(&mut self, field: &'static str, lang: Option<Lang>, old: &str, new: &str) {
        if old != new {
            self.0.push(Edit { field, lang, values: Values::One { old: old.to_owned(), new: new.to_owned() } });
        }
    }

    fn name(&mut self, field: &'static str, old: &Bilingual, new: &Bilingual) {
        for lang in [Lang::Zh, Lang::En] {
            self.one(field, Some(lang), old.get(lang), new.get(lang));
        }
    }

    fn many(&mut self, field: &'static str, lang: Lang, old: Vec<String>, new: Vec<String>) {
        if old != new {
            let without = |list: &[String], other: &[String]| -> Vec<String> {
                list.iter().filter(|item| !other.contains(item)).cloned().collect()
            };
            let values = Values::Many { added: without(&new, &old), removed: without(&old, &new) };
            self.0.push(Edit { field, lang: Some(lang), values });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taxonomy_differs_from_itself_in_nothing() {
        let taxonomy = Taxonomy::builtin();
        assert!(diff(&taxonomy, &taxonomy).is_empty());
    }

    #[test]
    fn every_edit_is_found_where_it_was_made() {
        let old = Taxonomy::builtin();
        let mut new = old.clone();
        new.version = "next".to_owned();
        new.categories[0].name.en.push('!');
        new.scenarios.remove(83);
        new.scenarios[0].category = 2;
        new.scenarios[1].name.zh.push('！');
        new.scenarios[2].definition.en.clear();
        new.scenarios[3].terms.zh.swap(0, 1);
        new.scenarios[4].includes.en.push("more".to_owned());
        new.scenarios[5].excludes[0].neighbour = 0;
        new.scenarios[6].names_large_model ^= true;
        let found = diff(&old, &new);
        assert_eq!(found.document.len(), 1);
        assert!(found.sections.is_empty());
        assert_eq!(found.categories.iter().map(|entry| entry.id).collect::<Vec<_>>(), [1]);
        let fields = |entry: &Entry| match &entry.change {
            Change::Changed(edits) => edits.iter().map(|edit| (edit.field, edit.lang)).collect(),
            _ => Vec::new(),
        };
        let edits: Vec<_> = found.scenarios.iter().map(|entry| (entry.id, fields(entry))).collect();
        let (zh, en) = (Some(Lang::Zh), Some(Lang::En));
        let expected = [
            (1, vec![("category", None)]),
            (2, vec![("name", zh)]),
            (3, vec![("definition", en)]),
            (4, vec![("terms", zh)]),
            (5, vec![("includes", en)]),
            (6, vec![("excludes", zh), ("excludes", en)]),
            (7, vec![("names_large_model", None)]),
            (84, vec![]),
        ];
        assert_eq!(edits, expected);
        assert_eq!(found.scenarios[7].change, Change::Removed);
        assert_eq!(diff(&new, &old).scenarios[7].change, Change::Added);
    }
}
