//! How probable a piece was, for those who ask.
//!
//! Pure: ids and numbers.

use crate::vocab::UnionId;

/// What is told of each piece of the text.
///
/// Log-probabilities are natural, of the fused distribution at temperature 1 under the constraint:
/// before penalties and bias, `min_tokens`, temperature and the cuts of sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logprobs {
    /// How many of the most probable pieces are told beside the chosen one.
    pub top: usize,
    /// What each member gave the piece is told too.
    pub members: bool,
    /// The pieces of a raw prompt are told as well; of a conversation it is refused.
    pub prompt: bool,
}

/// What is told of one piece.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// `None` for a text's first piece, which nothing comes before.
    pub logprob: Option<f32>,
    /// The most probable pieces at this place, `End` included, most probable first; of equals the
    /// one first in byte order. Those that cannot come (mass 0) are left out.
    pub top: Vec<ScoredAlternative>,
    /// In the members' order, which is that of the model's card; empty unless asked for.
    pub members: Vec<Vote>,
}

/// A piece that might have come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredAlternative {
    /// Its bytes are in the union.
    pub id: UnionId,
    pub logprob: f32,
}

/// What one member gave a piece.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// Its share of the mixture at this step; 0 if it did not run.
    pub weight: f32,
    /// The member's own, at temperature 1 and before any constraint; `None` if it did not run.
    pub probability: Option<f32>,
}
