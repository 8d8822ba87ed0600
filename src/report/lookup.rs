//! One analysed description for reading.

use std::fmt::Write;

use super::{table, words};
use crate::labels::Status;
use crate::prediction::{Assigned, Prediction};
use crate::taxonomy::{Id, Lang, Taxonomy};

/// A table of scenarios with probability and evidence, and below it the scenarios of `top` with their probability.
pub fn text(prediction: &Prediction, top: &[(Id, f64)], taxonomy: &Taxonomy, lang: Lang) -> String {
    let say = |zh, en| words(lang, zh, en);
    let mut out = String::new();
    if prediction.scenarios.is_empty() {
        out += match prediction.status {
            Status::Outside => say(
                "体系之外：描述了具体用途，但不属于任何场景。\n",
                "outside: a concrete use is stated, and no scenario of the taxonomy covers it.\n",
            ),
            _ => say("未说明用途：描述没有说出产品的用途。\n", "unspecified: the description states no use.\n"),
        };
    } else {
        let header = [
            "#",
            say("场景", "Scenario"),
            say("类别", "Category"),
            say("概率", "Probability"),
            say("依据", "Evidence"),
        ];
        let mut table = table(&header, &[0, 3]);
        for assigned in &prediction.scenarios {
            let entry = taxonomy.scenario(assigned.id());
            let category = entry.and_then(|entry| taxonomy.category(entry.category));
            let (probability, evidence) = match assigned {
                Assigned::Full { probability, evidence, .. } => {
                    let quotes: Vec<&str> = evidence.iter().map(|span| span.text.as_str()).collect();
                    (format!("{probability:.2}"), quotes.join("\n"))
                }
                Assigned::Number(_) => (String::new(), String::new()),
            };
            table.add_row([
                assigned.id().to_string(),
                entry.map_or(String::new(), |entry| entry.name.get(lang).clone()),
                category.map_or(String::new(), |category| category.name.get(lang).clone()),
                probability,
                evidence,
            ]);
        }
        let _ = writeln!(out, "{}", table.trim_fmt());
    }
    if !top.is_empty() {
        let mut table = table(&["#", say("最可能的场景", "Most probable"), say("概率", "Probability")], &[0, 2]);
        for (id, probability) in top {
            let name = taxonomy.scenario(*id).map_or(String::new(), |entry| entry.name.get(lang).clone());
            table.add_row([id.to_string(), name, format!("{probability:.2}")]);
        }
        let _ = writeln!(out, "{}", table.trim_fmt());
    }
    if let (Some(confidence), Some(review)) = (prediction.confidence, prediction.review) {
        let advice =
            if review { say("建议人工复核", "please review") } else { say("无需复核", "no review needed") };
        let _ = writeln!(out, "{} {confidence:.2}{}{advice}", say("置信度", "Confidence"), say("，", ", "));
    }
    let _ = writeln!(out, "{} {}", say("分类体系", "Taxonomy"), prediction.taxonomy);
    out
}
