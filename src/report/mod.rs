//! Results for people: tables for the terminal, CSV, and Markdown. Pure functions from results to text.

mod evaluation;
mod lookup;
mod survey;
mod taxonomy;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use crate::taxonomy::Lang;

pub use evaluation::markdown as evaluation_markdown;
pub use lookup::text as lookup_text;
pub use survey::{csv as survey_csv, text as survey_text};
pub use taxonomy::{entry as taxonomy_entry, tree as taxonomy_tree};

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

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}
