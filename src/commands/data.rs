//! `medscenario data`

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use medscenario::agreement::{Agreement, Coding, agreement};
use medscenario::dataset::{Corpus, Placed, Problem, Statistics, products};
use medscenario::labels;
use medscenario::taxonomy::{Lang, Taxonomy};

use super::{Outcome, load_taxonomy, write_result};
use crate::cli::DataCommand;

pub fn run(command: DataCommand) -> Result<Outcome> {
    match command {
        DataCommand::Check { paths, held_out, taxonomy } => {
            check(&paths, &held_out, &load_taxonomy(taxonomy.as_deref())?)
        }
        DataCommand::Stats { paths, taxonomy, json } => {
            let taxonomy = load_taxonomy(taxonomy.as_deref())?;
            let loaded = Loaded::read(&paths, &taxonomy)?;
            if let Some(problem) = loaded.problems.first() {
                bail!("{problem}; `medscenario data check` lists all problems");
            }
            let statistics = loaded.corpus.statistics(&taxonomy);
            let text = if json {
                serde_json::to_string(&statistics)? + "\n"
            } else {
                summary(&loaded, &statistics, &taxonomy)
            };
            write_result(None, &text)?;
            Ok(Outcome::Done)
        }
        DataCommand::Agreement { first, second, taxonomy, json } => {
            let taxonomy = load_taxonomy(taxonomy.as_deref())?;
            let found = agreement(&codings(&first, &taxonomy)?, &codings(&second, &taxonomy)?, &taxonomy);
            if found.n_texts == 0 {
                bail!("`{}` and `{}` have no text id in common", first.display(), second.display());
            }
            let text = if json { serde_json::to_string(&found)? + "\n" } else { agreement_text(&found) };
            write_result(None, &text)?;
            Ok(Outcome::Done)
        }
    }
}

/// What stands in a set of files.
struct Loaded {
    corpus: Corpus,
    products: Vec<Placed<products::Product>>,
    problems: Vec<Problem>,
}

impl Loaded {
    fn read(paths: &[PathBuf], taxonomy: &Taxonomy) -> Result<Loaded> {
        let mut loaded = Loaded { corpus: Corpus::default(), products: Vec::new(), problems: Vec::new() };
        let mut files = 0;
        for path in paths {
            let directory = path.is_dir();
            for file in walk(path)? {
                let context = || format!("Failed to read `{}`", file.display());
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("jsonl") => {
                        loaded.problems.extend(loaded.corpus.add_file(&file, taxonomy).with_context(context)?);
                        files += 1;
                    }
                    Some("csv") if !directory || products::is_registry(&file) => {
                        let (products, problems) = products::read(&file).with_context(context)?;
                        loaded.products.extend(products);
                        loaded.problems.extend(problems);
                        files += 1;
                    }
                    _ if directory => {}
                    _ => bail!("`{}` is neither a registry (.csv) nor labelled texts (.jsonl)", file.display()),
                }
            }
        }
        if files == 0 {
            bail!("no registry (.csv) and no labelled texts (.jsonl) under {}", names(paths));
        }
        Ok(loaded)
    }
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

/// All files below a path, in order of their names; the path itself where it is a file.
fn walk(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let context = || format!("Failed to read the directory `{}`", path.display());
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).with_context(context)? {
        entries.push(entry.with_context(context)?.path());
    }
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        files.extend(walk(&entry)?);
    }
    Ok(files)
}

fn check(paths: &[PathBuf], held_out: &[PathBuf], taxonomy: &Taxonomy) -> Result<Outcome> {
    let loaded = Loaded::read(paths, taxonomy)?;
    let mut problems = loaded.problems.clone();
    problems.extend(loaded.corpus.repetitions());
    let mut reserved: Vec<Placed<String>> = Vec::new();
    for Placed { file, line, item } in &loaded.products {
        for text in [&item.description_zh, &item.description_en] {
            reserved.push(Placed { file: file.clone(), line: *line, item: text.clone() });
        }
    }
    if !held_out.is_empty() {
        let other = Loaded::read(held_out, taxonomy)?;
        problems.extend(other.problems);
        reserved.extend(other.corpus.texts.into_iter().map(|text| Placed {
            file: text.file,
            line: text.line,
            item: text.item.text,
        }));
    }
    reserved.retain(|text| !text.item.is_empty());
    problems.extend(loaded.corpus.leaks(&reserved));
    problems.sort();
    if !problems.is_empty() {
        for problem in &problems {
            eprintln!("{problem}");
        }
        bail!("{} problems in {}", problems.len(), names(paths));
    }
    let mut text = summary(&loaded, &loaded.corpus.statistics(taxonomy), taxonomy);
    let _ = writeln!(text, "no text nearly repeats another, or one of {} texts held out", reserved.len());
    write_result(None, &text)?;
    Ok(Outcome::Done)
}

fn summary(loaded: &Loaded, statistics: &Statistics, taxonomy: &Taxonomy) -> String {
    let mut out = String::new();
    if !loaded.products.is_empty() {
        let with = |keep: &dyn Fn(&products::Product) -> bool| {
            loaded.products.iter().filter(|product| keep(&product.item)).count()
        };
        let _ = writeln!(
            out,
            "registry: {} products, {} with an English description, {} with a release month",
            loaded.products.len(),
            with(&|product| !product.description_en.is_empty()),
            with(&|product| product.released.len() == 7),
        );
        type Pick = fn(&products::Product) -> &str;
        let columns: [(&str, Pick); 3] = [
            ("developer_type", |product| &product.developer_type),
            ("model_type", |product| &product.model_type),
            ("status", |product| &product.status),
        ];
        for (column, pick) in columns {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            loaded.products.iter().for_each(|product| *counts.entry(pick(&product.item)).or_default() += 1);
            let counts: Vec<String> = counts.iter().map(|(value, count)| format!("{value} {count}")).collect();
            let _ = writeln!(out, "  {column}: {}", counts.join(", "));
        }
    }
    let Statistics { n_texts, n_zh, n_en, n_coded, n_outside, n_unspecified, n_several, n_mentions, n_pairs, .. } =
        statistics;
    if *n_texts > 0 {
        let _ = writeln!(out, "labelled texts: {n_texts} ({n_zh} Chinese, {n_en} English)");
        let _ = writeln!(out, "  status: {n_coded} coded, {n_outside} outside, {n_unspecified} unspecified");
        let _ = writeln!(
            out,
            "  mentions: {n_mentions}; {n_several} texts with two to six scenarios; {n_pairs} groups of minimal pairs"
        );
        for (lang, diversity) in [("Chinese", &statistics.diversity_zh), ("English", &statistics.diversity_en)] {
            let _ = writeln!(
                out,
                "  {lang}: type-token ratio {:.3}, distinct 5-grams {:.3}, distinct openings {:.3}",
                diversity.type_token_ratio, diversity.distinct_5_grams, diversity.distinct_openings
            );
        }
        let least = statistics.mentions.iter().min_by_key(|(id, count)| (**count, **id));
        if let Some((id, count)) = least {
            let name = taxonomy.scenario(*id).map_or("", |scenario| scenario.name.get(Lang::En));
            let _ = writeln!(out, "  fewest mentions: {count}, scenario {id} {name}");
        }
        let counts: Vec<String> = statistics.mentions.iter().map(|(id, count)| format!("{id}:{count}")).collect();
        let _ = writeln!(out, "  mentions by scenario: {}", counts.join(" "));
    }
    out
}

fn codings(path: &Path, taxonomy: &Taxonomy) -> Result<BTreeMap<String, Coding>> {
    let texts = labels::read(&[path.to_owned()], taxonomy)?;
    Ok(texts
        .into_iter()
        .map(|text| {
            (text.id.clone(), Coding { status: text.status(), scenarios: text.scenarios.into_iter().collect() })
        })
        .collect())
}

pub(super) fn agreement_text(found: &Agreement) -> String {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let mut out = format!(
        "| figure | value |\n|---|---|\n| texts coded by both | {} |\n| same status and scenarios | {} |\n| same status | {} |\n\
         | mentions of both / first only / second only | {} / {} / {} |\n| F1 between coders (micro) | {} |\n\
         | Krippendorff's alpha, MASI distance | {} |\n\n| category | both | first only | second only | F1 |\n|---|---|---|---|---|\n",
        found.n_texts,
        found.n_identical,
        found.n_same_status,
        found.both,
        found.only_first,
        found.only_second,
        figure(found.micro_f1),
        figure(found.alpha_masi)
    );
    for category in &found.categories {
        let _ = writeln!(
            out,
            "| {} {} | {} | {} | {} | {} |",
            category.id,
            category.name.get(Lang::En),
            category.both,
            category.only_first,
            category.only_second,
            figure(category.f1)
        );
    }
    out
}
