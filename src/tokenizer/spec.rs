//! What a tokenizer is built from, wherever it was written down.

use super::PreTokenizer;
use crate::vocab::TokenId;

/// A byte-level BPE tokenizer, spelled out. Files are read into this; tests write it by hand.
#[derive(Clone, Debug)]
pub struct TokenizerSpec {
    /// In id order.
    pub tokens: Vec<SpecToken>,
    /// Pairs of token bytes, first merged first; each pair joined is a token.
    pub merges: Vec<MergePair>,
    pub pre_tokenizer: PreTokenizer,
    /// A whole pre-token that is a token is taken as it is, merges or not.
    pub ignore_merges: bool,
    /// Tokens that end a text, whatever their role.
    pub stops: Vec<TokenId>,
    pub bos: Option<TokenId>,
    pub eos: Option<TokenId>,
    /// Whether a prompt begins with `bos`.
    pub add_bos: bool,
    /// Jinja source.
    pub chat_template: Option<String>,
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
}

impl TokenizerSpec {
    /// Without stops, BOS or template.
    pub fn new(tokens: Vec<SpecToken>, pre_tokenizer: PreTokenizer) -> Self {
        Self {
            tokens,
            merges: Vec::new(),
            pre_tokenizer,
            ignore_merges: false,
            stops: Vec::new(),
            bos: None,
            eos: None,
            add_bos: false,
            chat_template: None,
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

const WELL_KNOWN_STOPS: [&str; 6] =
    ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "</s>"];
