//! A comparison as tables and as tidy CSV.

use std::fmt::Write;

use super::{level_name, percent, table, words};
use crate::comparison::{Comparison, FigureRow, PublishedComparison, ScopeRow, Shift};
use crate::evaluation::Measure;
use crate::published::Counted;
use crate::survey::Level;
use crate::taxonomy::Lang;

/// Changes that a table shows per level unless all are asked for.
const SHOWN: usize = 15;

/// Tables for the terminal. The largest changes are shown, or all of them.
pub fn text(comparison: &Comparison, lang: Lang, all: bool) -> String {
    let say = |zh, en| words(lang, zh, en);
    let Comparison { this, other, resamples, seed, .. } = comparison;
    let mut out = match lang {
        Lang::Zh => format!("{this} 与 {other} 的比较\n"),
        Lang::En => format!("{this} beside {other}\n"),
    };
    let _ = writeln!(out, "\n{}\n{}", say("范围", "Scope"), scope(&comparison.scope, lang));
    if let Some(n) = comparison.n_common {
        let _ = match lang {
            Lang::Zh => writeln!(out, "{n} 个产品两边都有（按编号）。"),
            Lang::En => writeln!(out, "{n} products occur in both, by their ids."),
        };
    }
    let header = [
        say("层级", "Level"),
        say("条目", "Entries"),
        say("总变差距离", "Total variation"),
        "Spearman",
        "Kendall tau-b",
    ];
    let mut likeness = table(&header, &[1, 2, 3, 4]);
    for row in &comparison.likeness {
        likeness.add_row([
            level_name(row.level, lang).to_owned(),
            row.n_entries.to_string(),
            number(row.total_variation),
            number(row.spearman),
            number(row.kendall_tau_b),
        ]);
    }
    let _ = writeln!(out, "\n{}\n{}", say("相似程度", "Likeness"), likeness.trim_fmt());
    for level in [Level::Category, Level::Scenario] {
        let rows: Vec<&Shift> = comparison.shifts.iter().filter(|row| row.level == level).collect();
        let shown = if all { rows.len() } else { rows.len().min(SHOWN) };
        let title = match (level, lang) {
            (Level::Category, Lang::Zh) => "类别占提及比例的变化（最大者在前）",
            (_, Lang::Zh) => "场景占提及比例的变化（最大者在前）",
            (Level::Category, Lang::En) => "Changes of categories in share of mentions, the largest first",
            (_, Lang::En) => "Changes of scenarios in share of mentions, the largest first",
        };
        let _ = writeln!(out, "\n{title}\n{}", shifts(&rows[..shown], lang));
        if shown < rows.len() {
            let rest = rows.len() - shown;
            let _ = match lang {
                Lang::Zh => writeln!(out, "另有 {rest} 行，用 --all 显示"),
                Lang::En => writeln!(out, "{rest} more with --all"),
            };
        }
    }
    let _ = match lang {
        Lang::Zh => writeln!(
            out,
            "\n变化 = 本调查减另一调查。方括号为95%区间：对产品作{resamples}次自助抽样（种子{seed}），不含编码误差。"
        ),
        Lang::En => writeln!(
            out,
            "\nChange is this survey minus the other. Brackets are 95% intervals from {resamples} bootstrap samples of products (seed {seed});\nthey leave out coding errors."
        ),
    };
    out
}

/// Tables of a survey beside a published one.
pub fn published_text(comparison: &PublishedComparison, lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let PublishedComparison { this, title, publisher, published, .. } = comparison;
    let mut out = match lang {
        Lang::Zh => format!("{this} 与已发表的调研\n“{}”，{}，{published}\n", title.zh, publisher.zh),
        Lang::En => format!("{this} beside a published survey:\n\"{}\", {}, {published}\n", title.en, publisher.en),
    };
    let _ = writeln!(out, "\n{}\n{}", say("范围", "Scope"), scope(&comparison.scope, lang));
    let header = [
        say("已发表的数字", "Published figure"),
        say("已发表", "Published"),
        say("本调查", "This survey"),
        say("注", "Note"),
    ];
    let mut figures = table(&header, &[1, 2]);
    let mut notes: Vec<&str> = Vec::new();
    for row in &comparison.figures {
        let numbers = row.remarks.iter().map(|remark| {
            let remark = remark.get(lang).as_str();
            let known = notes.iter().position(|known| *known == remark);
            known.unwrap_or_else(|| {
                notes.push(remark);
                notes.len() - 1
            }) + 1
        });
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        figures.add_row([
            row.published.wording.get(lang).clone(),
            row.published.quote.clone(),
            this_figure(row),
            numbers.join(" "),
        ]);
    }
    let _ = writeln!(out, "\n{}\n{}", say("数字", "Figures"), figures.trim_fmt());
    for (index, note) in notes.iter().enumerate() {
        let _ = writeln!(out, "{}  {note}", index + 1);
    }
    let mut statement = "";
    let header =
        [say("其名称", "As named there"), "#", say("名称", "Name"), say("提及", "Mentions"), say("位次", "Rank")];
    let mut ranks = table(&header, &[1, 3, 4]);
    for row in &comparison.ranks {
        if row.statement.get(lang) != statement && !statement.is_empty() {
            let _ = writeln!(out, "\n{statement}\n{}", ranks.trim_fmt());
            ranks = table(&header, &[1, 3, 4]);
        }
        statement = row.statement.get(lang);
        ranks.add_row([
            row.published.as_named.get(lang).clone(),
            row.published.id.to_string(),
            row.name.get(lang).clone(),
            row.mentions.to_string(),
            format!("{}/{}", row.rank, row.n_entries),
        ]);
    }
    if !statement.is_empty() {
        let _ = writeln!(out, "\n{statement}\n{}", ranks.trim_fmt());
    }
    let _ = writeln!(out, "\n{}", comparison.note.get(lang));
    for source in &comparison.sources {
        let _ = writeln!(out, "{} {}, {}, {}", source.publisher, source.date, source.title, source.url);
    }
    out
}

/// Our figure beside a published one, with its interval; a dash where there is none.
pub(super) fn this_figure(row: &FigureRow) -> String {
    let share = row.published.counts.is_some_and(Counted::is_share);
    match row.this {
        Some(Measure { value: Some(value), low: Some(low), high: Some(high) }) if share => {
            format!("{} [{}, {}]", percent(value), percent(low), percent(high))
        }
        Some(Measure { value: Some(value), .. }) if share => percent(value),
        Some(Measure { value: Some(value), .. }) => format!("{value:.0}"),
        _ => "-".to_owned(),
    }
}

fn scope(rows: &[ScopeRow], lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let header = ["", say("本调查", "This survey"), say("另一调查", "The other"), ""];
    let mut table = table(&header, &[]);
    for row in rows {
        let mark = if row.differs { say("不同", "differs") } else { say("相同", "same") };
        let cells = [row.aspect.get(lang), row.this.get(lang), row.other.get(lang)];
        table.add_row(cells.map(String::as_str).into_iter().chain([mark]));
    }
    table.trim_fmt()
}

fn shifts(rows: &[&Shift], lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let header = [
        "#",
        say("名称", "Name"),
        say("提及", "Mentions"),
        say("另一调查", "there"),
        say("占比", "Share"),
        say("另一调查", "there"),
        say("变化（百分点）", "Change, points"),
    ];
    let mut table = table(&header, &[0, 2, 3, 4, 5, 6]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            row.name.get(lang).clone(),
            row.mentions.to_string(),
            row.other_mentions.to_string(),
            percent(row.share),
            percent(row.other_share),
            points(row.change),
        ]);
    }
    table.trim_fmt()
}

/// A difference of shares in percentage points, with its interval.
pub(super) fn points(change: Measure) -> String {
    // No minus before a zero.
    let signed = |value: f64| format!("{:+.1}", 100.0 * value).replace("-0.0", "0.0").replace("+0.0", "0.0");
    match (change.value, change.low, change.high) {
        (Some(value), Some(low), Some(high)) => format!("{} [{}, {}]", signed(value), signed(low), signed(high)),
        (Some(value), ..) => signed(value),
        _ => "-".to_owned(),
    }
}

/// A measure with three decimals and its interval.
pub(super) fn number(measure: Measure) -> String {
    match (measure.value, measure.low, measure.high) {
        (Some(value), Some(low), Some(high)) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        (Some(value), ..) => format!("{value:.3}"),
        _ => "-".to_owned(),
    }
}

const HEADER: [&str; 12] =
    ["figure", "level", "id", "name_zh", "name_en", "this", "other", "value", "low", "high", "unit", "remark"];

/// Tidy CSV of a comparison: measures of likeness, and for every entry its mentions and shares on both sides, with the
/// change of the share in `value`, `low` and `high`.
pub fn csv(comparison: &Comparison) -> String {
    let mut rows = Vec::new();
    for row in &comparison.scope {
        rows.push(scope_record(row));
    }
    for row in &comparison.likeness {
        for (figure, measure) in
            [("total_variation", row.total_variation), ("spearman", row.spearman), ("kendall_tau_b", row.kendall_tau_b)]
        {
            let mut record = blank(figure);
            record[1] = level_word(row.level).to_owned();
            record[7..10].clone_from_slice(&cells(measure));
            rows.push(record);
        }
    }
    for row in &comparison.shifts {
        let entry = |figure: &str| {
            let mut record = blank(figure);
            record[1] = level_word(row.level).to_owned();
            record[2] = row.id.to_string();
            record[3].clone_from(&row.name.zh);
            record[4].clone_from(&row.name.en);
            record
        };
        let mut mentions = entry("mentions");
        mentions[5] = row.mentions.to_string();
        mentions[6] = row.other_mentions.to_string();
        rows.push(mentions);
        let mut share = entry("share_of_mentions");
        share[5] = format!("{:.6}", row.share);
        share[6] = format!("{:.6}", row.other_share);
        share[7..10].clone_from_slice(&cells(row.change));
        rows.push(share);
    }
    delimited(&rows)
}

/// Tidy CSV of a survey beside a published one: `other` is the published figure, `this` and the interval are ours.
pub fn published_csv(comparison: &PublishedComparison) -> String {
    let mut rows: Vec<[String; 12]> = comparison.scope.iter().map(scope_record).collect();
    for row in &comparison.figures {
        let mut record = blank(&row.published.id);
        record[3].clone_from(&row.published.wording.zh);
        record[4].clone_from(&row.published.wording.en);
        record[6] = row.published.value.to_string();
        let share = row.published.counts.is_some_and(Counted::is_share);
        if let Some(measure) = row.this {
            let [value, low, high] = cells(measure);
            record[5] = if share { value } else { measure.value.map_or(value, |count| count.to_string()) };
            record[8] = low;
            record[9] = high;
        }
        record[10] = if share { "share" } else { "count" }.to_owned();
        record[11] = row.remarks.iter().map(|remark| remark.en.as_str()).collect::<Vec<_>>().join("; ");
        rows.push(record);
    }
    for row in &comparison.ranks {
        let mut record = blank("rank");
        record[1] = level_word(row.level).to_owned();
        record[2] = row.published.id.to_string();
        record[3].clone_from(&row.name.zh);
        record[4].clone_from(&row.name.en);
        record[5] = row.rank.to_string();
        record[6].clone_from(&row.statement.en);
        record[7] = row.mentions.to_string();
        record[10] = "rank".to_owned();
        rows.push(record);
    }
    delimited(&rows)
}

fn blank(figure: &str) -> [String; 12] {
    let mut record: [String; 12] = Default::default();
    record[0] = figure.to_owned();
    record
}

fn scope_record(row: &ScopeRow) -> [String; 12] {
    let mut record = blank("scope");
    record[3].clone_from(&row.aspect.zh);
    record[4].clone_from(&row.aspect.en);
    record[5].clone_from(&row.this.en);
    record[6].clone_from(&row.other.en);
    record[10] = if row.differs { "differs" } else { "same" }.to_owned();
    record
}

fn cells(measure: Measure) -> [String; 3] {
    // Without a minus before a zero.
    let cell = |value: Option<f64>| value.map_or(String::new(), |value| format!("{:.6}", value + 0.0));
    [cell(measure.value), cell(measure.low), cell(measure.high)]
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Section => "section",
        Level::Category => "category",
        Level::Scenario => "scenario",
    }
}

fn delimited(rows: &[[String; 12]]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).expect("writing to memory does not fail");
    rows.iter().for_each(|row| writer.write_record(row).expect("writing to memory does not fail"));
    String::from_utf8(writer.into_inner().expect("writing to memory does not fail")).expect("CSV of strings is UTF-8")
}
