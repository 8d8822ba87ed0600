//! The words of a clause as hashed n-grams, beside its vector: names of functions that training saw once or twice are
//! easier to remember as words than as directions (the wide part of a wide-and-deep model, Cheng et al. 2016,
//! arXiv:1606.07792; hashing after Weinberger et al. 2009, arXiv:0902.2206).

/// Longest beginning of a word that stands for its inflections.
const STEM: usize = 5;

/// Hashes of a clause's n-grams, ascending and without repetition: words, their beginnings and pairs of Latin text; pairs
/// and triples of characters of other scripts.
pub fn grams(clause: &str) -> Vec<u32> {
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
        for length in [2, 3] {
            found.extend(run.windows(length).map(|gram| hash(&["c", &gram.iter().collect::<String>()])));
        }
        if let [one] = run[..] {
            found.push(hash(&["c", &one.to_string()]));
        }
        run.clear();
    };
    for character in clause.chars().flat_map(char::to_lowercase) {
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
    fn words_and_characters_give_grams() {
        // triage, triag-, patients, patie-, "triage patients".
        assert_eq!(grams("Triage patients").len(), 5);
        // 预问, 问诊, 预问诊.
        assert_eq!(grams("预问诊").len(), 3);
        assert_eq!(grams("预问诊 2024"), grams("预问诊"));
        assert!(grams("12.5%").is_empty());
    }
}
