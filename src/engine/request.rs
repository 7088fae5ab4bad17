//! What callers ask of an engine and what they get back.

use tokio::sync::mpsc;

use crate::{
    constrain::Constraint, ensemble::FusionRequest, sampling::SamplingParams,
    tokenizer::chat::Message,
};

/// All that `report`, `eval` and the server's handlers see of generation.
pub trait Generate: Send + Sync + 'static {
    /// What can be asked for by name: ensembles first, then their members alone.
    fn models(&self) -> Vec<ModelCard>;

    /// Admits a request. Tokenizes the prompt and compiles the constraint in the calling thread,
    /// so that everything wrong with the request is an error here and not in the stream.
    fn generate(&self, request: GenerateRequest) -> Result<Generation, GenerateError>;
}

/// A model name of the API: an ensemble, or one member alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    pub name: String,
    /// The members' names, in order; a single model has itself.
    pub members: Vec<String>,
    /// Their weights, the rule and the gate, in one line.
    pub fusion: String,
    /// The smallest of the members' context lengths, in tokens.
    pub context_length: usize,
}

#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// A name out of [`Generate::models`].
    pub model: String,
    pub prompt: Prompt,
    pub sampling: SamplingParams,
    pub stop: StopConditions,
    pub constraint: Option<Constraint>,
    pub fusion: FusionRequest,
}

#[derive(Clone, Debug)]
pub enum Prompt {
    /// Rendered by each member's own chat template, with the assistant's turn opened.
    Chat(Vec<Message>),
}

#[derive(Clone, Debug, Default)]
pub struct StopConditions {
    /// The most fused steps; `None` goes on to the end of the context.
    pub max_tokens: Option<usize>,
    /// Texts that end the generation and are not part of it. None is empty.
    pub strings: Vec<String>,
}

/// What a running generation reports, in order. `Finished` or `Failed` is the last.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt is in every member's cache.
    Started {
        prompt_tokens: usize,
    },
    /// Whole characters, and `tokens` fused steps that led to them since the last event.
    Text {
        text: String,
        tokens: usize,
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
    /// Fused steps, the one that chose `End` included.
    pub completion_tokens: usize,
    /// Steps that the gate left to the primary alone; `None` without a gate.
    pub gated: Option<usize>,
}

impl Usage {
    /// The share of the steps that the primary decided alone; `None` without a gate.
    pub fn gate_rate(&self) -> Option<f64> {
        self.gated.map(|gated| gated as f64 / self.completion_tokens.max(1) as f64)
    }
}

/// A running generation. Dropping it cancels within one step.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
}

impl Generation {
    /// `events` must end with `Finished` or `Failed`.
    pub fn new(events: mpsc::Receiver<Event>) -> Self {
        Self { events }
    }

    /// The next event; `None` after the last, or if the engine died without one.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
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
    #[error("the constraint cannot be enforced: {reason}")]
    Constraint { reason: String },
    /// `param` is the part of the request that is wrong, as it is called there.
    #[error("`{param}` {reason}")]
    Fusion { param: &'static str, reason: String },
    #[error("{waiting} requests wait already; try again later")]
    QueueFull { waiting: usize },
    #[error("the engine has stopped")]
    Stopped,
    #[error("`{member}` failed: {reason}")]
    Member { member: String, reason: String },
}
