//! `medscenario taxonomy`

use anyhow::{Result, bail};

use medscenario::report::{taxonomy_diff, taxonomy_entry, taxonomy_tree};
use medscenario::taxonomy::diff::diff;
use medscenario::taxonomy::export;

use super::{Outcome, load_taxonomy, write_result};
use crate::cli::{TaxonomyCommand, TaxonomyFormat};

pub fn run(command: TaxonomyCommand) -> Result<Outcome> {
    match command {
        TaxonomyCommand::List { taxonomy, lang } => {
            write_result(None, &taxonomy_tree(&load_taxonomy(taxonomy.as_deref())?, lang))?
        }
        TaxonomyCommand::Show { scenario, taxonomy } => {
            let taxonomy = load_taxonomy(taxonomy.as_deref())?;
            match taxonomy.find(&scenario) {
                Ok(entry) => write_result(None, &taxonomy_entry(entry, &taxonomy))?,
                Err(found) if found.is_empty() => {
                    bail!(
                        "no scenario of `{}` is called `{scenario}`; `medscenario taxonomy list` shows them all",
                        taxonomy.id
                    )
                }
                Err(found) => {
                    let found: Vec<String> = found.iter().map(|id| id.to_string()).collect();
                    bail!(
                        "`{scenario}` matches several scenarios of `{}`: {}; name one by its number",
                        taxonomy.id,
                        found.join(", ")
                    )
                }
            }
        }
        TaxonomyCommand::Diff { old, new, json } => {
            let diff = diff(&load_taxonomy(Some(&old))?, &load_taxonomy(Some(&new))?);
            let text = if json { serde_json::to_string_pretty(&diff)? + "\n" } else { taxonomy_diff(&diff) };
            write_result(None, &text)?;
        }
        TaxonomyCommand::Export { format, taxonomy } => {
            let taxonomy = load_taxonomy(taxonomy.as_deref())?;
            let text = match format {
                TaxonomyFormat::Skos => export::skos(&taxonomy),
                TaxonomyFormat::Json => export::json(&taxonomy),
                TaxonomyFormat::Csv => export::csv(&taxonomy),
            };
            write_result(None, &text)?;
        }
    }
    Ok(Outcome::Done)
}
