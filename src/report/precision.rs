//! What a faster mode changes, for people.

use crate::classifier::precision::Difference;

/// A few lines; `precision` and `model` are the names of mode and model.
pub fn text(difference: &Difference, precision: &str, model: &str) -> String {
    let Difference { n_texts, texts_changed, n_decisions, decisions_changed, .. } = *difference;
    let Difference { n_mentions, mentions_added, mentions_lost, largest_probability_difference, .. } = *difference;
    format!(
        "{precision} against f32, model {model}\n\
         texts        {n_texts}, {texts_changed} with another decision ({:.2}% unchanged)\n\
         decisions    {n_decisions}, {decisions_changed} changed ({:.3}% unchanged)\n\
         mentions     {n_mentions} in f32, {mentions_added} added, {mentions_lost} lost\n\
         probability  differs by at most {largest_probability_difference:.4}\n",
        100.0 * difference.unchanged_texts(),
        100.0 * difference.unchanged_decisions(),
    )
}
