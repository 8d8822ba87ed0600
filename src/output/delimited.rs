//! CSV and TSV.

use std::io::Write;

use super::{Cell, Column, OutputError, RowWriter};

pub(super) struct Delimited {
    writer: csv::Writer<Box<dyn Write + Send>>,
}

impl Delimited {
    pub(super) fn new(
        delimiter: u8,
        columns: &[Column],
        destination: Box<dyn Write + Send>,
    ) -> Result<Delimited, OutputError> {
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(destination);
        writer.write_record(columns.iter().map(|column| &column.name)).map_err(into_io)?;
        Ok(Delimited { writer })
    }
}

impl RowWriter for Delimited {
    fn row(&mut self, cells: Vec<Cell>) -> Result<(), OutputError> {
        let cells = cells.into_iter().map(|cell| match cell {
            Cell::Text(text) => text,
            Cell::Integer(number) => number.to_string(),
            Cell::Real(number) => number.to_string(),
            Cell::Empty => String::new(),
        });
        Ok(self.writer.write_record(cells).map_err(into_io)?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), OutputError> {
        Ok(self.writer.flush()?)
    }
}

fn into_io(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}
