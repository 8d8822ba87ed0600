//! CSV and TSV. Records are split here, so that broken quoting costs one row and not the rest of the file; fields are
//! parsed by the `csv` crate.

use std::collections::VecDeque;
use std::sync::Arc;

use super::lines::{Line, Lines, MAX_LINE};
use super::{BadRow, Cell, RawResult, RawRow, Reason};

/// A quoted field may span this many lines. More means that a quotation mark was never closed.
const MAX_LINES_PER_RECORD: usize = 1000;

/// Where the scanner stands within a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    FieldStart,
    Unquoted,
    Quoted,
    /// Just after a quotation mark inside a quoted field: the end of it, or the first half of a doubled mark.
    Closing,
}

/// Rows of a delimited text.
pub(super) struct Delimited {
    lines: Lines,
    waiting: VecDeque<(u64, Line)>,
    delimiter: u8,
    headers: Vec<Arc<str>>,
    finished: bool,
}

impl Delimited {
    /// Reads the header row. `delimiter` is guessed from it where none is given.
    ///
    /// # Errors
    /// A sentence on what is wrong with the header.
    pub(super) fn open(mut lines: Lines, delimiter: Option<u8>) -> Result<Delimited, String> {
        let mut waiting = VecDeque::new();
        loop {
            match lines.next().map_err(|error| error.to_string())? {
                None => return Err("the file is empty; expected a header row with column names".to_owned()),
                Some((_, Line::Text(line))) if line.trim().is_empty() => {}
                Some(found) => {
                    waiting.push_back(found);
                    break;
                }
            }
        }
        let Some((_, Line::Text(first))) = waiting.front() else {
            return Err(format!("the header row is longer than {MAX_LINE} bytes; expected column names"));
        };
        let delimiter = delimiter.unwrap_or_else(|| guess_delimiter(first));
        let mut reader = Delimited { lines, waiting, delimiter, headers: Vec::new(), finished: false };
        let header = match reader.record() {
            Some(Ok((_, text))) => parse(&text, delimiter),
            Some(Err((_, _, reason))) => return Err(format!("the header row is broken: {reason}")),
            None => Vec::new(),
        };
        for (index, name) in header.iter().enumerate() {
            if name.trim().is_empty() {
                return Err(format!("column {} has no name in the header row; name every column", index + 1));
            }
            if header[..index].iter().any(|other| other.trim() == name.trim()) {
                return Err(format!("column name `{}` occurs twice in the header row; rename one", name.trim()));
            }
        }
        reader.headers = header.iter().map(|name| Arc::from(name.trim())).collect();
        Ok(reader)
    }

    /// Column names in order.
    pub(super) fn headers(&self) -> &[Arc<str>] {
        &self.headers
    }

    fn next_line(&mut self) -> std::io::Result<Option<(u64, Line)>> {
        match self.waiting.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }

    /// The text of the next record, line end included, with the number of its first line.
    fn record(&mut self) -> Option<Result<(u64, String), BadRow>> {
        let mut start = 0;
        let mut opened_in = 0;
        let mut text = String::new();
        let mut taken: Vec<(u64, Line)> = Vec::new();
        let mut scanner = Scanner { state: Quote::FieldStart, delimiter: self.delimiter, field: 0, opened_in: 0 };
        loop {
            let (number, line) = match self.next_line() {
                Ok(Some(line)) => line,
                Ok(None) if taken.is_empty() => return None,
                Ok(None) => break,
                Err(error) => {
                    self.finished = true;
                    return Some(Err((start, None, Reason::Unreadable(error.to_string()))));
                }
            };
            let Line::Text(line) = line else {
                if taken.is_empty() {
                    return Some(Err((number, None, Reason::LongLine { limit: MAX_LINE })));
                }
                taken.push((number, Line::TooLong));
                break;
            };
            if taken.is_empty() {
                if line.trim().is_empty() {
                    continue;
                }
                start = number;
            }
            let complete = scanner.feed(&line);
            if taken.is_empty() {
                opened_in = scanner.opened_in;
            }
            text += &line;
            taken.push((number, Line::Text(line)));
            match complete {
                // Text behind a mark on the row's own line costs that line. Behind a mark that was opened on an earlier
                // line it means that the earlier one was never closed.
                Err(field) if taken.len() == 1 => {
                    return Some(Err((start, self.column(field), Reason::TextAfterQuote)));
                }
                Err(_) => {
                    scanner.state = Quote::Quoted;
                    break;
                }
                Ok(true) => return Some(Ok((start, text))),
                Ok(false) if taken.len() > MAX_LINES_PER_RECORD || text.len() > MAX_LINE => break,
                Ok(false) => {}
            }
        }
        if scanner.state != Quote::Quoted {
            return Some(Ok((start, text)));
        }
        // Never closed: only the first line is lost, the others are read again as rows of their own.
        for line in taken.into_iter().skip(1).rev() {
            self.waiting.push_front(line);
        }
        Some(Err((start, self.column(opened_in), Reason::OpenQuote)))
    }

    fn column(&self, field: usize) -> Option<String> {
        self.headers.get(field).map(|name| name.to_string())
    }
}

impl Iterator for Delimited {
    type Item = RawResult;

    fn next(&mut self) -> Option<RawResult> {
        if self.finished {
            return None;
        }
        Some(self.record()?.and_then(|(row, text)| {
            let fields = parse(&text, self.delimiter);
            if fields.len() != self.headers.len() {
                // Over several lines this is a mark that was never closed and met another one: the lines behind the
                // first are read again as rows of their own.
                for (behind, line) in
                    text.split_inclusive('\n').enumerate().skip(1).collect::<Vec<_>>().into_iter().rev()
                {
                    self.waiting.push_front((row + behind as u64, Line::Text(line.to_owned())));
                }
                let reason = Reason::FieldCount { expected: self.headers.len(), found: fields.len() };
                return Err((row, None, reason));
            }
            let cell = |field: String| if field.is_empty() { Cell::Empty } else { Cell::Text(field) };
            let cells = self.headers.iter().cloned().zip(fields.into_iter().map(cell)).collect();
            Ok(RawRow { row, cells })
        }))
    }
}

struct Scanner {
    state: Quote,
    delimiter: u8,
    field: usize,
    opened_in: usize,
}

impl Scanner {
    /// Reads one line. `Ok(true)` when it completes the record; `Err(field)` when text follows a closing mark.
    fn feed(&mut self, line: &str) -> Result<bool, usize> {
        for &byte in line.as_bytes() {
            self.state = match (self.state, byte) {
                (Quote::FieldStart, b'"') => {
                    self.opened_in = self.field;
                    Quote::Quoted
                }
                (Quote::Quoted, b'"') => Quote::Closing,
                (Quote::Closing, b'"') => Quote::Quoted,
                (Quote::Quoted, _) => Quote::Quoted,
                (_, byte) if byte == self.delimiter => {
                    self.field += 1;
                    Quote::FieldStart
                }
                (Quote::Closing, b'\r' | b'\n' | b' ') => Quote::Closing,
                (Quote::Closing, _) => return Err(self.field),
                (Quote::FieldStart | Quote::Unquoted, _) => Quote::Unquoted,
            };
        }
        Ok(self.state != Quote::Quoted)
    }
}

fn guess_delimiter(header: &str) -> u8 {
    // The first of equals wins, so that a header of one column is read as CSV.
    let count = |delimiter: u8| header.bytes().filter(|&byte| byte == delimiter).count();
    let mut best = b',';
    for delimiter in [b'\t', b';'] {
        if count(delimiter) > count(best) {
            best = delimiter;
        }
    }
    best
}

fn parse(record: &str, delimiter: u8) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .buffer_capacity(record.len().max(1))
        .from_reader(record.as_bytes());
    let mut fields = csv::StringRecord::new();
    // Reading valid UTF-8 from memory without a fixed field count cannot fail.
    let _ = reader.read_record(&mut fields);
    fields.iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use encoding_rs::UTF_8;
    use proptest::prelude::*;

    fn open(text: &str) -> Result<Delimited, String> {
        Delimited::open(Lines::new(std::io::Cursor::new(text.to_owned().into_bytes()), UTF_8), None)
    }

    fn rows(text: &str) -> Vec<Result<Vec<String>, (u64, &'static str)>> {
        open(text)
            .expect("a header")
            .map(|row| match row {
                Ok(row) => Ok(row.cells.into_iter().map(|(_, cell)| cell.into_text()).collect()),
                Err((row, _, reason)) => Err((row, reason.code())),
            })
            .collect()
    }

    fn ok(cells: &[&str]) -> Result<Vec<String>, (u64, &'static str)> {
        Ok(cells.iter().map(|&cell| cell.to_owned()).collect())
    }

    #[test]
    fn quoted_fields_may_hold_separators_marks_and_lines() {
        let read = rows("id,text\n1,\"a, \"\"b\"\"\nc\"\n\n2,plain\r\n");
        assert_eq!(read, [ok(&["1", "a, \"b\"\nc"]), ok(&["2", "plain"])]);
    }

    #[test]
    fn an_open_quote_costs_one_row() {
        let read = rows("id,text\n1,\"never closed\n2,good\n3,fine\n");
        assert_eq!(read, [Err((2, "open-quote")), ok(&["2", "good"]), ok(&["3", "fine"])]);
    }

    #[test]
    fn a_mark_that_meets_another_one_costs_no_good_row() {
        let read = rows("id,text\n1,\"open\n2,good\n3,\",z\n4,fine\n");
        assert_eq!(read.first(), Some(&Err((2, "field-count"))));
        assert!(read.contains(&ok(&["2", "good"])) && read.contains(&ok(&["4", "fine"])), "{read:?}");
    }

    #[test]
    fn text_after_a_closing_mark_and_wrong_counts_are_named() {
        let read = rows("id,text\n1,\"a\"b\n2,x,y\n3\n4,z\n");
        assert_eq!(
            read,
            [Err((2, "text-after-quote")), Err((3, "field-count")), Err((4, "field-count")), ok(&["4", "z"])]
        );
    }

    #[test]
    fn the_separator_is_guessed_from_the_header() {
        assert_eq!(rows("id\ttext\n1\ta,b\n"), [ok(&["1", "a,b"])]);
        assert_eq!(rows("id;text\n1;a,b\n"), [ok(&["1", "a,b"])]);
    }

    #[test]
    fn headers_must_be_named_and_distinct() {
        assert!(open("").err().is_some_and(|problem| problem.contains("empty")));
        assert!(open("id,,text\n").err().is_some_and(|problem| problem.contains("column 2 has no name")));
        assert!(open("a,a\n").err().is_some_and(|problem| problem.contains("occurs twice")));
        assert!(open("\"a,b\n1,2\n").err().is_some_and(|problem| problem.contains("never closed")));
    }

    proptest! {
        #[test]
        fn whatever_the_csv_crate_writes_reads_back(cells in proptest::collection::vec("[a-c,\"\n\r\u{4e00} ]{0,6}", 2..20)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["one", "two"]).expect("memory");
            let pairs: Vec<&[String]> = cells.chunks_exact(2).collect();
            for pair in &pairs {
                writer.write_record(*pair).expect("memory");
            }
            let text = String::from_utf8(writer.into_inner().expect("memory")).expect("UTF-8");
            // A record of blank cells is a blank line, which every reader of CSV may skip.
            let expected: Vec<_> = pairs.iter().map(|pair| Ok(pair.to_vec())).collect();
            prop_assert_eq!(rows(&text), expected);
        }

        #[test]
        fn no_input_panics(text in "\\PC{0,200}") {
            if let Ok(reader) = open(&text) {
                reader.for_each(drop);
            }
        }
    }
}
