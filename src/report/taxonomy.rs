//! The taxonomy for reading.

use std::fmt::Write;

use super::words;
use crate::taxonomy::diff::{Change, Diff, Edit, Entry, Values};
use crate::taxonomy::{Lang, Scenario, Taxonomy};

/// The tree with its notes and digest. A star marks scenarios whose text in the document names large models.
pub fn tree(taxonomy: &Taxonomy, lang: Lang) -> String {
    let mut out = String::new();
    let (sections, categories, scenarios) = (taxonomy.sections.len(), taxonomy.categories.len(), taxonomy.len());
    let marked = taxonomy.scenarios.iter().filter(|scenario| scenario.names_large_model).count();
    let _ = writeln!(out, "{} ({})", taxonomy.title.get(lang), taxonomy.id);
    let _ = match lang {
        Lang::Zh => writeln!(
            out,
            "{sections} 个部分、{categories} 个类别、{scenarios} 个场景；* 表示原文提到大模型（{marked} 个）"
        ),
        Lang::En => {
            writeln!(
                out,
                "{sections} sections, {categories} categories, {scenarios} scenarios; * where the document names large models ({marked})"
            )
        }
    };
    let tree = taxonomy.tree();
    for section in &taxonomy.sections {
        let _ = writeln!(out, "\n{}. {}", section.id, section.name.get(lang));
        for category in taxonomy.categories.iter().filter(|category| category.section == section.id) {
            let _ = writeln!(out, "  {}.{} {}", section.id, category.id, category.name.get(lang));
            for scenario in tree.get(&category.id).into_iter().flatten() {
                let mark = if scenario.names_large_model { " *" } else { "" };
                let _ = writeln!(out, "    {:>3} {}{mark}", scenario.id, scenario.name.get(lang));
            }
        }
    }
    out.push('\n');
    for note in &taxonomy.notes {
        let _ = writeln!(out, "{}: {}", words(lang, "注", "Note"), note.get(lang));
    }
    let _ = writeln!(out, "{}: {}", words(lang, "摘要", "Digest"), taxonomy.digest);
    out
}

/// One scenario in both languages, with its neighbours.
pub fn entry(scenario: &Scenario, taxonomy: &Taxonomy) -> String {
    let mut out = format!("{} {} / {}\n", scenario.id, scenario.name.zh, scenario.name.en);
    if let Some(category) = taxonomy.category(scenario.category) {
        let section = taxonomy.sections.iter().find(|section| section.id == category.section);
        let (zh, en) = section.map_or(("", ""), |section| (&section.name.zh, &section.name.en));
        let _ = writeln!(out, "{zh} > {} / {en} > {}", category.name.zh, category.name.en);
    }
    if scenario.names_large_model {
        out += "原文提到大模型 / the document names large models\n";
    }
    for (lang, definition, includes, excludes, terms) in [
        (Lang::Zh, "定义", "包括", "不包括", "其他说法"),
        (Lang::En, "Definition", "Includes", "Excludes", "Also called"),
    ] {
        let _ = writeln!(out, "\n{definition}: {}", scenario.definition.get(lang));
        let mut list = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                let _ = writeln!(out, "{title}:");
                for item in items {
                    let _ = writeln!(out, "  - {item}");
                }
            }
        };
        list(includes, scenario.includes.get(lang).clone());
        let rule = |rule: &crate::taxonomy::Exclusion| {
            let text = if lang == Lang::Zh { &rule.zh } else { &rule.en };
            match taxonomy.scenario(rule.neighbour) {
                Some(neighbour) => format!("{text} → {} {}", neighbour.id, neighbour.name.get(lang)),
                None => format!("{text} → outside"),
            }
        };
        list(excludes, scenario.excludes.iter().map(rule).collect());
        let _ = writeln!(out, "{terms}: {}", scenario.terms.get(lang).join(words(lang, "、", ", ")));
    }
    out
}

/// Differences of two taxonomies: `+` is new, `-` is gone, `~` differs.
pub fn diff(diff: &Diff) -> String {
    let mut out = format!("{} → {}\n", diff.old, diff.new);
    if diff.is_empty() {
        return out + "no differences\n";
    }
    if !diff.document.is_empty() {
        out += "\nDocument\n";
        diff.document.iter().for_each(|found| out += &edit(found));
    }
    for (level, entries) in
        [("Sections", &diff.sections), ("Categories", &diff.categories), ("Scenarios", &diff.scenarios)]
    {
        if entries.is_empty() {
            continue;
        }
        let count = |change: fn(&Change) -> bool| entries.iter().filter(|entry| change(&entry.change)).count();
        let _ = writeln!(
            out,
            "\n{level}: {} added, {} removed, {} changed",
            count(|change| *change == Change::Added),
            count(|change| *change == Change::Removed),
            count(|change| matches!(change, Change::Changed(_)))
        );
        for Entry { id, name, change } in entries {
            let (mark, edits) = match change {
                Change::Added => ('+', [].as_slice()),
                Change::Removed => ('-', [].as_slice()),
                Change::Changed(edits) => ('~', edits.as_slice()),
            };
            let _ = writeln!(out, "{mark} {id} {} / {}", name.zh, name.en);
            edits.iter().for_each(|found| out += &edit(found));
        }
    }
    out
}

fn edit(edit: &Edit) -> String {
    let field = match edit.field {
        "name" => "renamed",
        "category" => "moved to another category",
        "section" => "moved to another section",
        other => other,
    };
    let mut out = match edit.lang {
        None => format!("    {field}\n"),
        Some(Lang::Zh) => format!("    {field} (zh)\n"),
        Some(Lang::En) => format!("    {field} (en)\n"),
    };
    let mut line = |mark: char, value: &str| {
        let _ = writeln!(out, "      {mark} {value}");
    };
    match &edit.values {
        Values::One { old, new } => {
            line('-', old);
            line('+', new);
        }
        Values::Many { added, removed } => {
            removed.iter().for_each(|value| line('-', value));
            added.iter().for_each(|value| line('+', value));
            if added.is_empty() && removed.is_empty() {
                line('~', "order or repetitions");
            }
        }
    }
    out
}
