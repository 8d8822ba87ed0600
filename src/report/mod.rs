//! Results for people: tables for the terminal, CSV, Markdown, workbooks, charts and a page. Pure functions from results
//! to text or bytes.

pub mod charts;
mod comparison;
mod evaluation;
pub mod html;
mod lookup;
mod precision;
mod survey;
mod taxonomy;
mod workbook;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::survey::Level;
use crate::taxonomy::Lang;

pub use comparison::{
    csv as comparison_csv, published_csv as published_comparison_csv, published_text as published_comparison_text,
    text as comparison_text,
};
pub use evaluation::markdown as evaluation_markdown;
pub use lookup::text as lookup_text;
pub use precision::text as precision_text;
pub use survey::{csv as survey_csv, text as survey_text};
pub use taxonomy::{diff as taxonomy_diff, entry as taxonomy_entry, tree as taxonomy_tree};
pub use workbook::{WorkbookError, workbook as survey_workbook};

/// Rules above, below and under the header; none between rows, so that long tables stay short.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// A table with a header; the columns named in `right` are aligned to the right.
fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled).set_header(header.to_vec());
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Chooses the words for a language.
fn words(lang: Lang, zh: &'static str, en: &'static str) -> &'static str {
    match lang {
        Lang::Zh => zh,
        Lang::En => en,
    }
}

/// The word for a level.
fn level_name(level: Level, lang: Lang) -> &'static str {
    match level {
        Level::Section => words(lang, "部分", "sections"),
        Level::Category => words(lang, "类别", "categories"),
        Level::Scenario => words(lang, "场景", "scenarios"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}
