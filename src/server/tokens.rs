//! `/tokenize`, `/detokenize` and `/tokenizer_info`: the union vocabulary, whose ids are the
//! API's token ids. The shapes are vLLM's, which lm-eval's remote tokenizer reads.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiError, App,
    body::JsonBody,
    openapi::Refusals,
    wire::{END, naming, read, token_text},
};
use crate::engine::{GenerateError, ModelCard, Piece, UnionId};

/// `model` may be left out: the first of the list then answers.
#[derive(Debug, Deserialize, ToSchema)]
struct TokenizeRequest {
    model: Option<String>,
    #[schema(value_type = String)]
    prompt: Option<String>,
    #[schema(ignore)]
    messages: Option<serde_json::Value>,
    return_token_strs: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokenized {
    count: usize,
    max_model_len: usize,
    tokens: Vec<u32>,
    token_strs: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct DetokenizeRequest {
    model: Option<String>,
    #[schema(value_type = Vec<u32>)]
    tokens: Option<Vec<u32>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Detokenized {
    prompt: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenizerInfo {
    tokenizer_class: &'static str,
    model: String,
    vocab_size: usize,
    model_max_length: usize,
    /// Alone, `/tokenize` gives it the id of the end; in a longer text it is text.
    eos_token: &'static str,
    eos_token_id: u32,
    bos_token: Option<&'static str>,
    pad_token: Option<&'static str>,
    /// Every member has its own.
    chat_template: Option<&'static str>,
}

#[utoipa::path(post, path = "/tokenize", request_body = TokenizeRequest, responses((status = 200, description = "the answer", body = Tokenized), Refusals))]
pub(super) async fn tokenize(State(app): State<App>, body: JsonBody) -> Result<Response, ApiError> {
    let (request, ignored) = read::<TokenizeRequest>(&body)?;
    let ignored = app.ignore(ignored)?;
    if request.messages.is_some() {
        let reason = "is not served: every member has a template of its own; send `prompt`";
        return Err(ApiError::unsupported("messages", reason));
    }
    let text = request.prompt.ok_or_else(|| ApiError::missing("prompt"))?;
    let card = card(&app, request.model)?;
    let union = app.engine.union(&card.name)?;
    let ids = match text.as_str() {
        END => vec![union.end()],
        text => app.engine.tokenize(&card.name, text)?,
    };
    let word = |id: &UnionId| match union.piece(*id) {
        Piece::Bytes(bytes) => token_text(bytes),
        Piece::End => END.to_owned(),
    };
    let wanted = request.return_token_strs.unwrap_or(false);
    let answer = Tokenized {
        count: ids.len(),
        max_model_len: card.context_length,
        token_strs: wanted.then(|| ids.iter().map(word).collect()),
        tokens: ids.into_iter().map(|id| id.0).collect(),
    };
    Ok(naming(&ignored, Json(answer).into_response()))
}

#[utoipa::path(post, path = "/detokenize", request_body = DetokenizeRequest, responses((status = 200, description = "the answer", body = Detokenized), Refusals))]
pub(super) async fn detokenize(
    State(app): State<App>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let (request, ignored) = read::<DetokenizeRequest>(&body)?;
    let ignored = app.ignore(ignored)?;
    let tokens = request.tokens.ok_or_else(|| ApiError::missing("tokens"))?;
    let card = card(&app, request.model)?;
    let ids: Vec<UnionId> = tokens.into_iter().map(UnionId).collect();
    let bytes = app.engine.detokenize(&card.name, &ids)?;
    let answer = Detokenized { prompt: String::from_utf8_lossy(&bytes).into_owned() };
    Ok(naming(&ignored, Json(answer).into_response()))
}

#[utoipa::path(get, path = "/tokenizer_info", responses((status = 200, description = "the answer", body = TokenizerInfo), Refusals))]
pub(super) async fn info(State(app): State<App>) -> Result<Json<TokenizerInfo>, ApiError> {
    let card = card(&app, None)?;
    let union = app.engine.union(&card.name)?;
    Ok(Json(TokenizerInfo {
        tokenizer_class: "UnionVocab",
        vocab_size: union.size(),
        model_max_length: card.context_length,
        eos_token: END,
        eos_token_id: union.end().0,
        bos_token: None,
        pad_token: None,
        chat_template: None,
        model: card.name,
    }))
}

fn card(app: &App, name: Option<String>) -> Result<ModelCard, ApiError> {
    let mut cards = app.engine.models();
    let Some(name) = name else {
        return cards.drain(..).next().ok_or(GenerateError::Stopped.into());
    };
    match cards.iter().position(|card| card.name == name) {
        Some(index) => Ok(cards.swap_remove(index)),
        None => {
            let available = cards.into_iter().map(|card| card.name).collect();
            Err(GenerateError::UnknownModel { name, available }.into())
        }
    }
}
