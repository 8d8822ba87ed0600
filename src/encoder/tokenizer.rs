//! Text to windows of token ids, and hidden states of windows back to one sequence per text.

use tokenizers::Tokenizer;

use super::TextStates;

/// Token ids of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedText {
    /// Bytes of the text that each content token stands for.
    pub offsets: Vec<(usize, usize)>,
    /// Overlapping windows that together cover all content tokens; at least one, also for an empty text.
    pub windows: Vec<Window>,
    prefix: usize,
}

/// Token ids of one window, special tokens included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// First content token.
    pub start: usize,
    /// One past the last content token.
    pub end: usize,
    /// Ids, special tokens included.
    pub ids: Vec<u32>,
}

/// A tokenizer with the window that its checkpoint allows.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    content: usize,
    truncate: bool,
}

impl TextTokenizer {
    /// Wraps a tokenizer for windows of `max_tokens` tokens, special tokens included. With `truncate` only the first
    /// window of a text is kept, as other libraries do.
    ///
    /// # Errors
    /// A sentence, when the window has no room for content or the tokenizer does not work.
    pub fn new(mut tokenizer: Tokenizer, max_tokens: usize, truncate: bool) -> Result<TextTokenizer, String> {
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        // The checkpoint's own post-processor says which special tokens surround a text.
        let probe = tokenizer.encode("1", true).map_err(|error| error.to_string())?;
        let special = probe.get_special_tokens_mask();
        let before = special.iter().take_while(|&&mark| mark == 1).count();
        let after = special.iter().rev().take_while(|&&mark| mark == 1).count();
        let ids = probe.get_ids();
        if before + after >= ids.len() {
            return Err("the tokenizer yields no token for the text `1`".to_owned());
        }
        let (prefix, suffix) = (ids[..before].to_vec(), ids[ids.len() - after..].to_vec());
        let content = max_tokens.saturating_sub(before + after);
        if content < 2 {
            return Err(format!(
                "a window of {max_tokens} tokens has no room beside {} special tokens",
                before + after
            ));
        }
        Ok(TextTokenizer { tokenizer, prefix, suffix, content, truncate })
    }

    /// Highest token id, added tokens included.
    pub fn highest_id(&self) -> u32 {
        self.tokenizer.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// Id of the mask token, where the vocabulary has one.
    pub fn mask_token(&self) -> Option<u32> {
        ["[MASK]", "<mask>"].iter().find_map(|token| self.tokenizer.token_to_id(token))
    }

    /// Special tokens before a text.
    pub fn prefix_len(&self) -> usize {
        self.prefix.len()
    }

    /// Most tokens of a window, special tokens included.
    pub fn window(&self) -> usize {
        self.content + self.prefix.len() + self.suffix.len()
    }

    /// Token ids of a text. A text longer than a window is cut into windows that overlap by half.
    ///
    /// # Panics
    /// If the tokenizer fails on valid UTF-8, which would be a bug in it.
    pub fn tokenize(&self, text: &str) -> TokenizedText {
        let encoding = self.tokenizer.encode(text, false).expect("a loaded tokenizer accepts any text");
        let (mut ids, mut offsets) = (encoding.get_ids(), encoding.get_offsets());
        if self.truncate {
            ids = &ids[..ids.len().min(self.content)];
            offsets = &offsets[..ids.len()];
        }
        let mut windows = Vec::new();
        let mut start = 0;
        loop {
            let end = (start + self.content).min(ids.len());
            let ids = [&self.prefix, &ids[start..end], &self.suffix].concat();
            windows.push(Window { start, end, ids });
            if end == offsets.len() {
                break;
            }
            start += self.content / 2;
        }
        TokenizedText { offsets: offsets.to_vec(), windows, prefix: self.prefix.len() }
    }
}

impl TokenizedText {
    /// Token ids of each window, special tokens included.
    pub(super) fn windows(&self) -> impl Iterator<Item = &[u32]> {
        self.windows.iter().map(|window| window.ids.as_slice())
    }

    /// Tokens of all windows.
    pub(super) fn window_tokens(&self) -> usize {
        self.windows().map(<[u32]>::len).sum()
    }

    /// The states of the text's own tokens, rows of `width`, among those of its window; `None` where it has several windows.
    pub(super) fn of_one_window<'a>(&'a self, states: &'a [f32], width: usize) -> Option<TextStates<'a>> {
        let rows = self.prefix..self.prefix + self.offsets.len();
        (self.windows.len() == 1)
            .then(|| TextStates { offsets: &self.offsets, states: &states[rows.start * width..rows.end * width] })
    }

    /// Joins hidden states of the windows, rows of `width`: each token takes its state from the window in which it stands
    /// farthest from an edge, and so sees most context.
    pub(super) fn assemble(&self, states: &[Vec<f32>], width: usize) -> Vec<f32> {
        let mut joined = vec![0.0; self.offsets.len() * width];
        let mut best = vec![None; self.offsets.len()];
        for (window, states) in self.windows.iter().zip(states) {
            for token in window.start..window.end {
                let distance = (token - window.start).min(window.end - 1 - token);
                if best[token].is_none_or(|known| distance > known) {
                    best[token] = Some(distance);
                    let row = (self.prefix + token - window.start) * width;
                    joined[token * width..(token + 1) * width].copy_from_slice(&states[row..row + width]);
                }
            }
        }
        joined
    }
}
