//! A survey as tables and as tidy CSV.

use std::fmt::Write;

use super::{percent, table, words};
use crate::survey::{Breakdown, Derived, Estimate, Frequency, Level, Method, Survey, Totals};
use crate::taxonomy::Lang;

/// Tables for the terminal. Scenarios without mentions are left out unless `all` is set.
pub fn text(survey: &Survey, lang: Lang, all: bool) -> String {
    let say = |zh, en| words(lang, zh, en);
    let mut out = totals(&survey.totals, lang);
    if let Some(corrected) = &survey.totals.corrected {
        let (mentions, records) = (corrected.mentions, corrected.records);
        let _ = match lang {
            Lang::Zh => writeln!(
                out,
                "校正后：{:.0} 次提及（{}），{:.0} 个产品有场景（{}）。",
                mentions.value,
                interval(Some(mentions)),
                records.value,
                interval(Some(records))
            ),
            Lang::En => writeln!(
                out,
                "Corrected: {:.0} mentions ({}), {:.0} products coded ({}).",
                mentions.value,
                interval(Some(mentions)),
                records.value,
                interval(Some(records))
            ),
        };
    }
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
    if let Some(derived) = &survey.derived {
        let _ = writeln!(out, "{}", derivation(derived, &survey.taxonomy, lang));
    }
    let model = if survey.model.is_empty() { say("已编码输入", "coded input") } else { &survey.model };
    let _ = match lang {
        Lang::Zh => writeln!(out, "分类体系 {}；模型 {model}。", survey.taxonomy),
        Lang::En => writeln!(out, "Taxonomy {}; model {model}.", survey.taxonomy),
    };
    let _ = writeln!(out, "{}", meaning(survey, lang));
    let columns = Columns::of(survey);
    for (level, title) in [
        (Level::Section, say("部分", "Sections")),
        (Level::Category, say("类别", "Categories")),
        (Level::Scenario, say("场景（按提及次数）", "Scenarios by mentions")),
    ] {
        let mut rows: Vec<&Frequency> = survey.frequencies.iter().filter(|row| row.level == level).collect();
        if level == Level::Scenario {
            rows.retain(|row| {
                all || row.mentions > 0 || row.corrected.is_some_and(|found| found.mentions.value >= 0.5)
            });
            rows.sort_by(|a, b| b.mentions.cmp(&a.mentions).then(a.id.cmp(&b.id)));
        }
        let _ = writeln!(out, "\n{title}\n{}", frequency_table(&rows, columns, lang));
    }
    for breakdown in &survey.breakdowns {
        let _ = writeln!(
            out,
            "\n{} {}\n{}",
            say("按列分组：", "By"),
            breakdown.column,
            breakdown_table(breakdown, columns, lang)
        );
    }
    out
}

/// Where derived counts come from, and what was lost on the way.
pub(super) fn derivation(derived: &Derived, taxonomy: &str, lang: Lang) -> String {
    let Derived { crosswalk, from, n_mentions, n_without_counterpart, n_records_without_counterpart } = derived;
    match lang {
        Lang::Zh => format!(
            "经对照表 {crosswalk} 由 {from} 的编码推得：{n_mentions} 次提及中 {n_without_counterpart} 次在 {taxonomy} 中无对应；\
             {n_records_without_counterpart} 个产品因此全无对应，计入体系之外。推得的计数是下限，不同于直接编码。"
        ),
        Lang::En => format!(
            "Derived through crosswalk {crosswalk} from codes in {from}: {n_without_counterpart} of {n_mentions} mentions have \
             no counterpart in {taxonomy}, which leaves {n_records_without_counterpart} coded products without any; they count as \
             outside. Derived counts are lower bounds, not direct codes."
        ),
    }
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

/// What the counts are, in words.
fn meaning(survey: &Survey, lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let mut out = match (&survey.audit, lang) {
        (None, _) => say(
            "提及数为分类器原始计数，未作校正；用 audit 抽样复核后可校正。",
            "Mentions are raw counts, not corrected for coding errors; an audited sample corrects them (audit sample).",
        )
        .to_owned(),
        (Some(audit), Lang::Zh) => format!(
            "提及数为原始计数；校正数依据 {} 条复核记录，附 95% 区间，各行单独估计，因此相加不一定等于合计。",
            audit.n_audited
        ),
        (Some(audit), Lang::En) => format!(
            "Mentions are raw counts; corrected counts rest on {} audited records, with 95% intervals. Each row is estimated \
             on its own, so that corrected rows need not add up.",
            audit.n_audited
        ),
    };
    if let Some(audit) = &survey.audit {
        if audit.n_differing > 0 {
            let _ = match lang {
                Lang::Zh => write!(
                    out,
                    "\n两位编码员在 {} 条记录上不一致且未裁定：各计一半，差异已计入区间。",
                    audit.n_differing
                ),
                Lang::En => write!(
                    out,
                    "\nTwo coders differ on {} records and nobody adjudicated: each counts half, and the difference widens the \
                     intervals.",
                    audit.n_differing
                ),
            };
        }
        if let Some(cluster) = &audit.cluster {
            let effect = audit.design_effect;
            let _ = match lang {
                Lang::Zh => write!(out, "\n按 `{cluster}` 聚类，方差放大 {effect:.2} 倍。"),
                Lang::En => {
                    write!(
                        out,
                        "\nRecords cluster by `{cluster}`, which multiplies the variance of the audit by {effect:.2}."
                    )
                }
            };
        }
    }
    if survey.totals.expected_mentions.is_none() && survey.derived.is_none() {
        out += say(
            "\n期望数需要每个场景的概率：请用 classify --probabilities 重新编码。",
            "\nExpected counts need the probability of every scenario: classify with --probabilities.",
        );
    }
    out
}

/// Which columns a table has beside the counts.
#[derive(Debug, Clone, Copy)]
struct Columns {
    expected: bool,
    corrected: bool,
}

impl Columns {
    fn of(survey: &Survey) -> Columns {
        let corrected = survey.audit.is_some();
        Columns { expected: corrected || survey.totals.expected_mentions.is_some(), corrected }
    }
}

fn one_decimal(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.1}"))
}

fn interval(estimate: Option<Estimate>) -> String {
    estimate.map_or("-".to_owned(), |estimate| format!("{:.0}-{:.0}", estimate.low, estimate.high))
}

fn frequency_table(rows: &[&Frequency], columns: Columns, lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let mut header = vec!["#", say("名称", "Name"), say("提及", "Mentions")];
    if columns.expected {
        header.push(say("期望", "Expected"));
    }
    if columns.corrected {
        header.extend([say("校正", "Corrected"), say("95% 区间", "95% interval")]);
    }
    header.extend([say("占提及", "of mentions"), say("产品", "Products")]);
    if columns.corrected {
        header.push(say("95% 区间", "95% interval"));
    }
    header.push(say("占产品", "of products"));
    let right: Vec<usize> = (0..header.len()).filter(|&column| column != 1).collect();
    if columns.corrected {
        header.push(say("方法", "Method"));
    }
    let mut table = table(&header, &right);
    for row in rows {
        let mut cells = vec![row.id.to_string(), row.name.get(lang).clone(), row.mentions.to_string()];
        if columns.expected {
            cells.push(one_decimal(row.expected_mentions));
        }
        match &row.corrected {
            Some(found) => cells.extend([
                one_decimal(Some(found.mentions.value)),
                interval(Some(found.mentions)),
                percent(found.share_of_mentions.value),
                one_decimal(Some(found.records.value)),
                interval(Some(found.records)),
                percent(found.share_of_records.value),
                found.mentions.method.name().to_owned(),
            ]),
            None => {
                cells.extend([percent(row.share_of_mentions), row.records.to_string(), percent(row.share_of_records)]);
            }
        }
        table.add_row(cells);
    }
    table.trim_fmt()
}

fn breakdown_table(breakdown: &Breakdown, columns: Columns, lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let mut header = vec![breakdown.column.as_str(), say("产品", "Products"), say("提及", "Mentions")];
    if columns.expected {
        header.push(say("期望", "Expected"));
    }
    if columns.corrected {
        header.extend([say("校正", "Corrected"), say("95% 区间", "95% interval")]);
    }
    header.extend([say("每产品", "per product"), say("触及类别", "Categories"), say("触及场景", "Scenarios")]);
    let right: Vec<usize> = (1..header.len()).collect();
    header.push(say("最多提及的类别", "Most mentioned category"));
    let mut table = table(&header, &right);
    for group in &breakdown.groups {
        let categories = group.frequencies.iter().filter(|row| row.level == Level::Category && row.mentions > 0);
        let top = categories.max_by(|a, b| a.mentions.cmp(&b.mentions).then(b.id.cmp(&a.id)));
        let value = if group.value.is_empty() { say("（空）", "(empty)") } else { &group.value };
        let mut cells = vec![value.to_owned(), group.totals.n_records.to_string(), group.totals.n_mentions.to_string()];
        if columns.expected {
            cells.push(one_decimal(group.totals.expected_mentions));
        }
        if columns.corrected {
            let mentions = group.totals.corrected.map(|found| found.mentions);
            cells.extend([one_decimal(mentions.map(|mentions| mentions.value)), interval(mentions)]);
        }
        cells.extend([
            format!("{:.2}", group.totals.mentions_per_record),
            format!("{}/{}", group.totals.categories_touched, group.totals.categories_total),
            format!("{}/{}", group.totals.scenarios_touched, group.totals.scenarios_total),
            top.map_or(String::new(), |row| format!("{} ({})", row.name.get(lang), percent(row.share_of_mentions))),
        ]);
        table.add_row(cells);
    }
    table.trim_fmt()
}

/// Tidy CSV: one row per entry of the taxonomy and group. The whole survey has empty `by` and `value`.
pub fn csv(survey: &Survey) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut header: Vec<String> = [
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
        "expected_mentions",
        "expected_records",
        "method",
        "method_records",
    ]
    .map(str::to_owned)
    .to_vec();
    for figure in ["mentions", "records", "share_of_mentions", "share_of_records"] {
        header.extend(["", "_low", "_high"].map(|end| format!("corrected_{figure}{end}")));
    }
    let mut rows: Vec<Vec<String>> = vec![header];
    let mut add = |by: &str, value: &str, totals: &Totals, frequencies: &[Frequency]| {
        for row in frequencies {
            let level = match row.level {
                Level::Section => "section",
                Level::Category => "category",
                Level::Scenario => "scenario",
            };
            let mut cells = vec![
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
            ];
            let decimals = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
            cells.extend([decimals(row.expected_mentions), decimals(row.expected_records)]);
            let methods = row.corrected.map_or([Method::Raw; 2], |found| [found.mentions.method, found.records.method]);
            cells.extend(methods.map(|method| method.name().to_owned()));
            let estimates = row
                .corrected
                .map(|found| [found.mentions, found.records, found.share_of_mentions, found.share_of_records]);
            for index in 0..4 {
                let estimate = estimates.map(|estimates| estimates[index]);
                cells.extend(
                    [estimate.map(|e| e.value), estimate.map(|e| e.low), estimate.map(|e| e.high)]
                        .map(|value| value.map_or(String::new(), |value| format!("{value:.6}"))),
                );
            }
            rows.push(cells);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Coding;
    use crate::labels::Status;
    use crate::survey::{Audit, AuditedRecord, Coded, Surveyor};
    use crate::taxonomy::Taxonomy;
    use insta::assert_snapshot;

    /// Twenty records, of which scenario 8 is assigned to 8 and mentioned by 9; every second one is audited.
    fn survey(audited: bool, probable: bool) -> Survey {
        let taxonomy = Taxonomy::builtin();
        let ids: Vec<String> = (0..20).map(|index| index.to_string()).collect();
        let record = |index: usize| {
            let coding = match index < 9 {
                true => Coding { status: Status::Coded, scenarios: [8].into() },
                false => Coding { status: Status::Unspecified, scenarios: [].into() },
            };
            (ids[index].clone(), AuditedRecord { codings: vec![coding], inclusion: 0.5, stratum: 0 })
        };
        let mut surveyor = Surveyor::new(&taxonomy, &["kind".to_owned()]);
        if audited {
            let records = (0..20).step_by(2).map(record).collect();
            surveyor = surveyor.with_audit(Audit { records, cluster: None });
        }
        for (index, id) in ids.iter().enumerate() {
            let scenarios: &[u32] = if index < 8 { &[8] } else { &[] };
            let status = if scenarios.is_empty() { Status::Unspecified } else { Status::Coded };
            let of = |id: u32| if id == 8 { if index < 8 { 0.9 } else { 0.1 } } else { 0.0 };
            let probabilities: Vec<f64> = taxonomy.scenarios.iter().map(|scenario| of(scenario.id)).collect();
            let probabilities: &[f64] = if probable { &probabilities } else { &[] };
            let coded = Coded { id, status, scenarios, probabilities, truncated: false };
            surveyor.add(&coded, |_| Some(if index % 4 == 0 { "a" } else { "b" }));
        }
        surveyor.finish("t@0".to_owned(), "m@0".to_owned(), 0)
    }

    fn shown(survey: &Survey, lang: Lang) -> String {
        // Only the entries above scenario 8: the others have nothing to show.
        let mut survey = survey.clone();
        let above = |row: &Frequency| row.mentions > 0;
        survey.frequencies.retain(above);
        survey
            .breakdowns
            .iter_mut()
            .flat_map(|breakdown| &mut breakdown.groups)
            .for_each(|group| group.frequencies.retain(above));
        text(&survey, lang, false)
    }

    #[test]
    fn tables_without_an_audit_stay_compact() {
        assert_snapshot!("raw", shown(&survey(false, false), Lang::En));
        assert_snapshot!("expected", shown(&survey(false, true), Lang::En));
    }

    #[test]
    fn tables_with_an_audit_have_intervals_and_methods() {
        assert_snapshot!("audited_en", shown(&survey(true, true), Lang::En));
        assert_snapshot!("audited_zh", shown(&survey(true, false), Lang::Zh));
    }

    #[test]
    fn csv_rows_carry_all_figures() {
        let table = csv(&survey(true, true));
        let rows: Vec<&str> =
            table.lines().filter(|line| line.starts_with("by") || line.contains(",,scenario,8,")).collect();
        assert_snapshot!("csv", rows.join("\n"));
    }
}
