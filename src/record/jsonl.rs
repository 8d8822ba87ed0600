//! JSON Lines: one object a line, and plain text: one description a line.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::lines::{Line, Lines, MAX_LINE};
use super::{Cell, RawResult, RawRow, Reason};

/// Rows of a JSON Lines file.
pub(super) struct JsonLines {
    lines: Lines,
    waiting: Option<RawResult>,
    finished: bool,
}

impl JsonLines {
    /// Reads up to the first line that parses, whose keys stand for the columns.
    pub(super) fn open(lines: Lines) -> (JsonLines, Vec<Arc<str>>) {
        let mut reader = JsonLines { lines, waiting: None, finished: false };
        let first = reader.read();
        let headers = match &first {
            Some(Ok(row)) => row.cells.iter().map(|(key, _)| Arc::clone(key)).collect(),
            _ => Vec::new(),
        };
        reader.waiting = first;
        (reader, headers)
    }

    fn read(&mut self) -> Option<RawResult> {
        loop {
            if self.finished {
                return None;
            }
            let (row, line) = match self.lines.next() {
                Ok(Some(found)) => found,
                Ok(None) => return None,
                Err(error) => {
                    self.finished = true;
                    return Some(Err((0, None, Reason::Unreadable(error.to_string()))));
                }
            };
            let Line::Text(line) = line else {
                return Some(Err((row, None, Reason::TooLong { limit: MAX_LINE, found: MAX_LINE + 1 })));
            };
            if line.trim().is_empty() {
                continue;
            }
            return Some(match serde_json::from_str::<Map<String, Value>>(&line) {
                Ok(object) => {
                    Ok(RawRow { row, cells: object.into_iter().map(|(key, value)| (Arc::from(key), cell(value))).collect() })
                }
                Err(_) if line.contains(char::REPLACEMENT_CHARACTER) => Err((row, None, Reason::Undecodable)),
                Err(error) => Err((row, None, Reason::Json(error.to_string()))),
            });
        }
    }
}

impl Iterator for JsonLines {
    type Item = RawResult;

    fn next(&mut self) -> Option<RawResult> {
        self.waiting.take().or_else(|| self.read())
    }
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Empty,
        Value::String(text) if text.is_empty() => Cell::Empty,
        Value::String(text) => Cell::Text(text),
        Value::Number(number) => Cell::Other(number.to_string(), "a number"),
        Value::Bool(value) => Cell::Other(value.to_string(), "true or false"),
        list @ Value::Array(_) => Cell::Other(list.to_string(), "a list"),
        object @ Value::Object(_) => Cell::Other(object.to_string(), "an object"),
    }
}

/// Rows of a plain text file: each line that is not blank is a description, in the column `text`.
pub(super) struct PlainLines {
    lines: Lines,
    column: Arc<str>,
    finished: bool,
}

impl PlainLines {
    /// Starts at the first line.
    pub(super) fn open(lines: Lines) -> (PlainLines, Vec<Arc<str>>) {
        let column: Arc<str> = Arc::from("text");
        (PlainLines { lines, column: Arc::clone(&column), finished: false }, vec![column])
    }
}

impl Iterator for PlainLines {
    type Item = RawResult;

    fn next(&mut self) -> Option<RawResult> {
        while !self.finished {
            return match self.lines.next() {
                Ok(Some((row, Line::Text(line)))) => {
                    let line = line.trim();
                    if line.is_empty() {
                        continue;
                    }
                    Some(Ok(RawRow { row, cells: vec![(Arc::clone(&self.column), Cell::Text(line.to_owned()))] }))
                }
                Ok(Some((row, Line::TooLong))) => {
                    Some(Err((row, None, Reason::TooLong { limit: MAX_LINE, found: MAX_LINE + 1 })))
                }
                Ok(None) => None,
                Err(error) => {
                    self.finished = true;
                    Some(Err((0, None, Reason::Unreadable(error.to_string()))))
                }
            };
        }
        None
    }
}
