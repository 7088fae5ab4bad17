//! Pieces of the wire that several endpoints share: fields of requests, parts of answers.

mod body;
mod closed;
mod ensemble;
mod fields;
mod format;
mod ignored;
mod logprobs;

use axum::{http::HeaderName, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiError;
use crate::{
    engine::{FinishReason, Usage},
    tokenizer::chat::{self, TemplateArgs},
};

pub(super) use body::{Body, Own};
pub(super) use closed::closed;
pub(super) use ensemble::{WireEnsemble, WireFusion, WireWarning};
pub(super) use fields::{Fields, StreamOptions, at_least};
pub(super) use format::{Asked, ResponseFormat, any_object, one, schema_of};
pub(super) use ignored::read;
pub(super) use logprobs::{ChatLogprobs, END, TextLogprobs, Token, asked, characters, token_text};

/// Names the fields of a request that were not used.
pub(super) const IGNORED_PARAMS: HeaderName = HeaderName::from_static("x-ignored-params");

/// The answer with its header, if there is something to name.
pub(super) fn naming(ignored: &[String], mut answer: Response) -> Response {
    if let Some(names) = ignored::header(ignored) {
        answer.headers_mut().insert(IGNORED_PARAMS, names);
    }
    answer
}

/// `chat_template_kwargs`, as vLLM and llama.cpp name it: switches of the members' own templates.
pub(super) fn template_args(args: Option<TemplateArgs>) -> Result<TemplateArgs, ApiError> {
    let args = args.unwrap_or_default();
    match chat::taken(&args) {
        Some(name) => {
            let reason = "is no switch of a template; leave it out";
            Err(ApiError::invalid(format!("chat_template_kwargs.{name}"), reason))
        }
        None => Ok(args),
    }
}

/// Tokens, as chats and completions tell them.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct WireUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    /// Absent where it is not known, as of a report's many prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptTokensDetails>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct PromptTokensDetails {
    /// Those that were not read, as another text with the same beginning had been read: of the
    /// member whose prompt has most tokens, which `prompt_tokens` are of too.
    cached_tokens: usize,
}

impl From<Usage> for WireUsage {
    fn from(Usage { prompt_tokens, cached_tokens, completion_tokens, .. }: Usage) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        let details = |cached_tokens| PromptTokensDetails { cached_tokens };
        let prompt_tokens_details = cached_tokens.map(details);
        Self { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details }
    }
}

pub(super) fn reason_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}
