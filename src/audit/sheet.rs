//! Audit sheets: tables that a sample is written to, people fill in, and `score` and `survey` read back.
//!
//! A sheet says how each of its records came into the sample and which coded file it was drawn from. Reading checks all
//! of it against that file: labels without sampling probabilities, or of other records, cannot correct counts.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::design::{Design, DesignError, Inclusion, inclusions};
use super::{Frame, text_digest};
use crate::agreement::Coding;
use crate::labels::Status;
use crate::prediction::Prediction;
use crate::record::{ColumnChoice, InputError, InputOptions, input};
use crate::survey::AuditedRecord;
use crate::taxonomy::{Id, Taxonomy};

/// Columns that every sheet has.
const REQUIRED: [&str; 8] = ["id", "text", "text_sha256", "design", "coded_sha256", "taxonomy", "status", "scenarios"];
/// The column of sampling probabilities; labels from elsewhere lack it.
const INCLUSION: &str = "inclusion_probability";
/// An optional column with the final coding where two coders differ: numbers of scenarios, or a status without them.
const ADJUDICATED: &str = "adjudicated";
/// How far a probability in a sheet may be from the one that follows from the design; spreadsheets keep 15 digits.
const TOLERANCE: f64 = 1e-9;

/// Why a sheet cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SheetError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] InputError),
    /// Rows or columns are wrong.
    #[error("{} in audit sheets, which are not used before they are right", counted(.0.len()))]
    Problems(Vec<Problem>),
}

fn counted(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}

/// Something wrong in a sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The sheet.
    pub file: String,
    /// The row, from 1, as tables count it; `None` where the whole sheet is at fault.
    pub row: Option<u64>,
    /// The column at fault, where one is.
    pub column: Option<&'static str>,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.file)?;
        if let Some(row) = self.row {
            write!(f, " row {row}")?;
        }
        if let Some(column) = self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A row of a sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct SheetRow {
    /// The row in its file, from 1.
    pub row: u64,
    /// The record's id.
    pub id: String,
    /// How the record came into the sample.
    pub inclusion: Inclusion,
    /// What the coder gave; `None` where the row is still empty.
    pub coding: Option<Coding>,
    /// The final coding, where there is one.
    pub adjudicated: Option<Coding>,
}

/// A checked sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// The file as the user named it.
    pub file: String,
    /// Its rows in order.
    pub rows: Vec<SheetRow>,
}

impl Sheet {
    /// Rows that nobody has coded yet.
    pub fn n_empty(&self) -> usize {
        self.rows.iter().filter(|row| row.coding.is_none() && row.adjudicated.is_none()).count()
    }
}

/// Header of a new sheet.
pub fn header(show_predictions: bool) -> Vec<&'static str> {
    let mut header = vec!["id", "text"];
    if show_predictions {
        header.extend(["predicted_status", "predicted_scenarios"]);
    }
    header.extend(["status", "scenarios", "coder", "note", INCLUSION, "design", "cluster"]);
    header.extend(["text_sha256", "coded_sha256", "taxonomy"]);
    header
}

/// A row to be filled in. The prediction needs its text.
pub fn blank_row(
    prediction: &Prediction,
    inclusion: Inclusion,
    design: Design,
    frame: &Frame,
    cluster: Option<&str>,
    show_predictions: bool,
) -> Vec<String> {
    let text = prediction.text.clone().unwrap_or_default();
    let digest = text_digest(&text);
    let mut row = vec![prediction.id.clone(), text];
    if show_predictions {
        let numbers: Vec<String> = prediction.ids().iter().map(Id::to_string).collect();
        row.extend([prediction.status.name().to_owned(), numbers.join(";")]);
    }
    row.extend([const { String::new() }; 4]);
    let cluster = cluster.and_then(|column| prediction.column(column)).unwrap_or_default();
    row.extend([inclusion.probability.to_string(), design.name().to_owned(), cluster.to_owned()]);
    row.extend([digest, frame.coded.clone(), frame.taxonomy.clone()]);
    row
}

/// Reads a sheet and checks it against the coded records that it was drawn from.
///
/// # Errors
/// All problems of all rows, each with row, column and reason.
pub fn read(path: &Path, frame: &Frame, taxonomy: &Taxonomy) -> Result<Sheet, SheetError> {
    let file = path.display().to_string();
    let columns = ColumnChoice { id: None, text: Some("text".to_owned()), name: None };
    let opened = input::open_all(&[path.to_owned()], &InputOptions { columns, ..InputOptions::default() })?;
    let mut reader =
        Reader { file: file.clone(), frame, taxonomy, problems: Vec::new(), rows: Vec::new(), design: None };
    for row in opened.into_iter().flat_map(|input| input.into_rows()) {
        match row {
            Ok((row, cells)) => reader.add(row, &cells),
            Err(rejection) => reader.problem(Some(rejection.place.row), None, rejection.reason.to_string()),
        }
    }
    reader.check_sampling();
    if reader.rows.is_empty() && reader.problems.is_empty() {
        reader.problem(None, None, "it has no row; draw a sample with `medscenario audit sample`".to_owned());
    }
    if !reader.problems.is_empty() {
        return Err(SheetError::Problems(reader.problems));
    }
    Ok(Sheet { file, rows: reader.rows })
}

struct Reader<'a> {
    file: String,
    frame: &'a Frame,
    taxonomy: &'a Taxonomy,
    problems: Vec<Problem>,
    rows: Vec<SheetRow>,
    design: Option<Design>,
}

impl Reader<'_> {
    fn problem(&mut self, row: Option<u64>, column: Option<&'static str>, reason: String) {
        self.problems.push(Problem { file: self.file.clone(), row, column, reason });
    }

    fn add(&mut self, row: u64, cells: &[(Arc<str>, String)]) {
        match self.row(row, cells) {
            Ok(read) => self.rows.push(read),
            Err((column, reason)) => {
                let whole = reason.starts_with("the sheet");
                // What is wrong with the sheet is wrong with every row, and said once.
                if !whole || !self.problems.iter().any(|problem| problem.reason == reason) {
                    self.problem((!whole).then_some(row), column, reason);
                }
            }
        }
    }

    fn row(&mut self, row: u64, cells: &[(Arc<str>, String)]) -> Result<SheetRow, (Option<&'static str>, String)> {
        let cell = |name: &str| cells.iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
        let value = |name: &'static str| cell(name).unwrap_or_default();
        let wrong = |column: &'static str, reason: String| (Some(column), reason);
        if value(INCLUSION).is_empty() {
            return Err(wrong(
                INCLUSION,
                "it is missing; labels without sampling probabilities cannot correct counts, because nobody can tell how \
                 many other records each of them stands for; draw the sample with `medscenario audit sample`"
                    .to_owned(),
            ));
        }
        if let Some(missing) = REQUIRED.iter().find(|name| cell(name).is_none()) {
            return Err((
                Some(missing),
                "the sheet has no such column; leave all columns as they were drawn".to_owned(),
            ));
        }
        if value("coded_sha256") != self.frame.coded {
            return Err(wrong(
                "coded_sha256",
                format!(
                    "the sheet was drawn from the coded file `{}`, and this one is `{}`; use that file, or draw again",
                    value("coded_sha256"),
                    self.frame.coded
                ),
            ));
        }
        if value("taxonomy") != self.frame.taxonomy {
            return Err(wrong(
                "taxonomy",
                format!(
                    "the sheet was coded with taxonomy `{}`, and `{}` is loaded; choose its --taxonomy",
                    value("taxonomy"),
                    self.frame.taxonomy
                ),
            ));
        }
        let id = value("id").to_owned();
        let Some(position) = self.frame.position(&id) else {
            return Err(wrong("id", format!("`{id}` is not in the coded file; leave ids as they were drawn")));
        };
        let digest = text_digest(value("text"));
        let known = self.frame.texts[position].as_ref().is_none_or(|known| *known == digest);
        if digest != value("text_sha256") || !known {
            let reason =
                format!("the text of `{id}` was altered; a coder must see what the classifier saw; restore it");
            return Err(wrong("text", reason));
        }
        let probability: Option<f64> = value(INCLUSION).parse().ok();
        let Some(probability) = probability.filter(|probability| *probability > 0.0 && *probability <= 1.0 + TOLERANCE)
        else {
            let reason = format!("`{}` is no probability; expected a number above 0 and up to 1", value(INCLUSION));
            return Err(wrong(INCLUSION, reason));
        };
        let Some(design) = Design::ALL.into_iter().find(|design| design.name() == value("design")) else {
            let reason = format!("unknown design `{}`; expected random, stratified or uncertainty", value("design"));
            return Err(wrong("design", reason));
        };
        if *self.design.get_or_insert(design) != design {
            return Err(wrong("design", "rows above have another design; a sheet is one sample".to_owned()));
        }
        let coding = self.coding(value("status"), value("scenarios"))?;
        let adjudicated = match value(ADJUDICATED) {
            "" => None,
            text => match text.chars().any(|character| character.is_ascii_digit()) {
                true => self.coding(Status::Coded.name(), text),
                false => self.coding(text, ""),
            }
            .map_err(|(_, reason)| wrong(ADJUDICATED, reason))?,
        };
        if let Some(first) = self.rows.iter().find(|known| known.id == id) {
            let reason = match first.coding == coding {
                true => format!("`{id}` stands in row {} already; leave each record once", first.row),
                false => format!(
                    "`{id}` is coded in row {} otherwise; a sheet holds one coder's codes; put the second coder's into \
                     a copy, and name both",
                    first.row
                ),
            };
            return Err(wrong("id", reason));
        }
        Ok(SheetRow { row, id, inclusion: Inclusion { probability, stratum: 0 }, coding, adjudicated })
    }

    fn coding(&self, status: &str, scenarios: &str) -> Result<Option<Coding>, (Option<&'static str>, String)> {
        let mut numbers = BTreeSet::new();
        let separators = [';', '；', ',', '，', '、', ' '];
        for part in scenarios.split(separators).filter(|part| !part.is_empty()) {
            let known = part.parse::<Id>().ok().filter(|&id| self.taxonomy.position(id).is_some());
            let Some(id) = known else {
                let reason = format!(
                    "`{part}` is no scenario of taxonomy `{}`; expected numbers separated by `;`, such as 8;10 \
                     (`medscenario taxonomy list` shows them)",
                    self.taxonomy.id
                );
                return Err((Some("scenarios"), reason));
            };
            if !numbers.insert(id) {
                return Err((Some("scenarios"), format!("scenario {id} stands there twice; name it once")));
            }
        }
        let lower = status.to_lowercase();
        let status = match (lower.as_str(), numbers.is_empty()) {
            ("", true) => return Ok(None),
            ("", false) => {
                let reason = "the row is half filled: it has scenarios and no status; set coded".to_owned();
                return Err((Some("status"), reason));
            }
            (name, _) => Status::ALL.into_iter().find(|status| status.name() == name),
        };
        match (status, numbers.is_empty()) {
            (None, _) => {
                let reason = format!("unknown status `{lower}`; expected coded, outside or unspecified");
                Err((Some("status"), reason))
            }
            (Some(Status::Coded), true) => {
                let reason = "the row is half filled: its status is coded, and no scenario is named".to_owned();
                Err((Some("scenarios"), reason))
            }
            (Some(status @ (Status::Outside | Status::Unspecified)), false) => {
                let reason =
                    format!("the status is {}, and scenarios are named; set coded, or empty them", status.name());
                Err((Some("scenarios"), reason))
            }
            (Some(status), _) => Ok(Some(Coding { status, scenarios: numbers })),
        }
    }

    /// Compares the probabilities with those that follow from design and size, and notes the strata.
    fn check_sampling(&mut self) {
        let Some(design) = self.design.filter(|_| self.problems.is_empty()) else { return };
        let size = self.rows.len();
        let expected = match inclusions(design, &self.frame.units, size) {
            Ok(expected) => expected,
            Err(error @ (DesignError::Size { .. } | DesignError::NoProbabilities)) => {
                return self.problem(None, None, error.to_string());
            }
        };
        let mut impossible = None;
        for row in &mut self.rows {
            let Some(position) = self.frame.position(&row.id) else { continue };
            let right = expected[position];
            if (row.inclusion.probability - right.probability).abs() > TOLERANCE && impossible.is_none() {
                impossible = Some((row.row, row.inclusion.probability, right.probability));
            }
            row.inclusion = right;
        }
        if let Some((row, found, right)) = impossible {
            let reason = format!(
                "{found} is impossible: a {} sample of {size} from {} records has `{}` with probability {right:.6}; leave \
                 the column and all rows as they were drawn",
                design.name(),
                self.frame.len(),
                self.rows.iter().find(|known| known.row == row).map_or("", |known| &known.id),
            );
            self.problem(Some(row), Some(INCLUSION), reason);
        }
    }
}

/// What one or two sheets of a sample say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Combined {
    /// Audited records by id; those that are still empty are left out.
    pub records: HashMap<String, AuditedRecord>,
    /// Records that two coders coded differently and nobody adjudicated.
    pub n_differing: usize,
    /// Records with an adjudicated coding.
    pub n_adjudicated: usize,
}

/// Joins the sheets of one sample: an adjudicated coding counts alone, equal codings count once, and of different ones
/// both count, with half the weight each.
///
/// # Errors
/// Rows that one sheet has and the other has not, different adjudications, and, where `complete` is asked for, rows that
/// are still empty.
pub fn combine(sheets: &[Sheet], complete: bool) -> Result<Combined, SheetError> {
    let mut problems = Vec::new();
    let mut combined = Combined { records: HashMap::new(), n_differing: 0, n_adjudicated: 0 };
    let Some(first) = sheets.first() else { return Ok(combined) };
    for (sheet, other) in [(0, 1), (1, 0)] {
        let (Some(sheet), Some(other)) = (sheets.get(sheet), sheets.get(other)) else { continue };
        let ids: BTreeSet<&str> = other.rows.iter().map(|row| row.id.as_str()).collect();
        for row in sheet.rows.iter().filter(|row| !ids.contains(row.id.as_str())) {
            let reason = format!("`{}` is not in `{}`; both coders code copies of one sheet", row.id, other.file);
            problems.push(Problem { file: sheet.file.clone(), row: Some(row.row), column: Some("id"), reason });
        }
    }
    for row in &first.rows {
        let rows: Vec<(&Sheet, &SheetRow)> = sheets
            .iter()
            .filter_map(|sheet| sheet.rows.iter().find(|other| other.id == row.id).map(|row| (sheet, row)))
            .collect();
        let mut adjudicated: Vec<&Coding> = rows.iter().filter_map(|(_, row)| row.adjudicated.as_ref()).collect();
        adjudicated.dedup();
        if adjudicated.len() > 1 {
            let reason = format!("the sheets adjudicate `{}` differently; agree on one coding", row.id);
            let column = Some(ADJUDICATED);
            problems.push(Problem { file: first.file.clone(), row: Some(row.row), column, reason });
        }
        let mut codings: Vec<Coding> = match adjudicated.first() {
            Some(&coding) => {
                combined.n_adjudicated += 1;
                vec![coding.clone()]
            }
            None => {
                for (sheet, row) in rows.iter().filter(|(_, row)| complete && row.coding.is_none()) {
                    let reason = "the row is still empty; a sample with gaps is none; fill in status and scenarios";
                    let (file, row) = (sheet.file.clone(), Some(row.row));
                    problems.push(Problem { file, row, column: Some("status"), reason: reason.to_owned() });
                }
                rows.iter().filter_map(|(_, row)| row.coding.clone()).collect()
            }
        };
        codings.dedup();
        combined.n_differing += usize::from(codings.len() > 1);
        if !codings.is_empty() {
            let Inclusion { probability, stratum } = row.inclusion;
            combined.records.insert(row.id.clone(), AuditedRecord { codings, inclusion: probability, stratum });
        }
    }
    if problems.is_empty() { Ok(combined) } else { Err(SheetError::Problems(problems)) }
}

/// The classifier's coding.
pub fn assigned(prediction: &Prediction) -> Coding {
    Coding { status: prediction.status, scenarios: prediction.ids().into_iter().collect() }
}
