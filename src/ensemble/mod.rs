//! One token step of several models: forward, project, mix, choose, commit (GaC, arXiv
//! 2406.12585, on bytes).
//!
//! Knows no HTTP, no serde and no queues.
//!
//! A step runs every member on its own tokens of the same text, turns its logits into
//! probabilities at temperature 1, and adds them, weighted, into one distribution over the
//! [union vocabulary](crate::vocab). The constraint and the sampling parameters apply to that
//! distribution. The bytes of the piece it yields are then committed to every member:
//!
//! - Where the members have different tokenizers, a member's context is the canonical tokenization
//!   of the text so far. Appended bytes can change its last few tokens; [`KvCache::sync`] rolls
//!   back exactly those.
//! - Where all members share one tokenizer, the piece is a token of each of them and is appended
//!   as it is, canonical or not: one member, or n copies of one, then are that model, token by
//!   token.
//!
//! A member of weight 0 is never run.

mod load;
mod pieces;
mod prefix;
mod score;
mod sequence;
#[cfg(test)]
mod tests;
mod workspace;

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

pub use load::{LoadError, LoadedModel, MapOrigin, load_ensemble, load_model};
pub use prefix::Prefixes;
pub use score::{Logprobs, Score, ScoredAlternative, Vote};
pub use sequence::{Sequence, StartError};
pub use workspace::{Times, Workspace};

use prefix::Start;

use crate::{
    constrain::{ConstrainError, Grammars},
    model::{self, LanguageModel, ModelError, Row, Want},
    tokenizer::{
        TokenKind, Tokenizer,
        chat::{Message, Tool},
    },
    vocab::{Piece, TokenId, UnionId, UnionVocab, VocabMap},
};

/// One model of an ensemble.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub model: Arc<dyn LanguageModel>,
    pub tokenizer: Arc<Tokenizer>,
    /// Its share of the mixture, relative to the other members'.
    pub weight: f32,
}

/// Members with a union vocabulary. Immutable: everything of one generation is in its
/// [`Sequence`].
pub struct Ensemble {
    members: Vec<Member>,
    maps: Vec<VocabMap>,
    union: UnionVocab,
    /// If all members share one tokenizer: its token for each piece but `End`.
    shared_tokens: Option<Vec<Option<TokenId>>>,
    grammars: OnceLock<Grammars>,
}

/// What one step did for one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Some member has not seen the whole text yet; nothing was chosen.
    Prefill,
    /// This piece was chosen and, unless it is `End`, committed to every member.
    Chose(UnionId),
}

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("`{member}` failed: {source}")]
    Member { member: String, source: ModelError },
    #[error("`{member}` gave logits that are not numbers")]
    NotFinite { member: String },
    #[error("the mixture has no mass")]
    NoMass,
    #[error(transparent)]
    Constraint(#[from] ConstrainError),
}

/// Rows of up to this many tokens are decode rows: a chosen piece and what re-tokenization rolled
/// back. They are never put off; longer ones share the step's prefill budget.
const DECODE_ROW: usize = 16;

impl Ensemble {
    /// Builds the union of the members' vocabularies; members of weight 0 are left out. The other
    /// weights are scaled to sum to 1.
    ///
    /// # Panics
    /// If no weight is above 0, or one is negative or not a number.
    pub fn new(members: Vec<Member>) -> Self {
        let members = weighted(members);
        let vocabularies: Vec<_> = members.iter().map(vocabulary).collect();
        let (union, maps) = UnionVocab::build(&vocabularies);
        Self::with_union(members, union, maps)
    }

    /// `members` are as [`weighted`] gives them, and `maps` are theirs.
    fn with_union(members: Vec<Member>, union: UnionVocab, maps: Vec<VocabMap>) -> Self {
        let first = members[0].tokenizer.fingerprint();
        let shared = members.iter().all(|member| member.tokenizer.fingerprint() == first);
        let shared_tokens = shared.then(|| tokens_of(&union, &maps[0]));
        Self { members, maps, union, shared_tokens, grammars: OnceLock::new() }
    }

    /// The members that run, in order, weights summing to 1.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn union(&self) -> &UnionVocab {
        &self.union
    }

    /// Each member's map into the union, in the members' order.
    pub fn maps(&self) -> &[VocabMap] {
        &self.maps
    }

    /// The smallest of the members' context lengths, in tokens.
    pub fn context_length(&self) -> usize {
        self.members.iter().map(|m| m.model.context_length()).min().expect("there is a member")
    }

    /// The conversation in each member's own template, the assistant's turn opened.
    ///
    /// # Errors
    /// If a member's template refuses the messages.
    pub fn chat_prompts(
        &self,
        messages: &[Message],
        tools: &[Tool],
    ) -> Result<Vec<Vec<TokenId>>, StartError> {
        self.members
            .iter()
            .map(|member| {
                member.tokenizer.chat_with_tools(messages, tools).map_err(|error| {
                    StartError::Template { member: member.name.clone(), reason: error.to_string() }
                })
            })
            .collect()
    }

    /// The compiler of constraints over this union, built when it is first needed.
    pub fn grammars(&self) -> &Grammars {
        self.grammars.get_or_init(|| Grammars::new(&self.union))
    }

    /// One step of each sequence. A step forwards every sequence's few new tokens, and at most
    /// `work.prefill` tokens a member of texts that it has still to read, first come first served;
    /// what two of them, or one and a kept one, begin with alike is read once. What a sequence
    /// gets does not depend on the others.
    ///
    /// # Panics
    /// If `work` is another ensemble's.
    pub fn step(
        &self,
        sequences: &mut [&mut Sequence],
        work: &mut Workspace,
    ) -> Vec<Result<Step, StepError>> {
        assert_eq!(work.mix.len(), self.union.size(), "a workspace is made for its ensemble");
        let mut lap = Instant::now();
        for member in 0..self.members.len() {
            let forwarded = self.forward(member, sequences, work.prefill, &work.prefixes);
            workspace::lap(&mut lap, &mut work.times.forward[member]);
            if let Err(source) = forwarded {
                // The cause is not of one row alone, so no row of this call can go on.
                let failed = |_: &&mut Sequence| {
                    Err(StepError::Member {
                        member: self.members[member].name.clone(),
                        source: source.clone(),
                    })
                };
                return sequences.iter().map(failed).collect();
            }
        }
        sequences.iter_mut().map(|sequence| self.choose_and_commit(sequence, work)).collect()
    }

    /// Brings one member's caches up to date and leaves the logits after the last token.
    fn forward(
        &self,
        member: usize,
        sequences: &mut [&mut Sequence],
        mut prefill: usize,
        prefixes: &Prefixes,
    ) -> Result<(), ModelError> {
        let mut waits = vec![false; sequences.len()];
        for index in 0..sequences.len() {
            if sequences[index].states[member].cache.tokens().is_empty() {
                match prefix::start(member, sequences, index, prefixes) {
                    Start::Alone => {}
                    Start::From(cache) => sequences[index].states[member].cache = cache,
                    Start::Wait => waits[index] = true,
                }
            }
        }
        let mut rows = Vec::new();
        for (sequence, waits) in sequences.iter_mut().zip(waits) {
            let state = &mut sequence.states[member];
            if state.ready || waits {
                continue;
            }
            let held = state.cache.tokens().len();
            let rest = state.cache.sync(&state.target);
            state.rolled_back += held.saturating_sub(state.target.len() - rest.len());
            let (tokens, want) = if rest.len() <= DECODE_ROW {
                (rest, Want::Last)
            } else {
                let taken = rest.len().min(prefill);
                prefill -= taken;
                (&rest[..taken], if taken == rest.len() { Want::Last } else { Want::Nothing })
            };
            if tokens.is_empty() {
                continue;
            }
            state.ready = want == Want::Last;
            rows.push(Row { cache: &mut state.cache, tokens, want, logits: &mut state.logits });
        }
        if rows.is_empty() { Ok(()) } else { self.members[member].model.forward(&mut rows) }
    }

    fn choose_and_commit(
        &self,
        sequence: &mut Sequence,
        work: &mut Workspace,
    ) -> Result<Step, StepError> {
        if !sequence.states.iter().all(|state| state.ready) {
            return Ok(Step::Prefill);
        }
        let Workspace { mix, times, .. } = work;
        let mut lap = Instant::now();
        self.mix(sequence, mix)?;
        workspace::lap(&mut lap, &mut times.mix);
        if let Some(matching) = &mut sequence.matching {
            matching.mask(mix)?;
        }
        let index = sequence.sampler.sample(mix).ok_or(StepError::NoMass)?;
        let id = UnionId(u32::try_from(index).expect("a union has fewer than 2^32 pieces"));
        if let Some(matching) = &mut sequence.matching {
            matching.commit(id)?;
        }
        workspace::lap(&mut lap, &mut times.choose);
        self.commit(sequence, id);
        workspace::lap(&mut lap, &mut times.commit);
        Ok(Step::Chose(id))
    }

    /// The weighted arithmetic mean of the members' distributions, into `mix`.
    fn mix(&self, sequence: &mut Sequence, mix: &mut [f32]) -> Result<(), StepError> {
        mix.fill(0.0);
        for ((member, map), state) in self.members.iter().zip(&self.maps).zip(&mut sequence.states)
        {
            map.mask(&mut state.logits);
            model::softmax(&mut state.logits)
                .ok_or_else(|| StepError::NotFinite { member: member.name.clone() })?;
            map.project_into(&state.logits, member.weight, mix);
        }
        Ok(())
    }

    fn commit(&self, sequence: &mut Sequence, id: UnionId) {
        let Piece::Bytes(bytes) = self.union.piece(id) else { return };
        for (member, state) in self.members.iter().zip(&mut sequence.states) {
            match &self.shared_tokens {
                Some(tokens) => {
                    let token = tokens[id.0 as usize].expect("the chosen piece is a token");
                    state.text.append_token(&member.tokenizer, token);
                }
                None => state.text.append(&member.tokenizer, bytes),
            }
            state.retarget();
        }
    }
}

/// Members that count, with weights that sum to 1.
fn weighted(mut members: Vec<Member>) -> Vec<Member> {
    assert!(members.iter().all(|m| m.weight >= 0.0), "weights are checked by the configuration");
    members.retain(|member| member.weight > 0.0);
    let sum: f32 = members.iter().map(|member| member.weight).sum();
    assert!(sum.is_finite() && sum > 0.0, "weights are checked by the configuration");
    members.iter_mut().for_each(|member| member.weight /= sum);
    members
}

/// For each logit of a member, the piece it stands for. Padding logits past the tokenizer's end
/// stand for none.
fn vocabulary(member: &Member) -> Vec<Option<Piece>> {
    (0..member.model.vocab_size())
        .map(|id| {
            let id = TokenId(u32::try_from(id).expect("a vocabulary has fewer than 2^32 entries"));
            match member.tokenizer.kind(id) {
                Some(TokenKind::Bytes(bytes)) => Some(Piece::Bytes(bytes.clone())),
                Some(TokenKind::Stop) => Some(Piece::End),
                Some(TokenKind::Control) | None => None,
            }
        })
        .collect()
}

/// The first token of a map for each piece of the union, `End` left out.
fn tokens_of(union: &UnionVocab, map: &VocabMap) -> Vec<Option<TokenId>> {
    let mut tokens = vec![None; union.size()];
    for token in 0..map.len() {
        let token =
            TokenId(u32::try_from(token).expect("a vocabulary has fewer than 2^32 entries"));
        if let Some(id) = map.get(token).filter(|&id| id != union.end()) {
            tokens[id.0 as usize].get_or_insert(token);
        }
    }
    tokens
}
