//! `medscenario survey`

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use medscenario::microdata::Microdata;
use medscenario::pipeline::{Piece, Pipeline};
use medscenario::prediction::{Assigned, Prediction};
use medscenario::record::{InputFormat, Records, input};
use medscenario::survey::Surveyor;
use medscenario::taxonomy::{Id, Taxonomy};

use super::rejections::Rejections;
use super::{
    LoadedModel, Outcome, check_taxonomy, load_taxonomy, parse_prediction, presentation, progress_bar,
    refuse_overwriting, rows_hint,
};
use crate::cli::SurveyArgs;

/// Lines that are looked over for the first object of a JSONL file.
const FIRST_LINES: usize = 1000;

pub fn run(args: &SurveyArgs, quiet: bool) -> Result<Outcome> {
    let paths = input::resolve(&args.input.inputs)?;
    let coded: Vec<bool> = paths.iter().map(|path| is_coded(path)).collect();
    if coded.iter().any(|coded| *coded) && !coded.iter().all(|coded| *coded) {
        bail!("some inputs are coded and others are not; survey them apart, or classify the others first");
    }
    let format = presentation::format(args)?;
    let report = args.present.report.as_deref();
    let read: Vec<PathBuf> = paths.iter().cloned().chain(args.compare.compare.iter().map(PathBuf::from)).collect();
    refuse_overwriting(&read, [args.output.as_deref(), args.input.errors.as_deref(), report])?;
    let mut rejections = Rejections::open(args.input.errors.as_deref(), quiet, None)?;
    let taxonomy;
    let mut microdata;
    let other;
    let (surveyor, model) = if coded.contains(&true) {
        taxonomy = load_taxonomy(args.model.taxonomy.as_deref())?;
        other = presentation::Other::read(args.compare.compare.as_deref(), &taxonomy)?;
        microdata = presentation::wanted(args).then(|| Microdata::new(&taxonomy));
        (count_coded(&paths, &args.by, &taxonomy, microdata.as_mut())?, String::new())
    } else {
        let inputs = input::open_all(&paths, &args.input.options())?;
        let loaded = LoadedModel::load(&args.model)?;
        let label = loaded.label();
        let classifier = loaded.classifier;
        taxonomy = loaded.taxonomy;
        other = presentation::Other::read(args.compare.compare.as_deref(), &taxonomy)?;
        microdata = presentation::wanted(args).then(|| Microdata::new(&taxonomy));
        let mut surveyor = Surveyor::new(&taxonomy, &args.by);
        let bar = progress_bar(quiet, rows_hint(&paths, &args.input), "rows");
        let mut pipeline = Pipeline::new(&classifier, &taxonomy).keep_text(report.is_some());
        let mut piece = Piece::default();
        let mut count = |piece: &mut Piece| -> Result<()> {
            for prediction in &pipeline.predict(piece.take())? {
                add(&mut surveyor, prediction, microdata.as_mut());
            }
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
        (surveyor, label)
    };
    let missing = surveyor.missing_columns();
    if !missing.is_empty() {
        bail!(
            "no record has a column `{}`; --by takes a column of the input, or `year` where there is a release date",
            missing.join("`, `")
        );
    }
    let survey = surveyor.finish(taxonomy.label(), model, rejections.count);
    presentation::present(args, format, &paths, &survey, microdata.as_ref(), other, quiet)?;
    Ok(if rejections.finish()? > 0 { Outcome::Rejections } else { Outcome::Done })
}

fn add(surveyor: &mut Surveyor<'_>, prediction: &Prediction, microdata: Option<&mut Microdata<'_>>) {
    if let Some(microdata) = microdata {
        microdata.add(prediction);
    }
    let scenarios: Vec<Id> = prediction.scenarios.iter().map(Assigned::id).collect();
    surveyor.add(prediction.status, &scenarios, prediction.truncated, |column| prediction.column(column));
}

/// Whether the first object of a JSONL file is a prediction or a labelled text.
pub(super) fn is_coded(path: &Path) -> bool {
    if input::by_extension(path) != Some(InputFormat::Jsonl) {
        return false;
    }
    let Ok(file) = std::fs::File::open(path) else { return false };
    // A bad line at the beginning must not turn a coded file into a table to classify.
    let mut lines = BufReader::new(file).lines().map_while(|line| line.ok()).take(FIRST_LINES);
    let first = lines.find_map(|line| serde_json::from_str::<Map<String, Value>>(&line).ok());
    first.is_some_and(|object| serde_json::from_value::<Prediction>(object.into()).is_ok())
}

/// Counts records that were coded before. A line that is none is an error: a survey of half a file is no survey.
pub(super) fn count_coded<'a>(
    paths: &[PathBuf],
    by: &[String],
    taxonomy: &'a Taxonomy,
    mut microdata: Option<&mut Microdata<'_>>,
) -> Result<Surveyor<'a>> {
    let mut surveyor = Surveyor::new(taxonomy, by);
    let mut seen = std::collections::HashSet::new();
    for path in paths {
        let file = std::fs::File::open(path).with_context(|| format!("Failed to open `{}`", path.display()))?;
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let place = || format!("Failed to read `{}` line {}", path.display(), index + 1);
            let line = line.with_context(place)?;
            if line.trim().is_empty() {
                continue;
            }
            let prediction = parse_prediction(&line).with_context(place)?;
            check_taxonomy(&prediction, taxonomy).with_context(place)?;
            if let Some(unknown) =
                prediction.scenarios.iter().map(Assigned::id).find(|&id| taxonomy.position(id).is_none())
            {
                bail!(
                    "`{}` line {}: scenario {unknown} is not in taxonomy `{}`; choose its --taxonomy",
                    path.display(),
                    index + 1,
                    taxonomy.id
                );
            }
            if !seen.insert(medscenario::digest::key(prediction.id.as_bytes())) {
                bail!(
                    "`{}` line {}: id `{}` occurs a second time; each product counts once",
                    path.display(),
                    index + 1,
                    prediction.id
                );
            }
            add(&mut surveyor, &prediction, microdata.as_deref_mut());
        }
    }
    Ok(surveyor)
}
