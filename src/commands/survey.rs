//! `medscenario survey`

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use medscenario::labels::Status;
use medscenario::microdata::Microdata;
use medscenario::prediction::Prediction;
use medscenario::record::{InputFormat, Records, input};
use medscenario::survey::{Audit, Coded, Derived, Surveyor};
use medscenario::taxonomy::Taxonomy;
use medscenario::taxonomy::crosswalk::Crosswalk;

use super::rejections::Rejections;
use super::{
    LoadedModel, Outcome, for_each_coded, load_taxonomy, presentation, progress_bar, refuse_overwriting, rows_hint,
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
    if !args.audit.is_empty() && !coded.contains(&true) {
        bail!(
            "an audit sheet belongs to the output of `classify`, not to a raw table; classify it first, with \
             --probabilities --keep-text, draw the sample from that file, and survey that file"
        );
    }
    let compared = args.compare.compare.iter().map(PathBuf::from);
    let read: Vec<PathBuf> = paths.iter().chain(&args.audit).chain(&args.crosswalk).cloned().chain(compared).collect();
    let cache = args.cache.cache.as_deref();
    refuse_overwriting(&read, [args.output.as_deref(), args.input.errors.as_deref(), report, cache])?;
    let mut rejections = Rejections::open(args.input.errors.as_deref(), quiet, None)?;
    let taxonomy = load_taxonomy(args.model.taxonomy.as_deref())?;
    let mut route = Route::open(args, &taxonomy)?;
    let source = route.as_ref().map_or_else(|| taxonomy.clone(), |route| route.source.clone());
    let mut microdata = presentation::wanted(args).then(|| Microdata::new(&taxonomy));
    let other;
    let (surveyor, model) = if coded.contains(&true) {
        other = presentation::Other::read(args.compare.compare.as_deref(), &taxonomy)?;
        let surveyor = match (&mut route, args.audit.is_empty()) {
            (Some(route), _) => {
                let mut surveyor = Surveyor::new(&taxonomy, &args.by);
                for_each_coded(&paths, &source, |prediction| {
                    add(&mut surveyor, &route.follow(prediction), microdata.as_mut());
                })?;
                surveyor
            }
            (None, true) => count_coded(&paths, &args.by, &taxonomy, microdata.as_mut())?,
            (None, false) => count_audited(&paths, args, &taxonomy, microdata.as_mut())?,
        };
        (surveyor, String::new())
    } else {
        let inputs = input::open_all(&paths, &args.input.options())?;
        let mut loaded = LoadedModel::load_for(&args.model, source)?;
        loaded.open_cache(&args.cache, quiet)?;
        let label = if loaded.zero_shot { loaded.label() } else { loaded.label() + " (trained)" };
        other = presentation::Other::read(args.compare.compare.as_deref(), &taxonomy)?;
        let mut surveyor = Surveyor::new(&taxonomy, &args.by);
        let bar = progress_bar(quiet, rows_hint(&paths, &args.input), "rows");
        let records = Records::new(inputs, args.input.max_chars, args.input.long_text);
        let ended = loaded.analyst().predict(records, &loaded.taxonomy, |rows| -> Result<ControlFlow<()>> {
            bar.inc(rows.len() as u64);
            for row in rows {
                match (row, &mut route) {
                    (Err(rejection), _) => rejections.add(&rejection)?,
                    (Ok(prediction), None) => add(&mut surveyor, &prediction, microdata.as_mut()),
                    (Ok(prediction), Some(route)) => {
                        add(&mut surveyor, &route.follow(prediction), microdata.as_mut());
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        bar.finish_and_clear();
        loaded.close_cache(quiet);
        ended?;
        (surveyor, label)
    };
    let missing = surveyor.missing_columns();
    if !missing.is_empty() {
        bail!(
            "no record has a column `{}`; --by takes a column of the input, or `year` where there is a release date",
            missing.join("`, `")
        );
    }
    let mut survey = surveyor.finish(taxonomy.label(), model, rejections.count);
    if let Some(Route { derived, .. }) = route {
        let coder = if survey.model.is_empty() { "coded input" } else { &survey.model };
        survey.model = format!("{coder} through crosswalk {}", derived.crosswalk);
        survey.derived = Some(derived);
    }
    presentation::present(args, format, &paths, &survey, microdata.as_ref(), other, quiet)?;
    Ok(if rejections.finish()? > 0 { Outcome::Rejections } else { Outcome::Done })
}

/// The way from the taxonomy in which records are coded to the one in which they are counted.
struct Route<'a> {
    source: Taxonomy,
    target: &'a Taxonomy,
    crosswalk: Crosswalk,
    derived: Derived,
}

impl<'a> Route<'a> {
    fn open(args: &SurveyArgs, target: &'a Taxonomy) -> Result<Option<Route<'a>>> {
        let Some(path) = &args.crosswalk else { return Ok(None) };
        let source = load_taxonomy(args.source_taxonomy.as_deref())?;
        let crosswalk = Crosswalk::read(path, &source, target)?;
        let derived = Derived {
            crosswalk: crosswalk.label(),
            from: source.label(),
            n_mentions: 0,
            n_without_counterpart: 0,
            n_records_without_counterpart: 0,
        };
        Ok(Some(Route { source, target, crosswalk, derived }))
    }

    fn follow(&mut self, prediction: Prediction) -> Prediction {
        let (status, n_mentions) = (prediction.status, prediction.scenarios.len());
        let (prediction, n_without) = prediction.through(&self.crosswalk, self.target);
        self.derived.n_mentions += n_mentions as u64;
        self.derived.n_without_counterpart += n_without as u64;
        let lost = status == Status::Coded && prediction.status == Status::Outside;
        self.derived.n_records_without_counterpart += u64::from(lost);
        prediction
    }
}

fn add(surveyor: &mut Surveyor<'_>, prediction: &Prediction, microdata: Option<&mut Microdata<'_>>) {
    if let Some(microdata) = microdata {
        microdata.add(prediction);
    }
    surveyor.add(&Coded::new(prediction, &prediction.ids()), |column| prediction.column(column));
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
    for_each_coded(paths, taxonomy, |prediction| add(&mut surveyor, &prediction, microdata.as_deref_mut()))?;
    Ok(surveyor)
}

/// The same, with the sample that people coded.
fn count_audited<'a>(
    paths: &[PathBuf],
    args: &SurveyArgs,
    taxonomy: &'a Taxonomy,
    mut microdata: Option<&mut Microdata<'_>>,
) -> Result<Surveyor<'a>> {
    let [coded] = paths else {
        bail!("an audit belongs to one coded file, and {} are named; survey that one", paths.len());
    };
    let frame = super::audit::frame(coded, taxonomy)?;
    let combined = super::audit::combined(&args.audit, &frame, taxonomy, true)?;
    let audit = Audit { records: combined.records, cluster: args.cluster.clone() };
    let mut surveyor = Surveyor::new(taxonomy, &args.by).with_audit(audit);
    for_each_coded(paths, taxonomy, |prediction| add(&mut surveyor, &prediction, microdata.as_deref_mut()))?;
    if let Some(column) = surveyor.missing_cluster() {
        bail!("no record has a column `{column}`; --cluster takes a column of the input, such as the developer");
    }
    Ok(surveyor)
}
