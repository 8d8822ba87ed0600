//! Predictions as tables: CSV, TSV, XLSX and Parquet, one row per assigned scenario or one per record.

mod delimited;
mod parquet;
mod xlsx;

use std::io::Write;

use crate::prediction::{Assigned, Prediction};
use crate::taxonomy::{Id, Taxonomy};

/// Format of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// An Excel workbook.
    Xlsx,
    /// Parquet.
    Parquet,
}

/// Shape of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableLayout {
    /// One row per assigned scenario; records without one have a row that names none.
    Long,
    /// One row per record, with a column of 0 and 1 per scenario.
    Wide,
}

/// Why a table cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The file cannot be written.
    #[error("Failed to write the table")]
    Write(#[from] std::io::Error),
    /// A workbook has room for fewer rows.
    #[error("An XLSX sheet holds {limit} rows below its header, and the result has more; use CSV or Parquet")]
    TooManyRows {
        /// Rows that fit.
        limit: u32,
    },
    /// The workbook library refuses.
    #[error("Failed to write the workbook: {0}")]
    Workbook(String),
    /// The Parquet library refuses.
    #[error("Failed to write Parquet: {0}")]
    Parquet(String),
    /// A prediction cannot be read back.
    #[error("Failed to read back a prediction")]
    Prediction(#[from] serde_json::Error),
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Text(String),
    Integer(i64),
    Real(f64),
    Empty,
}

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Real,
}

/// Name and type of a column.
struct Column {
    name: String,
    kind: Kind,
}

/// A destination for rows.
trait RowWriter {
    fn row(&mut self, cells: Vec<Cell>) -> Result<(), OutputError>;
    fn finish(self: Box<Self>) -> Result<(), OutputError>;
}

/// Writes a table of text.
///
/// # Errors
/// The destination fails or has no room.
pub fn write_text_table(
    header: &[&str],
    rows: Vec<Vec<String>>,
    format: TableFormat,
    destination: Box<dyn Write + Send>,
) -> Result<(), OutputError> {
    let column = |name: &&str| Column { name: (*name).to_owned(), kind: Kind::Text };
    let mut writer = open(format, &header.iter().map(column).collect::<Vec<_>>(), destination)?;
    for row in rows {
        writer.row(row.iter().map(|value| text(value)).collect())?;
    }
    writer.finish()
}

fn open(
    format: TableFormat,
    columns: &[Column],
    destination: Box<dyn Write + Send>,
) -> Result<Box<dyn RowWriter>, OutputError> {
    Ok(match format {
        TableFormat::Csv => Box::new(delimited::Delimited::new(b',', columns, destination)?),
        TableFormat::Tsv => Box::new(delimited::Delimited::new(b'\t', columns, destination)?),
        TableFormat::Xlsx => Box::new(xlsx::Sheet::new(columns, destination)?),
        TableFormat::Parquet => Box::new(parquet::Table::new(columns, destination)?),
    })
}

/// Writes predictions as one table. `others` names the records' other columns, in order.
///
/// # Errors
/// The destination fails or has no room.
pub fn write_table(
    predictions: impl Iterator<Item = Result<Prediction, OutputError>>,
    others: &[String],
    taxonomy: &Taxonomy,
    format: TableFormat,
    layout: TableLayout,
    destination: Box<dyn Write + Send>,
) -> Result<(), OutputError> {
    let columns = columns(layout, others, taxonomy);
    let mut writer = open(format, &columns, destination)?;
    for prediction in predictions {
        let prediction = prediction?;
        match layout {
            TableLayout::Long => {
                long_rows(&prediction, others, taxonomy).into_iter().try_for_each(|row| writer.row(row))?
            }
            TableLayout::Wide => writer.row(wide_row(&prediction, others, taxonomy))?,
        }
    }
    writer.finish()
}

fn columns(layout: TableLayout, others: &[String], taxonomy: &Taxonomy) -> Vec<Column> {
    use Kind::{Integer, Real, Text};
    let own: &[(&str, Kind)] = match layout {
        TableLayout::Long => &[
            ("id", Text),
            ("name", Text),
            ("status", Text),
            ("scenario", Integer),
            ("scenario_zh", Text),
            ("scenario_en", Text),
            ("category", Integer),
            ("section", Integer),
            ("probability", Real),
            ("evidence", Text),
            ("evidence_start", Integer),
            ("evidence_end", Integer),
            ("confidence", Real),
            ("review", Integer),
            ("truncated", Integer),
            ("taxonomy", Text),
        ],
        TableLayout::Wide => &[
            ("id", Text),
            ("name", Text),
            ("status", Text),
            ("scenarios", Text),
            ("categories", Text),
            ("sections", Text),
            ("confidence", Real),
            ("review", Integer),
            ("truncated", Integer),
            ("taxonomy", Text),
        ],
    };
    let mut columns: Vec<Column> = own.iter().map(|&(name, kind)| Column { name: name.to_owned(), kind }).collect();
    for other in others {
        // A column of the input may be called like one of ours.
        let taken = |columns: &[Column], name: &str| columns.iter().any(|column| column.name == name);
        let mut name = other.clone();
        while taken(&columns, &name) {
            name = format!("input_{name}");
        }
        columns.push(Column { name, kind: Text });
    }
    if layout == TableLayout::Wide {
        let scenario = |id: Id| Column { name: format!("scenario_{id}"), kind: Integer };
        columns.extend(taxonomy.scenarios.iter().map(|entry| scenario(entry.id)));
    }
    columns
}

fn text(value: &str) -> Cell {
    if value.is_empty() { Cell::Empty } else { Cell::Text(value.to_owned()) }
}

fn joined(ids: impl Iterator<Item = Id>) -> Cell {
    text(&ids.map(|id| id.to_string()).collect::<Vec<_>>().join(";"))
}

fn certainty(prediction: &Prediction) -> [Cell; 2] {
    let review = prediction.review.map_or(Cell::Empty, |review| Cell::Integer(i64::from(review)));
    [prediction.confidence.map_or(Cell::Empty, Cell::Real), review]
}

fn other_cells<'a>(prediction: &'a Prediction, others: &'a [String]) -> impl Iterator<Item = Cell> + 'a {
    others.iter().map(|name| text(prediction.column(name).unwrap_or_default()))
}

fn long_rows(prediction: &Prediction, others: &[String], taxonomy: &Taxonomy) -> Vec<Vec<Cell>> {
    let row = |assigned: Option<&Assigned>| {
        let mut cells = vec![
            text(&prediction.id),
            text(prediction.name.as_deref().unwrap_or_default()),
            text(prediction.status.name()),
        ];
        match assigned {
            None => cells.extend(std::iter::repeat_n(Cell::Empty, 9)),
            Some(assigned) => {
                let id = assigned.id();
                let entry = taxonomy.scenario(id);
                let category = taxonomy.category_of(id);
                let number = |id: Option<Id>| id.map_or(Cell::Empty, |id| Cell::Integer(i64::from(id)));
                cells.extend([
                    number(Some(id)),
                    text(entry.map_or("", |entry| &entry.name.zh)),
                    text(entry.map_or("", |entry| &entry.name.en)),
                    number(category),
                    number(category.and_then(|category| taxonomy.section_of(category))),
                ]);
                match assigned {
                    Assigned::Number(_) => cells.extend(std::iter::repeat_n(Cell::Empty, 4)),
                    Assigned::Full { probability, evidence, .. } => {
                        let quotes: Vec<&str> = evidence.iter().map(|span| span.text.as_str()).collect();
                        let place = |at: Option<usize>| at.map_or(Cell::Empty, |at| Cell::Integer(at as i64));
                        cells.extend([
                            Cell::Real(*probability),
                            text(&quotes.join(" | ")),
                            place(evidence.first().map(|span| span.start)),
                            place(evidence.first().map(|span| span.end)),
                        ]);
                    }
                }
            }
        }
        cells.extend(certainty(prediction));
        cells.extend([Cell::Integer(i64::from(prediction.truncated)), text(&prediction.taxonomy)]);
        cells.extend(other_cells(prediction, others));
        cells
    };
    if prediction.scenarios.is_empty() {
        return vec![row(None)];
    }
    prediction.scenarios.iter().map(|assigned| row(Some(assigned))).collect()
}

fn wide_row(prediction: &Prediction, others: &[String], taxonomy: &Taxonomy) -> Vec<Cell> {
    let assigned: Vec<Id> = prediction.scenarios.iter().map(Assigned::id).collect();
    let mut cells = vec![
        text(&prediction.id),
        text(prediction.name.as_deref().unwrap_or_default()),
        text(prediction.status.name()),
        joined(assigned.iter().copied()),
        joined(prediction.categories.iter().copied()),
        joined(prediction.sections.iter().copied()),
    ];
    cells.extend(certainty(prediction));
    cells.extend([Cell::Integer(i64::from(prediction.truncated)), text(&prediction.taxonomy)]);
    cells.extend(other_cells(prediction, others));
    cells.extend(taxonomy.scenarios.iter().map(|entry| Cell::Integer(i64::from(assigned.contains(&entry.id)))));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction() -> Prediction {
        serde_json::from_str(
            r#"{"id":"a","status":"coded","scenarios":[{"scenario":8,"probability":0.5,"evidence":[{"start":1,"end":3,"text":"导诊"}]},{"scenario":10,"probability":0.75,"evidence":[]}],
                "categories":[1],"sections":[1],"taxonomy":"t@0","columns":{"status":"released","x":"1"}}"#,
        )
        .expect("valid")
    }

    #[test]
    fn rows_have_as_many_cells_as_there_are_columns() {
        let taxonomy = Taxonomy::builtin();
        let others = ["status".to_owned(), "x".to_owned()];
        let mut none = prediction();
        none.scenarios.clear();
        for prediction in [prediction(), none] {
            for row in long_rows(&prediction, &others, &taxonomy) {
                assert_eq!(row.len(), columns(TableLayout::Long, &others, &taxonomy).len());
            }
            assert_eq!(
                wide_row(&prediction, &others, &taxonomy).len(),
                columns(TableLayout::Wide, &others, &taxonomy).len()
            );
        }
    }

    #[test]
    fn columns_of_the_input_never_hide_ours() {
        let taxonomy = Taxonomy::builtin();
        let names = columns(TableLayout::Long, &["status".to_owned(), "x".to_owned()], &taxonomy);
        let names: Vec<&str> = names.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names[names.len() - 2..], ["input_status", "x"]);
    }
}
