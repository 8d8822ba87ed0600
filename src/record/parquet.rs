//! Parquet files, read in batches of rows.

use std::fs::File;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{Cell, RawResult, RawRow, Reason};

const ROWS_PER_BATCH: usize = 1024;

/// Rows of a Parquet file.
pub(super) struct Rows {
    batches: ParquetRecordBatchReader,
    headers: Vec<Arc<str>>,
    batch: Option<(RecordBatch, usize)>,
    row: u64,
    finished: bool,
}

impl Rows {
    /// Reads the file's metadata.
    ///
    /// # Errors
    /// A sentence on what is wrong with the file.
    pub(super) fn open(file: File) -> Result<(Rows, Vec<Arc<str>>), String> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| {
            format!("not a readable Parquet file: {error}; write it again, or check --input-format")
        })?;
        let headers: Vec<Arc<str>> =
            builder.schema().fields().iter().map(|field| Arc::from(field.name().as_str())).collect();
        if let Some((_, name)) = headers.iter().enumerate().find(|(index, name)| headers[..*index].contains(name)) {
            return Err(format!("column name `{name}` occurs twice; rename one"));
        }
        let batches = builder.with_batch_size(ROWS_PER_BATCH).build().map_err(|error| error.to_string())?;
        Ok((Rows { batches, headers: headers.clone(), batch: None, row: 0, finished: false }, headers))
    }
}

impl Iterator for Rows {
    type Item = RawResult;

    fn next(&mut self) -> Option<RawResult> {
        while !self.finished {
            if let Some((batch, at)) = &mut self.batch
                && *at < batch.num_rows()
            {
                let index = *at;
                *at += 1;
                self.row += 1;
                return Some(row(batch, index, self.row, &self.headers));
            }
            match self.batches.next() {
                Some(Ok(batch)) => self.batch = Some((batch, 0)),
                Some(Err(error)) => {
                    self.finished = true;
                    return Some(Err((self.row + 1, None, Reason::Unreadable(error.to_string()))));
                }
                None => self.finished = true,
            }
        }
        None
    }
}

fn row(batch: &RecordBatch, index: usize, row: u64, headers: &[Arc<str>]) -> RawResult {
    let options = FormatOptions::default();
    let mut cells = Vec::with_capacity(headers.len());
    for (name, column) in headers.iter().zip(batch.columns()) {
        let cell = if column.is_null(index) {
            Cell::Empty
        } else {
            let kind = kind(column.data_type());
            let text = ArrayFormatter::try_new(column.as_ref(), &options)
                .and_then(|formatter| formatter.value(index).try_to_string())
                .map_err(|error| (row, Some(name.to_string()), Reason::WrongType { found: error.to_string() }))?;
            match kind {
                None if text.is_empty() => Cell::Empty,
                None => Cell::Text(text),
                Some(kind) => Cell::Other(text, kind),
            }
        };
        cells.push((Arc::clone(name), cell));
    }
    Ok(RawRow { row, cells })
}

/// `None` for text, a name for everything else.
fn kind(data: &DataType) -> Option<&'static str> {
    match data {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => None,
        DataType::Dictionary(_, values) => kind(values),
        DataType::Boolean => Some("true or false"),
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Some("a date"),
        other if other.is_numeric() => Some("a number"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Some("bytes"),
        _ => Some("a nested value"),
    }
}
