//! What `survey` makes of its counts: tables, comparisons, the report and the charts.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use medscenario::comparison::{Comparison, PublishedComparison, Side, compare, compare_published};
use medscenario::microdata::Microdata;
use medscenario::published::PublishedSurvey;
use medscenario::report::charts::{charts, write_charts};
use medscenario::report::html::{Beside, page};
use medscenario::report::{
    comparison_csv, comparison_text, published_comparison_csv, published_comparison_text, survey_csv, survey_text,
    survey_workbook,
};
use medscenario::survey::Survey;
use medscenario::taxonomy::Taxonomy;

use super::survey::{count_coded, is_coded};
use super::write_result;
use crate::cli::{ReportFormat, SurveyArgs};

/// The format of the result: by flag, or by the extension of its file.
pub fn format(args: &SurveyArgs) -> Result<ReportFormat> {
    let extension = args.output.as_deref().and_then(Path::extension).and_then(|extension| extension.to_str());
    let format = args.format.unwrap_or(match extension {
        Some("csv") => ReportFormat::Csv,
        Some("json") => ReportFormat::Json,
        Some("xlsx") => ReportFormat::Xlsx,
        _ => ReportFormat::Table,
    });
    if format == ReportFormat::Xlsx && args.output.is_none() {
        bail!("a workbook is not written to standard output; name a file with --output");
    }
    Ok(format)
}

/// Whether the records are needed beside the counts.
pub fn wanted(args: &SurveyArgs) -> bool {
    args.compare.compare.is_some() || args.present.report.is_some() || args.present.charts.is_some()
}

/// What to compare with.
pub enum Other {
    /// Nothing.
    Nothing,
    /// A published survey.
    Published(Box<PublishedSurvey>),
    /// Another result.
    Result(Box<Side>),
}

impl Other {
    /// Reads the survey or file that `--compare` names. This comes before the long run, which a wrong name or file would
    /// otherwise end.
    pub fn read(argument: Option<&str>, taxonomy: &Taxonomy) -> Result<Other> {
        let Some(argument) = argument else { return Ok(Other::Nothing) };
        if let Some(survey) = PublishedSurvey::builtin(argument) {
            let survey = survey?;
            survey.check_taxonomy(taxonomy)?;
            return Ok(Other::Published(Box::new(survey)));
        }
        let path = PathBuf::from(argument);
        if !path.exists() {
            let names: Vec<&str> = PublishedSurvey::names().collect();
            bail!(
                "there is no survey or file `{argument}` to compare with; published surveys are: {}; files are the JSON of \
                 `survey --format json`, or coded records (JSONL)",
                names.join(", ")
            );
        }
        let name = file_name(&path);
        let side = if is_coded(&path) {
            let mut microdata = Microdata::new(taxonomy);
            let survey = count_coded(&[path], &[], taxonomy, Some(&mut microdata))?;
            Side::from_records(name, &survey.finish(taxonomy.label(), String::new(), 0), &microdata)
        } else {
            let json = std::fs::read_to_string(&path).with_context(|| format!("Failed to read `{argument}`"))?;
            Side::from_json(name, &json, taxonomy)?
        };
        if side.n_records == 0 {
            bail!("`{argument}` has no records; there is nothing to compare with");
        }
        Ok(Other::Result(Box::new(side)))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or("-".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A finished comparison.
enum Compared {
    Result(Comparison),
    Published(PublishedComparison),
}

/// Writes everything that was asked for.
pub fn present(
    args: &SurveyArgs,
    format: ReportFormat,
    paths: &[PathBuf],
    survey: &Survey,
    microdata: Option<&Microdata<'_>>,
    other: Other,
    quiet: bool,
) -> Result<()> {
    let compared = microdata.and_then(|microdata| compared(args, paths, survey, microdata, other));
    let text = match (format, &compared) {
        (ReportFormat::Xlsx, compared) => {
            let (result, published) = match compared {
                Some(Compared::Result(comparison)) => (Some(comparison), None),
                Some(Compared::Published(comparison)) => (None, Some(comparison)),
                None => (None, None),
            };
            let bytes = survey_workbook(survey, result, published)?;
            let path = args.output.as_deref().context("a workbook has a file")?;
            std::fs::write(path, bytes).with_context(|| format!("Failed to write `{}`", path.display()))?;
            None
        }
        (ReportFormat::Table, None) => Some(survey_text(survey, args.lang, args.all)),
        (ReportFormat::Csv, None) => Some(survey_csv(survey)),
        (ReportFormat::Json, None) => Some(serde_json::to_string_pretty(survey)? + "\n"),
        (ReportFormat::Table, Some(Compared::Result(comparison))) => {
            Some(comparison_text(comparison, args.lang, args.all))
        }
        (ReportFormat::Csv, Some(Compared::Result(comparison))) => Some(comparison_csv(comparison)),
        (ReportFormat::Json, Some(Compared::Result(comparison))) => {
            Some(serde_json::to_string_pretty(comparison)? + "\n")
        }
        (ReportFormat::Table, Some(Compared::Published(comparison))) => {
            Some(published_comparison_text(comparison, args.lang))
        }
        (ReportFormat::Csv, Some(Compared::Published(comparison))) => Some(published_comparison_csv(comparison)),
        (ReportFormat::Json, Some(Compared::Published(comparison))) => {
            Some(serde_json::to_string_pretty(comparison)? + "\n")
        }
    };
    // Files come before standard output, which a reader such as `head` may close.
    if let Some(microdata) = microdata {
        pictures(args, survey, microdata, compared.as_ref(), quiet)?;
    }
    text.map_or(Ok(()), |text| write_result(args.output.as_deref(), &text))
}

/// The report and the charts.
fn pictures(
    args: &SurveyArgs,
    survey: &Survey,
    microdata: &Microdata<'_>,
    compared: Option<&Compared>,
    quiet: bool,
) -> Result<()> {
    if let Some(path) = &args.present.report {
        let beside = compared.map(|compared| match compared {
            Compared::Result(comparison) => Beside::Result(comparison),
            Compared::Published(comparison) => Beside::Published(comparison),
        });
        let html = page(survey, microdata, beside, args.lang)?;
        std::fs::write(path, html).with_context(|| format!("Failed to write `{}`", path.display()))?;
        let (embedded, all) = (microdata.products.len() as u64, survey.totals.n_records);
        if !quiet && embedded < all {
            eprintln!(
                "note: the report counts all {all} products and embeds {embedded} of them, with some for every scenario"
            );
        }
        if !quiet && microdata.products.iter().all(|product| product.text.is_empty()) && embedded > 0 {
            eprintln!(
                "note: the input has no descriptions, so that the report shows evidence without its text; survey the table \
                 itself, or use the output of `classify --keep-text`"
            );
        }
    }
    if let Some(directory) = &args.present.charts {
        let charts = charts(survey, microdata, args.lang, true);
        let missing = write_charts(&charts, directory, &args.present.chart_format)?;
        if !missing.is_empty() {
            eprintln!(
                "warning: no installed font has the characters `{missing}`, which are missing in PNG charts; install one \
                 that has them, for Chinese for example the package fonts-noto-cjk, or use the SVG charts"
            );
        }
    }
    Ok(())
}

fn compared(
    args: &SurveyArgs,
    paths: &[PathBuf],
    survey: &Survey,
    microdata: &Microdata<'_>,
    other: Other,
) -> Option<Compared> {
    let names: Vec<String> = paths.iter().map(|path| file_name(path)).collect();
    let this = Side::from_records(names.join(", "), survey, microdata);
    let (resamples, seed) = (args.compare.resamples, args.compare.seed);
    match other {
        Other::Nothing => None,
        Other::Published(published) => {
            Some(Compared::Published(compare_published(&this, microdata, &published, resamples, seed)))
        }
        Other::Result(side) => Some(Compared::Result(compare(&this, &side, microdata.taxonomy(), resamples, seed))),
    }
}
