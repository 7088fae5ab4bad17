//! How probable the pieces were, in the forms of chats and of completions.
//!
//! Log-probabilities are natural, of the fused distribution under the constraint and before the
//! penalties and the temperature.

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::fields::{Checked, at_least};
use crate::{
    engine::{Logprobs, Piece, Score, ScoredAlternative, ScoredPiece, UnionId, UnionVocab, Vote},
    server::ApiError,
};

/// As OpenAI's API has it.
const MAX_TOP_LOGPROBS: usize = 20;

/// The log-probabilities that a chat or a response asks for; `by` is how it would.
pub(in crate::server) fn asked(
    wanted: bool,
    by: &str,
    top: Option<i64>,
    common: &Checked,
) -> Result<Option<Logprobs>, ApiError> {
    let top = at_least("top_logprobs", top.unwrap_or(0), 0)?;
    if top > MAX_TOP_LOGPROBS {
        let reason = format!("is {top}; at most {MAX_TOP_LOGPROBS} are served");
        return Err(ApiError::invalid("top_logprobs", reason));
    }
    if top > 0 && !wanted {
        return Err(ApiError::invalid("top_logprobs", format!("is only allowed with `{by}`")));
    }
    let members = common.attribution;
    Ok(wanted.then_some(Logprobs { top, members, ..Logprobs::default() }))
}

/// What stands for minus infinity, which JSON has not; OpenAI's API uses the same.
const LEAST: f32 = -9999.0;
/// The word for the end of the text, which has no bytes.
pub(in crate::server) const END: &str = "<|end|>";

/// Of a chat's choice, or of one of its chunks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::server) struct ChatLogprobs {
    pub(in crate::server) content: Vec<Token>,
    #[schema(value_type = Option<String>)]
    refusal: Option<()>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::server) struct Token {
    #[serde(flatten)]
    own: Alternative,
    top_logprobs: Vec<Alternative>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberVote>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct Alternative {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
}

/// What one member gave a piece: its own probability, null if it did not run.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct MemberVote {
    model: String,
    weight: f32,
    probability: Option<f32>,
}

impl ChatLogprobs {
    pub(in crate::server) fn new(
        pieces: &[ScoredPiece],
        union: &UnionVocab,
        members: &[String],
    ) -> Self {
        let token = |piece: &ScoredPiece| Token {
            own: alternative(union, piece.id, &piece.bytes, piece.score.logprob),
            top_logprobs: top(&piece.score, union),
            members: votes(&piece.score, members),
        };
        // As OpenAI's API has it, a chat's end is not told.
        let content = pieces.iter().filter(|piece| piece.id != union.end()).map(token).collect();
        Self { content, refusal: None }
    }
}

/// Of a completion's choice, or of one of its chunks: lists side by side, one entry for each token
/// of the usage. The end of the text is one of them, the empty string: lm-eval counts on the last
/// entry being what was generated after the text that it scores.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(in crate::server) struct TextLogprobs {
    text_offset: Vec<usize>,
    token_logprobs: Vec<Option<f32>>,
    tokens: Vec<String>,
    /// A piece's own is always among its alternatives. Null for the first of a text.
    #[schema(value_type = Vec<Option<BTreeMap<String, f32>>>)]
    top_logprobs: Vec<Option<Ranked>>,
    /// None of the first of a text. Absent if they were not asked for.
    #[serde(skip_serializing_if = "told_nothing")]
    members: Vec<Vec<MemberVote>>,
}

impl TextLogprobs {
    /// `offset` is where the pieces begin in the text, in characters.
    pub(in crate::server) fn new(
        pieces: &[ScoredPiece],
        union: &UnionVocab,
        members: &[String],
        mut offset: usize,
    ) -> Self {
        let mut told = Self::default();
        for piece in pieces {
            let mut own = alternative(union, piece.id, &piece.bytes, piece.score.logprob);
            if piece.id == union.end() {
                // The tokens, joined, are the text.
                own.token.clear();
            }
            told.text_offset.push(offset);
            offset += characters(&piece.bytes);
            told.token_logprobs.push(piece.score.logprob.map(finite));
            told.top_logprobs.push(piece.score.logprob.map(|_| {
                let others = top(&piece.score, union);
                let others = others.into_iter().filter(|other| other.token != own.token);
                Ranked(std::iter::once(own.clone()).chain(others).collect())
            }));
            told.tokens.push(own.token);
            told.members.push(votes(&piece.score, members));
        }
        told
    }
}

fn told_nothing(members: &[Vec<MemberVote>]) -> bool {
    members.iter().all(Vec::is_empty)
}

/// An object of tokens and their log-probabilities, which are the same numbers to the digit as
/// everywhere else.
#[derive(Clone, Debug)]
struct Ranked(Vec<Alternative>);

impl Serialize for Ranked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|one| (&one.token, one.logprob)))
    }
}

/// The characters that begin in these bytes.
pub(in crate::server) fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

fn top(score: &Score, union: &UnionVocab) -> Vec<Alternative> {
    let one = |other: &ScoredAlternative| {
        let bytes: &[u8] = match union.piece(other.id) {
            Piece::Bytes(bytes) => bytes,
            Piece::End => &[],
        };
        alternative(union, other.id, bytes, Some(other.logprob))
    };
    score.top.iter().map(one).collect()
}

fn alternative(union: &UnionVocab, id: UnionId, bytes: &[u8], logprob: Option<f32>) -> Alternative {
    let logprob = finite(logprob.unwrap_or(LEAST));
    if id == union.end() {
        return Alternative { token: END.to_owned(), logprob, bytes: None };
    }
    Alternative { token: token_text(bytes), logprob, bytes: Some(bytes.to_vec()) }
}

/// A piece that is no whole characters is spelled as OpenAI's API spells it.
pub(in crate::server) fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let spelled = bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", spelled.collect::<String>())
        }
    }
}

fn votes(score: &Score, members: &[String]) -> Vec<MemberVote> {
    let named = members.iter().zip(&score.members);
    let vote = |(model, vote): (&String, &Vote)| MemberVote {
        model: model.clone(),
        weight: vote.weight,
        probability: vote.probability,
    };
    named.map(vote).collect()
}

fn finite(logprob: f32) -> f32 {
    logprob.max(LEAST)
}
