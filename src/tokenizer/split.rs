//! Cuts bytes into pre-tokens: the pieces of text no token reaches across.
//!
//! Pure: no vocabulary and no ids.
//!
//! The patterns are those the models were trained with (GPT-2's `encoder.py`, Qwen2's and Llama
//! 3's `tokenizer.json`), except that their last two alternatives, `\s+(?!\S)|\s+`, are one `\s+`
//! here and the look-ahead is done by hand: a run of whitespace leaves its last character to the
//! word after it. A pattern without look-ahead needs no backtracking, whatever the text.
//!
//! Text need not be UTF-8. Each maximal invalid sequence is cut as U+FFFD would be. An incomplete
//! last character, as a generated text has between two tokens of one character, is cut as a likely
//! completion of it would be ([`completed`]). The cuts are always positions in the bytes given.

use std::{borrow::Cow, ops::Range};

use fancy_regex::Regex;

/// How a model cuts text before byte-pair merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PreTokenizer {
    /// Contractions, words, runs of digits, runs of symbols; each takes one space before it.
    Gpt2,
    /// Every digit alone, and between digits as GPT-2, which sees no text beyond them.
    SmolLm,
    /// Every digit alone, any character may lead a word, newlines stay together.
    Qwen2,
    /// As Qwen2, but digits in groups of up to three from the left.
    Llama3,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";

impl PreTokenizer {
    /// The published pattern with this kind's name in tokenizer files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt-2",
            Self::SmolLm => "smollm",
            Self::Qwen2 => "qwen2",
            Self::Llama3 => "llama-bpe",
        }
    }

    /// Whether `pattern` is the published one of this kind.
    pub(super) fn is_published(self, pattern: &str) -> bool {
        pattern
            .strip_suffix(r"|\s+(?!\S)|\s+")
            .is_some_and(|head| self.pattern() == format!(r"{head}|\s+"))
    }

    fn pattern(self) -> &'static str {
        match self {
            Self::Gpt2 | Self::SmolLm => GPT2,
            Self::Qwen2 => QWEN2,
            Self::Llama3 => LLAMA3,
        }
    }
}

/// One piece, and whether it is nothing but whitespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PreToken {
    pub(super) range: Range<usize>,
    pub(super) blank: bool,
}

#[derive(Debug)]
pub(super) struct Splitter {
    kind: PreTokenizer,
    regex: Regex,
}

impl Splitter {
    pub(super) fn new(kind: PreTokenizer) -> Self {
        let regex = Regex::new(kind.pattern()).expect("the patterns are constants that compile");
        Self { kind, regex }
    }

    /// The pre-tokens of `bytes`, in order, without gaps.
    pub(super) fn split(&self, bytes: &[u8]) -> Vec<PreToken> {
        let readable = Readable::new(bytes);
        let text: &str = &readable.text;
        let mut pieces = Vec::new();
        let (mut position, mut digit) = (0, 0);
        while position < text.len() {
            if self.kind == PreTokenizer::SmolLm && digit < position.max(1) {
                // Looked for once a fragment: each search may go to the end of the text.
                let found = text[position..].find(char::is_numeric);
                digit = found.map_or(text.len(), |at| position + at);
            }
            let end = self.end_of_first(text, position, digit);
            let blank = text[position..end].chars().all(char::is_whitespace);
            pieces.push(PreToken { range: readable.raw(position)..readable.raw(end), blank });
            position = end;
        }
        pieces
    }

    /// Where the pre-token that starts at `start` ends. `digit` is where the next one that stands
    /// alone is, or the end of the text.
    fn end_of_first(&self, text: &str, start: usize, digit: usize) -> usize {
        let text = match self.kind {
            PreTokenizer::SmolLm if digit == start => {
                return start + text[start..].chars().next().map_or(0, char::len_utf8);
            }
            PreTokenizer::SmolLm => &text[..digit],
            _ => text,
        };
        let end = self
            .regex
            .find_from_pos(text, start)
            .expect("a pattern without look-around never gives up")
            .expect("every character begins one of the alternatives")
            .end();
        match text[start..end].char_indices().next_back() {
            // Only the last alternative ends in whitespace, or, where newlines stay together, in
            // whitespace that is no newline.
            Some((last, c)) if last > 0 && end < text.len() && self.yields_to_a_word(c) => {
                start + last
            }
            _ => end,
        }
    }

    fn yields_to_a_word(&self, last: char) -> bool {
        match self.kind {
            PreTokenizer::Gpt2 | PreTokenizer::SmolLm => last.is_whitespace(),
            PreTokenizer::Qwen2 | PreTokenizer::Llama3 => {
                last.is_whitespace() && !matches!(last, '\r' | '\n')
            }
        }
    }
}

/// Bytes as text of the same characters, and the way back from its positions to theirs.
struct Readable<'a> {
    text: Cow<'a, str>,
    /// Behind each replaced sequence: the position in the text and the one in the bytes.
    jumps: Vec<(usize, usize)>,
}

impl<'a> Readable<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        if let Ok(text) = str::from_utf8(bytes) {
            return Self { text: Cow::Borrowed(text), jumps: Vec::new() };
        }
        let mut text = String::with_capacity(bytes.len() + 3);
        let mut jumps = Vec::new();
        let mut raw = 0;
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            raw += chunk.valid().len() + chunk.invalid().len();
            if !chunk.invalid().is_empty() {
                let last = raw == bytes.len();
                text.push(last.then(|| completed(chunk.invalid())).flatten().unwrap_or('\u{FFFD}'));
                jumps.push((text.len(), raw));
            }
        }
        Self { text: Cow::Owned(text), jumps }
    }

    /// The position in the bytes of a character border in the text.
    fn raw(&self, position: usize) -> usize {
        match self.jumps[..self.jumps.partition_point(|&(text, _)| text <= position)].last() {
            Some(&(text, raw)) => raw + (position - text),
            None => position,
        }
    }
}

/// A likely character that starts with `bytes`, if more bytes could make them one.
///
/// Most blocks have a typical member at continuation 0x90. The exceptions are the leads where that
/// is no character, `F0`, which in running text begins an emoji, and the blocks that have a digit
/// or a mark there: full-width punctuation, arrows, Thai and Arabic letters. With these, of Qwen2's
/// 1,255 tokens that end inside a character all but 7 are what their bytes are encoded to.
fn completed(bytes: &[u8]) -> Option<char> {
    let length = match bytes.first()? {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return None,
    };
    let mut whole = bytes.to_vec();
    while whole.len() < length {
        whole.push(match whole[..] {
            [0xE0] => 0xA4,
            [0xF0] => 0x9F,
            [0xF4] => 0x80,
            [0xEF, 0xBC] => 0x8C,
            [0xE2, 0x9E] => 0xA1,
            [0xE0, 0xB9] => 0x80,
            [0xD8] => 0xA7,
            _ => 0x90,
        });
    }
    str::from_utf8(&whole).ok()?.chars().next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [PreTokenizer; 4] =
        [PreTokenizer::Gpt2, PreTokenizer::SmolLm, PreTokenizer::Qwen2, PreTokenizer::Llama3];

    fn cut(kind: PreTokenizer, text: &str) -> Vec<&str> {
        Splitter::new(kind).split(text.as_bytes()).into_iter().map(|p| &text[p.range]).collect()
    }

    /// The published pattern, look-ahead and all, run by the backtracking engine.
    fn published(kind: PreTokenizer, text: &str) -> Vec<&str> {
        let head = kind.pattern().strip_suffix(r"|\s+").unwrap();
        let regex = Regex::new(&format!(r"{head}|\s+(?!\S)|\s+")).unwrap();
        let parts: Vec<&str> = match kind {
            PreTokenizer::SmolLm => {
                let digits = Regex::new(r"\p{N}|[^\p{N}]+").unwrap();
                digits.find_iter(text).map(|m| m.unwrap().as_str()).collect()
            }
            _ => vec![text],
        };
        parts
            .into_iter()
            .flat_map(|part| regex.find_iter(part).map(|m| m.unwrap().as_str()).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn a_run_of_spaces_leaves_one_to_the_word() {
        assert_eq!(cut(PreTokenizer::Gpt2, "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(cut(PreTokenizer::Qwen2, "a \n  b\t\tc"), ["a", " \n", " ", " b", "\t", "\tc"]);
    }

    #[test]
    fn digits_are_grouped_as_each_family_does() {
        assert_eq!(cut(PreTokenizer::Gpt2, "in 2026"), ["in", " 2026"]);
        assert_eq!(cut(PreTokenizer::SmolLm, "in 2026"), ["in", " ", "2", "0", "2", "6"]);
        assert_eq!(cut(PreTokenizer::Qwen2, "in 2026"), ["in", " ", "2", "0", "2", "6"]);
        assert_eq!(cut(PreTokenizer::Llama3, "in 2026"), ["in", " ", "202", "6"]);
    }

    #[test]
    fn the_published_patterns_are_recognised() {
        let qwen2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        assert!(PreTokenizer::Qwen2.is_published(qwen2));
        assert!(!PreTokenizer::Llama3.is_published(qwen2));
    }

    #[test]
    fn a_split_character_is_cut_as_the_whole_one() {
        let ends = |text: &[u8]| {
            let pieces = Splitter::new(PreTokenizer::Qwen2).split(text);
            pieces.into_iter().map(|p| p.range.end).collect::<Vec<_>>()
        };
        // A tick is a symbol and takes the space before it; a Chinese character continues a word.
        assert_eq!(ends(b"a \xe2\x9c"), [1, 4]);
        assert_eq!(ends("缩放".as_bytes()), [6]);
        assert_eq!(ends(&"缩放".as_bytes()[..5]), [5]);
        // An invalid byte in the middle is a symbol of its own width.
        assert_eq!(ends(b"a\xffb"), [1, 3]);
    }

    proptest! {
        #[test]
        fn the_cuts_are_those_of_the_published_patterns(
            text in "[a-cs '\u{2019}\n\r\t\u{a0}\u{3000}!|:\\-0-9\u{661}\u{2155}\u{301}缩é👍]{0,40}|.{0,40}",
        ) {
            for kind in KINDS {
                prop_assert_eq!(cut(kind, &text), published(kind, &text));
            }
        }

        #[test]
        fn pre_tokens_cover_any_bytes_without_gaps(bytes in any::<Vec<u8>>()) {
            for kind in KINDS {
                let mut position = 0;
                for piece in Splitter::new(kind).split(&bytes) {
                    prop_assert_eq!(piece.range.start, position);
                    prop_assert!(piece.range.end > position);
                    position = piece.range.end;
                }
                prop_assert_eq!(position, bytes.len());
            }
        }
    }
}
