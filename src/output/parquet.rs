//! Parquet, in row groups of bounded size.

use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{Cell, Column, Kind, OutputError, RowWriter};

const ROWS_PER_BATCH: usize = 4096;

pub(super) struct Table {
    writer: ArrowWriter<Box<dyn Write + Send>>,
    schema: Arc<Schema>,
    kinds: Vec<Kind>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(columns: &[Column], destination: Box<dyn Write + Send>) -> Result<Table, OutputError> {
        let field = |column: &Column| {
            let data = match column.kind {
                Kind::Text => DataType::Utf8,
                Kind::Integer => DataType::Int64,
                Kind::Real => DataType::Float64,
            };
            Field::new(&column.name, data, true)
        };
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(64 * 1024))
            .build();
        let writer = ArrowWriter::try_new(destination, Arc::clone(&schema), Some(properties)).map_err(refused)?;
        Ok(Table { writer, schema, kinds: columns.iter().map(|column| column.kind).collect(), rows: Vec::new() })
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        let arrays: Vec<ArrayRef> =
            self.kinds.iter().enumerate().map(|(index, kind)| array(&self.rows, index, *kind)).collect();
        self.rows.clear();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|error| OutputError::Parquet(error.to_string()))?;
        self.writer.write(&batch).map_err(refused)
    }
}

impl RowWriter for Table {
    fn row(&mut self, cells: Vec<Cell>) -> Result<(), OutputError> {
        self.rows.push(cells);
        if self.rows.len() == ROWS_PER_BATCH { self.flush() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<(), OutputError> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        self.writer.close().map_err(refused)?;
        Ok(())
    }
}

fn array(rows: &[Vec<Cell>], index: usize, kind: Kind) -> ArrayRef {
    let cells = rows.iter().map(|row| &row[index]);
    match kind {
        Kind::Text => {
            let mut builder = StringBuilder::new();
            cells.for_each(|cell| builder.append_option(if let Cell::Text(text) = cell { Some(text) } else { None }));
            Arc::new(builder.finish())
        }
        Kind::Integer => {
            let mut builder = Int64Builder::new();
            cells.for_each(|cell| {
                builder.append_option(if let Cell::Integer(number) = cell { Some(*number) } else { None })
            });
            Arc::new(builder.finish())
        }
        Kind::Real => {
            let mut builder = Float64Builder::new();
            cells.for_each(|cell| {
                builder.append_option(if let Cell::Real(number) = cell { Some(*number) } else { None })
            });
            Arc::new(builder.finish())
        }
    }
}

fn refused(error: parquet::errors::ParquetError) -> OutputError {
    OutputError::Parquet(error.to_string())
}
