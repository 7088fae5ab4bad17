//! The answers on the wire: one completion, or chunks of it.

use serde::Serialize;
use uuid::Uuid;

use super::{Answer, ensemble::WireFusion};
use crate::{
    engine::{FinishReason, Usage},
    server::unix_seconds,
};

/// What a completion and all of its chunks have in common.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    pub(super) fn new(model: &str) -> Self {
        let id = format!("chatcmpl-{}", Uuid::new_v4().simple());
        Self { id, created: unix_seconds(), model: model.to_owned() }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Completion {
    #[serde(flatten)]
    head: Head,
    object: &'static str,
    choices: [Choice; 1],
    usage: WireUsage,
    /// Ours, not OpenAI's.
    #[serde(skip_serializing_if = "WireFusion::is_silent")]
    ensemble: WireFusion,
}

impl Completion {
    pub(super) fn new(head: Head, answer: Answer) -> Self {
        let message = WireAnswer { role: "assistant", content: answer.text, refusal: None };
        let finish_reason = reason_word(answer.reason);
        Self {
            head,
            object: "chat.completion",
            choices: [Choice { index: 0, message, logprobs: None, finish_reason }],
            usage: answer.usage.into(),
            ensemble: answer.fusion.with_usage(answer.usage),
        }
    }
}

/// One event of a stream.
#[derive(Debug, Serialize)]
pub(super) struct Chunk<'a> {
    #[serde(flatten)]
    head: &'a Head,
    object: &'static str,
    choices: Vec<ChunkChoice>,
    /// Absent unless the client asked for usage; then null in every chunk but the one that has
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<WireUsage>>,
    /// Of the chunk that ends the text.
    #[serde(skip_serializing_if = "WireFusion::is_silent")]
    ensemble: WireFusion,
}

impl<'a> Chunk<'a> {
    /// `with_usage` says whether the client asked for it, not whether this chunk has it.
    pub(super) fn delta(head: &'a Head, part: Part, with_usage: bool) -> Self {
        let mut ensemble = WireFusion::default();
        let (delta, finish_reason) = match part {
            Part::Role => (Delta { role: Some("assistant"), content: Some(String::new()) }, None),
            Part::Text(text) => (Delta { role: None, content: Some(text) }, None),
            Part::Finish(reason, fusion) => {
                ensemble = fusion;
                (Delta::default(), Some(reason_word(reason)))
            }
        };
        let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason };
        Self { ensemble, ..Self::new(head, vec![choice], with_usage.then_some(None)) }
    }

    pub(super) fn usage(head: &'a Head, usage: Usage) -> Self {
        Self::new(head, Vec::new(), Some(Some(usage.into())))
    }

    fn new(head: &'a Head, choices: Vec<ChunkChoice>, usage: Option<Option<WireUsage>>) -> Self {
        let object = "chat.completion.chunk";
        Self { head, object, choices, usage, ensemble: WireFusion::default() }
    }
}

/// What a chunk adds to the answer.
#[derive(Debug)]
pub(super) enum Part {
    Role,
    Text(String),
    Finish(FinishReason, WireFusion),
}

#[derive(Debug, Serialize)]
struct Choice {
    index: u32,
    message: WireAnswer,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
struct WireAnswer {
    role: &'static str,
    content: String,
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice {
    index: u32,
    delta: Delta,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Debug, Serialize)]
struct WireUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl From<Usage> for WireUsage {
    fn from(Usage { prompt_tokens, completion_tokens, .. }: Usage) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        Self { prompt_tokens, completion_tokens, total_tokens }
    }
}

fn reason_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}
