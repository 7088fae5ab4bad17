//! `POST /v1/completions`: raw texts go on.

mod request;
mod response;

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};

use super::{
    ApiError, App,
    body::JsonBody,
    generation::{Scores, admit},
    openapi::Refusals,
    ops::Record,
    sse, wire,
};
use crate::engine::GenerateRequest;
use request::{CompletionRequest, Question};
use response::{Chunks, Completion, Form};

#[utoipa::path(
    post,
    path = "/v1/completions",
    request_body = CompletionRequest,
    responses((status = 200, description = "the answer, whole or as a stream", content((Completion = "application/json"), (String = "text/event-stream"))), Refusals)
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
    let echoed = if echo { request::texts(&app, &generate.model, &prompts)? } else { Vec::new() };
    let form = Form::new(&generate.model, choices, echoed, scores);
    let requests = prompts.into_iter().flat_map(|prompt| {
        let generate = &generate;
        (0..choices).map(move |choice| GenerateRequest {
            prompt: prompt.clone(),
            sampling: generate.sampling.of_choice(choice),
            ..generate.clone()
        })
    });
    let requests: Vec<GenerateRequest> = requests.collect();
    let count = requests.len();
    let running = admit(&app, record, requests, names).await?;
    let answer = match stream {
        Some(options) => {
            let chunks = Chunks::new(form, count, options);
            sse::respond(running, chunks, app.config.keep_alive)
        }
        None => Json(Completion::new(&form, running.collect().await?)?).into_response(),
    };
    Ok(wire::naming(&ignored, answer))
}
