//! Excel workbooks, written row by row in constant memory.

use std::io::{Seek, Write};

use rust_xlsxwriter::{DocProperties, ExcelDateTime, Workbook, XlsxError};

use super::{Cell, Column, OutputError, RowWriter};

/// Rows of a sheet below its header.
const LIMIT: u32 = 1_048_575;
/// Characters of a cell.
const CELL: usize = 32_767;

pub(super) struct Sheet {
    workbook: Workbook,
    destination: Box<dyn Write + Send>,
    row: u32,
}

impl Sheet {
    pub(super) fn new(columns: &[Column], destination: Box<dyn Write + Send>) -> Result<Sheet, OutputError> {
        let mut workbook = Workbook::new();
        // The time of writing would make equal results unequal files.
        let epoch = ExcelDateTime::from_ymd(2024, 11, 1).map_err(refused)?;
        workbook.set_properties(&DocProperties::new().set_creation_datetime(&epoch));
        let sheet = workbook.add_worksheet_with_constant_memory().map_err(refused)?;
        sheet.set_name("medscenario").map_err(refused)?;
        for (index, column) in columns.iter().enumerate() {
            sheet.write_string(0, index as u16, &column.name).map_err(refused)?;
        }
        Ok(Sheet { workbook, destination, row: 0 })
    }
}

impl RowWriter for Sheet {
    fn row(&mut self, cells: Vec<Cell>) -> Result<(), OutputError> {
        self.row += 1;
        if self.row > LIMIT {
            return Err(OutputError::TooManyRows { limit: LIMIT });
        }
        let sheet = self.workbook.worksheet_from_index(0).map_err(refused)?;
        for (index, cell) in cells.into_iter().enumerate() {
            let column = index as u16;
            match cell {
                Cell::Text(text) => {
                    // Excel counts UTF-16 units; a cell can hold no more of the text.
                    let mut units = 0;
                    let fits = |&(_, character): &(usize, char)| {
                        units += character.len_utf16();
                        units > CELL
                    };
                    let end = text.char_indices().find(fits).map_or(text.len(), |(at, _)| at);
                    sheet.write_string(self.row, column, &text[..end]).map_err(refused)?;
                }
                Cell::Integer(number) => drop(sheet.write_number(self.row, column, number as f64).map_err(refused)?),
                Cell::Real(number) => drop(sheet.write_number(self.row, column, number).map_err(refused)?),
                Cell::Empty => {}
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), OutputError> {
        // The library needs to seek; the destination may be a pipe.
        let mut file = tempfile::tempfile()?;
        self.workbook.save_to_writer(&file).map_err(refused)?;
        file.rewind()?;
        std::io::copy(&mut file, &mut self.destination)?;
        Ok(self.destination.flush()?)
    }
}

fn refused(error: XlsxError) -> OutputError {
    OutputError::Workbook(error.to_string())
}
