//! Pieces of the wire that several endpoints share: fields of requests, parts of answers.

mod ensemble;
mod fields;
mod format;
mod ignored;
mod logprobs;

use serde::Serialize;

use crate::engine::{FinishReason, Usage};

pub(super) use ensemble::{WireEnsemble, WireFusion, WireWarning};
pub(super) use fields::{Checked, Fields, StreamOptions, at_least, within};
pub(super) use format::{JsonSchemaFormat, ResponseFormat};
pub(super) use ignored::{Rest, ignored};
pub(super) use logprobs::{ChatLogprobs, TextLogprobs};

/// Tokens, as chats and completions tell them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct WireUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

impl From<Usage> for WireUsage {
    fn from(Usage { prompt_tokens, completion_tokens, cached_tokens }: Usage) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        let prompt_tokens_details = PromptDetails { cached_tokens };
        Self { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details }
    }
}

pub(super) fn reason_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}
