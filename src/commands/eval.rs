//! `medscenario eval`

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use medscenario::classifier::Analysis;
use medscenario::evaluation::{Judged, evaluate};
use medscenario::evidence::token_f1;
use medscenario::labels::{self, LabelledText};
use medscenario::prediction::{Assigned, Prediction, round};
use medscenario::report::evaluation_markdown;
use medscenario::segment::Span;
use medscenario::taxonomy::{Id, ScenarioIndex, Taxonomy};

use super::{LoadedModel, Outcome, check_taxonomy, load_taxonomy, parse_prediction, progress_bar, refuse_overwriting};
use crate::cli::{EvalArgs, EvalFormat};

pub fn run(args: &EvalArgs, quiet: bool) -> Result<Outcome> {
    let read: Vec<PathBuf> = args.labels.iter().chain(&args.predictions).cloned().collect();
    refuse_overwriting(&read, [args.output.as_deref(), args.cache.cache.as_deref()])?;
    let taxonomy = load_taxonomy(args.model.taxonomy.as_deref())?;
    let mut texts = labels::read(&args.labels, &taxonomy)?;
    if let Some(lang) = args.only {
        texts.retain(|text| text.lang == Some(lang));
        if texts.is_empty() {
            bail!("no labelled text has `lang` {}; leave --only out", format!("{lang:?}").to_lowercase());
        }
    }
    let (documents, source) = match &args.predictions {
        Some(path) => (from_file(&texts, path, &taxonomy)?, path.display().to_string()),
        None => {
            let mut model = LoadedModel::load(&args.model)?;
            model.open_cache(&args.cache, quiet)?;
            let bar = progress_bar(quiet, Some(texts.len() as u64), "texts");
            let mut documents = Vec::new();
            let ended = model.analyst().analyze(texts.into_iter(), |rows| -> Result<ControlFlow<()>> {
                bar.inc(rows.len() as u64);
                let analysed = rows.iter().filter_map(|(text, analysis)| Some((text, (*analysis)?)));
                documents.extend(analysed.map(|(text, analysis)| judged(text, analysis, &taxonomy)));
                Ok(ControlFlow::Continue(()))
            });
            bar.finish_and_clear();
            model.close_cache(quiet);
            ended?;
            (documents, model.label())
        }
    };
    let evaluation = evaluate(&documents, &taxonomy, args.resamples, args.seed);
    let names: Vec<String> = args.labels.iter().map(|path| path.display().to_string()).collect();
    let text = match args.format {
        EvalFormat::Markdown => {
            evaluation_markdown(&evaluation, &format!("{source} on {}", names.join(", ")), &taxonomy.label())
        }
        EvalFormat::Json => {
            let mut value = serde_json::to_value(&evaluation)?;
            value["source"] = source.into();
            value["labels"] = names.into();
            value["taxonomy"] = taxonomy.label().into();
            serde_json::to_string_pretty(&value)? + "\n"
        }
    };
    super::write_result(args.output.as_deref(), &text)?;
    Ok(Outcome::Done)
}

/// A document with what the model says of it.
fn judged(text: &LabelledText, analysis: &Analysis, taxonomy: &Taxonomy) -> Judged {
    let shown = analysis
        .assignments
        .iter()
        .map(|assignment| (taxonomy.scenarios[assignment.scenario].id, assignment.evidence.as_slice()));
    Judged {
        predicted: analysis.assignments.iter().map(|assignment| assignment.scenario).collect(),
        predicted_status: analysis.status,
        evidence: evidence(text, shown),
        probabilities: analysis.probabilities.clone(),
        certainty: Some((round(analysis.confidence), analysis.review)),
        ..gold(text, taxonomy)
    }
}

/// The gold side of a document; nothing is predicted yet.
fn gold(text: &LabelledText, taxonomy: &Taxonomy) -> Judged {
    Judged {
        gold: text.scenarios.iter().filter_map(|&id| taxonomy.position(id)).collect(),
        gold_status: text.status(),
        predicted: Vec::new(),
        predicted_status: labels::Status::Unspecified,
        probabilities: Vec::new(),
        certainty: None,
        evidence: Vec::new(),
    }
}

/// Agreement on the evidence of the mentions that gold and prediction share.
fn evidence<'a>(text: &LabelledText, predicted: impl Iterator<Item = (Id, &'a [Span])>) -> Vec<f64> {
    let mut starts: Vec<usize> = text.text.char_indices().map(|(byte, _)| byte).collect();
    starts.push(text.text.len());
    // A span of another version of the text may reach beyond this one.
    let byte = |character: usize| starts[character.min(starts.len() - 1)];
    predicted
        .filter_map(|(id, spans)| {
            let gold = text.evidence_ranges(id);
            let spans: Vec<_> = spans.iter().map(|span| (byte(span.start), byte(span.end))).collect();
            if gold.is_empty() || spans.is_empty() {
                return None;
            }
            token_f1(&text.text, &gold, &spans)
        })
        .collect()
}

/// Joins labelled texts with predictions by id. Every text needs one; predictions of other ids are left aside.
fn from_file(texts: &[LabelledText], path: &Path, taxonomy: &Taxonomy) -> Result<Vec<Judged>> {
    let file = std::fs::File::open(path).with_context(|| format!("Failed to open predictions `{}`", path.display()))?;
    let mut predictions: HashMap<String, Prediction> = HashMap::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("Failed to read predictions `{}` line {}", path.display(), index + 1);
        let line = line.with_context(place)?;
        if line.trim().is_empty() {
            continue;
        }
        let prediction = parse_prediction(&line).with_context(place)?;
        check_taxonomy(&prediction, taxonomy).with_context(place)?;
        if predictions.contains_key(&prediction.id) {
            bail!(
                "`{}` line {}: id `{}` occurs a second time; each text has one prediction",
                path.display(),
                index + 1,
                prediction.id
            );
        }
        predictions.insert(prediction.id.clone(), prediction);
    }
    let judge = |text: &LabelledText| {
        let prediction = predictions.get(&text.id).with_context(|| {
            format!("`{}` has no prediction for `{}`; classify the same texts", path.display(), text.id)
        })?;
        let position = |assigned: &Assigned| {
            let id = assigned.id();
            taxonomy.position(id).with_context(|| {
                format!(
                    "`{}`: scenario {id} of `{}` is not in taxonomy `{}`; choose its --taxonomy",
                    path.display(),
                    text.id,
                    taxonomy.id
                )
            })
        };
        let predicted: Vec<ScenarioIndex> = prediction.scenarios.iter().map(position).collect::<Result<_>>()?;
        let shown = prediction.scenarios.iter().map(|assigned| match assigned {
            Assigned::Full { scenario, evidence, .. } => (*scenario, evidence.as_slice()),
            Assigned::Number(scenario) => (*scenario, &[] as &[Span]),
        });
        let probabilities: Vec<f32> = prediction.probabilities.iter().map(|&probability| probability as f32).collect();
        if !probabilities.is_empty() && probabilities.len() != taxonomy.len() {
            bail!(
                "`{}`: `{}` has {} probabilities; expected one for each of the {} scenarios of taxonomy `{}`, or none",
                path.display(),
                text.id,
                probabilities.len(),
                taxonomy.len(),
                taxonomy.id
            );
        }
        Ok(Judged {
            predicted,
            predicted_status: prediction.status,
            probabilities,
            evidence: evidence(text, shown),
            certainty: prediction.confidence.zip(prediction.review),
            ..gold(text, taxonomy)
        })
    };
    texts.iter().map(judge).collect()
}
