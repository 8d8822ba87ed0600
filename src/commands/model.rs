//! `medscenario model`

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use medscenario::bundle::{Bundle, MANIFEST};
use medscenario::cache::Text;
use medscenario::classifier::precision::Difference;
use medscenario::digest::short;
use medscenario::encoder::hub::HubModel;
use medscenario::encoder::{Backend, Checkpoint, EncodeError, Precision, TextEncoder};
use medscenario::pipeline;
use medscenario::record::{Records, input};
use medscenario::report::precision_text;

use super::rejections::Rejections;
use super::{LoadedModel, Outcome, encoder_directory, load_classifier, refuse_overwriting, write_result};
use crate::cli::{InputArgs, ModelArgs, ModelCommand};

pub fn run(command: ModelCommand, quiet: bool) -> Result<Outcome> {
    match command {
        ModelCommand::Info { model, json } => info(model.as_deref(), json),
        ModelCommand::Fetch { model } => {
            if HubModel::parse(&model).is_none() {
                bail!("`{model}` is not a model name; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION");
            }
            let directory = encoder_directory(&model, quiet)?;
            Checkpoint::open(&directory)?.load(&Backend::Cpu { quantized: false }, false)?;
            println!("{}", directory.display());
            Ok(Outcome::Done)
        }
        ModelCommand::Verify { model } => {
            let bundle = open(model.as_deref())?;
            let files = bundle.verify()?;
            bundle.load(&Backend::Cpu { quantized: false })?;
            println!("{}: {} files have the hashes of the manifest, and the model loads", bundle.label(), files.len());
            Ok(Outcome::Done)
        }
        ModelCommand::Embed { input, encoder, truncate, alone, device, precision } => {
            let checkpoint = match encoder {
                Some(encoder) => Checkpoint::open(&encoder_directory(&encoder, quiet)?)?,
                None => Bundle::builtin()?.checkpoint()?,
            };
            let encoder = checkpoint.load(&Backend::open(device, precision)?, truncate)?;
            embed(&input, &encoder, alone, quiet)
        }
        ModelCommand::Precision { input, model, json } => precision(&input, &model, json, quiet),
    }
}

fn open(directory: Option<&Path>) -> Result<Bundle> {
    Ok(match directory {
        Some(directory) => Bundle::open(directory)?,
        None => Bundle::builtin()?,
    })
}

fn info(directory: Option<&Path>, as_json: bool) -> Result<Outcome> {
    // A directory without a manifest is an encoder.
    let bundle = match directory {
        Some(directory) if !directory.join(MANIFEST).exists() => None,
        _ => Some(open(directory)?),
    };
    let checkpoint = match (&bundle, directory) {
        (Some(bundle), _) => bundle.checkpoint()?,
        (None, directory) => Checkpoint::open(&directory.map(PathBuf::from).unwrap_or_default())?,
    };
    let config = &checkpoint.config;
    let encoder = json!({
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "window_tokens": checkpoint.max_tokens,
        "pooling": checkpoint.pooling,
        "normalize": checkpoint.normalize,
    });
    let value = match &bundle {
        None => json!({ "encoder": encoder }),
        Some(bundle) => {
            let manifest = &bundle.manifest;
            json!({
                "name": manifest.name,
                "location": bundle.label(),
                "sha256": bundle.digest,
                "bytes": bundle.size()?,
                "created_with": manifest.created_with,
                "taxonomy": manifest.taxonomy,
                "n_scenarios": manifest.scenarios.len(),
                "encoder": encoder,
                "training": manifest.training,
                "files": manifest.files,
            })
        }
    };
    if as_json {
        write_result(None, &(serde_json::to_string(&value)? + "\n"))?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    if let Some(bundle) = &bundle {
        let manifest = &bundle.manifest;
        let training = &manifest.training;
        text += &format!(
            "bundle       {} ({}), {:.1} MB, digest {}\n",
            manifest.name,
            bundle.label(),
            bundle.size()? as f64 / 1e6,
            short(&bundle.digest)
        );
        text += &format!(
            "taxonomy     {} {}, {} scenarios, digest {}\n",
            manifest.taxonomy.id,
            manifest.taxonomy.version,
            manifest.scenarios.len(),
            short(&manifest.taxonomy.digest)
        );
        let tuned = if training.fine_tuned { "encoder fine-tuned" } else { "encoder frozen" };
        text += &format!(
            "training     {} texts, {} epochs, seed {}, {tuned}; calibrated on {} texts\n",
            training.n_texts, training.epochs, training.seed, training.n_calibration_texts
        );
    }
    text += &format!(
        "encoder      {} layers, {} wide, {} heads, {} tokens in the vocabulary\npooling      {}, {}\nwindow       {} tokens\n",
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.vocab_size,
        encoder["pooling"].as_str().unwrap_or_default(),
        if checkpoint.normalize { "normalised" } else { "not normalised" },
        checkpoint.max_tokens,
    );
    write_result(None, &text)?;
    Ok(Outcome::Done)
}

fn embed(args: &InputArgs, encoder: &TextEncoder, alone: bool, quiet: bool) -> Result<Outcome> {
    let paths = input::resolve(&args.inputs)?;
    refuse_overwriting(&paths, [None, args.errors.as_deref()])?;
    let inputs = input::open_all(&paths, &args.options())?;
    let mut rejections = Rejections::open(args.errors.as_deref(), quiet, None)?;
    let mut out = BufWriter::new(std::io::stdout());
    let embed = |texts: &[Text<'_>]| {
        let texts: Vec<&str> = texts.iter().map(|text| text.text).collect();
        if alone {
            texts.iter().map(|text| encoder.embed(&[text]).map(|mut vectors| vectors.remove(0))).collect()
        } else {
            encoder.embed(&texts)
        }
    };
    let records = Records::new(inputs, args.max_chars, args.long_text);
    let ended = pipeline::run(records, embed, |rows| -> Result<ControlFlow<()>> {
        for (row, vector) in rows {
            match row {
                Err(rejection) => rejections.add(&rejection)?,
                Ok(record) => {
                    serde_json::to_writer(&mut out, &json!({ "id": record.id, "embedding": vector }))?;
                    out.write_all(b"\n")?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    ended?;
    out.flush()?;
    Ok(if rejections.finish()? > 0 { Outcome::Rejections } else { Outcome::Done })
}

/// Compares the decisions of a faster mode with those of 32-bit floats.
fn precision(args: &InputArgs, model: &ModelArgs, as_json: bool, quiet: bool) -> Result<Outcome> {
    if model.precision == Precision::F32 {
        bail!("name the faster mode to compare with 32-bit floats: --precision int8, or bf16 on a GPU");
    }
    let paths = input::resolve(&args.inputs)?;
    refuse_overwriting(&paths, [None, args.errors.as_deref()])?;
    let inputs = input::open_all(&paths, &args.options())?;
    let faster = LoadedModel::load(model)?;
    let exact = load_classifier(model, &faster.bundle, &faster.taxonomy, Precision::F32)?;
    let mut rejections = Rejections::open(args.errors.as_deref(), quiet, None)?;
    let mut difference = Difference::default();
    let both = |texts: &[Text<'_>]| {
        let texts: Vec<&str> = texts.iter().map(|text| text.text).collect();
        let exact = exact.analyze(&texts)?;
        Ok::<_, EncodeError>(exact.into_iter().zip(faster.classifier.analyze(&texts)?).collect())
    };
    let records = Records::new(inputs, args.max_chars, args.long_text);
    let ended = pipeline::run(records, both, |rows| -> Result<ControlFlow<()>> {
        for (row, analyses) in rows {
            match (row, analyses) {
                (Err(rejection), _) => rejections.add(&rejection)?,
                (Ok(_), Some((exact, faster))) => difference.add(exact, faster),
                (Ok(_), None) => {}
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    ended?;
    let name = serde_json::to_value(model.precision)?;
    let name = name.as_str().unwrap_or_default();
    if as_json {
        let mut value = serde_json::to_value(difference)?;
        value["precision"] = name.into();
        value["model"] = faster.label().into();
        println!("{value}");
    } else {
        print!("{}", precision_text(&difference, name, &faster.label()));
    }
    Ok(if rejections.finish()? > 0 { Outcome::Rejections } else { Outcome::Done })
}
