//! XLSX sheets, read cell by cell in a thread of their own, so that a large sheet is never whole in memory.

use std::io::{Read, Seek};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use calamine::{DataRef, Reader, Xlsx};

use super::{Cell, RawResult, RawRow, Reason};

/// Rows that may wait between the reading thread and the pipeline.
const WAITING_ROWS: usize = 256;

/// What the reading thread sends: the header first, then rows; a failure ends either.
enum Message {
    Header(Vec<Arc<str>>),
    Row(RawResult),
    /// The row reached, and the problem.
    Failed(u64, String),
    /// The sheet has no more rows.
    End,
}

/// Opens a sheet (the first where none is named) and reads its header row.
///
/// # Errors
/// A sentence on what is wrong with the workbook, the sheet or the header.
pub(super) fn open(
    source: impl Read + Seek + Send + 'static,
    sheet: Option<String>,
) -> Result<(impl Iterator<Item = RawResult> + Send, Vec<Arc<str>>), String> {
    let (sender, receiver) = sync_channel(WAITING_ROWS);
    std::thread::spawn(move || {
        let mut row = 0;
        let last = match send_rows(source, sheet, &sender, &mut row) {
            Ok(()) => Message::End,
            Err(problem) => Message::Failed(row, problem),
        };
        let _ = sender.send(last);
    });
    match receiver.recv() {
        Ok(Message::Header(headers)) => Ok((Rows { receiver, ended: false }, headers)),
        Ok(Message::Failed(_, problem)) => Err(problem),
        Ok(Message::Row(_) | Message::End) | Err(_) => Err("the sheet could not be read".to_owned()),
    }
}

struct Rows {
    receiver: Receiver<Message>,
    ended: bool,
}

impl Iterator for Rows {
    type Item = RawResult;

    fn next(&mut self) -> Option<RawResult> {
        if self.ended {
            return None;
        }
        let failed = |row, problem| Some(Err((row, None, Reason::Unreadable(problem))));
        match self.receiver.recv() {
            Ok(Message::Row(row)) => Some(row),
            last => {
                self.ended = true;
                match last {
                    Ok(Message::Failed(row, problem)) => failed(row, problem),
                    // The thread is gone without a word: the workbook library has panicked.
                    Err(_) => failed(0, "the sheet's reader stopped; save the workbook again".to_owned()),
                    Ok(_) => None,
                }
            }
        }
    }
}

/// Sends header and rows; `reached` is the last row begun. Ends quietly when nobody listens any more.
fn send_rows(
    source: impl Read + Seek,
    sheet: Option<String>,
    sender: &SyncSender<Message>,
    reached: &mut u64,
) -> Result<(), String> {
    let mut book = Xlsx::new(source)
        .map_err(|error| format!("not a readable XLSX workbook: {error}; save it again, or check --input-format"))?;
    let names = book.sheet_names();
    let sheet = match sheet {
        Some(wanted) if names.contains(&wanted) => wanted,
        Some(wanted) => return Err(format!("it has no sheet `{wanted}`; its sheets are: {}", names.join(", "))),
        None => names.first().cloned().ok_or("the workbook has no sheet")?,
    };
    let mut cells = book.worksheet_cells_reader(&sheet).map_err(|error| format!("sheet `{sheet}`: {error}"))?;
    let mut headers: Option<Vec<(u32, Arc<str>)>> = None;
    let mut row: Vec<(u32, Cell)> = Vec::new();
    let mut number = 0;
    loop {
        let next = cells.next_cell().map_err(|error| format!("sheet `{sheet}`: {error}"))?;
        let position = next.as_ref().map(|cell| cell.get_position());
        if position.map(|(at, _)| at) != Some(number) && row.iter().any(|(_, cell)| !matches!(cell, Cell::Empty)) {
            let taken = std::mem::take(&mut row);
            match &headers {
                None => {
                    let found = header(taken)?;
                    if sender.send(Message::Header(found.iter().map(|(_, name)| Arc::clone(name)).collect())).is_err() {
                        return Ok(());
                    }
                    headers = Some(found);
                }
                Some(headers) => {
                    if sender.send(Message::Row(assemble(u64::from(number) + 1, headers, taken))).is_err() {
                        return Ok(());
                    }
                }
            }
        }
        let Some(cell) = next else { break };
        if Some(number) != position.map(|(at, _)| at) {
            row.clear();
        }
        let (at, column) = cell.get_position();
        number = at;
        *reached = u64::from(at) + 1;
        row.push((column, convert(cell.get_value())));
    }
    if headers.is_none() {
        return Err(format!("sheet `{sheet}` is empty; expected a header row with column names"));
    }
    Ok(())
}

fn header(row: Vec<(u32, Cell)>) -> Result<Vec<(u32, Arc<str>)>, String> {
    let mut headers: Vec<(u32, Arc<str>)> = Vec::new();
    for (column, cell) in row {
        let name = cell.into_text();
        if name.trim().is_empty() {
            continue;
        }
        if headers.iter().any(|(_, known)| **known == *name.trim()) {
            return Err(format!("column name `{}` occurs twice in the header row; rename one", name.trim()));
        }
        headers.push((column, Arc::from(name.trim())));
    }
    Ok(headers)
}

fn assemble(row: u64, headers: &[(u32, Arc<str>)], mut cells: Vec<(u32, Cell)>) -> RawResult {
    let take = |(column, name): &(u32, Arc<str>)| {
        let found = cells.iter_mut().find(|(at, _)| at == column);
        (Arc::clone(name), found.map_or(Cell::Empty, |(_, cell)| std::mem::replace(cell, Cell::Empty)))
    };
    let named: Vec<(Arc<str>, Cell)> = headers.iter().map(take).collect();
    match cells.iter().filter(|(_, cell)| !matches!(cell, Cell::Empty)).count() {
        0 => Ok(RawRow { row, cells: named }),
        extra => Err((row, None, Reason::FieldCount { expected: headers.len(), found: headers.len() + extra })),
    }
}

fn convert(value: &DataRef<'_>) -> Cell {
    match value {
        DataRef::Empty => Cell::Empty,
        DataRef::String(text) => text_cell(text),
        DataRef::SharedString(text) => text_cell(text),
        DataRef::Int(number) => Cell::Other(number.to_string(), "a number"),
        DataRef::Float(number) => Cell::Other(number.to_string(), "a number"),
        DataRef::Bool(value) => Cell::Other(value.to_string(), "true or false"),
        DataRef::DateTime(moment) => {
            let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
            let date = format!("{year:04}-{month:02}-{day:02}");
            let time = if (hour, minute, second) == (0, 0, 0) {
                String::new()
            } else {
                format!("T{hour:02}:{minute:02}:{second:02}")
            };
            Cell::Other(date + &time, "a date")
        }
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => Cell::Other(text.clone(), "a date"),
        DataRef::Error(error) => Cell::Bad(format!("the spreadsheet error {error}")),
    }
}

fn text_cell(text: &str) -> Cell {
    if text.is_empty() { Cell::Empty } else { Cell::Text(text.to_owned()) }
}
