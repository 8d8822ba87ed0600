//! `medscenario survey`

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use medscenario::pipeline::{Piece, Pipeline};
use medscenario::prediction::Prediction;
use medscenario::record::{InputFormat, Records, input};
use medscenario::report::{survey_csv, survey_text};
use medscenario::survey::{Audit, Coded, Surveyor};
use medscenario::taxonomy::Taxonomy;

use super::rejections::Rejections;
use super::{LoadedModel, Outcome, for_each_coded, load_taxonomy, progress_bar, refuse_overwriting, rows_hint};
use crate::cli::{ReportFormat, SurveyArgs};

/// Lines that are looked over for the first object of a JSONL file.
const FIRST_LINES: usize = 1000;

pub fn run(args: &SurveyArgs, quiet: bool) -> Result<Outcome> {
    let paths = input::resolve(&args.input.inputs)?;
    let coded: Vec<bool> = paths.iter().map(|path| is_coded(path)).collect();
    if coded.iter().any(|coded| *coded) && !coded.iter().all(|coded| *coded) {
        bail!("some inputs are coded and others are not; survey them apart, or classify the others first");
    }
    if !args.audit.is_empty() && !coded.contains(&true) {
        bail!(
            "an audit sheet belongs to the output of `classify`, not to a raw table; classify it first, with \
             --probabilities --keep-text, draw the sample from that file, and survey that file"
        );
    }
    let read: Vec<PathBuf> = paths.iter().chain(&args.audit).cloned().collect();
    refuse_overwriting(&read, [args.output.as_deref(), args.input.errors.as_deref()])?;
    let mut rejections = Rejections::open(args.input.errors.as_deref(), quiet, None)?;
    let taxonomy;
    let (surveyor, model) = if coded.contains(&true) {
        taxonomy = load_taxonomy(args.model.taxonomy.as_deref())?;
        (count_coded(&paths, args, &taxonomy)?, String::new())
    } else {
        let inputs = input::open_all(&paths, &args.input.options())?;
        let LoadedModel { taxonomy: loaded, bundle, classifier } = LoadedModel::load(&args.model)?;
        taxonomy = loaded;
        let mut surveyor = Surveyor::new(&taxonomy, &args.by);
        let bar = progress_bar(quiet, rows_hint(&paths, &args.input), "rows");
        let mut pipeline = Pipeline::new(&classifier, &taxonomy);
        let mut piece = Piece::default();
        let mut count = |piece: &mut Piece| -> Result<()> {
            pipeline.predict(piece.take())?.iter().for_each(|prediction| add(&mut surveyor, prediction));
            Ok(())
        };
        for next in Records::new(inputs, args.input.max_chars, args.input.long_text) {
            bar.inc(1);
            match next {
                Err(rejection) => rejections.add(&rejection)?,
                Ok(record) => {
                    if piece.push(record) {
                        count(&mut piece)?;
                    }
                }
            }
        }
        count(&mut piece)?;
        bar.finish_and_clear();
        (surveyor, format!("{}@{}", bundle.manifest.name, medscenario::digest::short(&bundle.digest)))
    };
    let missing = surveyor.missing_columns();
    if !missing.is_empty() {
        bail!(
            "no record has a column `{}`; --by takes a column of the input, or `year` where there is a release date",
            missing.join("`, `")
        );
    }
    let survey = surveyor.finish(taxonomy.label(), model, rejections.count);
    let text = match args.format {
        ReportFormat::Table => survey_text(&survey, args.lang, args.all),
        ReportFormat::Csv => survey_csv(&survey),
        ReportFormat::Json => serde_json::to_string_pretty(&survey)? + "\n",
    };
    super::write_result(args.output.as_deref(), &text)?;
    Ok(if rejections.finish()? > 0 { Outcome::Rejections } else { Outcome::Done })
}

fn add(surveyor: &mut Surveyor<'_>, prediction: &Prediction) {
    surveyor.add(&Coded::new(prediction, &prediction.ids()), |column| prediction.column(column));
}

/// Whether the first object of a JSONL file is a prediction or a labelled text.
fn is_coded(path: &Path) -> bool {
    if input::by_extension(path) != Some(InputFormat::Jsonl) {
        return false;
    }
    let Ok(file) = std::fs::File::open(path) else { return false };
    // A bad line at the beginning must not turn a coded file into a table to classify.
    let mut lines = BufReader::new(file).lines().map_while(|line| line.ok()).take(FIRST_LINES);
    let first = lines.find_map(|line| serde_json::from_str::<Map<String, Value>>(&line).ok());
    first.is_some_and(|object| serde_json::from_value::<Prediction>(object.into()).is_ok())
}

/// Counts records that were coded before.
fn count_coded<'a>(paths: &[PathBuf], args: &SurveyArgs, taxonomy: &'a Taxonomy) -> Result<Surveyor<'a>> {
    let mut surveyor = Surveyor::new(taxonomy, &args.by);
    if !args.audit.is_empty() {
        let [coded] = paths else {
            bail!("an audit belongs to one coded file, and {} are named; survey that one", paths.len());
        };
        let frame = super::audit::frame(coded, taxonomy)?;
        let combined = super::audit::combined(&args.audit, &frame, taxonomy, true)?;
        surveyor = surveyor.with_audit(Audit { records: combined.records, cluster: args.cluster.clone() });
    }
    for_each_coded(paths, taxonomy, |prediction| add(&mut surveyor, &prediction))?;
    if let Some(column) = surveyor.missing_cluster() {
        bail!("no record has a column `{column}`; --cluster takes a column of the input, such as the developer");
    }
    Ok(surveyor)
}
