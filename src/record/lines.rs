//! Decoded lines of a text file: detects the encoding, decodes as it reads, and bounds the length of a line.

use std::io::{BufRead, BufReader, Read};

use encoding_rs::{Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE};
use encoding_rs_io::DecodeReaderBytesBuilder;

/// Longest line kept, in bytes of UTF-8; the rest of a longer one is skipped.
pub(super) const MAX_LINE: usize = 16 << 20;

/// Guesses the encoding from the first bytes of a file (or all of them).
///
/// A byte order mark decides. Zeros in every other byte mean UTF-16 without one. Valid UTF-8, or UTF-8 with few
/// damaged places, is UTF-8; anything else is GB18030, the encoding of Chinese spreadsheets.
pub(super) fn detect(sample: &[u8]) -> &'static Encoding {
    if let Some((encoding, _)) = Encoding::for_bom(sample) {
        return encoding;
    }
    let (mut good, mut bad) = (0usize, 0usize);
    let mut rest = sample;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                good += multibyte(valid);
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                good += multibyte(std::str::from_utf8(valid).unwrap_or_default());
                // A sample may end inside a character.
                let Some(length) = error.error_len() else { break };
                bad += 1;
                rest = &after[length..];
            }
        }
    }
    // Chance makes about one in thirty pairs of GB18030 bytes look like UTF-8, hence the factor.
    let utf8 = bad == 0 || good > 4 * bad;
    // Chinese text in UTF-16 has few zero bytes, but separators and line ends have one each; other encodings have stray
    // ones at most. What reads as UTF-8 is UTF-16 only with the many zeros of Latin text.
    let zeros = |offset: usize| sample.iter().skip(offset).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let stray = if utf8 { sample.len() / 8 } else { (sample.len() / 2000).max(1) };
    if odd > 2 * even && odd > stray {
        return UTF_16LE;
    }
    if even > 2 * odd && even > stray {
        return UTF_16BE;
    }
    if utf8 { UTF_8 } else { GB18030 }
}

fn multibyte(text: &str) -> usize {
    text.chars().filter(|character| !character.is_ascii()).count()
}

/// Lines of a decoded text, with their numbers from 1.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    number: u64,
}

/// A line with its end, or the mark that it was longer than [`MAX_LINE`].
pub(super) enum Line {
    Text(String),
    TooLong,
}

impl Lines {
    /// Decodes `reader` from `encoding`; undecodable bytes become U+FFFD.
    pub(super) fn new(reader: impl Read + Send + 'static, encoding: &'static Encoding) -> Lines {
        let decoded = DecodeReaderBytesBuilder::new().encoding(Some(encoding)).strip_bom(true).build(reader);
        Lines { reader: Box::new(BufReader::with_capacity(1 << 16, decoded)), number: 0 }
    }

    /// The next line with its number; `None` at the end.
    pub(super) fn next(&mut self) -> std::io::Result<Option<(u64, Line)>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(MAX_LINE as u64).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read == MAX_LINE && bytes.last() != Some(&b'\n') {
            skip_to_newline(&mut self.reader)?;
            return Ok(Some((self.number, Line::TooLong)));
        }
        Ok(Some((self.number, Line::Text(String::from_utf8_lossy(&bytes).into_owned()))))
    }
}

fn skip_to_newline(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encodings_of_chinese_tables_are_told_apart() {
        let text = "编号,描述\n1,用于门诊分诊和预问诊的大模型\n2,rare disease\n";
        let utf16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        assert_eq!(detect(text.as_bytes()), UTF_8);
        assert_eq!(detect(format!("\u{feff}{text}").as_bytes()), UTF_8);
        assert_eq!(detect(&GB18030.encode(text).0), GB18030);
        assert_eq!(detect(&utf16(u16::to_le_bytes)), UTF_16LE);
        assert_eq!(detect(&utf16(u16::to_be_bytes)), UTF_16BE);
        assert_eq!(detect(b"id,text\n1,plain ASCII\n"), UTF_8);
    }

    #[test]
    fn one_damaged_byte_does_not_turn_utf8_into_gb18030() {
        let mut bytes = "描述\n用于门诊分诊和预问诊的大模型\n".as_bytes().to_vec();
        bytes.extend(b"a broken byte: \xff\n");
        assert_eq!(detect(&bytes), UTF_8);
    }

    #[test]
    fn a_stray_zero_byte_does_not_turn_a_table_into_utf16() {
        let text = "编号,描述\n1,用于门诊分诊和预问诊的大模型\n";
        for at in 0..2 {
            let mut utf8 = text.as_bytes().to_vec();
            utf8.insert(14 + at, 0);
            assert_eq!(detect(&utf8), UTF_8);
            let mut gb18030 = GB18030.encode(text).0.into_owned();
            gb18030.insert(10 + at, 0);
            assert_eq!(detect(&gb18030), GB18030);
        }
    }

    #[test]
    fn long_chinese_lines_in_utf16_are_recognised_by_their_ends() {
        let text = format!("{}\n", "用于门诊分诊和预问诊的大模型，".repeat(30)).repeat(9);
        assert_eq!(detect(&text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()), UTF_16LE);
        assert_eq!(detect(&text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>()), UTF_16BE);
    }

    proptest! {
        #[test]
        fn lines_of_any_text_join_to_the_text(text in "[a-z\u{4e00}-\u{4e20}\n\r,\"]{0,200}") {
            let mut lines = Lines::new(std::io::Cursor::new(text.clone().into_bytes()), UTF_8);
            let mut joined = String::new();
            while let Some((_, line)) = lines.next().expect("memory reads") {
                let Line::Text(line) = line else { panic!("short lines only") };
                joined += &line;
            }
            prop_assert_eq!(joined, text);
        }
    }
}
