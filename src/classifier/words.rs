//! A linear model over the words of a whole text, beside the encoder: names of functions that training saw once or twice
//! are easier to remember as words than as directions (the wide part of a wide-and-deep model, Cheng et al. 2016,
//! arXiv:1606.07792). Words are n-grams, hashed into buckets (Weinberger et al. 2009, arXiv:0902.2206) and weighted by
//! how few texts have them (tf-idf).

/// Longest beginning of a word that stands for its inflections.
const STEM: usize = 5;
/// Longest n-gram of characters.
const CHARACTERS: usize = 3;

/// Parameters, row-major. `scores = bias + sum(weights[bucket] * value[bucket])` over the buckets of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct WordModel {
    /// `[buckets]`: inverse document frequency, `log((1 + texts) / (1 + texts with it)) + 1`.
    pub idf: Vec<f32>,
    /// `[buckets, outputs]`.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl WordModel {
    /// Adds a text's scores to `scores`, one per output.
    pub fn add(&self, words: &[u32], scores: &mut [f32]) {
        scores.iter_mut().zip(&self.bias).for_each(|(score, bias)| *score += bias);
        for (bucket, value) in values(words, &self.idf) {
            let weights = &self.weights[bucket * scores.len()..(bucket + 1) * scores.len()];
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += weight * value);
        }
    }
}

/// Buckets of a text's words, ascending, with the values `(1 + log(times)) * idf` scaled to length 1.
pub fn values(words: &[u32], idf: &[f32]) -> Vec<(usize, f32)> {
    let mut values: Vec<(usize, f32)> = counts(words, idf.len())
        .into_iter()
        .map(|(bucket, times)| (bucket, (1.0 + (times as f32).ln()) * idf[bucket]))
        .collect();
    let length = values.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
    values.iter_mut().for_each(|(_, value)| *value /= length.max(f32::MIN_POSITIVE));
    values
}

/// Buckets of a text's words, ascending, with how often each occurs.
pub fn counts(words: &[u32], buckets: usize) -> Vec<(usize, usize)> {
    let mut rows: Vec<usize> = words.iter().map(|&word| word as usize % buckets).collect();
    rows.sort_unstable();
    rows.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect()
}

/// Hashes of a text's n-grams, in order: words, their beginnings and pairs of Latin text; up to three characters of other
/// scripts.
pub fn words(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    let mut previous: Option<String> = None;
    let mut run: Vec<char> = Vec::new();
    let mut word = String::new();
    let flush_word = |word: &mut String, previous: &mut Option<String>, found: &mut Vec<u32>| {
        if word.is_empty() {
            return;
        }
        let taken = std::mem::take(word);
        found.push(hash(&["w", &taken]));
        if taken.len() > STEM {
            found.push(hash(&["s", &taken[..STEM]]));
        }
        if let Some(previous) = previous.as_deref() {
            found.push(hash(&["p", previous, " ", &taken]));
        }
        *previous = Some(taken);
    };
    let flush_run = |run: &mut Vec<char>, found: &mut Vec<u32>| {
        for length in 1..=CHARACTERS {
            found.extend(run.windows(length).map(|gram| hash(&["c", &gram.iter().collect::<String>()])));
        }
        run.clear();
    };
    for character in text.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_alphabetic() {
            flush_run(&mut run, &mut found);
            word.push(character);
            continue;
        }
        flush_word(&mut word, &mut previous, &mut found);
        // Numbers tell products apart, not what they do.
        if character.is_alphabetic() {
            previous = None;
            run.push(character);
        } else {
            flush_run(&mut run, &mut found);
        }
    }
    flush_word(&mut word, &mut previous, &mut found);
    flush_run(&mut run, &mut found);
    found
}

/// The same, ascending and without repetition.
pub fn distinct_words(text: &str) -> Vec<u32> {
    let mut found = words(text);
    found.sort_unstable();
    found.dedup();
    found
}

/// FNV-1a (Fowler, Noll, Vo), 32 bits: stable across platforms and versions, unlike the standard library's hasher.
fn hash(parts: &[&str]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.bytes());
    bytes.fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(hash(&["a"]), 0xe40c_292c);
        assert_eq!(hash(&["foo", "bar"]), 0xbf9c_f968);
    }

    #[test]
    fn words_and_characters_give_n_grams() {
        // triage, triag-, patients, patie-, "triage patients".
        assert_eq!(words("Triage patients").len(), 5);
        // 预, 问, 诊, 预问, 问诊, 预问诊.
        assert_eq!(words("预问诊").len(), 6);
        assert_eq!(words("预问诊 2024"), words("预问诊"));
        assert!(words("12.5%").is_empty());
    }

    #[test]
    fn values_follow_the_formula() {
        // Buckets 1 (twice) and 2 with idf 1 and 2: 1 + ln 2 = 1.693 and 2, of length 2.620.
        let found = values(&[1, 2, 5], &[9.0, 1.0, 2.0, 9.0]);
        assert_eq!(counts(&[1, 2, 5], 4), [(1, 2), (2, 1)]);
        assert_eq!(found.iter().map(|(bucket, _)| *bucket).collect::<Vec<_>>(), [1, 2]);
        assert!((found[0].1 - 0.6462).abs() < 1e-4 && (found[1].1 - 0.7632).abs() < 1e-4, "{found:?}");
        assert!(values(&[], &[1.0]).is_empty());
        let model = WordModel { idf: vec![9.0, 1.0, 2.0, 9.0], weights: vec![0.0, 1.0, -1.0, 0.0], bias: vec![0.5] };
        let mut scores = [1.0];
        model.add(&[1, 2, 5], &mut scores);
        assert!((scores[0] - (1.5 + 0.6462 - 0.7632)).abs() < 1e-4, "{scores:?}");
    }
}
