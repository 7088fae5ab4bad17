//! The two ways from plain text to ids, as one: parts that do not depend on one another, and the
//! tokens of a part.
//!
//! Knows bytes and ids.

use super::{
    Algorithm, TokenRole, TokenizerError, TokenizerSpec,
    bpe::Bpe,
    sentencepiece::SentencePiece,
    split::{PreToken, Splitter},
};
use crate::vocab::TokenId;

#[derive(Debug)]
pub(super) enum Encoder {
    ByteLevel(Splitter, Box<Bpe>),
    SentencePiece(SentencePiece),
}

impl Encoder {
    pub(super) fn new(spec: &TokenizerSpec) -> Result<Self, TokenizerError> {
        match &spec.algorithm {
            Algorithm::ByteLevel { pre_tokenizer, ignore_merges } => {
                let text_tokens = (0..).map(TokenId).zip(&spec.tokens).filter_map(|(id, token)| {
                    let text = token.role == TokenRole::Normal
                        && !token.bytes.is_empty()
                        && !spec.stops.contains(&id);
                    text.then_some((id, &token.bytes[..]))
                });
                let bpe = Bpe::new(text_tokens, &spec.merges, *ignore_merges)?;
                Ok(Self::ByteLevel(Splitter::new(*pre_tokenizer), Box::new(bpe)))
            }
            Algorithm::SentencePiece { scores, .. } => {
                let model = SentencePiece::new(spec, scores.as_deref())?;
                Ok(Self::SentencePiece(model))
            }
        }
    }

    /// The bytes that no token stands for, in order.
    pub(super) fn missing(&self) -> &[u8] {
        match self {
            Self::ByteLevel(_, bpe) => bpe.missing(),
            Self::SentencePiece(model) => model.missing(),
        }
    }

    /// The parts of a text that no token reaches across, in order, without gaps.
    pub(super) fn split(&self, text: &[u8]) -> Vec<PreToken> {
        match self {
            Self::ByteLevel(splitter, _) => splitter.split(text),
            Self::SentencePiece(model) => model.split(text),
        }
    }

    /// Calls `emit` with each token of a part and where in it the token starts.
    pub(super) fn encode(&self, part: &[u8], emit: impl FnMut(TokenId, usize)) {
        match self {
            Self::ByteLevel(_, bpe) => bpe.encode(part, emit),
            Self::SentencePiece(model) => model.encode(part, emit),
        }
    }
}
