//! From what the user typed (paths, globs, `-`) to opened tables.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use encoding_rs::Encoding;
use serde::Serialize;

use super::columns::{ColumnChoice, ColumnMap};
use super::delimited::Delimited;
use super::jsonl::{JsonLines, PlainLines};
use super::lines::{self, Lines};
use super::{Place, RawRows, Rejection, parquet, xlsx};

/// Bytes of standard input from which format and encoding are guessed.
const SAMPLE: usize = 1 << 16;

/// A format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum InputFormat {
    /// Comma-separated values (`;` and tab are detected).
    Csv,
    /// Tab-separated values.
    Tsv,
    /// JSON Lines.
    Jsonl,
    /// An Excel workbook.
    Xlsx,
    /// Parquet.
    Parquet,
    /// Plain text, one description a line.
    Txt,
}

/// How to read inputs.
#[derive(Debug, Clone, Default)]
pub struct InputOptions {
    /// Format of all inputs; otherwise by extension, and by content on standard input.
    pub format: Option<InputFormat>,
    /// Label of the encoding of text formats; otherwise detected.
    pub encoding: Option<String>,
    /// Separator of delimited text; otherwise by extension and header.
    pub delimiter: Option<char>,
    /// Sheet of a workbook; otherwise the first.
    pub sheet: Option<String>,
    /// Columns that the user named.
    pub columns: ColumnChoice,
}

/// Why an input cannot be opened. All inputs are opened before the first row is read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// No file matches a pattern.
    #[error("No file matches `{pattern}`; check directory and extension, or name a file")]
    NoMatch {
        /// What the user typed.
        pattern: String,
    },
    /// A pattern is malformed.
    #[error("`{pattern}` is not a valid file pattern: {problem}")]
    Pattern {
        /// What the user typed.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be opened.
    #[error("Failed to open `{path}`")]
    Open {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The format cannot be told.
    #[error(
        "Cannot tell the format of `{path}`; expected .csv, .tsv, .jsonl, .xlsx, .parquet or .txt, or --input-format"
    )]
    UnknownFormat {
        /// The file.
        path: String,
    },
    /// The encoding's label is unknown.
    #[error("Unknown encoding `{label}`; expected a label such as utf-8, gb18030 or utf-16le")]
    UnknownEncoding {
        /// The label.
        label: String,
    },
    /// The table cannot be read at all.
    #[error("Failed to read `{path}`: {problem}")]
    Table {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A column is missing.
    #[error("`{path}` has no {wanted} column; its columns are: {present}{}", hint(*.named, .present))]
    NoColumn {
        /// The file.
        path: String,
        /// The role and, where the user gave one, the name.
        wanted: String,
        /// Whether the user named the column.
        named: bool,
        /// The columns there.
        present: String,
    },
    /// The same file is named twice.
    #[error("`{path}` is named twice; name each input once")]
    Twice {
        /// The file.
        path: String,
    },
}

/// What to do about a missing column. Headers in a wrong encoding match nothing.
fn hint(named: bool, present: &str) -> &'static str {
    match (named, present.contains(char::REPLACEMENT_CHARACTER)) {
        (_, true) => "; check --encoding",
        (true, false) => "",
        (false, false) => "; name it with --text-column",
    }
}

/// An opened table.
pub struct Input {
    /// File name as the user gave it; `-` is standard input.
    pub name: Arc<str>,
    /// Its format.
    pub format: InputFormat,
    /// The columns in use.
    pub map: ColumnMap,
    pub(super) rows: RawRows,
}

impl Input {
    /// Its rows as text, unchecked: number and named cells. For tables that are no lists of descriptions.
    pub fn into_rows(self) -> impl Iterator<Item = Result<TextRow, Rejection>> {
        let name = self.name;
        self.rows.map(move |row| match row {
            Ok(raw) => Ok((raw.row, raw.cells.into_iter().map(|(key, cell)| (key, cell.into_text())).collect())),
            Err((row, column, reason)) => {
                Err(Rejection { place: Place { file: Arc::clone(&name), row }, column, reason })
            }
        })
    }
}

/// Number of a row, and its named cells in order.
pub type TextRow = (u64, Vec<(Arc<str>, String)>);

/// Expands globs, keeping the order in which arguments were given and sorting within each pattern.
///
/// # Errors
/// A pattern that is malformed or matches nothing, or a file named twice.
pub fn resolve(arguments: &[String]) -> Result<Vec<PathBuf>, InputError> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for argument in arguments {
        let literal = Path::new(argument);
        if argument == "-" || literal.exists() || !argument.contains(['*', '?', '[']) {
            paths.push(literal.to_owned());
            continue;
        }
        let problem = |error: &dyn std::fmt::Display| InputError::Pattern {
            pattern: argument.clone(),
            problem: error.to_string(),
        };
        let before = paths.len();
        for found in glob::glob(argument).map_err(|error| problem(&error))? {
            paths.push(found.map_err(|error| problem(&error))?);
        }
        if paths.len() == before {
            return Err(InputError::NoMatch { pattern: argument.clone() });
        }
    }
    for (index, path) in paths.iter().enumerate() {
        if paths[..index].contains(path) {
            return Err(InputError::Twice { path: path.display().to_string() });
        }
    }
    Ok(paths)
}

/// Opens every input and chooses its columns.
///
/// # Errors
/// The first input that cannot be opened or has no text column.
pub fn open_all(paths: &[PathBuf], options: &InputOptions) -> Result<Vec<Input>, InputError> {
    paths.iter().map(|path| open(path, options)).collect()
}

fn open(path: &Path, options: &InputOptions) -> Result<Input, InputError> {
    let name = path.display().to_string();
    let encoding = match &options.encoding {
        Some(label) => Some(
            Encoding::for_label(label.as_bytes())
                .ok_or_else(|| InputError::UnknownEncoding { label: label.clone() })?,
        ),
        None => None,
    };
    let source = if name == "-" { Source::stdin(&name)? } else { Source::file(path, &name)? };
    let format = match options.format {
        Some(format) => format,
        None if name == "-" => source.sniff(),
        None => by_extension(path).ok_or_else(|| InputError::UnknownFormat { path: name.clone() })?,
    };
    let (rows, headers) = source.rows(&name, format, encoding, options)?;
    let map = match ColumnMap::choose(&headers, &options.columns) {
        Ok(map) => map,
        Err((role, wanted)) => {
            let named = !wanted.is_empty();
            let wanted = if named { format!("`{wanted}` ({role})") } else { role.to_owned() };
            let present = headers.iter().map(|header| format!("`{header}`")).collect::<Vec<_>>().join(", ");
            let present = if present.is_empty() { "none".to_owned() } else { present };
            return Err(InputError::NoColumn { path: name, wanted, named, present });
        }
    };
    Ok(Input { name: Arc::from(name), format, map, rows })
}

/// The format that a file name's extension stands for.
pub fn by_extension(path: &Path) -> Option<InputFormat> {
    match path.extension()?.to_str()?.to_lowercase().as_str() {
        "csv" => Some(InputFormat::Csv),
        "tsv" | "tab" => Some(InputFormat::Tsv),
        "jsonl" | "ndjson" => Some(InputFormat::Jsonl),
        "xlsx" | "xlsm" => Some(InputFormat::Xlsx),
        "parquet" | "pq" => Some(InputFormat::Parquet),
        "txt" => Some(InputFormat::Txt),
        _ => None,
    }
}

/// An opened file, or standard input with its first bytes.
enum Source {
    File(File),
    Stdin(Vec<u8>),
}

impl Source {
    fn file(path: &Path, name: &str) -> Result<Source, InputError> {
        let fail = |source| InputError::Open { path: name.to_owned(), source };
        if path.is_dir() {
            return Err(fail(std::io::Error::other(
                "it is a directory; name files, or a pattern such as `directory/*.csv`",
            )));
        }
        File::open(path).map(Source::File).map_err(fail)
    }

    fn stdin(name: &str) -> Result<Source, InputError> {
        let mut sample = Vec::new();
        std::io::stdin()
            .lock()
            .take(SAMPLE as u64)
            .read_to_end(&mut sample)
            .map_err(|source| InputError::Open { path: name.to_owned(), source })?;
        Ok(Source::Stdin(sample))
    }

    fn sniff(&self) -> InputFormat {
        match self {
            Source::Stdin(sample) if sample.starts_with(b"PAR1") => InputFormat::Parquet,
            Source::Stdin(sample) if sample.starts_with(b"PK\x03\x04") => InputFormat::Xlsx,
            Source::Stdin(sample) if sample.trim_ascii_start().starts_with(b"{") => InputFormat::Jsonl,
            _ => InputFormat::Csv,
        }
    }

    fn rows(
        self,
        name: &str,
        format: InputFormat,
        encoding: Option<&'static Encoding>,
        options: &InputOptions,
    ) -> Result<(RawRows, Vec<Arc<str>>), InputError> {
        let broken = |problem| InputError::Table { path: name.to_owned(), problem };
        let failed = |source| InputError::Open { path: name.to_owned(), source };
        match format {
            InputFormat::Xlsx => {
                let file = BufReader::new(self.into_file().map_err(failed)?);
                let (rows, headers) = xlsx::open(file, options.sheet.clone()).map_err(broken)?;
                Ok((Box::new(rows), headers))
            }
            InputFormat::Parquet => {
                let (rows, headers) = parquet::Rows::open(self.into_file().map_err(failed)?).map_err(broken)?;
                Ok((Box::new(rows), headers))
            }
            InputFormat::Jsonl => {
                let (rows, headers) = JsonLines::open(self.lines(encoding).map_err(failed)?).map_err(broken)?;
                Ok((Box::new(rows), headers))
            }
            InputFormat::Txt => {
                let (rows, headers) = PlainLines::open(self.lines(encoding).map_err(failed)?);
                Ok((Box::new(rows), headers))
            }
            InputFormat::Csv | InputFormat::Tsv => {
                let delimiter = match options.delimiter {
                    Some(character) if character.is_ascii() => Some(character as u8),
                    Some(character) => {
                        return Err(broken(format!(
                            "the separator `{character}` is not an ASCII character; expected one such as `,`, `;` or a tab"
                        )));
                    }
                    None => (format == InputFormat::Tsv).then_some(b'\t'),
                };
                let rows = Delimited::open(self.lines(encoding).map_err(failed)?, delimiter).map_err(broken)?;
                let headers = rows.headers().to_vec();
                Ok((Box::new(rows), headers))
            }
        }
    }

    fn lines(self, encoding: Option<&'static Encoding>) -> std::io::Result<Lines> {
        match self {
            Source::File(mut file) => {
                let encoding = match encoding {
                    Some(encoding) => encoding,
                    None => detect_file(&mut file)?,
                };
                Ok(Lines::new(file, encoding))
            }
            Source::Stdin(sample) => {
                let encoding = encoding.unwrap_or_else(|| lines::detect(&sample));
                Ok(Lines::new(std::io::Cursor::new(sample).chain(std::io::stdin()), encoding))
            }
        }
    }

    /// A file that can seek; standard input is copied to one that disappears with the process.
    fn into_file(self) -> std::io::Result<File> {
        match self {
            Source::File(file) => Ok(file),
            Source::Stdin(sample) => {
                let mut file = tempfile::tempfile()?;
                std::io::copy(&mut std::io::Cursor::new(sample).chain(std::io::stdin()), &mut file)?;
                file.seek(SeekFrom::Start(0))?;
                Ok(file)
            }
        }
    }
}

/// Looks at up to 16 samples spread over the file: tables often begin in ASCII and turn Chinese later.
fn detect_file(file: &mut File) -> std::io::Result<&'static Encoding> {
    let length = file.metadata()?.len();
    let mut sample = Vec::new();
    let pieces = length.div_ceil(SAMPLE as u64).clamp(1, 16);
    for piece in 0..pieces {
        // Even offsets, so that UTF-16 stays in step.
        file.seek(SeekFrom::Start((length / pieces * piece) & !1))?;
        let mut part = Vec::new();
        file.take(SAMPLE as u64).read_to_end(&mut part)?;
        // A piece from the middle begins at its first line end, and so at the start of a character.
        let start = if piece == 0 {
            0
        } else {
            part.iter().position(|&byte| byte == b'\n').map_or(part.len(), |at| (at + 1) & !1)
        };
        sample.extend_from_slice(&part[start..]);
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(lines::detect(&sample))
}
