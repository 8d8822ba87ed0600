//! The taxonomy in exchange formats: SKOS Turtle (W3C SKOS Reference, 2009), JSON and CSV.

use std::fmt::Write;

use super::{Bilingual, Id, Taxonomy};

/// The taxonomy as a SKOS concept scheme in Turtle.
///
/// Sections, categories and scenarios are concepts joined by `skos:broader`; neighbours are `skos:related`; our terms
/// are `skos:altLabel`. Identifiers are URNs under the taxonomy's own id.
pub fn skos(taxonomy: &Taxonomy) -> String {
    let mut out = String::new();
    let scheme = format!("<urn:medscenario:{}>", taxonomy.id);
    let concept = |level: &str, id: Id| format!("<urn:medscenario:{}:{level}:{id}>", taxonomy.id);
    out += "@prefix skos: <http://www.w3.org/2004/02/skos/core#> .\n@prefix dct: <http://purl.org/dc/terms/> .\n\n";
    let _ = writeln!(out, "{scheme} a skos:ConceptScheme ;");
    let _ = writeln!(out, "  dct:title {} ;", labels(&taxonomy.title));
    let _ = writeln!(out, "  dct:identifier {} ;", literal(&taxonomy.digest));
    let tops: Vec<String> = taxonomy.sections.iter().map(|section| concept("section", section.id)).collect();
    let _ = writeln!(out, "  skos:hasTopConcept {} .", tops.join(", "));
    for section in &taxonomy.sections {
        let _ = write!(
            out,
            "\n{} a skos:Concept ;\n  skos:inScheme {scheme} ;\n  skos:topConceptOf {scheme} ;\n  skos:notation {} ;\n  skos:prefLabel {} .\n",
            concept("section", section.id),
            literal(&section.id.to_string()),
            labels(&section.name)
        );
    }
    for category in &taxonomy.categories {
        let _ = write!(
            out,
            "\n{} a skos:Concept ;\n  skos:inScheme {scheme} ;\n  skos:broader {} ;\n  skos:notation {} ;\n  skos:prefLabel {} .\n",
            concept("category", category.id),
            concept("section", category.section),
            literal(&category.id.to_string()),
            labels(&category.name)
        );
    }
    for scenario in &taxonomy.scenarios {
        let mut lines = vec![
            format!("skos:inScheme {scheme}"),
            format!("skos:broader {}", concept("category", scenario.category)),
            format!("skos:notation {}", literal(&scenario.id.to_string())),
            format!("skos:prefLabel {}", labels(&scenario.name)),
        ];
        let both = |texts: &Bilingual<Vec<String>>| -> Vec<String> {
            let tagged = |texts: &[String], tag: &str| -> Vec<String> {
                texts.iter().map(|text| format!("{}@{tag}", literal(text))).collect()
            };
            [tagged(&texts.zh, "zh"), tagged(&texts.en, "en")].concat()
        };
        let mut add = |property: &str, values: Vec<String>| {
            if !values.is_empty() {
                lines.push(format!("{property} {}", values.join(", ")));
            }
        };
        add("skos:altLabel", both(&scenario.terms));
        if !scenario.definition.zh.is_empty() || !scenario.definition.en.is_empty() {
            add("skos:definition", vec![labels(&scenario.definition)]);
        }
        add("skos:example", both(&scenario.includes));
        let notes = scenario.excludes.iter();
        add(
            "skos:scopeNote",
            notes.map(|rule| labels(&Bilingual { zh: rule.zh.clone(), en: rule.en.clone() })).collect(),
        );
        let mut neighbours: Vec<Id> =
            scenario.excludes.iter().map(|rule| rule.neighbour).filter(|&id| id != 0).collect();
        neighbours.sort_unstable();
        neighbours.dedup();
        add("skos:related", neighbours.into_iter().map(|id| concept("scenario", id)).collect());
        let _ = write!(out, "\n{} a skos:Concept ;\n  {} .\n", concept("scenario", scenario.id), lines.join(" ;\n  "));
    }
    out
}

/// The taxonomy as indented JSON, digest included.
pub fn json(taxonomy: &Taxonomy) -> String {
    let mut text = serde_json::to_string_pretty(taxonomy).expect("a taxonomy holds only strings, numbers and lists");
    text.push('\n');
    text
}

/// One CSV row per scenario, with the names of the levels above; lists are joined by `; `.
pub fn csv(taxonomy: &Taxonomy) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "scenario",
        "category",
        "section",
        "name_zh",
        "name_en",
        "category_zh",
        "category_en",
        "section_zh",
        "section_en",
        "names_large_model",
        "definition_zh",
        "definition_en",
        "includes_zh",
        "includes_en",
        "terms_zh",
        "terms_en",
        "excludes_zh",
        "excludes_en",
        "neighbours",
        "taxonomy",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for scenario in &taxonomy.scenarios {
        let category = taxonomy.category(scenario.category).expect("checked when loaded");
        let section =
            taxonomy.sections.iter().find(|section| section.id == category.section).expect("checked when loaded");
        let rules = |pick: fn(&super::Exclusion) -> String| -> String {
            scenario.excludes.iter().map(pick).collect::<Vec<_>>().join("; ")
        };
        rows.push(vec![
            scenario.id.to_string(),
            category.id.to_string(),
            section.id.to_string(),
            scenario.name.zh.clone(),
            scenario.name.en.clone(),
            category.name.zh.clone(),
            category.name.en.clone(),
            section.name.zh.clone(),
            section.name.en.clone(),
            scenario.names_large_model.to_string(),
            scenario.definition.zh.clone(),
            scenario.definition.en.clone(),
            scenario.includes.zh.join("; "),
            scenario.includes.en.join("; "),
            scenario.terms.zh.join("; "),
            scenario.terms.en.join("; "),
            rules(|rule| rule.zh.clone()),
            rules(|rule| rule.en.clone()),
            rules(|rule| rule.neighbour.to_string()),
            taxonomy.label(),
        ]);
    }
    for row in rows {
        writer.write_record(row).expect("writing to memory does not fail");
    }
    String::from_utf8(writer.into_inner().expect("writing to memory does not fail")).expect("CSV of strings is UTF-8")
}

/// A Turtle string literal; escapes as the Turtle grammar of 2014 asks.
fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            other => out.push(other),
        }
    }
    out + "\""
}

fn labels(text: &Bilingual) -> String {
    let tagged = [(&text.zh, "zh"), (&text.en, "en")];
    let present: Vec<String> = tagged
        .iter()
        .filter(|(text, _)| !text.is_empty())
        .map(|(text, tag)| format!("{}@{tag}", literal(text)))
        .collect();
    present.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_a_row_per_scenario_and_reads_back() {
        let taxonomy = Taxonomy::builtin();
        let text = csv(&taxonomy);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let ids: Vec<Id> = reader.records().map(|row| row.expect("valid CSV")[0].parse().expect("number")).collect();
        assert_eq!(ids, taxonomy.scenarios.iter().map(|scenario| scenario.id).collect::<Vec<_>>());
    }

    #[test]
    fn turtle_escapes_quotes_and_names_every_concept() {
        assert_eq!(literal("a \"b\" \\ c\n"), r#""a \"b\" \\ c\n""#);
        let taxonomy = Taxonomy::builtin();
        let concepts = skos(&taxonomy).matches(" a skos:Concept ;").count();
        assert_eq!(concepts, taxonomy.sections.len() + taxonomy.categories.len() + taxonomy.len());
    }
}
