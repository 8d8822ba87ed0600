//! Records: one product description each, with its id, its other columns and the place it came from.
//!
//! [`input`] turns paths, globs and `-` into opened tables; one reader per format yields raw rows; [`Records`] maps
//! columns, checks every row and yields either a [`Record`] or a [`Rejection`]. Rows stream: what is kept of a row that
//! has passed is sixteen bytes of its id's digest and its place.

mod columns;
mod delimited;
pub mod input;
mod jsonl;
mod lines;
mod parquet;
mod xlsx;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

pub use columns::{ColumnChoice, ColumnMap};
pub use input::{Input, InputError, InputFormat, InputOptions};

/// One product description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Identifier, unique within a run: the id column, or the record's number where there is none.
    pub id: String,
    /// The description.
    pub text: String,
    /// The product's name, where a column gives it.
    pub name: Option<String>,
    /// All columns but id, text and name, as text, in the order of the file.
    pub columns: Vec<(Arc<str>, String)>,
    /// Whether the text was cut at the limit that the user set.
    pub truncated: bool,
    /// Where the record stands.
    pub place: Place,
}

/// A place in an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// File name as the user gave it; `-` is standard input.
    pub file: Arc<str>,
    /// Line (CSV, TSV, JSONL, text), sheet row (XLSX) or row (Parquet), from 1.
    pub row: u64,
}

/// What is wrong with a row. [`Reason::code`] is stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The text is empty or missing.
    NoText,
    /// The id is empty or missing.
    NoId,
    /// The id was used before, at the place given.
    DuplicateId(String, Place),
    /// A quotation mark is never closed.
    OpenQuote,
    /// Something follows a closing quotation mark.
    TextAfterQuote,
    /// The row has another number of fields than the header.
    FieldCount {
        /// Fields in the header.
        expected: usize,
        /// Fields in the row.
        found: usize,
    },
    /// A cell holds something else than text.
    WrongType {
        /// What it holds.
        found: String,
    },
    /// The text is longer than the limit, both in characters.
    TooLong {
        /// The limit.
        limit: usize,
        /// The length.
        found: usize,
    },
    /// A line is longer than a line may be, in bytes; nothing of it was read.
    LongLine {
        /// The limit.
        limit: usize,
    },
    /// Bytes that are not text in the file's encoding, or U+FFFD that an earlier program put in their place.
    Undecodable,
    /// A JSON line that does not parse, with the parser's words.
    Json(String),
    /// The rest of the file cannot be read, with the cause.
    Unreadable(String),
}

impl Reason {
    /// Short name for error reports and programs.
    pub fn code(&self) -> &'static str {
        match self {
            Reason::NoText => "no-text",
            Reason::NoId => "no-id",
            Reason::DuplicateId(..) => "duplicate-id",
            Reason::OpenQuote => "open-quote",
            Reason::TextAfterQuote => "text-after-quote",
            Reason::FieldCount { .. } => "field-count",
            Reason::WrongType { .. } => "wrong-type",
            Reason::TooLong { .. } | Reason::LongLine { .. } => "too-long",
            Reason::Undecodable => "undecodable",
            Reason::Json(_) => "invalid-json",
            Reason::Unreadable(_) => "unreadable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoText => f.write_str("the text is empty; expected a description"),
            Reason::NoId => f.write_str("the id is empty; fill it in, or choose another column with --id-column"),
            Reason::DuplicateId(id, first) => {
                write!(f, "id `{id}` was used before, at `{}` row {}; ids must be unique in a run", first.file, first.row)
            }
            Reason::OpenQuote => f.write_str("a quotation mark is opened and never closed; close it, or double it to mean itself"),
            Reason::TextAfterQuote => {
                f.write_str("text follows a closing quotation mark; expected the separator, or a doubled mark to mean itself")
            }
            Reason::FieldCount { expected, found } => {
                let fields = if *found == 1 { "field" } else { "fields" };
                let advice = match found > expected {
                    true => "quote fields that contain the separator, and name every column in the header",
                    false => "give every column a field, even an empty one",
                };
                write!(f, "{found} {fields} where the header has {expected}; {advice}")
            }
            Reason::WrongType { found } => write!(f, "expected text, found {found}; correct it, or choose another column"),
            Reason::TooLong { limit, found } => {
                write!(f, "{found} characters, more than the limit of {limit}; raise --max-chars or use --long-text truncate")
            }
            Reason::LongLine { limit } => write!(f, "the line is longer than {limit} bytes; break it up, or shorten it"),
            Reason::Undecodable => f.write_str(
                "bytes that are not text in the file's encoding, or U+FFFD in their place; check --encoding, or repair the row",
            ),
            Reason::Json(cause) => write!(f, "not a JSON object: {cause}; expected one object a line"),
            Reason::Unreadable(cause) => {
                write!(f, "the rest of the file cannot be read: {cause}; repair the file, or save it again")
            }
        }
    }
}

/// The parser's words on a line of JSON, without its own count of lines: it has seen one line, and the file has many.
pub fn json_problem(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// A row that was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Where it stands.
    pub place: Place,
    /// The column at fault, where one is.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: Reason,
}

/// A rejection as a line of an error report.
#[derive(Debug, Clone, Serialize)]
pub struct RejectionRow<'a> {
    /// File name as the user gave it.
    pub file: &'a str,
    /// Row or line, from 1.
    pub row: u64,
    /// The column at fault; empty where the whole row is.
    pub column: &'a str,
    /// Stable short name of the reason.
    pub code: &'static str,
    /// The reason in words.
    pub reason: String,
}

impl Rejection {
    /// The rejection as a line of an error report.
    pub fn row(&self) -> RejectionRow<'_> {
        RejectionRow {
            file: &self.place.file,
            row: self.place.row,
            column: self.column.as_deref().unwrap_or(""),
            code: self.reason.code(),
            reason: self.reason.to_string(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` row {}", self.place.file, self.place.row)?;
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A cell as a format yields it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Text.
    Text(String),
    /// Anything else, written as text, with the name of its type.
    Other(String, &'static str),
    /// Nothing.
    Empty,
    /// A cell that holds no value that can be used, such as a spreadsheet error, in words.
    Bad(String),
}

impl Cell {
    fn into_text(self) -> String {
        match self {
            Cell::Text(text) | Cell::Other(text, _) | Cell::Bad(text) => text,
            Cell::Empty => String::new(),
        }
    }
}

/// A row as a format yields it: named cells in order.
pub(crate) struct RawRow {
    pub row: u64,
    pub cells: Vec<(Arc<str>, Cell)>,
}

/// Number of a bad row, its column where one is at fault, and what is wrong.
pub(crate) type BadRow = (u64, Option<String>, Reason);

/// A row, or what is wrong with it.
pub(crate) type RawResult = Result<RawRow, BadRow>;

/// Rows of any format.
pub(crate) type RawRows = Box<dyn Iterator<Item = RawResult> + Send>;

/// What to do with a text over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LongText {
    /// Turn the row away.
    Reject,
    /// Cut the text at the limit and mark the record as truncated.
    Truncate,
}

/// Checked records of one or more inputs, in order.
pub struct Records {
    inputs: std::vec::IntoIter<Input>,
    current: Option<Input>,
    seen: HashMap<u128, (u32, u64)>,
    files: Vec<Arc<str>>,
    several: bool,
    ordinal: u64,
    max_chars: usize,
    long_text: LongText,
}

impl Records {
    /// Reads `inputs` one after the other. Texts over `max_chars` characters are treated as `long_text` says.
    pub fn new(inputs: Vec<Input>, max_chars: usize, long_text: LongText) -> Records {
        let several = inputs.len() > 1;
        let files = inputs.iter().map(|input| Arc::clone(&input.name)).collect();
        Records {
            inputs: inputs.into_iter(),
            current: None,
            seen: HashMap::new(),
            files,
            several,
            ordinal: 0,
            max_chars,
            long_text,
        }
    }

    fn check(&mut self, raw: RawRow, map: &ColumnMap, file: &Arc<str>) -> Result<Record, Rejection> {
        let place = Place { file: Arc::clone(file), row: raw.row };
        let reject = |column: Option<&str>, reason| Rejection {
            place: place.clone(),
            column: column.map(str::to_owned),
            reason,
        };
        let (mut id, mut text, mut name, mut columns) = (None, None, None, Vec::new());
        for (key, cell) in raw.cells {
            if let Cell::Text(value) | Cell::Bad(value) = &cell
                && value.contains(char::REPLACEMENT_CHARACTER)
            {
                return Err(reject(Some(&key), Reason::Undecodable));
            }
            if map.text == *key {
                match cell {
                    Cell::Text(value) => text = Some(value),
                    Cell::Empty => {}
                    Cell::Other(_, kind) => {
                        return Err(reject(Some(&key), Reason::WrongType { found: kind.to_owned() }));
                    }
                    Cell::Bad(found) => return Err(reject(Some(&key), Reason::WrongType { found })),
                }
            } else if map.id.as_deref() == Some(&*key) {
                match cell {
                    Cell::Bad(found) => return Err(reject(Some(&key), Reason::WrongType { found })),
                    other => id = Some(other.into_text()),
                }
            } else if map.name.as_deref() == Some(&*key) {
                name = Some(cell.into_text()).filter(|name| !name.trim().is_empty());
            } else {
                columns.push((key, cell.into_text()));
            }
        }
        let text = text.filter(|text| !text.trim().is_empty());
        let Some(mut text) = text else {
            return Err(reject(Some(&map.text), Reason::NoText));
        };
        let mut truncated = false;
        // Bytes bound characters from above, which spares the count for nearly every row.
        if text.len() > self.max_chars {
            let found = text.chars().count();
            if found > self.max_chars {
                if self.long_text == LongText::Reject {
                    return Err(reject(Some(&map.text), Reason::TooLong { limit: self.max_chars, found }));
                }
                let end = text.char_indices().nth(self.max_chars).map_or(text.len(), |(at, _)| at);
                text.truncate(end);
                truncated = true;
            }
        }
        let id = match (&map.id, id) {
            (Some(column), id) => {
                let id = id.unwrap_or_default().trim().to_owned();
                if id.is_empty() {
                    return Err(reject(Some(column), Reason::NoId));
                }
                id
            }
            (None, _) if self.several => format!("{file}:{}", self.ordinal),
            (None, _) => self.ordinal.to_string(),
        };
        let here = (self.files.iter().position(|known| known == file).unwrap_or(0) as u32, place.row);
        match self.seen.entry(crate::digest::key(id.as_bytes())) {
            std::collections::hash_map::Entry::Occupied(first) => {
                let &(file, row) = first.get();
                let first = Place { file: Arc::clone(&self.files[file as usize]), row };
                Err(reject(map.id.as_deref(), Reason::DuplicateId(id, first)))
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(here);
                Ok(Record { id, text, name, columns, truncated, place })
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.current.is_none() {
                self.current = Some(self.inputs.next()?);
                self.ordinal = 0;
            }
            let mut input = self.current.take()?;
            let Some(raw) = input.rows.next() else {
                continue;
            };
            self.ordinal += 1;
            let result = match raw {
                Ok(raw) => self.check(raw, &input.map, &input.name),
                Err((row, column, reason)) => {
                    Err(Rejection { place: Place { file: Arc::clone(&input.name), row }, column, reason })
                }
            };
            self.current = Some(input);
            return Some(result);
        }
    }
}
