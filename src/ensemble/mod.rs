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
//!   An answer's first word has a space before it in some vocabularies; what becomes of that, the
//!   module `opening` says.
//! - Where all members share one tokenizer, the piece is a token of each of them and is appended
//!   as it is, canonical or not: one member, or n copies of one, then are that model, token by
//!   token.
//!
//! A member of weight 0 is never run.

mod agreement;
mod ahead;
mod calibration;
mod card;
mod fusion;
mod gate;
mod load;
mod mix;
mod opening;
mod outlook;
mod perplexity;
mod pieces;
mod prefix;
mod score;
mod sequence;
mod sketch;
mod step;
#[cfg(test)]
mod tests;
mod weights;
mod workspace;

use std::sync::{Arc, OnceLock};

pub use agreement::Agreement;
pub use calibration::TEMPERATURE_FACTORS;
pub use card::{BESIDE, Card};
pub use fusion::{
    Fusion, FusionError, FusionRequest, OnFailure, Rule, RuleError, Settings, WeightsRequest,
};
pub use load::{
    LoadError, LoadedModel, MapOrigin, Wanted, load_ensemble, load_model, load_models,
    load_tokenizer, open_model,
};
pub use outlook::Outlook;
pub use perplexity::PerplexityChange;
pub use prefix::Prefixes;
pub use score::{Logprobs, Score, ScoredAlternative, Vote};
pub use sequence::{Prompts, Sequence, StartError, Warning};
pub use sketch::{ReadRange, sketch};
pub use step::{Failure, Step, StepError};
pub use weights::{Weighting, WeightingError};
pub use workspace::{Times, Workspace};

use crate::{
    constrain::Grammars,
    model::LanguageModel,
    tokenizer::{
        TokenKind, Tokenizer,
        chat::{Conversation, Message, Role, TemplateArgs},
    },
    vocab::{Piece, TokenId, UnionVocab, VocabMap},
};

/// One model of an ensemble.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub model: Arc<dyn LanguageModel>,
    pub tokenizer: Arc<Tokenizer>,
    /// Its share of the mixture, relative to the other members'.
    pub weight: f32,
    /// Its logits are divided by this before anything else, so that a model that is too sure of
    /// itself does not drown the others; 1 leaves them as they are.
    pub temperature: f32,
    /// It decides alone where the gate lets it; without one the first member is.
    pub primary: bool,
    /// What it alone is told, before the conversation's own system message.
    pub system: Option<String>,
    /// For its own template, where a request does not say otherwise.
    pub template_args: TemplateArgs,
}

impl Member {
    pub fn new(
        name: String,
        model: Arc<dyn LanguageModel>,
        tokenizer: Arc<Tokenizer>,
        weight: f32,
    ) -> Self {
        let (temperature, primary, system) = (1.0, false, None);
        let template_args = TemplateArgs::new();
        Self { name, model, tokenizer, weight, temperature, primary, system, template_args }
    }
}

impl Member {
    /// The conversation in its own template, after what it alone is told.
    fn chat(&self, conversation: Conversation<'_>) -> Result<Vec<TokenId>, String> {
        let mut args = self.template_args.clone();
        args.extend(conversation.args.clone());
        let conversation = Conversation { args: &args, ..conversation };
        let Some(system) = &self.system else {
            let tokens = self.tokenizer.converse(conversation);
            return tokens.map_err(|error| error.to_string());
        };
        let mut messages = conversation.messages.to_vec();
        match messages.first_mut().filter(|first| first.role == Role::System) {
            Some(first) => first.content = format!("{system}\n\n{}", first.content),
            None => messages.insert(0, Message::new(Role::System, system)),
        }
        let conversation = Conversation { messages: &messages, ..conversation };
        let rendered = self.tokenizer.render(conversation).map_err(|error| error.to_string())?;
        if rendered.contains(system.trim()) {
            self.tokenizer.converse(conversation).map_err(|error| error.to_string())
        } else {
            Err("it leaves out the `system` that the configuration gives this member".to_owned())
        }
    }
}

/// Members with a union vocabulary. Immutable: everything of one generation is in its
/// [`Sequence`].
pub struct Ensemble {
    members: Vec<Member>,
    maps: Vec<VocabMap>,
    union: UnionVocab,
    /// Each member's token for each piece but `End`, made when it is first needed.
    tokens: Vec<OnceLock<Vec<Option<TokenId>>>>,
    /// Each member's map at the first piece of an answer, likewise.
    openings: Vec<OnceLock<VocabMap>>,
    /// What requests start from.
    fusion: Fusion,
    grammars: OnceLock<Grammars>,
}

impl Ensemble {
    /// Builds the union of the members' vocabularies; members of weight 0 are left out. The other
    /// weights are scaled to sum to 1.
    ///
    /// # Panics
    /// If no weight is above 0, or one is negative or not a number.
    pub fn new(members: Vec<Member>) -> Self {
        let members = weighted(members);
        let vocabularies: Vec<_> = members.iter().map(pieces).collect();
        let (union, maps) = UnionVocab::build(&vocabularies);
        Self::with_union(members, union, maps)
    }

    /// `members` are as [`weighted`] gives them, and `maps` are theirs.
    fn with_union(members: Vec<Member>, union: UnionVocab, maps: Vec<VocabMap>) -> Self {
        let tokens = members.iter().map(|_| OnceLock::new()).collect();
        let openings = members.iter().map(|_| OnceLock::new()).collect();
        let fusion = Fusion::of(&members, &Settings::default());
        Self { members, maps, union, tokens, openings, fusion, grammars: OnceLock::new() }
    }

    /// The ensemble, set to fuse in another way.
    #[must_use]
    pub fn with_settings(mut self, settings: &Settings) -> Self {
        self.fusion = Fusion::of(&self.members, settings);
        self
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

    /// Whether the weights of all members are in memory.
    pub fn is_loaded(&self) -> bool {
        self.members.iter().all(|member| member.model.is_loaded())
    }

    /// Whether some member's weights are given back when they were idle for long.
    pub fn can_rest(&self) -> bool {
        self.members.iter().any(|member| member.model.can_rest())
    }

    /// Gives back the weights that were idle for long, but those of models that one of `busy` has
    /// too, and says whether there were some.
    pub fn rest(&self, busy: &[&Arc<Self>]) -> bool {
        let has = |other: &Self, model: &Arc<dyn LanguageModel>| {
            other.members.iter().any(|member| Arc::ptr_eq(&member.model, model))
        };
        let idle = |model: &Arc<dyn LanguageModel>| !busy.iter().any(|other| has(other, model));
        let rested = self.members.iter().filter(|it| idle(&it.model) && it.model.rest());
        rested.count() > 0
    }

    /// Whether all that take part in a sequence can be forwarded at once. If not, what is missing
    /// is being loaded from now on: ask again.
    pub fn is_ready(&self, sequence: &Sequence) -> bool {
        let missing = |member: &usize| !self.members[*member].model.is_ready();
        // Each is asked, so that all are loaded at once.
        sequence.members().filter(missing).count() == 0
    }

    /// The conversation in the own template of each member that takes part, the assistant's turn
    /// opened.
    ///
    /// # Errors
    /// If a member's template refuses the messages.
    pub fn chat_prompts(
        &self,
        conversation: Conversation<'_>,
        fusion: Fusion,
    ) -> Result<Prompts, StartError> {
        let prompt = |(index, member): (usize, &Member)| {
            if !fusion.is_active(index) {
                return Ok(Vec::new());
            }
            member
                .chat(conversation)
                .map_err(|reason| StartError::Template { member: member.name.clone(), reason })
        };
        let tokens = self.members.iter().enumerate().map(prompt).collect::<Result<_, _>>()?;
        let said = conversation.messages.iter().rev().find(|message| message.role == Role::User);
        let said = said.map_or_else(Vec::new, |message| message.content.clone().into_bytes());
        Ok(Prompts { answer: true, said, ..Prompts::new(tokens, fusion) })
    }

    /// The compiler of constraints over this union, built when it is first needed.
    pub fn grammars(&self) -> &Grammars {
        self.grammars.get_or_init(|| Grammars::new(&self.union))
    }

    /// The member's token for each piece of the union; none for `End`. Of several, the one that text
    /// is encoded to (`A`, not `<0x41>`), or the first.
    fn tokens(&self, member: usize) -> &[Option<TokenId>] {
        self.tokens[member].get_or_init(|| {
            tokens_of(&self.union, &self.maps[member], &self.members[member].tokenizer)
        })
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

/// For each logit of a member, the piece it stands for.
fn pieces(member: &Member) -> Vec<Option<Piece>> {
    vocabulary(&member.tokenizer, member.model.vocab_size())
}

/// For each of `count` logits, the piece it stands for. Padding logits past the tokenizer's end
/// stand for none.
pub fn vocabulary(tokenizer: &Tokenizer, count: usize) -> Vec<Option<Piece>> {
    (0..count)
        .map(|id| {
            let id = TokenId(u32::try_from(id).expect("a vocabulary has fewer than 2^32 entries"));
            match tokenizer.kind(id) {
                Some(TokenKind::Bytes(bytes)) => Some(Piece::Bytes(bytes.clone())),
                Some(TokenKind::Stop) => Some(Piece::End),
                Some(TokenKind::Control) | None => None,
            }
        })
        .collect()
}

fn tokens_of(union: &UnionVocab, map: &VocabMap, tokenizer: &Tokenizer) -> Vec<Option<TokenId>> {
    let mut tokens = vec![None; union.size()];
    for token in 0..map.len() {
        let token =
            TokenId(u32::try_from(token).expect("a vocabulary has fewer than 2^32 entries"));
        let Some(id) = map.get(token) else { continue };
        if let Piece::Bytes(bytes) = union.piece(id) {
            let known = &mut tokens[id.0 as usize];
            if known.is_none() || tokenizer.encode(bytes) == [token] {
                *known = Some(token);
            }
        }
    }
    tokens
}
