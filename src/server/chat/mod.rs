//! `POST /v1/chat/completions`.

mod ensemble;
mod message;
mod request;
mod response;
mod stream;
mod unserved;

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{
    ApiError, App,
    body::JsonBody,
    generation::{Running, admit},
    ops::Record,
};
use crate::{
    engine::{Event, FinishReason, Usage},
    sampling::SamplingParams,
};
use ensemble::{WireFusion, WireWarning};
use response::{Completion, Head};

pub use request::{ChatCompletionRequest, CheckedRequest, StreamOptions};

pub(super) async fn create(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    JsonBody(request): JsonBody<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    let defaults = SamplingParams { seed: random_seed(), ..app.config.sampling.clone() };
    let CheckedRequest { mut generate, stream } = request.validate(defaults)?;
    generate.stop.max_tokens = generate.stop.max_tokens.or(app.config.max_tokens);
    let head = Head::new(&generate.model);
    let generation = admit(&app, record, generate).await?;
    match stream {
        Some(options) => Ok(stream::respond(generation, head, options, app.config.keep_alive)),
        None => {
            let answer = collect(generation).await?;
            Ok(Json(Completion::new(head, answer)).into_response())
        }
    }
}

/// A whole generation.
struct Answer {
    text: String,
    reason: FinishReason,
    usage: Usage,
    fusion: WireFusion,
}

async fn collect(mut generation: Running) -> Result<Answer, ApiError> {
    let (mut text, mut fusion) = (String::new(), WireFusion::default());
    while let Some(event) = generation.next().await {
        match event {
            Event::Started { .. } => {}
            Event::Warning { member, reason } => {
                fusion.warnings.push(WireWarning { member, reason });
            }
            Event::Text { text: piece, .. } => text.push_str(&piece),
            Event::Finished { reason, usage } => {
                return Ok(Answer { text, reason, usage, fusion });
            }
            Event::Failed(error) => return Err(error.into()),
        }
    }
    Err(ApiError::Unfinished)
}

/// A version 4 UUID has six fixed bits, not at the same places of its halves, so every bit of
/// their exclusive or is random.
fn random_seed() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low
}
