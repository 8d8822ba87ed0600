//! How far two sets of spans mark the same words of a text: F1 over tokens, as rationales are compared (DeYoung et al.
//! 2020, "ERASER", arXiv:1911.03429).

/// Bytes of a text, half-open.
pub type Range = (usize, usize);

/// F1 of the tokens under two sets of ranges; `None` where neither covers a token.
///
/// A token is a run of letters and digits, or one character of a script that is written without spaces, so that the
/// figure means the same in Chinese and English.
pub fn token_f1(text: &str, one: &[Range], other: &[Range]) -> Option<f64> {
    let covered = |&(start, end): &Range, ranges: &[Range]| ranges.iter().any(|range| range.0 < end && range.1 > start);
    let (mut both, mut total) = (0usize, 0usize);
    for token in tokens(text) {
        let (first, second) = (covered(&token, one), covered(&token, other));
        both += usize::from(first && second);
        total += usize::from(first) + usize::from(second);
    }
    (total > 0).then(|| 2.0 * both as f64 / total as f64)
}

fn tokens(text: &str) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    let mut open = false;
    for (start, character) in text.char_indices() {
        let end = start + character.len_utf8();
        let spaced = character.is_alphanumeric() && !unspaced(character);
        match found.last_mut() {
            Some(last) if open && spaced => last.1 = end,
            _ if character.is_alphanumeric() => found.push((start, end)),
            _ => {}
        }
        open = spaced;
    }
    found
}

/// Han, Hiragana, Katakana and Thai: their words are not set apart.
fn unspaced(character: char) -> bool {
    matches!(character, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_han_characters_are_tokens() {
        let text = "用GPT-4 reads CT。";
        let words: Vec<&str> = tokens(text).into_iter().map(|(start, end)| &text[start..end]).collect();
        assert_eq!(words, ["用", "GPT", "4", "reads", "CT"]);
    }

    #[test]
    fn overlap_by_hand() {
        let text = "drafts the report";
        // {drafts, the} against {the, report}: one in common of two and two.
        assert_eq!(token_f1(text, &[(0, 10)], &[(7, 17)]), Some(0.5));
        assert_eq!(token_f1(text, &[(0, 17)], &[(0, 17)]), Some(1.0));
        assert_eq!(token_f1(text, &[(0, 6)], &[(11, 17)]), Some(0.0));
        assert_eq!(token_f1(text, &[], &[]), None);
        // 起草 against 起草报告: 2 * 2 / (2 + 4).
        assert_eq!(token_f1("起草报告", &[(0, 6)], &[(0, 12)]), Some(2.0 / 3.0));
    }
}
