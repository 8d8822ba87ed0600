//! `medscenario train`

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use medscenario::bundle;
use medscenario::classifier::Analysis;
use medscenario::labels::{self, LabelledText};
use medscenario::prediction::Prediction;
use medscenario::record::{Place, Record};
use medscenario::taxonomy::Taxonomy;
use medscenario::train::{TrainOptions, Training, TrainingData};

use super::{Outcome, encoder_directory, load_taxonomy, set_jobs};
use crate::cli::TrainArgs;

pub fn run(args: &TrainArgs, quiet: bool) -> Result<Outcome> {
    if args.output.join(bundle::MANIFEST).exists() {
        bail!("`{}` holds a bundle already; choose another --output, or remove it first", args.output.display());
    }
    set_jobs(args.jobs)?;
    let taxonomy = load_taxonomy(args.taxonomy.as_deref())?;
    let texts = labels::read(&args.labels, &taxonomy)?;
    let calibration = if args.calibrate.is_empty() { Vec::new() } else { labels::read(&args.calibrate, &taxonomy)? };
    let neighbours = if args.neighbours.is_empty() { Vec::new() } else { labels::read(&args.neighbours, &taxonomy)? };
    let encoder = encoder_directory(&args.encoder, quiet)?;
    let device = args.device.open()?;
    let options = TrainOptions {
        name: args.name.clone(),
        fine_tune: !args.freeze_encoder,
        epochs: args.epochs,
        batch_texts: args.batch_texts,
        encoder_rate: args.encoder_rate,
        head_rate: args.head_rate,
        units: args.units,
        buckets: args.buckets,
        word_share: args.word_share as f32,
        dropout: args.dropout,
        members: args.members,
        folds: args.folds,
        seed: args.seed,
        ..TrainOptions::default()
    };
    let training = Training {
        encoder: &encoder,
        data: TrainingData { texts: &texts, files: &args.labels },
        calibration: TrainingData { texts: &calibration, files: &args.calibrate },
        neighbours: TrainingData { texts: &neighbours, files: &args.neighbours },
        taxonomy: &taxonomy,
        options: &options,
        device: &device,
    };
    let trained = training.run(&args.output, &mut |report| {
        if !quiet {
            eprintln!("epoch {}/{}: loss {:.4}", report.epoch, options.epochs, report.loss);
        }
    })?;
    if let Some(path) = &args.predictions {
        let lines = trained.held_out.iter().map(|(text, analysis)| line(text, analysis, &taxonomy));
        let lines = lines.collect::<Result<String>>()?;
        std::fs::write(path, lines).with_context(|| format!("Failed to write `{}`", path.display()))?;
    }
    println!("{}", trained.manifest.display());
    Ok(Outcome::Done)
}

/// A prediction on a labelled text, as `classify` writes it.
fn line(text: &LabelledText, analysis: &Analysis, taxonomy: &Taxonomy) -> Result<String> {
    let place = Place { file: Arc::from("-"), row: 1 };
    let columns = Vec::new();
    let record = Record { id: text.id.clone(), text: text.text.clone(), name: None, columns, truncated: false, place };
    Ok(serde_json::to_string(&Prediction::new(record, analysis, taxonomy))? + "\n")
}
