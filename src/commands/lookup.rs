//! `medscenario lookup`

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::json;

use medscenario::prediction::{Prediction, round};
use medscenario::record::{Place, Record};
use medscenario::report::lookup_text;
use medscenario::taxonomy::{Id, Taxonomy};

use super::{LoadedModel, Outcome};
use crate::cli::LookupArgs;

pub fn run(args: &LookupArgs) -> Result<Outcome> {
    let mut text = args.text.clone();
    if text == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).context("Failed to read standard input as UTF-8 text")?;
    }
    let text = text.trim().to_owned();
    if text.is_empty() {
        bail!("the description is empty; expected a text such as \"triages outpatients by symptoms\"");
    }
    let model = LoadedModel::load(&args.model)?;
    let analysis = model.classifier.analyze(&[&text])?.remove(0);
    let place = Place { file: Arc::from("-"), row: 1 };
    let record = Record { id: "1".to_owned(), text, name: None, columns: Vec::new(), truncated: false, place };
    let prediction = Prediction::new(record, &analysis, &model.taxonomy).without_probabilities().without_text();
    let top = ranking(&analysis.probabilities, args.top.unwrap_or(0), &model.taxonomy);
    if args.json {
        let mut value = serde_json::to_value(&prediction)?;
        if args.top.is_some() {
            let entry =
                |&(scenario, probability): &(Id, f64)| json!({"scenario": scenario, "probability": probability});
            value["top"] = top.iter().map(entry).collect();
        }
        println!("{value}");
    } else {
        print!("{}", lookup_text(&prediction, &top, &model.taxonomy, args.lang));
    }
    Ok(Outcome::Done)
}

/// The most probable scenarios, the likeliest first.
fn ranking(probabilities: &[f32], count: usize, taxonomy: &Taxonomy) -> Vec<(Id, f64)> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]).then(a.cmp(&b)));
    order.truncate(count);
    order.into_iter().map(|index| (taxonomy.scenarios[index].id, round(probabilities[index]))).collect()
}
