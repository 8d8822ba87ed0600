//! A survey as one HTML page that needs nothing else: tables, charts, and for every number the products behind it.
//!
//! The page is rendered here and is complete without scripts; its script adds sorting, filtering, the switch of language
//! and the panel of products. Descriptions and all other values are untrusted: the template engine escapes them, the
//! embedded data cannot end its element, and a content security policy with the digests of our own style and script
//! forbids everything else.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::charts::{Chart, charts};
use super::comparison::{number, points, this_figure};
use super::survey::derivation;
use super::{level_name, percent};
use crate::comparison::{Comparison, PublishedComparison, ScopeRow};
use crate::microdata::Microdata;
use crate::survey::{Frequency, Level, Survey};
use crate::taxonomy::{Bilingual, Id, Lang};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Pairs of scenarios in the table of co-occurrence.
const PAIRS: usize = 100;
/// Changes of shares in the table of a comparison.
const CHANGES: usize = 30;

/// Why a page cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("Failed to render the report; this is a fault of the program's own template")]
pub struct PageError(#[from] minijinja::Error);

/// What is set beside the survey.
#[derive(Debug, Clone, Copy)]
pub enum Beside<'a> {
    /// Another result of this program.
    Result(&'a Comparison),
    /// A published survey.
    Published(&'a PublishedComparison),
}

/// The page, first shown in `lang`.
///
/// # Errors
/// None that a reader of the survey could cause.
pub fn page(
    survey: &Survey,
    microdata: &Microdata<'_>,
    beside: Option<Beside<'_>>,
    lang: Lang,
) -> Result<String, PageError> {
    let taxonomy = microdata.taxonomy();
    let mut environment = Environment::new();
    environment.add_filter("percent", percent);
    environment.add_filter("glossary_zh", |value: String| glossary(&value, Lang::Zh).to_owned());
    environment.add_filter("glossary_en", |value: String| glossary(&value, Lang::En).to_owned());
    environment.add_template("page.html", TEMPLATE)?;
    let level = |level: Level| survey.frequencies.iter().filter(|row| row.level == level).collect::<Vec<_>>();
    let by_mentions = |level_rows: Vec<&Frequency>| {
        let mut rows: Vec<Frequency> = level_rows.into_iter().filter(|row| row.mentions > 0).cloned().collect();
        rows.sort_by(|a, b| b.mentions.cmp(&a.mentions).then(a.id.cmp(&b.id)));
        rows
    };
    let tree = tree(survey, microdata);
    let white: Vec<&Branch> = tree.iter().flat_map(|section| &section.below).filter(|it| it.white > 0).collect();
    let n_white: usize = white.iter().map(|category| category.white).sum();
    let [zh, en] = [Lang::Zh, Lang::En].map(|lang| charts(survey, microdata, lang, false));
    let drawn = |chart: &Chart| (chart.name.replace('-', "_"), Value::from_safe_string(inline(chart)));
    let page = context! {
        lang => match lang { Lang::Zh => "zh", Lang::En => "en" },
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        style_digest => policy_digest(STYLE),
        script_digest => policy_digest(SCRIPT),
        version => env!("CARGO_PKG_VERSION"),
        taxonomy => context! {
            title => Serde(&taxonomy.title), label => &survey.taxonomy,
            publisher => Serde(&taxonomy.publisher),
            document => &taxonomy.document, notes => Serde(&taxonomy.notes),
        },
        model => &survey.model,
        totals => Serde(&survey.totals),
        derived => survey.derived.as_ref().map(|derived| {
            let [zh, en] = [Lang::Zh, Lang::En].map(|lang| derivation(derived, &survey.taxonomy, lang));
            context! { zh, en }
        }),
        n_rejected => survey.n_rejected,
        n_truncated => survey.n_truncated,
        categories => Serde(level(Level::Category)),
        scenarios => Serde(by_mentions(level(Level::Scenario))),
        tree => Serde(&tree),
        white => Serde(&white),
        n_white => n_white,
        years => Serde(microdata.by_year()),
        model_types => Serde(microdata.by_model_type()),
        developer_types => Serde(microdata.by_developer_type()),
        pairs => Serde(pairs(survey, microdata)),
        zh => zh.iter().map(drawn).collect::<BTreeMap<String, Value>>(),
        en => en.iter().map(drawn).collect::<BTreeMap<String, Value>>(),
        n_embedded => microdata.products.len(),
        beside => beside.map(beside_context),
        data => Value::from_safe_string(data(survey, microdata)),
    };
    Ok(environment.get_template("page.html")?.render(page)?)
}

/// Digest of an inline element, as a content security policy names it.
fn policy_digest(content: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(content.as_bytes())))
}

/// The chart for the page: named for screen readers, with the places that open products.
fn inline(chart: &Chart) -> String {
    let title = escape(&chart.title);
    let mut svg = chart.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1);
    let end = svg.rfind("</svg>").unwrap_or(svg.len());
    svg.truncate(end);
    for hit in &chart.hits {
        let (x, y, width, height) = hit.place;
        let (value, label) = (escape(&hit.value), escape(&hit.label));
        svg += &format!(
            "<rect class=\"hit\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"transparent\" data-by=\"{}\" data-value=\"{value}\"><title>{label}</title></rect>\n",
            hit.by
        );
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

/// A section with its categories, or a category with its scenarios.
#[derive(Serialize)]
struct Branch {
    id: Id,
    name: Bilingual,
    mentions: u64,
    records: u64,
    /// Scenarios below that are mentioned, that are not, and all of them.
    touched: usize,
    white: usize,
    total: usize,
    below: Vec<Branch>,
    leaves: Vec<Frequency>,
}

fn tree(survey: &Survey, microdata: &Microdata<'_>) -> Vec<Branch> {
    let taxonomy = microdata.taxonomy();
    let find = |level: Level, id: Id| survey.frequencies.iter().find(|row| row.level == level && row.id == id);
    let branch = |level, id, name: &Bilingual, below: Vec<Branch>, leaves: Vec<Frequency>| {
        let row = find(level, id);
        let touched = leaves.iter().filter(|leaf| leaf.mentions > 0).count();
        let sum = |of: fn(&Branch) -> usize| below.iter().map(of).sum::<usize>();
        Branch {
            id,
            name: name.clone(),
            mentions: row.map_or(0, |row| row.mentions),
            records: row.map_or(0, |row| row.records),
            touched: touched + sum(|branch| branch.touched),
            white: leaves.len() - touched + sum(|branch| branch.white),
            total: leaves.len() + sum(|branch| branch.total),
            below,
            leaves,
        }
    };
    let category = |id: Id, name: &Bilingual| {
        let scenarios = taxonomy.scenarios.iter().filter(|scenario| scenario.category == id);
        let leaves = scenarios.filter_map(|scenario| find(Level::Scenario, scenario.id).cloned()).collect();
        branch(Level::Category, id, name, Vec::new(), leaves)
    };
    let section = |id: Id, name: &Bilingual| {
        let categories = taxonomy.categories.iter().filter(|category| category.section == id);
        let below = categories.map(|entry| category(entry.id, &entry.name)).collect();
        branch(Level::Section, id, name, below, Vec::new())
    };
    taxonomy.sections.iter().map(|entry| section(entry.id, &entry.name)).collect()
}

/// A pair of scenarios that products mention together.
#[derive(Serialize)]
struct Pair {
    first: Id,
    second: Id,
    first_name: Bilingual,
    second_name: Bilingual,
    together: u64,
    /// By the products that mention either of them.
    overlap: f64,
}

fn pairs(survey: &Survey, microdata: &Microdata<'_>) -> Vec<Pair> {
    let scenarios = &microdata.taxonomy().scenarios;
    let rows: Vec<&Frequency> = survey.frequencies.iter().filter(|row| row.level == Level::Scenario).collect();
    let records = |id: Id| rows.iter().find(|row| row.id == id).map_or(0, |row| row.records);
    let mut pairs = Vec::new();
    for (low, counts) in microdata.co_occurrence().into_iter().enumerate() {
        for (high, together) in counts.into_iter().enumerate().filter(|(_, together)| *together > 0) {
            let (first, second) = (&scenarios[low], &scenarios[high]);
            let either = records(first.id) + records(second.id) - together;
            pairs.push(Pair {
                first: first.id,
                second: second.id,
                first_name: first.name.clone(),
                second_name: second.name.clone(),
                together,
                overlap: together as f64 / either as f64,
            });
        }
    }
    pairs.sort_by(|a, b| b.together.cmp(&a.together).then((a.first, a.second).cmp(&(b.first, b.second))));
    pairs.truncate(PAIRS);
    pairs
}

fn beside_context(beside: Beside<'_>) -> Value {
    let scope = |rows: &[ScopeRow]| Value::from(Serde(rows));
    match beside {
        Beside::Published(comparison) => {
            let figures = comparison.figures.iter().map(|row| {
                let source = comparison.sources.iter().find(|source| source.id == row.published.source);
                context! {
                    wording => Serde(&row.published.wording), quote => &row.published.quote, ours => this_figure(row),
                    remarks => Serde(&row.remarks), url => source.map_or("", |source| &source.url),
                    source => source.map_or("", |source| &source.title),
                }
            });
            context! {
                published => true, name => Serde(&comparison.title),
                by => Serde(&comparison.publisher),
                date => &comparison.published, scope => scope(&comparison.scope),
                figures => figures.collect::<Vec<_>>(), ranks => Serde(&comparison.ranks),
                note => Serde(&comparison.note), resamples => comparison.resamples, seed => comparison.seed,
            }
        }
        Beside::Result(comparison) => {
            let likeness = comparison.likeness.iter().map(|row| {
                let name = Bilingual {
                    zh: level_name(row.level, Lang::Zh).to_owned(),
                    en: level_name(row.level, Lang::En).to_owned(),
                };
                context! {
                    level => Serde(&name), n => row.n_entries, distance => number(row.total_variation),
                    spearman => number(row.spearman), kendall => number(row.kendall_tau_b),
                }
            });
            let shifts = comparison.shifts.iter().filter(|row| row.level == Level::Scenario).take(CHANGES).map(|row| {
                context! {
                    id => row.id, name => Serde(&row.name), mentions => row.mentions, other => row.other_mentions,
                    share => row.share, other_share => row.other_share, change => row.change.value,
                    shown => points(row.change),
                }
            });
            context! {
                published => false, name => Serde([("zh", &comparison.other), ("en", &comparison.other)].into_iter().collect::<BTreeMap<_, _>>()),
                scope => scope(&comparison.scope), n_common => comparison.n_common,
                likeness => likeness.collect::<Vec<_>>(), shifts => shifts.collect::<Vec<_>>(),
                resamples => comparison.resamples, seed => comparison.seed,
            }
        }
    }
}

/// What the script needs, as JSON that cannot end the element it stands in.
fn data(survey: &Survey, microdata: &Microdata<'_>) -> String {
    let taxonomy = microdata.taxonomy();
    let names = |rows: Vec<(Id, &Bilingual)>| -> serde_json::Map<String, serde_json::Value> {
        rows.into_iter().map(|(id, name)| (id.to_string(), serde_json::json!([name.zh, name.en]))).collect()
    };
    let scenarios = taxonomy.scenarios.iter().map(|entry| {
        let section = taxonomy.section_of(entry.category).unwrap_or_default();
        (entry.id.to_string(), serde_json::json!([entry.name.zh, entry.name.en, entry.category, section]))
    });
    let values = microdata.model_types().iter().chain(microdata.developer_types());
    let words: serde_json::Map<String, serde_json::Value> = values
        .map(|value| (value.clone(), serde_json::json!([glossary(value, Lang::Zh), glossary(value, Lang::En)])))
        .collect();
    let data = serde_json::json!({
        "n_records": survey.totals.n_records,
        "scenarios": scenarios.collect::<serde_json::Map<_, _>>(),
        "categories": names(taxonomy.categories.iter().map(|entry| (entry.id, &entry.name)).collect()),
        "sections": names(taxonomy.sections.iter().map(|entry| (entry.id, &entry.name)).collect()),
        "words": words,
        "products": microdata.products,
    });
    // All of these stand inside strings of the JSON, where an escape means the same.
    let mut safe = String::new();
    for character in data.to_string().chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => safe += &format!("\\u{:04x}", u32::from(character)),
            other => safe.push(other),
        }
    }
    safe
}

/// The usual values of columns in words of the page's language; other values stay as they are.
pub(super) fn glossary(value: &str, lang: Lang) -> &str {
    let (zh, en) = match value {
        "" => ("不详", "not given"),
        "unknown" => ("不详（unknown）", "unknown"),
        "company" => ("企业", "company"),
        "hospital" => ("医院", "hospital"),
        "university" => ("高校与科研院所", "university or institute"),
        "government" => ("政府机构", "government"),
        "joint" => ("联合研发", "joint"),
        "text" => ("文本", "text"),
        "imaging" => ("影像", "imaging"),
        "biological" => ("生物与药物", "biological"),
        "tcm" => ("中医药", "traditional Chinese medicine"),
        "multimodal" => ("多模态", "multimodal"),
        other => return other,
    };
    match lang {
        Lang::Zh => zh,
        Lang::En => en,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::Prediction;
    use crate::survey::{Coded, Surveyor};
    use crate::taxonomy::Taxonomy;
    use serde_json::json;

    const ATTACK: &str = "</script><img src=x onerror=alert(1)>\u{2028}'\"&<!--";

    fn attacked() -> String {
        let taxonomy = Taxonomy::builtin();
        let by = ["year".to_owned()];
        let mut surveyor = Surveyor::new(&taxonomy, &by);
        let mut microdata = Microdata::new(&taxonomy);
        let columns = json!({"developer": ATTACK, "model_type": ATTACK, "developer_type": ATTACK, "released": "2024",
                             "source_url": "javascript:alert(1)", "source_title": ATTACK});
        let prediction: Prediction = serde_json::from_value(json!({
            "id": ATTACK, "name": ATTACK, "text": ATTACK, "status": "coded", "columns": columns,
            "scenarios": [{"scenario": 8, "probability": 0.5, "evidence": [{"start": 0, "end": 3, "text": "</s"}]},
                          {"scenario": 10, "probability": 0.5, "evidence": [{"start": 0, "end": 999, "text": ATTACK}]}],
        }))
        .expect("a prediction");
        let status = prediction.status;
        let coded = Coded { id: ATTACK, status, scenarios: &[8, 10], probabilities: &[], truncated: false };
        surveyor.add(&coded, |column| prediction.column(column));
        microdata.add(&prediction);
        let survey = surveyor.finish(taxonomy.label(), ATTACK.to_owned(), 0);
        page(&survey, &microdata, None, Lang::En).expect("rendered")
    }

    #[test]
    fn nothing_in_the_input_becomes_markup() {
        let page = attacked();
        assert!(!page.contains("<img"), "an element of the input came through");
        assert_eq!(page.matches("</script>").count(), 2, "the data or the script ended early");
        assert!(!page.contains("javascript:"), "a link that is none of the web came through");
        assert!(page.contains("&lt;&#x2f;script&gt;&lt;img"), "the model's name is shown, escaped");
    }

    #[test]
    fn the_embedded_data_reads_back() {
        let page = attacked();
        let start = page.find("id=\"data\">").expect("data") + "id=\"data\">".len();
        let end = start + page[start..].find("</script>").expect("an end");
        let data: serde_json::Value = serde_json::from_str(&page[start..end]).expect("JSON");
        assert_eq!(data["products"][0]["text"], ATTACK);
        assert_eq!(data["scenarios"]["8"][2], 1);
    }

    #[test]
    fn every_chart_is_drawn_in_both_languages_with_its_places() {
        let page = attacked();
        for lang in ["zh", "en"] {
            // All but the one of co-occurrence would be there for a single product; it has two scenarios.
            assert_eq!(page.matches(&format!("<figure class=\"{lang} chart\"")).count(), 7, "{lang}");
        }
        assert!(page.contains("data-by=\"pair\" data-value=\"8-10\"><title>"));
    }

    #[test]
    fn the_page_asks_the_network_for_nothing() {
        let page = attacked();
        for wanted in ["src=\"", "<link rel=\"stylesheet\"", "@import", "url(http"] {
            assert!(!page.contains(wanted), "{wanted}");
        }
        assert!(page.contains(&policy_digest(SCRIPT)) && page.contains(&policy_digest(STYLE)));
    }
}
