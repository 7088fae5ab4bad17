//! What a tokenizer is built from, wherever it was written down.

use std::fmt;

use super::PreTokenizer;
use crate::vocab::TokenId;

/// A tokenizer, spelled out. Files are read into this; tests write it by hand.
#[derive(Clone, Debug)]
pub struct TokenizerSpec {
    /// In id order.
    pub tokens: Vec<SpecToken>,
    /// Pairs of token bytes, first merged first; each pair joined is a token. `SentencePiece` with
    /// scores has none.
    pub merges: Vec<MergePair>,
    pub algorithm: Algorithm,
    /// Tokens that end a text, whatever their role.
    pub stops: Vec<TokenId>,
    pub bos: Option<TokenId>,
    pub eos: Option<TokenId>,
    /// Whether a prompt begins with `bos`.
    pub add_bos: bool,
    /// Jinja source.
    pub chat_template: Option<String>,
}

/// How plain text becomes tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Algorithm {
    /// Text is cut into pre-tokens, and the bytes of each are merged.
    ByteLevel {
        pre_tokenizer: PreTokenizer,
        /// A whole pre-token that is a token is taken as it is, merges or not.
        ignore_merges: bool,
    },
    /// The characters of the whole text are merged; what is no token is spelled in byte tokens.
    SentencePiece {
        /// One for each token: the pair that makes the token of the highest score is merged first.
        /// `None` where `merges` say it.
        scores: Option<Vec<f32>>,
        dummy_space: DummySpace,
    },
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByteLevel { pre_tokenizer, .. } => {
                write!(f, "byte-level BPE, cut as {}", pre_tokenizer.name())
            }
            Self::SentencePiece { .. } => f.write_str("SentencePiece BPE"),
        }
    }
}

/// Where a prompt's text gets a space that is not part of it, so that its first word is the token
/// that the word is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DummySpace {
    Never,
    /// Before the text that a prompt begins with, unless it begins with a space.
    First,
    /// Before every text: at the beginning and after each special token.
    Every,
}

/// The bytes of two tokens that become one.
pub type MergePair = (Vec<u8>, Vec<u8>);

/// One token's own bytes (for a special one, its name's) and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecToken {
    pub bytes: Vec<u8>,
    pub role: TokenRole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRole {
    /// Text is encoded into these.
    Normal,
    /// Stands for its bytes when a model generates it and is read in templates, but no text is
    /// encoded into it (`<tool_call>`).
    Added,
    /// Read in templates, stands for no text (`<|im_start|>`).
    Control,
    /// Reserved.
    Unused,
    /// Text is cut at these before anything is merged (runs of newlines, `<table>`);
    /// `SentencePiece` only.
    Verbatim,
    /// Stands for one byte of what no other token spells (`<0x0A>`); `SentencePiece` only.
    Byte,
}

impl TokenizerSpec {
    /// Byte-level, without merges, stops, BOS or template.
    pub fn new(tokens: Vec<SpecToken>, pre_tokenizer: PreTokenizer) -> Self {
        Self::with(tokens, Algorithm::ByteLevel { pre_tokenizer, ignore_merges: false })
    }

    /// Without merges, stops, BOS or template.
    pub fn with(tokens: Vec<SpecToken>, algorithm: Algorithm) -> Self {
        Self {
            tokens,
            merges: Vec::new(),
            algorithm,
            stops: Vec::new(),
            bos: None,
            eos: None,
            add_bos: false,
            chat_template: None,
        }
    }

    /// Makes those tokens mere `Added` ones that are marks of a conversation by another name: text
    /// must not be encoded into what ends a turn. Vocabularies that were given the marks of `ChatML`
    /// later often list them as ordinary user-defined pieces.
    pub(super) fn settle_verbatim(&mut self) {
        let template = self.chat_template.as_deref().unwrap_or_default();
        for token in &mut self.tokens {
            if token.role == TokenRole::Verbatim
                && let Ok(name) = str::from_utf8(&token.bytes)
                && !name.trim().is_empty()
                && (template.contains(name) || (name.starts_with("<|") && name.ends_with("|>")))
            {
                token.role = TokenRole::Added;
            }
        }
    }

    /// Makes marks that a model writes so that others read them `Added` ones, where the file has them
    /// as control tokens: a call of a function could not be written without.
    pub(super) fn let_marks_be_written(&mut self) {
        for token in &mut self.tokens {
            let written = WRITTEN_MARKS.iter().any(|name| name.as_bytes() == token.bytes);
            if token.role == TokenRole::Control && written {
                token.role = TokenRole::Added;
            }
        }
    }

    /// Adds to `stops` the end tokens that go by a well-known name; files name only one or two.
    pub(super) fn add_well_known_stops(&mut self) {
        for (id, token) in (0..).map(TokenId).zip(&self.tokens) {
            let known = token.role == TokenRole::Control
                && WELL_KNOWN_STOPS.iter().any(|name| name.as_bytes() == token.bytes);
            if known && !self.stops.contains(&id) {
                self.stops.push(id);
            }
        }
    }
}

impl SpecToken {
    pub fn new(bytes: impl Into<Vec<u8>>, role: TokenRole) -> Self {
        Self { bytes: bytes.into(), role }
    }
}

/// Mistral's. Llama 3 has `<|python_tag|>` too, but writes the same calls without.
const WRITTEN_MARKS: [&str; 3] = ["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"];

const WELL_KNOWN_STOPS: [&str; 8] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "</s>",
    "<end_of_turn>",
    "<eos>",
];
