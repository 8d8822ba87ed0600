//! One file per command. What several commands share stands here.

mod audit;
mod classify;
mod data;
mod eval;
mod lookup;
mod model;
mod presentation;
mod rejections;
mod survey;
mod taxonomy;
mod train;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::CommandFactory;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use medscenario::bundle::Bundle;
use medscenario::cache::{CacheError, FeatureCache, Usage};
use medscenario::classifier::similarity::LabelVectors;
use medscenario::classifier::{Classifier, Scorer};
use medscenario::digest;
use medscenario::encoder::hub::{self, HubModel, HubOptions};
use medscenario::encoder::{Backend, Precision};
use medscenario::pipeline::Analyst;
use medscenario::prediction::{Assigned, Prediction};
use medscenario::record::{InputFormat, input, json_problem};
use medscenario::taxonomy::Taxonomy;

use crate::cli::{CacheArgs, Cli, Command, InputArgs, ModelArgs};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything went well.
    Done,
    /// Some rows were turned away.
    Rejections,
    /// The user stopped it.
    Interrupted,
}

impl Outcome {
    /// The exit status, as `--help` lists it.
    pub fn exit_status(self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::Rejections => 3,
            Outcome::Interrupted => 130,
        }
    }
}

/// Runs one command.
pub fn run(cli: Cli) -> Result<Outcome> {
    let quiet = cli.quiet;
    match cli.command {
        Command::Classify(args) => classify::run(&args, quiet),
        Command::Lookup(args) => lookup::run(&args),
        Command::Survey(args) => survey::run(&args, quiet),
        Command::Audit(command) => audit::run(command, quiet),
        Command::Eval(args) => eval::run(&args, quiet),
        Command::Train(args) => train::run(&args, quiet),
        Command::Data(command) => data::run(command),
        Command::Taxonomy(command) => taxonomy::run(command),
        Command::Model(command) => model::run(command, quiet),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "medscenario", &mut std::io::stdout());
            Ok(Outcome::Done)
        }
    }
}

/// The taxonomy that a flag names, by its path or as the built-in one by its id; the built-in one without a flag.
fn load_taxonomy(path: Option<&Path>) -> Result<Taxonomy> {
    let builtin = Taxonomy::builtin();
    match path {
        Some(path) if path != Path::new(&builtin.id) || path.exists() => Ok(Taxonomy::from_path(path)?),
        _ => Ok(builtin),
    }
}

/// A model ready to use, with what outputs say of it.
struct LoadedModel {
    taxonomy: Taxonomy,
    bundle: Bundle,
    classifier: Classifier,
    zero_shot: bool,
    cache: Option<FeatureCache>,
}

impl LoadedModel {
    fn load(args: &ModelArgs) -> Result<LoadedModel> {
        LoadedModel::load_for(args, load_taxonomy(args.taxonomy.as_deref())?)
    }

    /// Loads a model that codes with this taxonomy, whichever one the flags name.
    fn load_for(args: &ModelArgs, taxonomy: Taxonomy) -> Result<LoadedModel> {
        set_jobs(args.jobs)?;
        let bundle = match &args.model {
            Some(directory) => Bundle::open(directory)?,
            None => Bundle::builtin()?,
        };
        let classifier = load_classifier(args, &bundle, &taxonomy, args.precision)?;
        Ok(LoadedModel { taxonomy, bundle, classifier, zero_shot: args.zero_shot, cache: None })
    }

    /// Opens the cache that the flags name. One that another run uses is no reason to stop: only time is lost.
    fn open_cache(&mut self, args: &CacheArgs, quiet: bool) -> Result<()> {
        let Some(path) = &args.cache else { return Ok(()) };
        match FeatureCache::open(path, &self.bundle.encoder_digest()?, &self.classifier.encoder.encoder.arithmetic()) {
            Ok(cache) => self.cache = Some(cache),
            Err(CacheError::InUse { path }) if !quiet => {
                eprintln!(
                    "warning: the cache `{}` is in use by another run; this one goes on without it",
                    path.display()
                );
            }
            Err(CacheError::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn analyst(&self) -> Analyst<'_> {
        Analyst { classifier: &self.classifier, cache: self.cache.as_ref() }
    }

    /// Closes the cache, and says what it was good for. What it could not keep is no reason to fail.
    fn close_cache(&mut self, quiet: bool) {
        match self.cache.take().map(FeatureCache::finish) {
            Some(Ok(Usage { n_texts, n_found })) if !quiet => {
                eprintln!("note: {n_found} of {n_texts} distinct texts came from the cache");
            }
            Some(Err(error)) if !quiet => {
                let error = anyhow!(error);
                eprintln!("warning: the results are complete, but the cache has failed: {error:#}");
            }
            _ => {}
        }
    }

    /// Name and beginning of the digest, as outputs carry them.
    fn label(&self) -> String {
        let kind = if self.zero_shot { " (zero-shot)" } else { "" };
        format!("{}@{}{kind}", self.bundle.manifest.name, digest::short(&self.bundle.digest))
    }
}

/// Encoder and scorer of a bundle.
fn load_classifier(args: &ModelArgs, bundle: &Bundle, taxonomy: &Taxonomy, precision: Precision) -> Result<Classifier> {
    let backend = Backend::open(args.device, precision)?;
    let mut classifier = if args.zero_shot {
        let encoder = bundle.checkpoint()?.load(&backend, false)?;
        let labels = LabelVectors::new(taxonomy, &encoder)?;
        Classifier { encoder, scorer: Scorer::ZeroShot(labels) }
    } else {
        bundle.check_taxonomy(taxonomy)?;
        bundle.load(&backend)?
    };
    if let Some(batch_tokens) = args.batch_tokens {
        classifier.encoder.batch_tokens = batch_tokens;
    }
    Ok(classifier)
}

/// A line of coded records.
fn parse_prediction(line: &str) -> Result<Prediction> {
    let wrong = |cause: &str| anyhow!("not a line that `classify` writes: {cause}; expected its JSONL output");
    // The parser takes a list for the fields in order.
    if !line.trim_start().starts_with('{') {
        return Err(wrong("it is no JSON object"));
    }
    serde_json::from_str(line).map_err(|error| wrong(&json_problem(&error)))
}

/// Reads records that were coded before. A line that is none is an error: half a file is no survey.
fn for_each_coded(paths: &[PathBuf], taxonomy: &Taxonomy, mut visit: impl FnMut(Prediction)) -> Result<()> {
    let mut seen = HashSet::new();
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
            let mut ids = prediction.scenarios.iter().map(Assigned::id);
            if let Some(unknown) = ids.find(|&id| taxonomy.position(id).is_none()) {
                bail!(
                    "`{}` line {}: scenario {unknown} is not in taxonomy `{}`; choose its --taxonomy",
                    path.display(),
                    index + 1,
                    taxonomy.id
                );
            }
            if let Some(problem) = probability_problem(&prediction, taxonomy) {
                bail!("`{}` line {}: {problem}", path.display(), index + 1);
            }
            if !seen.insert(digest::key(prediction.id.as_bytes())) {
                bail!(
                    "`{}` line {}: id `{}` occurs a second time; each product counts once",
                    path.display(),
                    index + 1,
                    prediction.id
                );
            }
            visit(prediction);
        }
    }
    Ok(())
}

/// What is wrong with the list of all probabilities, where there is one.
fn probability_problem(prediction: &Prediction, taxonomy: &Taxonomy) -> Option<String> {
    let found = &prediction.probabilities;
    if !found.is_empty() && found.len() != taxonomy.len() {
        return Some(format!(
            "`probabilities` has {} numbers, and taxonomy `{}` has {} scenarios; classify again with --probabilities",
            found.len(),
            taxonomy.id,
            taxonomy.len()
        ));
    }
    let wrong = found.iter().find(|probability| !(0.0..=1.0).contains(*probability))?;
    Some(format!("`probabilities` has {wrong}; expected numbers from 0 to 1"))
}

fn set_jobs(jobs: Option<u16>) -> Result<()> {
    let Some(jobs) = jobs else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(usize::from(jobs))
        .build_global()
        .with_context(|| format!("Failed to start {jobs} threads"))
}

/// The directory of an encoder: as it is, or fetched from the hub.
fn encoder_directory(argument: &str, quiet: bool) -> Result<PathBuf> {
    if !argument.starts_with("hf://") {
        return Ok(PathBuf::from(argument));
    }
    let model = HubModel::parse(argument).with_context(|| {
        format!("`{argument}` is not a model name; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    })?;
    let fetched = hub::fetch(&model, &HubOptions::from_env(!quiet && std::io::stderr().is_terminal()))?;
    if !quiet {
        eprintln!("note: {} at commit {}", model.repo, fetched.commit);
    }
    Ok(fetched.directory)
}

/// A progress bar on a terminal, and nothing elsewhere. Without a total it counts and shows the rate.
fn progress_bar(quiet: bool, total: Option<u64>, unit: &str) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    let template = match total {
        Some(_) => format!("{{bar:30}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left"),
        None => format!("{{spinner}} {{pos}} {unit}, {{per_sec}}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Rows that the inputs probably have, for the progress bar; `None` where that cannot be told cheaply.
fn rows_hint(paths: &[PathBuf], args: &InputArgs) -> Option<u64> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    paths
        .iter()
        .map(|path| match args.input_format.or_else(|| input::by_extension(path))? {
            InputFormat::Parquet | InputFormat::Xlsx => None,
            InputFormat::Csv | InputFormat::Tsv => Some(count_lines(path)?.saturating_sub(1)),
            InputFormat::Jsonl | InputFormat::Txt => count_lines(path),
        })
        .sum()
}

fn count_lines(path: &Path) -> Option<u64> {
    let mut reader = std::fs::File::open(path).ok()?;
    let mut buffer = vec![0; 1 << 16];
    let mut lines = 0;
    loop {
        match std::io::Read::read(&mut reader, &mut buffer).ok()? {
            0 => return Some(lines),
            read => lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }
}

/// Writes a result to a file, or to standard output.
fn write_result(path: Option<&Path>, text: &str) -> Result<()> {
    match path {
        Some(path) => std::fs::write(path, text).with_context(|| format!("Failed to write `{}`", path.display())),
        None => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}

/// Refuses to write over an input, or two results over each other.
fn refuse_overwriting<const N: usize>(inputs: &[PathBuf], outputs: [Option<&Path>; N]) -> Result<()> {
    // A file that is not there yet is told by its directory and name.
    let place = |path: &Path| -> Option<PathBuf> {
        path.canonicalize().ok().or_else(|| {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(parent.canonicalize().ok()?.join(path.file_name()?))
        })
    };
    for output in outputs.into_iter().flatten() {
        if inputs
            .iter()
            .any(|input| input.as_os_str() != "-" && place(input).is_some() && place(input) == place(output))
        {
            bail!("`{}` is an input and would be overwritten; choose another file", output.display());
        }
    }
    let named: Vec<&Path> = outputs.into_iter().flatten().collect();
    for (at, one) in named.iter().enumerate() {
        if place(one).is_some() && named[at + 1..].iter().any(|other| place(one) == place(other)) {
            bail!("`{}` is named for two results; choose another file for one of them", one.display());
        }
    }
    Ok(())
}

/// Checks that a coded record belongs to the taxonomy in use; records that name none pass.
fn check_taxonomy(prediction: &Prediction, taxonomy: &Taxonomy) -> Result<()> {
    let label = taxonomy.label();
    if prediction.taxonomy.is_empty() || prediction.taxonomy == label {
        return Ok(());
    }
    bail!("it was coded with taxonomy `{}`, and `{label}` is loaded; choose its --taxonomy", prediction.taxonomy)
}
