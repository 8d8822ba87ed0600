//! `medscenario classify`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use medscenario::bundle::TaxonomyRef;
use medscenario::digest;
use medscenario::journal::{Counts, Journal, State, with_suffix, write_line};
use medscenario::output::{TableFormat, TableLayout, write_table};
use medscenario::prediction::{Prediction, SCHEMA};
use medscenario::record::{Records, input};

use super::rejections::Rejections;
use super::{LoadedModel, Outcome, progress_bar, refuse_overwriting, rows_hint};
use crate::cli::{ClassifyArgs, InputArgs, Layout, OutputFormat};

/// Set by the first Ctrl-C; a second one ends the program at once.
static STOP: AtomicBool = AtomicBool::new(false);

pub fn run(args: &ClassifyArgs, quiet: bool) -> Result<Outcome> {
    let format = output_format(args)?;
    let paths = input::resolve(&args.input.inputs)?;
    if args.resume && paths.iter().any(|path| path.as_os_str() == "-") {
        bail!("standard input cannot be read again from its beginning; --resume needs files");
    }
    refuse_overwriting(&paths, [args.output.as_deref(), args.input.errors.as_deref(), args.cache.cache.as_deref()])?;
    let inputs = input::open_all(&paths, &args.input.options())?;
    let mut model = LoadedModel::load(&args.model)?;
    model.open_cache(&args.cache, quiet)?;
    let fingerprint = match &args.output {
        Some(_) => fingerprint(args, &paths, &model)?,
        None => String::new(),
    };
    let (mut sink, mut state) = Sink::open(args, format, fingerprint)?;
    let resumed = args.resume.then_some((state.errors_bytes, state.counts.rejected));
    let mut rejections = Rejections::open(args.input.errors.as_deref(), quiet, resumed)?;
    stop_on_interrupt()?;

    let bar = progress_bar(quiet, rows_hint(&paths, &args.input), "rows");
    bar.set_position(state.counts.rows);
    let mut records = Records::new(inputs, args.input.max_chars, args.input.long_text);
    // Rows before the state are read again, so that repeated ids are still noticed.
    for _ in 0..state.counts.rows {
        if records.next().is_none() {
            bail!("the inputs have fewer rows than the interrupted run had read; leave --resume out to start over");
        }
    }
    let mut interrupted = false;
    let ended = model.analyst().predict(records, &model.taxonomy, |rows| -> Result<ControlFlow<()>> {
        state.counts.rows += rows.len() as u64;
        for row in rows {
            let prediction = match row {
                Ok(prediction) => prediction,
                Err(rejection) => {
                    rejections.add(&rejection)?;
                    continue;
                }
            };
            note_columns(&mut state.columns, &prediction);
            let prediction = if args.labels_only { prediction.labels_only() } else { prediction };
            let prediction = if args.probabilities { prediction } else { prediction.without_probabilities() };
            let prediction = if args.keep_text { prediction } else { prediction.without_text() };
            state.counts.add(&prediction);
            sink.append(&prediction)?;
        }
        state.counts.rejected = rejections.count;
        bar.set_position(state.counts.rows);
        state.errors_bytes = rejections.flush()?;
        sink.commit(&mut state)?;
        interrupted = STOP.load(Ordering::Relaxed);
        Ok(if interrupted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    bar.finish_and_clear();
    model.close_cache(quiet);
    ended?;
    if interrupted {
        let hint = if args.output.is_some() { "; continue with the same command line and --resume" } else { "" };
        eprintln!("interrupted after {} rows{hint}", state.counts.rows);
        return Ok(Outcome::Interrupted);
    }
    sink.finish(args, format, &state, &model)?;
    if let Some(output) = &args.output {
        write_manifest(output, args, &paths, &state, &model)?;
    }
    if !quiet {
        let Counts { records, coded, outside, unspecified, mentions, .. } = state.counts;
        let noun = if records == 1 { "record" } else { "records" };
        eprintln!(
            "note: {records} {noun}: {coded} coded, {outside} outside, {unspecified} unspecified; {mentions} mentions"
        );
    }
    Ok(if rejections.finish()? > 0 { Outcome::Rejections } else { Outcome::Done })
}

fn output_format(args: &ClassifyArgs) -> Result<OutputFormat> {
    let by_extension =
        |path: &PathBuf| match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
            "jsonl" | "ndjson" => Some(OutputFormat::Jsonl),
            "csv" => Some(OutputFormat::Csv),
            "tsv" => Some(OutputFormat::Tsv),
            "xlsx" => Some(OutputFormat::Xlsx),
            "parquet" => Some(OutputFormat::Parquet),
            _ => None,
        };
    match (args.format, &args.output) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(OutputFormat::Jsonl),
        (None, Some(path)) => by_extension(path).with_context(|| {
            format!(
                "Cannot tell the format of `{}`; expected .jsonl, .csv, .tsv, .xlsx or .parquet, or --format",
                path.display()
            )
        }),
    }
}

fn note_columns(columns: &mut Vec<String>, prediction: &Prediction) {
    for name in prediction.columns.keys() {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
}

/// Where predictions go: straight to standard output, or to a journal that becomes the output.
enum Sink {
    Lines(BufWriter<std::io::Stdout>),
    Journal(Journal),
    /// A table for standard output waits in a file until all its columns are known.
    Temporary(Journal, tempfile::TempDir),
}

impl Sink {
    fn open(args: &ClassifyArgs, format: OutputFormat, fingerprint: String) -> Result<(Sink, State)> {
        let state = State { fingerprint, ..State::default() };
        let Some(output) = &args.output else {
            if format == OutputFormat::Jsonl {
                return Ok((Sink::Lines(BufWriter::new(std::io::stdout())), state));
            }
            let directory = tempfile::tempdir().context("Failed to create a temporary directory")?;
            let journal = Journal::create(directory.path().join("journal"))?;
            return Ok((Sink::Temporary(journal, directory), state));
        };
        let path = Journal::path_for(output);
        if args.resume {
            let (journal, state) = Journal::resume(path, &state.fingerprint)?;
            return Ok((Sink::Journal(journal), state));
        }
        let context = || format!("Failed to start `{}`; its directory must be there and writable", output.display());
        Ok((Sink::Journal(Journal::create(path).with_context(context)?), state))
    }

    fn append(&mut self, prediction: &Prediction) -> Result<()> {
        match self {
            Sink::Lines(writer) => Ok(write_line(writer, prediction)?),
            Sink::Journal(journal) | Sink::Temporary(journal, _) => Ok(journal.append(prediction)?),
        }
    }

    fn commit(&mut self, state: &mut State) -> Result<()> {
        match self {
            Sink::Lines(writer) => Ok(writer.flush()?),
            Sink::Journal(journal) | Sink::Temporary(journal, _) => Ok(journal.commit(state)?),
        }
    }

    fn finish(self, args: &ClassifyArgs, format: OutputFormat, state: &State, model: &LoadedModel) -> Result<()> {
        let (journal, _kept) = match self {
            Sink::Lines(mut writer) => return Ok(writer.flush()?),
            Sink::Journal(journal) => (journal, None),
            Sink::Temporary(journal, directory) => (journal, Some(directory)),
        };
        let format = match format {
            OutputFormat::Jsonl => {
                let output = args.output.as_deref().context("a journal has an output")?;
                return Ok(journal.into_output(output)?);
            }
            OutputFormat::Csv => TableFormat::Csv,
            OutputFormat::Tsv => TableFormat::Tsv,
            OutputFormat::Xlsx => TableFormat::Xlsx,
            OutputFormat::Parquet => TableFormat::Parquet,
        };
        let layout = match args.layout {
            Layout::Long => TableLayout::Long,
            Layout::Wide => TableLayout::Wide,
        };
        let table = |destination| -> Result<()> {
            let predictions = journal.predictions()?;
            Ok(write_table(predictions, &state.columns, &model.taxonomy, format, layout, destination)?)
        };
        match &args.output {
            None => table(Box::new(std::io::stdout()))?,
            Some(output) => {
                let fresh = with_suffix(output, ".new");
                let context = || format!("Failed to write `{}`", output.display());
                let file = File::create(&fresh).with_context(context)?;
                table(Box::new(BufWriter::new(file))).with_context(context)?;
                std::fs::rename(&fresh, output).with_context(context)?;
            }
        }
        Ok(journal.remove()?)
    }
}

fn stop_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("Failed to listen for Ctrl-C")
}

/// Digest of everything that decides the journal's bytes. Threads, batches and the final format do not.
fn fingerprint(args: &ClassifyArgs, paths: &[PathBuf], model: &LoadedModel) -> Result<String> {
    let InputArgs {
        input_format,
        encoding,
        delimiter,
        sheet,
        id_column,
        text_column,
        name_column,
        max_chars,
        long_text,
        errors,
        ..
    } = &args.input;
    let flags = format!(
        "{input_format:?} {encoding:?} {delimiter:?} {sheet:?} {id_column:?} {text_column:?} {name_column:?} {max_chars} {long_text:?} {errors:?} {:?} {:?} {:?} {:?} {:?}",
        args.labels_only, args.probabilities, args.keep_text, args.model.zero_shot, args.model.precision
    );
    let inputs = input_digests(paths)?;
    let parts = serde_json::to_vec(&(
        SCHEMA,
        env!("CARGO_PKG_VERSION"),
        &model.bundle.digest,
        &model.taxonomy.digest,
        flags,
        inputs,
    ))?;
    Ok(digest::of_bytes(&parts))
}

fn input_digests(paths: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let mut digests = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let digest = match name.as_str() {
            "-" => String::new(),
            _ => digest::of_file(path).with_context(|| format!("Failed to read `{name}`"))?,
        };
        digests.push((name, digest));
    }
    Ok(digests)
}

/// What was run on what; beside every output file.
#[derive(Serialize)]
struct RunManifest<'a> {
    program: String,
    schema: u32,
    architecture: String,
    arithmetic: String,
    model: &'a str,
    model_sha256: &'a str,
    taxonomy: TaxonomyRef,
    inputs: BTreeMap<String, String>,
    flags: BTreeMap<&'static str, String>,
    counts: &'a Counts,
    output_sha256: String,
}

fn write_manifest(
    output: &Path,
    args: &ClassifyArgs,
    paths: &[PathBuf],
    state: &State,
    model: &LoadedModel,
) -> Result<()> {
    let path = with_suffix(output, ".manifest.json");
    let context = || format!("Failed to write the run manifest `{}`", path.display());
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "detected".to_owned());
    let flags = BTreeMap::from([
        ("id-column", text(&args.input.id_column)),
        ("text-column", text(&args.input.text_column)),
        ("name-column", text(&args.input.name_column)),
        ("encoding", text(&args.input.encoding)),
        ("max-chars", args.input.max_chars.to_string()),
        ("long-text", format!("{:?}", args.input.long_text).to_lowercase()),
        ("layout", format!("{:?}", args.layout).to_lowercase()),
        ("labels-only", args.labels_only.to_string()),
        ("probabilities", args.probabilities.to_string()),
        ("keep-text", args.keep_text.to_string()),
        ("zero-shot", args.model.zero_shot.to_string()),
        ("precision", format!("{:?}", args.model.precision).to_lowercase()),
        ("device", format!("{:?}", args.model.device).to_lowercase()),
    ]);
    let manifest = RunManifest {
        program: format!("medscenario {}", env!("CARGO_PKG_VERSION")),
        schema: SCHEMA,
        architecture: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        arithmetic: model.classifier.encoder.encoder.arithmetic(),
        model: &model.bundle.manifest.name,
        model_sha256: &model.bundle.digest,
        taxonomy: TaxonomyRef::of(&model.taxonomy),
        inputs: input_digests(paths)?.into_iter().collect(),
        flags,
        counts: &state.counts,
        output_sha256: digest::of_file(output).with_context(context)?,
    };
    let mut text = serde_json::to_string_pretty(&manifest)?;
    text.push('\n');
    std::fs::write(&path, text).with_context(context)
}
