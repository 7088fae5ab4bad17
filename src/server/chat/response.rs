//! The answers on the wire: one completion, or chunks of it.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    engine::{FinishReason, Usage},
    server::{
        ApiError,
        generation::{Answer, Scores, total},
        tools::{Part, Reader},
        unix_seconds,
        wire::{ChatLogprobs, WireFusion, WireUsage, reason_word},
    },
};

/// What a completion and all of its chunks have in common.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ChatHead)]
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

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatCompletion)]
pub(super) struct Completion {
    #[serde(flatten)]
    head: Head,
    object: &'static str,
    choices: Vec<Choice>,
    usage: WireUsage,
    #[serde(skip_serializing_if = "WireFusion::is_silent")]
    ensemble: WireFusion,
}

impl Completion {
    /// `scores` writes the log-probabilities if they were asked for.
    pub(super) fn new(
        head: Head,
        answers: impl IntoIterator<Item = (Answer, Reader)>,
        scores: Option<&Scores>,
    ) -> Result<Self, ApiError> {
        let (mut ensemble, mut usages, mut choices) = (WireFusion::default(), vec![], vec![]);
        for (index, (mut answer, reader)) in answers.into_iter().enumerate() {
            ensemble.warnings.append(&mut answer.fusion.warnings);
            usages.push(answer.usage());
            choices.push(Choice::new(index, &answer, reader, scores)?);
        }
        let usage = total(usages);
        let ensemble = ensemble.with_usage(usage);
        let usage = usage.into();
        Ok(Self { head, object: "chat.completion", choices, usage, ensemble })
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatChoice)]
struct Choice {
    index: usize,
    message: WireAnswer,
    logprobs: Option<ChatLogprobs>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct WireAnswer {
    role: &'static str,
    /// Null in an answer that only calls.
    content: Option<String>,
    #[schema(value_type = Option<String>)]
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnswerCall)]
struct WireCall {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunction,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnswerFunction)]
struct WireFunction {
    name: String,
    arguments: String,
}

impl Choice {
    fn new(
        index: usize,
        answer: &Answer,
        mut reader: Reader,
        scores: Option<&Scores>,
    ) -> Result<Self, ApiError> {
        let mut parts = reader.push(&answer.text);
        parts.extend(reader.finish());
        let (mut text, mut tool_calls) = (String::new(), Vec::<WireCall>::new());
        for part in parts {
            match part {
                Part::Text(more) => text.push_str(&more),
                Part::Call { id, name } => {
                    let function = WireFunction { name, arguments: String::new() };
                    tool_calls.push(WireCall { id, kind: "function", function });
                }
                Part::Arguments(more) => {
                    let call = tool_calls.last_mut().expect("arguments come after their call");
                    call.function.arguments.push_str(&more);
                }
            }
        }
        let content = (tool_calls.is_empty() || !text.is_empty()).then_some(text);
        Ok(Self {
            index,
            finish_reason: finish_reason(answer.reason(), &reader),
            message: WireAnswer { role: "assistant", content, refusal: None, tool_calls },
            logprobs: scores.map(|scores| scores.chat(&answer.pieces)).transpose()?,
        })
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
    #[serde(skip_serializing_if = "WireFusion::is_silent")]
    ensemble: WireFusion,
}

#[derive(Debug, Serialize)]
pub(super) struct ChunkChoice {
    pub(super) index: usize,
    pub(super) delta: Delta,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: Option<&'static str>,
}

/// What a chunk adds to the answer.
#[derive(Debug, Default, Serialize)]
pub(super) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    /// What is no part of the answer, as other servers name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<CallDelta>,
}

/// The first of a call has its id and name; all have the call's number.
#[derive(Debug, Serialize)]
pub(super) struct CallDelta {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionDelta,
}

#[derive(Debug, Serialize)]
struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

impl Delta {
    pub(super) fn role() -> Self {
        Self { role: Some("assistant"), content: Some(String::new()), ..Self::default() }
    }

    /// `call` is the number of the call that a part belongs to.
    pub(super) fn part(part: Part, call: usize) -> Self {
        let delta = |id: Option<String>, name, arguments| Self {
            tool_calls: vec![CallDelta {
                index: call,
                kind: id.as_ref().map(|_| "function"),
                id,
                function: FunctionDelta { name, arguments },
            }],
            ..Self::default()
        };
        match part {
            Part::Text(text) => Self { content: Some(text), ..Self::default() },
            Part::Call { id, name } => delta(Some(id), Some(name), String::new()),
            Part::Arguments(arguments) => delta(None, None, arguments),
        }
    }
}

impl<'a> Chunk<'a> {
    /// `with_usage` says whether the client asked for it, not whether this chunk has it.
    pub(super) fn delta(
        head: &'a Head,
        choice: ChunkChoice,
        ensemble: WireFusion,
        with_usage: bool,
    ) -> Self {
        let usage = with_usage.then_some(None);
        Self { head, object: "chat.completion.chunk", choices: vec![choice], usage, ensemble }
    }

    pub(super) fn usage(head: &'a Head, usage: Usage) -> Self {
        Self {
            head,
            object: "chat.completion.chunk",
            choices: Vec::new(),
            usage: Some(Some(usage.into())),
            ensemble: WireFusion::default(),
        }
    }
}

pub(super) fn finish_reason(reason: FinishReason, reader: &Reader) -> &'static str {
    match reason {
        FinishReason::Stop if reader.calls() > 0 => "tool_calls",
        reason => reason_word(reason),
    }
}
