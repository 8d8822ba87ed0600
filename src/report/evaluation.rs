//! An evaluation as Markdown.

use std::fmt::Write;

use crate::evaluation::{Entry, Evaluation, Measure, Scores};
use crate::taxonomy::Lang;

/// Tables of all figures, with 95% intervals.
pub fn markdown(evaluation: &Evaluation, title: &str, taxonomy: &str) -> String {
    let Evaluation { n_documents, n_gold, n_predicted, resamples, seed, .. } = evaluation;
    let mut out = format!(
        "# {title}\n\n{n_documents} documents, {n_gold} gold mentions, {n_predicted} predicted mentions. \
         95% intervals from {resamples} bootstrap samples of documents (seed {seed}). Taxonomy {taxonomy}.\n\n\
         | level | precision | recall | F1 |\n|---|---|---|---|\n"
    );
    for (name, scores) in [
        ("scenarios, micro", evaluation.micro),
        ("scenarios, macro", evaluation.macro_average),
        ("categories, micro", evaluation.category_micro),
        ("categories, macro", evaluation.category_macro),
        ("hierarchical", evaluation.hierarchical),
    ] {
        let Scores { precision, recall, f1 } = scores;
        let _ = writeln!(out, "| {name} | {} | {} | {} |", cell(precision), cell(recall), cell(f1));
    }
    out += "\n| figure | value |\n|---|---|\n";
    for (name, measure) in [
        ("mean average precision", evaluation.mean_average_precision),
        ("recall at 3", evaluation.recall_at_3),
        ("status accuracy", evaluation.status_accuracy),
        ("calibration error (ECE, micro)", evaluation.calibration_error),
        ("evidence, token-level F1", evaluation.evidence_f1),
    ] {
        let _ = writeln!(out, "| {name} | {} |", cell(measure));
    }
    acceptance(&mut out, evaluation);
    entries(&mut out, "Categories", &evaluation.categories);
    entries(&mut out, "Scenarios", &evaluation.scenarios);
    out
}

/// What is right when the surest documents are accepted without review.
fn acceptance(out: &mut String, evaluation: &Evaluation) {
    if evaluation.acceptance.is_empty() {
        return;
    }
    *out += "\n## Accepted without review\n\n\
             | accepted | lowest confidence | precision | recall | entirely right |\n|---|---|---|---|---|\n";
    let curve = evaluation.acceptance.iter().map(|point| (false, point));
    for (flag, point) in evaluation.accepted.iter().map(|point| (true, point)).chain(curve) {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let _ = writeln!(
            out,
            "| {:.0}%{} | {:.3} | {} | {} | {:.3} |",
            100.0 * point.accepted,
            if flag { " (`review` is false)" } else { "" },
            point.confidence,
            number(point.precision),
            number(point.recall),
            point.entirely_right
        );
    }
}

fn entries(out: &mut String, title: &str, entries: &[Entry]) {
    let _ = write!(
        out,
        "\n## {title}\n\n| # | name | gold | predicted | precision | recall | F1 |\n|---|---|---|---|---|---|---|\n"
    );
    for Entry { id, name, support, predicted, scores } in entries {
        let Scores { precision, recall, f1 } = *scores;
        let name = name.get(Lang::En);
        let _ = writeln!(
            out,
            "| {id} | {name} | {support} | {predicted} | {} | {} | {} |",
            cell(precision),
            cell(recall),
            cell(f1)
        );
    }
}

fn cell(measure: Measure) -> String {
    match (measure.value, measure.low, measure.high) {
        (Some(value), Some(low), Some(high)) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        (Some(value), ..) => format!("{value:.3}"),
        _ => "-".to_owned(),
    }
}
