//! Texts that nearly repeat another: Jaccard similarity of the sets of character 5-grams, without white space and in
//! lower case. Computed exactly over an index of 5-grams; corpora of some ten thousand texts take seconds.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

const GRAM: usize = 5;

/// Two texts that are alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Alike {
    /// Index of the first.
    pub first: usize,
    /// Index of the second.
    pub second: usize,
    /// Jaccard similarity in [0, 1].
    pub similarity: f64,
}

/// Pairs within one list whose similarity is `limit` or more.
pub fn within(texts: &[&str], limit: f64) -> Vec<Alike> {
    search(texts, texts, limit).into_iter().filter(|found| found.first < found.second).collect()
}

/// Pairs across two lists whose similarity is `limit` or more.
pub fn between(texts: &[&str], others: &[&str], limit: f64) -> Vec<Alike> {
    search(texts, others, limit)
}

fn search(texts: &[&str], others: &[&str], limit: f64) -> Vec<Alike> {
    let grams: Vec<HashSet<u128>> = others.iter().map(|text| grams(text)).collect();
    let mut index: HashMap<u128, Vec<u32>> = HashMap::new();
    for (at, set) in grams.iter().enumerate() {
        set.iter().for_each(|&gram| index.entry(gram).or_default().push(at as u32));
    }
    let mut found = Vec::new();
    for (first, text) in texts.iter().enumerate() {
        let set = self::grams(text);
        let mut common: HashMap<u32, usize> = HashMap::new();
        for gram in &set {
            for &other in index.get(gram).into_iter().flatten() {
                *common.entry(other).or_default() += 1;
            }
        }
        let mut alike: Vec<Alike> = common
            .into_iter()
            .map(|(other, common)| {
                let second = other as usize;
                Alike { first, second, similarity: common as f64 / (set.len() + grams[second].len() - common) as f64 }
            })
            .filter(|alike| alike.similarity >= limit)
            .collect();
        alike.sort_by_key(|alike| alike.second);
        found.extend(alike);
    }
    found
}

/// Five characters of at most 21 bits each fit into one number. A shorter text is its own gram.
fn grams(text: &str) -> HashSet<u128> {
    let characters: Vec<char> =
        text.chars().filter(|character| !character.is_whitespace()).flat_map(char::to_lowercase).collect();
    let pack = |characters: &[char]| {
        characters.iter().fold(1u128, |sum, &character| (sum << 21) | u128::from(u32::from(character)))
    };
    if characters.len() < GRAM {
        return HashSet::from([pack(&characters)]);
    }
    characters.windows(GRAM).map(pack).collect()
}

/// How varied a set of texts is. Texts filled from templates repeat their 5-grams and their openings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diversity {
    /// Distinct tokens by tokens, over the first 20,000 tokens: words, and single characters of Chinese.
    pub type_token_ratio: f64,
    /// Distinct 5-grams by the sum of every text's 5-grams.
    pub distinct_5_grams: f64,
    /// Distinct openings of eight characters by texts.
    pub distinct_openings: f64,
}

impl Diversity {
    /// Measures texts; zeros where there is none.
    pub fn of(texts: &[&str]) -> Diversity {
        let tokens: Vec<String> = texts.iter().flat_map(|text| tokens(text)).take(20_000).collect();
        let types: HashSet<&String> = tokens.iter().collect();
        let mut all = HashSet::new();
        let mut total = 0;
        for text in texts {
            let set = grams(text);
            total += set.len();
            all.extend(set);
        }
        let openings: HashSet<String> = texts.iter().map(|text| text.chars().take(8).collect()).collect();
        let ratio = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        Diversity {
            type_token_ratio: ratio(types.len(), tokens.len()),
            distinct_5_grams: ratio(all.len(), total),
            distinct_openings: ratio(openings.len(), texts.len()),
        }
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    for character in text.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_alphanumeric() {
            word.push(character);
            continue;
        }
        if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        if character.is_alphanumeric() {
            found.push(character.to_string());
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn similarity_by_hand() {
        // "abcdef" has abcde, bcdef; "abcdeg" has abcde, bcdeg: one of three in common.
        let found = between(&["abcdef"], &["ABC deg", "zzzzz"], 0.1);
        assert_eq!(found, [Alike { first: 0, second: 0, similarity: 1.0 / 3.0 }]);
        assert_eq!(within(&["abcdef", "abcdef", "other text"], 0.9).len(), 1);
    }

    #[test]
    fn templates_are_less_varied_than_prose() {
        let filled: Vec<String> =
            (0..40).map(|index| format!("Product {index} is a model for hospitals and supports doctors")).collect();
        let filled = Diversity::of(&filled.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(filled.distinct_5_grams < 0.2 && filled.distinct_openings < 0.1, "{filled:?}");
        let prose = Diversity::of(&["Reads chest films at night", "用于门诊分诊", "A bot that calls patients back"]);
        assert!(prose.distinct_5_grams > 0.9 && prose.distinct_openings > 0.9, "{prose:?}");
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_plain_comparison_finds(texts in proptest::collection::vec("[ab ]{0,9}", 0..12), limit in 0.05f64..1.0) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut expected = Vec::new();
            for (first, one) in texts.iter().enumerate() {
                for (second, other) in texts.iter().enumerate().skip(first + 1) {
                    let (a, b) = (grams(one), grams(other));
                    let common = a.intersection(&b).count();
                    let similarity = common as f64 / (a.len() + b.len() - common) as f64;
                    if similarity >= limit {
                        expected.push(Alike { first, second, similarity });
                    }
                }
            }
            prop_assert_eq!(within(&texts, limit), expected);
        }
    }
}
