//! What callers ask of an engine and what they get back.

use tokio::sync::mpsc;

use super::Counters;

use crate::{
    constrain::Constraint,
    ensemble::{Agreement, FusionRequest, Logprobs, Score},
    sampling::{Penalties, SamplingParams},
    tokenizer::chat::{Message, TemplateArgs, Tool},
    vocab::{Piece, UnionId, UnionVocab},
};

/// All that `report`, `eval` and the server's handlers see of generation.
pub trait Generate: Send + Sync + 'static {
    /// What can be asked for by name: ensembles first, then their members alone.
    fn models(&self) -> Vec<ModelCard>;

    /// What has been done so far; nothing by something that does not count.
    fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Admits a request. Tokenizes the prompt and compiles the constraint in the calling thread,
    /// so that everything wrong with the request is an error here and not in the stream.
    ///
    /// Several choices of one request are several calls, with the seeds that
    /// [`SamplingParams::of_choice`] gives: what their prompts share is read once.
    fn generate(&self, request: GenerateRequest) -> Result<Generation, GenerateError>;

    /// All pieces that a model can write, in the order of their ids, `End` last. Ids of the API
    /// are these; [`UnionVocab::piece`] and [`UnionVocab::id`] go both ways.
    fn union(&self, model: &str) -> Result<&UnionVocab, GenerateError>;

    /// A text as union pieces: the canonical tokens of the model's first member, as their bytes.
    /// Joined they are the text. It is how the pieces of a [`Prompt::Text`] are counted and
    /// scored.
    fn tokenize(&self, model: &str, text: &str) -> Result<Vec<UnionId>, GenerateError>;

    /// The tokens of a prompt as [`Usage`] counts them: the most that any member has, with what
    /// templates add.
    fn count_tokens(&self, model: &str, prompt: &Prompt) -> Result<usize, GenerateError>;

    /// The bytes of union pieces, joined; they need not be UTF-8.
    fn detokenize(&self, model: &str, ids: &[UnionId]) -> Result<Vec<u8>, GenerateError> {
        let union = self.union(model)?;
        let mut bytes = Vec::new();
        for &id in ids {
            match union.pieces().get(id.0 as usize) {
                Some(Piece::Bytes(piece)) => bytes.extend_from_slice(piece),
                // The end of a text has no bytes.
                Some(Piece::End) => {}
                None => return Err(GenerateError::UnknownPiece { id, size: union.size() }),
            }
        }
        Ok(bytes)
    }
}

/// A model name of the API: an ensemble, or one member alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    pub name: String,
    /// The members' names, in order; a single model has itself.
    pub members: Vec<String>,
    /// How they are fused and what they are set to, in one line.
    pub fusion: String,
    /// The smallest of the members' context lengths, in tokens.
    pub context_length: usize,
    /// Whether the weights are in memory; if not, a request loads them first.
    pub loaded: bool,
}

/// Build it with [`GenerateRequest::new`] and `..`, so that a new field changes no caller.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// A name out of [`Generate::models`].
    pub model: String,
    pub prompt: Prompt,
    pub sampling: SamplingParams,
    /// On union pieces, after fusion and constraint, before the temperature.
    pub penalties: Penalties,
    pub stop: StopConditions,
    pub constraint: Option<Constraint>,
    /// What is told of each piece; `None` tells nothing.
    pub logprobs: Option<Logprobs>,
    pub fusion: FusionRequest,
}

impl GenerateRequest {
    /// The plain fused distribution to the end of the text, and nothing told of its pieces.
    pub fn new(model: impl Into<String>, prompt: Prompt) -> Self {
        Self {
            model: model.into(),
            prompt,
            sampling: SamplingParams::default(),
            penalties: Penalties::default(),
            stop: StopConditions::default(),
            constraint: None,
            logprobs: None,
            fusion: FusionRequest::default(),
        }
    }

    /// The same for the choices of one answer: only their seeds differ.
    pub fn choices(&self, count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(|choice| Self { sampling: self.sampling.of_choice(choice), ..self.clone() })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Rendered by each member's own chat template, with the assistant's turn opened.
    ///
    /// A template that knows tools is given them; for one that does not, a system message
    /// describes them and the calls and results of the history become text, in the Hermes form
    /// (`<tool_call>{"name": ..., "arguments": ...}</tool_call>`).
    /// `template_args` go before those that the configuration has for the members.
    Chat { messages: Vec<Message>, tools: Vec<Tool>, template_args: TemplateArgs },
    /// A raw text to go on with.
    Text(String),
    /// A raw text in union pieces: what their bytes spell, UTF-8 or not. `End` may come first,
    /// where it says that nothing comes before the text; elsewhere it is refused.
    Tokens(Vec<UnionId>),
}

impl Prompt {
    /// A conversation without tools.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self::Chat { messages, tools: Vec::new(), template_args: TemplateArgs::new() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopConditions {
    /// The most fused steps; `None` goes on to the end of the context, 0 writes nothing. A text
    /// under a constraint ends by itself within them, as far as its length can be measured (see
    /// [`crate::constrain::Matching`]).
    pub max_tokens: Option<usize>,
    /// Texts that end the generation and are not part of it. None is empty.
    pub strings: Vec<String>,
    /// The members cannot end the text, nor a stop string that ends within these, before so many
    /// pieces. A constraint that is complete ends it nevertheless.
    pub min_tokens: usize,
    /// The members cannot end the text at all; a stop string, a complete constraint and the limit
    /// can.
    pub ignore_end: bool,
}

/// A piece of the text, and how probable it was.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredPiece {
    pub id: UnionId,
    /// What of the piece is in the text: all of it, unless a stop string or the end cut it.
    pub bytes: Vec<u8>,
    pub score: Score,
}

/// What a running generation reports, in order. `Finished` or `Failed` is the last.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt is in every member's cache.
    Started {
        prompt_tokens: usize,
    },
    /// The prompt's pieces, once, after `Started` and before any text, if they were asked for.
    Prompt {
        pieces: Vec<ScoredPiece>,
    },
    /// Whole characters, and `tokens` fused steps that led to them since the last event.
    ///
    /// `pieces` are those whose last byte this text gives out; all pieces of a generation, joined,
    /// are its text (bytes that are no character stand in it as U+FFFD). Where the members ended
    /// the text, `End` is the last. Empty unless asked for.
    Text {
        text: String,
        tokens: usize,
        pieces: Vec<ScoredPiece>,
    },
    /// A member was lost and the generation goes on without it.
    Warning {
        member: String,
        reason: String,
    },
    Finished {
        reason: FinishReason,
        usage: Usage,
    },
    Failed(GenerateError),
}

impl Event {
    /// A text of which nothing more is told.
    pub fn text(text: impl Into<String>, tokens: usize) -> Self {
        Self::Text { text: text.into(), tokens, pieces: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The members ended the text, a stop string came, or the constraint was complete.
    Stop,
    /// `max_tokens` or the end of the context came first.
    Length,
}

/// Tokens of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The longest of the members' prompts.
    pub prompt_tokens: usize,
    /// How many of those were not read, as a text that began alike had been read before; `None`
    /// where that is not known. It depends on what else was asked, unlike everything else here.
    pub cached_tokens: Option<usize>,
    /// Fused steps, the one that chose `End` included.
    pub completion_tokens: usize,
    /// Steps that the gate left to the primary alone; `None` without a gate.
    pub gated: Option<usize>,
    /// Of the steps that several members chose.
    pub agreement: Agreement,
}

impl Usage {
    /// The share of the steps that the primary decided alone; `None` without a gate.
    pub fn gate_rate(&self) -> Option<f64> {
        self.gated.map(|gated| gated as f64 / self.completion_tokens.max(1) as f64)
    }
}

/// A running generation. Dropping it cancels within one step.
pub struct Generation {
    events: mpsc::Receiver<Event>,
    watch: Option<Watch>,
}

/// Sees each event before whoever asked for it.
type Watch = Box<dyn FnMut(&Event) + Send>;

impl Generation {
    /// `events` must end with `Finished` or `Failed`.
    pub fn new(events: mpsc::Receiver<Event>) -> Self {
        Self { events, watch: None }
    }

    /// Shows each event to `watch` first; it is dropped with the generation.
    pub fn watched(self, watch: impl FnMut(&Event) + Send + 'static) -> Self {
        Self { watch: Some(Box::new(watch)), ..self }
    }

    /// The next event; `None` after the last, or if the engine died without one.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        if let (Some(event), Some(watch)) = (&event, &mut self.watch) {
            watch(event);
        }
        event
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("events", &self.events).finish_non_exhaustive()
    }
}

/// Why a request was not taken or did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    #[error("there is no model `{name}`; there are: {}", .available.join(", "))]
    UnknownModel { name: String, available: Vec<String> },
    #[error(
        "the prompt has {prompt_tokens} tokens for `{member}`, whose context holds {context_length}; \
         shorten it to leave room for at least one token"
    )]
    PromptTooLong { member: String, prompt_tokens: usize, context_length: usize },
    #[error("the chat template of `{member}` refuses these messages: {reason}")]
    Template { member: String, reason: String },
    #[error("piece {} is not below {size}, the number of pieces; see the tokenizer's list", .id.0)]
    UnknownPiece { id: UnionId, size: usize },
    #[error("the bias is of piece {}, which is not below {size}, the number of pieces", .id.0)]
    UnknownBias { id: UnionId, size: usize },
    #[error("{reason}")]
    Prompt { reason: String },
    #[error("the constraint cannot be enforced: {reason}")]
    Constraint { reason: String },
    #[error(
        "no text that the constraint allows fits into {budget} tokens; the shortest that is known \
         needs {least}"
    )]
    Budget { least: usize, budget: usize },
    /// `param` is the part of the request that is wrong, as it is called there.
    #[error("`{param}` {reason}")]
    Fusion { param: &'static str, reason: String },
    #[error("{waiting} requests wait already; try again later")]
    QueueFull { waiting: usize },
    #[error("nothing of it was read for {seconds} s while others waited for its place")]
    Unread { seconds: u64 },
    #[error("the engine has stopped")]
    Stopped,
    #[error("`{member}` failed: {reason}")]
    Member { member: String, reason: String },
}
