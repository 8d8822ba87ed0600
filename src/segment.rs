//! Splits a text into clauses, the pieces that carry evidence. What comes out are places in the text, never copies.

use serde::{Deserialize, Serialize};

/// A stretch of a text, in bytes and in characters (Unicode scalar values), both half-open from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clause {
    /// First byte.
    pub byte_start: usize,
    /// One past the last byte.
    pub byte_end: usize,
    /// First character.
    pub char_start: usize,
    /// One past the last character.
    pub char_end: usize,
}

/// A stretch of a text as outputs carry it: characters (Unicode scalar values), half-open from 0, and the text itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
    /// The characters between.
    pub text: String,
}

impl Clause {
    /// The clause of `text` as a span.
    pub fn span(&self, text: &str) -> Span {
        Span { start: self.char_start, end: self.char_end, text: text[self.byte_start..self.byte_end].to_owned() }
    }
}

/// Clauses of a text, in order and without overlap. They leave out only separators, the conjunction and white space; a text that has
/// anything else has at least one clause.
///
/// A clause ends at a sentence or clause mark, a bracket, a line end, or the English word "and" in lower case between white
/// space, which joins uses as `、` does in Chinese. Marks inside numbers (`97.5`, `1,000`) and full stops within words (`v2.0`, `e.g`) do not
/// end one.
pub fn clauses(text: &str) -> Vec<Clause> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    let mut last = (0, 0);
    let mut previous = ' ';
    let mut characters = text.char_indices().enumerate().peekable();
    while let Some((at, (byte, character))) = characters.next() {
        let next = characters.peek().map_or(' ', |&(_, (_, next))| next);
        let conjunction = previous.is_whitespace() && begins_with_conjunction(&text[byte..]);
        if conjunction || separates(previous, character, next) {
            if let Some((byte_start, char_start)) = open.take() {
                found.push(Clause { byte_start, byte_end: last.0, char_start, char_end: last.1 });
            }
        } else if !character.is_whitespace() {
            open.get_or_insert((byte, at));
            last = (byte + character.len_utf8(), at + 1);
        }
        previous = character;
        if conjunction {
            // The rest of the word.
            characters.by_ref().take(CONJUNCTION.len() - 1).for_each(drop);
        }
    }
    if let Some((byte_start, char_start)) = open {
        found.push(Clause { byte_start, byte_end: last.0, char_start, char_end: last.1 });
    }
    if found.is_empty() && !text.trim().is_empty() {
        // Nothing but marks and conjunctions: the text is its own clause.
        let (start, trimmed) = (text.len() - text.trim_start().len(), text.trim());
        let char_start = text[..start].chars().count();
        let char_end = char_start + trimmed.chars().count();
        found.push(Clause { byte_start: start, byte_end: start + trimmed.len(), char_start, char_end });
    }
    found
}

/// The word that ends a clause.
const CONJUNCTION: &str = "and";

/// Whether a text begins with the conjunction as a word.
fn begins_with_conjunction(text: &str) -> bool {
    text.strip_prefix(CONJUNCTION).is_some_and(|rest| rest.starts_with(char::is_whitespace))
}

fn separates(previous: char, character: char, next: char) -> bool {
    match character {
        '。' | '！' | '？' | '；' | '，' | '、' | '：' | '!' | '?' | ';' | '\n' | '\r' | '|' => true,
        '（' | '）' | '(' | ')' | '【' | '】' | '[' | ']' | '《' | '》' | '“' | '”' | '「' | '」' => true,
        '.' => next.is_whitespace() || !next.is_ascii_alphanumeric() && !previous.is_ascii_digit(),
        ',' | ':' => !(previous.is_ascii_digit() && next.is_ascii_digit()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(text: &str) -> Vec<String> {
        clauses(text).iter().map(|clause| clause.span(text).text).collect()
    }

    #[test]
    fn clauses_end_at_marks_of_both_languages() {
        assert_eq!(
            texts("用于导诊、预问诊，准确率97.5%。未来拓展（随访）"),
            ["用于导诊", "预问诊", "准确率97.5%", "未来拓展", "随访"]
        );
        assert_eq!(
            texts("Triage, v2.0; trained on 1,000 notes. Writes records."),
            ["Triage", "v2.0", "trained on 1,000 notes", "Writes records"]
        );
    }

    #[test]
    fn and_ends_a_clause_where_it_stands_alone() {
        assert_eq!(
            texts("Writes records and\tchecks standards, and android hands. And more and"),
            ["Writes records", "checks standards", "android hands", "And more and"]
        );
        assert_eq!(texts("and "), ["and"]);
    }

    #[test]
    fn a_text_of_marks_is_one_clause_and_blank_text_none() {
        assert_eq!(texts(" ……。。 ").len(), 1);
        assert_eq!(texts("。"), ["。"]);
        assert!(texts(" \n\t").is_empty());
    }

    proptest! {
        #[test]
        fn clauses_are_ordered_and_lie_on_characters(text in "([a-z0-9 ,.;\n\u{3002}\u{ff0c}\u{4e00}-\u{4e10}\u{1f600}]| and ){0,80}") {
            let found = clauses(&text);
            prop_assert_eq!(found.is_empty(), text.trim().is_empty());
            let mut end = 0;
            for clause in found {
                prop_assert!(end <= clause.char_start && clause.char_start < clause.char_end);
                let by_characters: String = text.chars().skip(clause.char_start).take(clause.char_end - clause.char_start).collect();
                prop_assert_eq!(clause.span(&text).text, by_characters);
                end = clause.char_end;
            }
        }
    }
}
