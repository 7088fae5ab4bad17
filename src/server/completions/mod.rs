//! `POST /v1/completions`: raw texts go on.

mod request;
mod response;

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};

use super::{
    ApiError, App,
    body::JsonBody,
    generation::Scores,
    openapi::{Refusals, StreamEvent},
    ops::Record,
    sse::{self, Asked},
};
use crate::engine::GenerateRequest;
use request::{CompletionRequest, Question};
use response::{Chunks, Completion, Form};

#[utoipa::path(
    post,
    path = "/v1/completions",
    request_body = CompletionRequest,
    responses((status = 200, description = "the answer, whole or as a stream", content((Completion = "application/json"), (StreamEvent = "text/event-stream"))), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let (request, ignored) = CompletionRequest::parse(&body)?;
    let ignored = app.ignore(ignored)?;
    let Question { generate, prompts, choices, stream, echo, names } = request.check(&app)?;
    let scores = generate.logprobs.map(|_| Scores::new(&app, &generate.model));
    let echoed = if echo {
        let texts = request::texts(&app, &generate.model, &prompts);
        texts.map_err(|error| error.in_words_of(names))?
    } else {
        Vec::new()
    };
    let form = Form::new(&generate.model, choices, echoed, scores);
    let prompts = prompts.into_iter().map(|prompt| GenerateRequest { prompt, ..generate.clone() });
    let requests: Vec<_> =
        prompts.flat_map(|one| one.choices(choices).collect::<Vec<_>>()).collect();
    let transcript = Chunks::new(form, requests.len(), stream.unwrap_or_default());
    let asked = Asked { requests, names, stream: stream.is_some(), ignored };
    sse::answer(&app, record, asked, transcript).await
}
