//! A survey as tables and as tidy CSV.

use std::fmt::Write;

use super::{percent, table, words};
use crate::survey::{Breakdown, Frequency, Level, Survey, Totals};
use crate::taxonomy::Lang;

/// Tables for the terminal. Scenarios without mentions are left out unless `all` is set.
pub fn text(survey: &Survey, lang: Lang, all: bool) -> String {
    let say = |zh, en| words(lang, zh, en);
    let mut out = totals(&survey.totals, lang);
    if survey.n_rejected + survey.n_truncated > 0 {
        let _ = match lang {
            Lang::Zh => writeln!(out, "另有 {} 行被拒绝，{} 条描述被截断。", survey.n_rejected, survey.n_truncated),
            Lang::En => writeln!(
                out,
                "{} rows were turned away, {} descriptions were cut.",
                survey.n_rejected, survey.n_truncated
            ),
        };
    }
    let model = if survey.model.is_empty() { say("已编码输入", "coded input") } else { &survey.model };
    let _ = match lang {
        Lang::Zh => writeln!(out, "分类体系 {}；模型 {model}。计数为分类器原始计数，未作校正。", survey.taxonomy),
        Lang::En => writeln!(
            out,
            "Taxonomy {}; model {model}. Counts are raw counts, not corrected for coding errors.",
            survey.taxonomy
        ),
    };
    for (level, title) in [
        (Level::Section, say("部分", "Sections")),
        (Level::Category, say("类别", "Categories")),
        (Level::Scenario, say("场景（按提及次数）", "Scenarios by mentions")),
    ] {
        let mut rows: Vec<&Frequency> = survey.frequencies.iter().filter(|row| row.level == level).collect();
        if level == Level::Scenario {
            rows.retain(|row| all || row.mentions > 0);
            rows.sort_by(|a, b| b.mentions.cmp(&a.mentions).then(a.id.cmp(&b.id)));
        }
        let _ = writeln!(out, "\n{title}\n{}", frequency_table(&rows, lang));
    }
    for breakdown in &survey.breakdowns {
        let _ =
            writeln!(out, "\n{} {}\n{}", say("按列分组：", "By"), breakdown.column, breakdown_table(breakdown, lang));
    }
    out
}

fn totals(totals: &Totals, lang: Lang) -> String {
    let Totals { n_records, n_coded, n_outside, n_unspecified, n_mentions, mentions_per_record, .. } = totals;
    let touched = [
        (totals.sections_touched, totals.sections_total),
        (totals.categories_touched, totals.categories_total),
        (totals.scenarios_touched, totals.scenarios_total),
    ]
    .map(|(touched, total)| format!("{touched}/{total}"));
    let [sections, categories, scenarios] = touched;
    match lang {
        Lang::Zh => format!(
            "{n_records} 个产品：{n_coded} 个有场景，{n_outside} 个在体系之外，{n_unspecified} 个未说明用途。\n\
             共提及 {n_mentions} 次，平均每个产品 {mentions_per_record:.2} 次。\n\
             触及部分 {sections}、类别 {categories}、场景 {scenarios}（触及数/体系总数）。\n"
        ),
        Lang::En => format!(
            "{n_records} products: {n_coded} coded, {n_outside} outside the taxonomy, {n_unspecified} without a stated use.\n\
             {n_mentions} mentions, {mentions_per_record:.2} per product.\n\
             Touched: {sections} sections, {categories} categories, {scenarios} scenarios (touched/in the taxonomy).\n"
        ),
    }
}

fn frequency_table(rows: &[&Frequency], lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let header = [
        "#",
        say("名称", "Name"),
        say("提及", "Mentions"),
        say("占提及", "of mentions"),
        say("产品", "Products"),
        say("占产品", "of products"),
    ];
    let mut table = table(&header, &[0, 2, 3, 4, 5]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            row.name.get(lang).clone(),
            row.mentions.to_string(),
            percent(row.share_of_mentions),
            row.records.to_string(),
            percent(row.share_of_records),
        ]);
    }
    table.trim_fmt()
}

fn breakdown_table(breakdown: &Breakdown, lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let header = [
        breakdown.column.as_str(),
        say("产品", "Products"),
        say("提及", "Mentions"),
        say("每产品", "per product"),
        say("触及类别", "Categories"),
        say("触及场景", "Scenarios"),
        say("最多提及的类别", "Most mentioned category"),
    ];
    let mut table = table(&header, &[1, 2, 3, 4, 5]);
    for group in &breakdown.groups {
        let categories = group.frequencies.iter().filter(|row| row.level == Level::Category && row.mentions > 0);
        let top = categories.max_by(|a, b| a.mentions.cmp(&b.mentions).then(b.id.cmp(&a.id)));
        let value = if group.value.is_empty() { say("（空）", "(empty)") } else { &group.value };
        table.add_row([
            value.to_owned(),
            group.totals.n_records.to_string(),
            group.totals.n_mentions.to_string(),
            format!("{:.2}", group.totals.mentions_per_record),
            format!("{}/{}", group.totals.categories_touched, group.totals.categories_total),
            format!("{}/{}", group.totals.scenarios_touched, group.totals.scenarios_total),
            top.map_or(String::new(), |row| format!("{} ({})", row.name.get(lang), percent(row.share_of_mentions))),
        ]);
    }
    table.trim_fmt()
}

/// Tidy CSV: one row per entry of the taxonomy and group. The whole survey has empty `by` and `value`.
pub fn csv(survey: &Survey) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "by",
        "value",
        "level",
        "id",
        "name_zh",
        "name_en",
        "mentions",
        "records",
        "share_of_mentions",
        "share_of_records",
        "n_mentions",
        "n_records",
        "taxonomy",
        "model",
    ];
    let mut rows: Vec<Vec<String>> = vec![header.map(str::to_owned).to_vec()];
    let mut add = |by: &str, value: &str, totals: &Totals, frequencies: &[Frequency]| {
        for row in frequencies {
            let level = match row.level {
                Level::Section => "section",
                Level::Category => "category",
                Level::Scenario => "scenario",
            };
            rows.push(vec![
                by.to_owned(),
                value.to_owned(),
                level.to_owned(),
                row.id.to_string(),
                row.name.zh.clone(),
                row.name.en.clone(),
                row.mentions.to_string(),
                row.records.to_string(),
                format!("{:.6}", row.share_of_mentions),
                format!("{:.6}", row.share_of_records),
                totals.n_mentions.to_string(),
                totals.n_records.to_string(),
                survey.taxonomy.clone(),
                survey.model.clone(),
            ]);
        }
    };
    add("", "", &survey.totals, &survey.frequencies);
    for breakdown in &survey.breakdowns {
        for group in &breakdown.groups {
            add(&breakdown.column, &group.value, &group.totals, &group.frequencies);
        }
    }
    for row in rows {
        writer.write_record(row).expect("writing to memory does not fail");
    }
    String::from_utf8(writer.into_inner().expect("writing to memory does not fail")).expect("CSV of strings is UTF-8")
}
