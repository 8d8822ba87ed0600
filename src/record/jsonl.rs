//! JSON Lines: one object a line, and plain text: one description a line.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::lines::{Line, Lines, MAX_LINE};
use super::{Cell, RawResult, RawRow, Reason, json_problem};

/// Bad lines at the beginning of a file that are looked over for a good one.
const FIRST_LINES: usize = 1000;

/// Rows of a JSON Lines file.
pub(super) struct JsonLines {
    lines: Lines,
    waiting: VecDeque<RawResult>,
    finished: bool,
}

impl JsonLines {
    /// Reads up to the first line that parses, whose keys stand for the columns.
    ///
    /// # Errors
    /// A sentence, when no line parses.
    pub(super) fn open(lines: Lines) -> Result<(JsonLines, Vec<Arc<str>>), String> {
        let mut reader = JsonLines { lines, waiting: VecDeque::new(), finished: false };
        loop {
            // A file of nothing but bad lines is not read to its end to find that out.
            if reader.waiting.len() == FIRST_LINES {
                return Err(format!(
                    "none of its first {FIRST_LINES} lines is a JSON object; expected one object a line"
                ));
            }
            let Some(next) = reader.read() else {
                let problem = match reader.waiting.is_empty() {
                    true => "the file is empty; expected one JSON object a line",
                    false => "none of its lines is a JSON object; expected one object a line",
                };
                return Err(problem.to_owned());
            };
            let headers = next.as_ref().ok().map(|row| row.cells.iter().map(|(key, _)| Arc::clone(key)).collect());
            reader.waiting.push_back(next);
            if let Some(headers) = headers {
                return Ok((reader, headers));
            }
        }
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
                return Some(Err((row, None, Reason::LongLine { limit: MAX_LINE })));
            };
            if line.trim().is_empty() {
                continue;
            }
            return Some(match serde_json::from_str::<Map<String, Value>>(line.trim_end()) {
                Ok(object) => Ok(RawRow {
                    row,
                    cells: object.into_iter().map(|(key, value)| (Arc::from(key), cell(value))).collect(),
                }),
                Err(_) if line.contains(char::REPLACEMENT_CHARACTER) => Err((row, None, Reason::Undecodable)),
                Err(error) => Err((row, None, Reason::Json(json_problem(&error)))),
            });
        }
    }
}

impl Iterator for JsonLines {
    type Item = RawResult;

    fn next(&mut self) -> Option<RawResult> {
        self.waiting.pop_front().or_else(|| self.read())
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
                Ok(Some((row, Line::TooLong))) => Some(Err((row, None, Reason::LongLine { limit: MAX_LINE }))),
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
