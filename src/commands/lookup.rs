//! `medscenario lookup`

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use medscenario::prediction::Prediction;
use medscenario::record::{Place, Record};
use medscenario::report::lookup_text;

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
    if args.json {
        println!("{}", serde_json::to_string(&prediction)?);
    } else {
        print!("{}", lookup_text(&prediction, &model.taxonomy, args.lang));
    }
    Ok(Outcome::Done)
}
