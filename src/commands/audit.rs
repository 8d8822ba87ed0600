//! `medscenario audit`

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use medscenario::agreement::{Agreement, Coding, agreement};
use medscenario::audit::Frame;
use medscenario::audit::design::{Design, draw, inclusions};
use medscenario::audit::score::{Accuracy, Score, score};
use medscenario::audit::sheet::{self, Combined, Sheet, SheetError};
use medscenario::digest;
use medscenario::output::{TableFormat, write_text_table};
use medscenario::prediction::Prediction;
use medscenario::survey::plan::{Basis, Need, Planner, largest};
use medscenario::survey::{Audit, Coded, Level};
use medscenario::taxonomy::{Id, Lang, Taxonomy};

use super::data::agreement_text;
use super::{Outcome, for_each_coded, load_taxonomy, refuse_overwriting, write_result};
use crate::cli::AuditCommand;

/// Characters of an XLSX cell.
const CELL: usize = 32_767;

pub fn run(command: AuditCommand, quiet: bool) -> Result<Outcome> {
    match command {
        AuditCommand::Sample { coded, number, design, seed, output, cluster, show_predictions, taxonomy } => {
            let taxonomy = load_taxonomy(taxonomy.as_deref())?;
            let wanted = Wanted { number, design, seed, cluster: cluster.as_deref(), show_predictions };
            sample(&coded, &wanted, &output, &taxonomy)?;
            if !quiet {
                eprintln!(
                    "note: {number} records to code are in `{}`; fill in status and scenarios, and leave the other columns",
                    output.display()
                );
            }
        }
        AuditCommand::Score { coded, sheets, taxonomy, json } => {
            let taxonomy = load_taxonomy(taxonomy.as_deref())?;
            write_result(None, &scored(&coded, &sheets, &taxonomy, json)?)?;
        }
        AuditCommand::Plan { coded, width, level, id, pilot, taxonomy, json } => {
            let taxonomy = load_taxonomy(taxonomy.as_deref())?;
            let needs = needs(coded.as_deref(), pilot, width, level, id, &taxonomy)?;
            let text =
                if json { serde_json::to_string_pretty(&needs)? + "\n" } else { plan_text(&needs, width, level) };
            write_result(None, &text)?;
        }
    }
    Ok(Outcome::Done)
}

/// The list that samples of a coded file are drawn from.
pub(super) fn frame(coded: &Path, taxonomy: &Taxonomy) -> Result<Frame> {
    let sha256 = digest::of_file(coded).with_context(|| format!("Failed to read `{}`", coded.display()))?;
    let mut frame = Frame::new(&sha256, taxonomy);
    for_each_coded(&[coded.to_owned()], taxonomy, |prediction| frame.add(&prediction, taxonomy))?;
    Ok(frame)
}

/// Reads sheets and joins them; names all problems on standard error.
pub(super) fn combined(paths: &[PathBuf], frame: &Frame, taxonomy: &Taxonomy, complete: bool) -> Result<Combined> {
    let sheets = read_sheets(paths, frame, taxonomy)?;
    usable(sheet::combine(&sheets, complete))
}

fn read_sheets(paths: &[PathBuf], frame: &Frame, taxonomy: &Taxonomy) -> Result<Vec<Sheet>> {
    if paths.len() > 2 {
        bail!("{} sheets are named; an audit has one coder or two, with a sheet each", paths.len());
    }
    paths.iter().map(|path| usable(sheet::read(path, frame, taxonomy))).collect()
}

fn usable<T>(result: Result<T, SheetError>) -> Result<T> {
    if let Err(SheetError::Problems(problems)) = &result {
        problems.iter().for_each(|problem| eprintln!("{problem}"));
    }
    Ok(result?)
}

/// What is to be drawn.
struct Wanted<'a> {
    number: usize,
    design: Design,
    seed: u64,
    cluster: Option<&'a str>,
    show_predictions: bool,
}

fn sample(coded: &Path, wanted: &Wanted<'_>, output: &Path, taxonomy: &Taxonomy) -> Result<()> {
    let format = match output.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => TableFormat::Csv,
        Some("tsv") => TableFormat::Tsv,
        Some("xlsx") => TableFormat::Xlsx,
        _ => bail!("Cannot tell the format of `{}`; expected .csv, .tsv or .xlsx", output.display()),
    };
    refuse_overwriting(&[coded.to_owned()], [Some(output), None])?;
    let frame = frame(coded, taxonomy)?;
    let context = || format!("Failed to draw from `{}`", coded.display());
    let inclusions = inclusions(wanted.design, &frame.units, wanted.number).with_context(context)?;
    let drawn: HashSet<usize> = draw(&inclusions, wanted.seed).into_iter().collect();
    let mut chosen: Vec<(usize, Prediction)> = Vec::new();
    let mut index = 0;
    let mut clustered = wanted.cluster.is_none();
    for_each_coded(&[coded.to_owned()], taxonomy, |prediction| {
        clustered |= wanted.cluster.is_some_and(|column| prediction.column(column).is_some());
        if drawn.contains(&index) {
            chosen.push((index, prediction));
        }
        index += 1;
    })?;
    if let Some(column) = wanted.cluster.filter(|_| !clustered) {
        bail!("no record has a column `{column}`; --cluster takes a column of the input, such as the developer");
    }
    let mut rows = Vec::new();
    for (index, prediction) in &chosen {
        let Some(text) = &prediction.text else {
            bail!("`{}` has no `text` for `{}`; classify again with --keep-text", coded.display(), prediction.id);
        };
        if format == TableFormat::Xlsx && text.encode_utf16().count() > CELL {
            bail!(
                "the text of `{}` is longer than a cell of a workbook, {CELL} characters; write a .csv",
                prediction.id
            );
        }
        let (inclusion, cluster) = (inclusions[*index], wanted.cluster);
        rows.push(sheet::blank_row(prediction, inclusion, wanted.design, &frame, cluster, wanted.show_predictions));
    }
    let context = || format!("Failed to write `{}`", output.display());
    let mut file = BufWriter::new(File::create(output).with_context(context)?);
    if format != TableFormat::Xlsx {
        // Spreadsheets take text without this mark for another encoding.
        file.write_all("\u{feff}".as_bytes()).with_context(context)?;
    }
    write_text_table(&sheet::header(wanted.show_predictions), rows, format, Box::new(file)).with_context(context)
}

fn scored(coded: &Path, paths: &[PathBuf], taxonomy: &Taxonomy, json: bool) -> Result<String> {
    let frame = frame(coded, taxonomy)?;
    let sheets = read_sheets(paths, &frame, taxonomy)?;
    let combined = usable(sheet::combine(&sheets, false))?;
    let mut predictions: HashMap<String, Coding> = HashMap::new();
    for_each_coded(&[coded.to_owned()], taxonomy, |prediction| {
        if combined.records.contains_key(&prediction.id) {
            predictions.insert(prediction.id.clone(), sheet::assigned(&prediction));
        }
    })?;
    let score = score(&predictions, &combined.records, taxonomy);
    let agreement = match sheets.as_slice() {
        [first, second] => {
            Some(agreement(&codings(first), &codings(second), taxonomy)).filter(|found| found.n_texts > 0)
        }
        _ => None,
    };
    if json {
        let empty: BTreeMap<&str, usize> = sheets.iter().map(|sheet| (sheet.file.as_str(), sheet.n_empty())).collect();
        let value = serde_json::json!({
            "empty": empty,
            "differing": combined.n_differing,
            "adjudicated": combined.n_adjudicated,
            "agreement": agreement,
            "score": score,
        });
        return Ok(serde_json::to_string_pretty(&value)? + "\n");
    }
    Ok(score_text(&sheets, &combined, agreement.as_ref(), &score))
}

fn codings(sheet: &Sheet) -> BTreeMap<String, Coding> {
    sheet.rows.iter().filter_map(|row| Some((row.id.clone(), row.coding.clone()?))).collect()
}

fn score_text(sheets: &[Sheet], combined: &Combined, agreement: Option<&Agreement>, score: &Score) -> String {
    let mut out = String::new();
    for sheet in sheets {
        let _ = writeln!(out, "`{}`: {} rows, {} still empty", sheet.file, sheet.rows.len(), sheet.n_empty());
    }
    if sheets.len() == 2 {
        let _ = writeln!(
            out,
            "{} records are coded differently, of which each coder's codes count half, and the difference widens the \
             intervals; {} are adjudicated.",
            combined.n_differing, combined.n_adjudicated
        );
    }
    if let Some(agreement) = agreement {
        let _ = write!(out, "\nBetween the coders:\n\n{}", agreement_text(agreement));
    }
    if score.n_audited == 0 {
        out += "\nNothing is coded yet.\n";
        return out;
    }
    let part = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let _ = write!(
        out,
        "\nThe classifier on {} audited records; precision, recall and status are weighted for all records:\n\n\
         | category | mentions of both | of the classifier alone | of the coders alone | precision | recall |\n\
         |---|---|---|---|---|---|\n",
        score.n_audited
    );
    let mut row = |name: &str, found: &Accuracy| {
        let Accuracy { n_both, n_classifier, n_coders, precision, recall } = found;
        let (precision, recall) = (part(*precision), part(*recall));
        let _ = writeln!(out, "| {name} | {n_both} | {n_classifier} | {n_coders} | {precision} | {recall} |");
    };
    row("all", &score.all);
    for category in &score.categories {
        row(&format!("{} {}", category.id, category.name.get(Lang::En)), &category.accuracy);
    }
    let _ = writeln!(out, "\nStatus accuracy: {:.3}", score.status_accuracy);
    out
}

fn needs(
    coded: Option<&Path>,
    pilot: Option<PathBuf>,
    width: f64,
    level: Level,
    id: Option<Id>,
    taxonomy: &Taxonomy,
) -> Result<Vec<Need>> {
    let Some(coded) = coded else { return Ok(vec![largest(width)]) };
    let mut audit = Audit::default();
    if let Some(pilot) = pilot {
        audit.records = combined(&[pilot], &frame(coded, taxonomy)?, taxonomy, true)?.records;
    }
    let mut planner = Planner::new(taxonomy, audit);
    for_each_coded(&[coded.to_owned()], taxonomy, |prediction| {
        planner.add(&Coded::new(&prediction, &prediction.ids()));
    })?;
    let mut needs = planner.finish(level, width);
    if let Some(id) = id {
        needs.retain(|need| need.id == id);
        if needs.is_empty() {
            bail!(
                "taxonomy `{}` has no such entry with the number {id}; `medscenario taxonomy list` shows all",
                taxonomy.id
            );
        }
    }
    Ok(needs)
}

fn plan_text(needs: &[Need], width: f64, level: Level) -> String {
    let points = 50.0 * width;
    let mut out = format!(
        "Records to audit so that the 95% interval of a share of records is {width} wide ({points:.1} percentage points to \
         each side), drawn at random:\n\n| {} | share counted | deviation of a record | from | records to audit |\n\
         |---|---|---|---|---|\n",
        match level {
            Level::Section => "section",
            Level::Category => "category",
            Level::Scenario => "scenario",
        }
    );
    for need in needs {
        let share = need.share_of_records.map_or("-".to_owned(), |share| format!("{:.1}%", 100.0 * share));
        let basis = match need.basis {
            Basis::Pilot => "pilot",
            Basis::Probabilities => "probabilities",
            Basis::Share => "share counted",
            Basis::Nothing => "nothing: the most there is",
        };
        let number = if need.id == 0 { String::new() } else { format!("{} ", need.id) };
        let name = need.name.get(Lang::En);
        let _ = writeln!(out, "| {number}{name} | {share} | {:.3} | {basis} | {} |", need.deviation, need.n_audited);
    }
    if let Some(most) = needs.iter().map(|need| need.n_audited).max().filter(|_| needs.len() > 1) {
        let _ = writeln!(out, "\n{most} records are enough for all of them.");
    }
    out
}
