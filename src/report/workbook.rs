//! The tables of a survey as an Excel workbook: one sheet per table, with both languages beside each other.

use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};

use super::comparison::this_figure;
use super::survey::derivation;
use crate::comparison::{Comparison, PublishedComparison, ScopeRow};
use crate::evaluation::Measure;
use crate::survey::{Frequency, Level, Survey, Totals};
use crate::taxonomy::Lang;

/// Why a workbook cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("Failed to make the workbook: {0}; use --format csv")]
pub struct WorkbookError(String);

/// Characters of a cell.
const CELL: usize = 32_767;

/// A cell.
enum Value {
    Text(String),
    Number(f64),
    Share(f64),
    Empty,
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn count(value: u64) -> Value {
    Value::Number(value as f64)
}

fn share(value: Option<f64>) -> Value {
    value.map_or(Value::Empty, Value::Share)
}

fn number(value: Option<f64>) -> Value {
    value.map_or(Value::Empty, Value::Number)
}

/// The survey, and what it was compared with, as the bytes of an XLSX file.
///
/// # Errors
/// The library refuses, for example because a table has more rows than a sheet.
pub fn workbook(
    survey: &Survey,
    comparison: Option<&Comparison>,
    published: Option<&PublishedComparison>,
) -> Result<Vec<u8>, WorkbookError> {
    build(survey, comparison, published).map_err(|error| WorkbookError(error.to_string()))
}

fn build(
    survey: &Survey,
    comparison: Option<&Comparison>,
    published: Option<&PublishedComparison>,
) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    // The time of writing would make equal results unequal files.
    book.set_properties(&DocProperties::new().set_creation_datetime(&ExcelDateTime::from_ymd(2024, 11, 1)?));
    add(&mut book, "totals", &["figure", "value"], totals(survey))?;
    let header = ["id", "name_zh", "name_en", "mentions", "share_of_mentions", "products", "share_of_products"];
    for (name, level) in [("sections", Level::Section), ("categories", Level::Category), ("scenarios", Level::Scenario)]
    {
        let rows = survey.frequencies.iter().filter(|row| row.level == level).map(frequency).collect();
        add(&mut book, name, &header, rows)?;
    }
    if !survey.breakdowns.is_empty() {
        let header =
            ["column", "value", "level", "id", "name_zh", "name_en", "mentions", "share_of_mentions", "products"];
        let header: Vec<&str> = header.into_iter().chain(["share_of_products"]).collect();
        let groups = survey.breakdowns.iter().flat_map(|breakdown| {
            breakdown.groups.iter().flat_map(move |group| {
                let mentioned = group.frequencies.iter().filter(|row| row.mentions > 0);
                mentioned.map(move |row| {
                    let level = match row.level {
                        Level::Section => "section",
                        Level::Category => "category",
                        Level::Scenario => "scenario",
                    };
                    [text(&breakdown.column), text(&group.value), text(level)]
                        .into_iter()
                        .chain(frequency(row))
                        .collect()
                })
            })
        });
        add(&mut book, "groups", &header, groups.collect())?;
    }
    if let Some(comparison) = comparison {
        compared(&mut book, comparison)?;
    }
    if let Some(published) = published {
        published_figures(&mut book, published)?;
    }
    book.save_to_buffer()
}

fn totals(survey: &Survey) -> Vec<Vec<Value>> {
    let Totals { n_records, n_coded, n_outside, n_unspecified, n_mentions, mentions_per_record, .. } = survey.totals;
    let totals = &survey.totals;
    let mut rows = vec![
        vec![text("products"), count(n_records)],
        vec![text("coded"), count(n_coded)],
        vec![text("outside the taxonomy"), count(n_outside)],
        vec![text("without a stated use"), count(n_unspecified)],
        vec![text("mentions"), count(n_mentions)],
        vec![text("mentions per product"), Value::Number(mentions_per_record)],
        vec![text("sections touched"), count(totals.sections_touched as u64)],
        vec![text("sections of the taxonomy"), count(totals.sections_total as u64)],
        vec![text("categories touched"), count(totals.categories_touched as u64)],
        vec![text("categories of the taxonomy"), count(totals.categories_total as u64)],
        vec![text("scenarios touched"), count(totals.scenarios_touched as u64)],
        vec![text("scenarios of the taxonomy"), count(totals.scenarios_total as u64)],
        vec![text("rows turned away"), count(survey.n_rejected)],
        vec![text("descriptions cut"), count(survey.n_truncated)],
        vec![text("taxonomy"), text(&survey.taxonomy)],
        vec![text("model"), text(&survey.model)],
        vec![text("counts"), text("raw counts of the classifier, not corrected for coding errors")],
    ];
    if let Some(derived) = &survey.derived {
        rows.push(vec![text("derived"), text(&derivation(derived, &survey.taxonomy, Lang::En))]);
    }
    rows
}

fn frequency(row: &Frequency) -> Vec<Value> {
    vec![
        Value::Number(f64::from(row.id)),
        text(&row.name.zh),
        text(&row.name.en),
        count(row.mentions),
        Value::Share(row.share_of_mentions),
        count(row.records),
        Value::Share(row.share_of_records),
    ]
}

fn scope(rows: &[ScopeRow]) -> Vec<Vec<Value>> {
    let row = |row: &ScopeRow| {
        let mark = if row.differs { "differs" } else { "same" };
        let cells = [&row.aspect.zh, &row.aspect.en, &row.this.zh, &row.this.en, &row.other.zh, &row.other.en];
        cells.into_iter().map(|cell| text(cell)).chain([text(mark)]).collect()
    };
    rows.iter().map(row).collect()
}

const SCOPE: [&str; 7] = ["aspect_zh", "aspect_en", "this_zh", "this_en", "other_zh", "other_en", "differs"];

fn compared(book: &mut Workbook, comparison: &Comparison) -> Result<(), XlsxError> {
    add(book, "scope", &SCOPE, scope(&comparison.scope))?;
    let level = |level: Level| match level {
        Level::Section => "section",
        Level::Category => "category",
        Level::Scenario => "scenario",
    };
    let mut rows = Vec::new();
    for row in &comparison.likeness {
        for (name, measure) in
            [("total variation", row.total_variation), ("Spearman", row.spearman), ("Kendall tau-b", row.kendall_tau_b)]
        {
            let Measure { value, low, high } = measure;
            rows.push(vec![text(level(row.level)), text(name), number(value), number(low), number(high)]);
        }
    }
    add(book, "likeness", &["level", "measure", "value", "low", "high"], rows)?;
    let header = ["level", "id", "name_zh", "name_en", "mentions", "other_mentions", "share", "other_share", "change"];
    let header: Vec<&str> = header.into_iter().chain(["change_low", "change_high"]).collect();
    let rows = comparison.shifts.iter().map(|row| {
        vec![
            text(level(row.level)),
            Value::Number(f64::from(row.id)),
            text(&row.name.zh),
            text(&row.name.en),
            count(row.mentions),
            count(row.other_mentions),
            Value::Share(row.share),
            Value::Share(row.other_share),
            share(row.change.value),
            share(row.change.low),
            share(row.change.high),
        ]
    });
    add(book, "changes", &header, rows.collect())
}

fn published_figures(book: &mut Workbook, comparison: &PublishedComparison) -> Result<(), XlsxError> {
    add(book, "scope", &SCOPE, scope(&comparison.scope))?;
    let rows = comparison.figures.iter().map(|row| {
        let remarks = |lang| row.remarks.iter().map(|remark| remark.get(lang).as_str()).collect::<Vec<_>>().join("; ");
        let source = comparison.sources.iter().find(|source| source.id == row.published.source);
        vec![
            text(&row.published.wording.zh),
            text(&row.published.wording.en),
            text(&row.published.quote),
            text(&this_figure(row)),
            text(&remarks(Lang::Zh)),
            text(&remarks(Lang::En)),
            text(source.map_or("", |source| &source.url)),
        ]
    });
    let header = ["figure_zh", "figure_en", "published", "this_survey", "note_zh", "note_en", "source"];
    add(book, &comparison.other, &header, rows.collect())?;
    let rows = comparison.ranks.iter().map(|row| {
        vec![
            text(&row.statement.en),
            text(&row.published.as_named.en),
            Value::Number(f64::from(row.published.id)),
            text(&row.name.zh),
            text(&row.name.en),
            count(row.mentions),
            count(row.rank as u64),
            count(row.n_entries as u64),
        ]
    });
    let header = ["statement", "as_named", "id", "name_zh", "name_en", "mentions", "rank", "of"];
    add(book, "ranks", &header, rows.collect())
}

/// Adds a sheet with a bold, frozen header and a filter over it.
fn add(book: &mut Workbook, name: &str, header: &[&str], rows: Vec<Vec<Value>>) -> Result<(), XlsxError> {
    let sheet: &mut Worksheet = book.add_worksheet();
    sheet.set_name(name)?;
    let bold = Format::new().set_bold();
    let percent = Format::new().set_num_format("0.0%");
    for (column, title) in header.iter().enumerate() {
        sheet.write_string_with_format(0, column as u16, *title, &bold)?;
        let wide = title.starts_with("name") || title.ends_with("_zh") || title.ends_with("_en");
        sheet.set_column_width(column as u16, if wide || *title == "figure" { 36.0 } else { 16.0 })?;
    }
    sheet.set_freeze_panes(1, 0)?;
    let last = rows.len() as u32;
    for (row, cells) in rows.into_iter().enumerate() {
        for (column, cell) in cells.into_iter().enumerate() {
            let (row, column) = (row as u32 + 1, column as u16);
            match cell {
                Value::Text(text) => {
                    sheet.write_string(row, column, text.chars().take(CELL / 2).collect::<String>())?;
                }
                Value::Number(value) => {
                    sheet.write_number(row, column, value)?;
                }
                Value::Share(value) => {
                    sheet.write_number_with_format(row, column, value, &percent)?;
                }
                Value::Empty => {}
            }
        }
    }
    if last > 0 {
        sheet.autofilter(0, 0, last, header.len() as u16 - 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Status;
    use crate::survey::{Coded, Surveyor};
    use crate::taxonomy::Taxonomy;
    use calamine::{Data, Reader};

    #[test]
    fn every_table_has_a_sheet_and_equal_surveys_have_equal_bytes() {
        let taxonomy = Taxonomy::builtin();
        let mut surveyor = Surveyor::new(&taxonomy, &["year".to_owned()]);
        let coded = Coded { id: "a", status: Status::Coded, scenarios: &[8, 10], probabilities: &[], truncated: false };
        surveyor.add(&coded, |column| (column == "released").then_some("2024-05"));
        let survey = surveyor.finish(taxonomy.label(), String::new(), 0);
        let bytes = workbook(&survey, None, None).expect("written");
        assert_eq!(bytes, workbook(&survey, None, None).expect("written"));
        let mut book: calamine::Xlsx<_> = calamine::Xlsx::new(std::io::Cursor::new(bytes)).expect("a workbook");
        assert_eq!(book.sheet_names(), ["totals", "sections", "categories", "scenarios", "groups"]);
        let sheet = book.worksheet_range("scenarios").expect("a sheet");
        assert_eq!(sheet.height(), 85);
        assert_eq!(sheet.get((8, 4)), Some(&Data::Float(0.5)));
    }
}
