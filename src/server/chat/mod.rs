//! `POST /v1/chat/completions`.

mod message;
mod report;
mod request;
mod response;
mod stream;

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
    reports, sse, wire,
};
use crate::engine::GenerateRequest;
use request::{ChatRequest, Question};
use response::{Completion, Head};
use stream::Chunks;

pub(super) use message::{Content, role, tool_call};

#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    request_body = ChatRequest,
    responses((status = 200, description = "the answer, whole or as a stream", content((Completion = "application/json"), (String = "text/event-stream"))), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let (request, ignored) = ChatRequest::parse(&body)?;
    let ignored = app.ignore(ignored)?;
    let budget = request.budget();
    let question = request.check(&app)?;
    if let Some(writer) = reports::writer(&app, &question.generate.model) {
        let ignored = ignored.into_iter().chain(budget.map(str::to_owned)).collect();
        return report::answer(&app, record, (writer, question), ignored).await;
    }
    let Question { generate, choices, stream, toolbox, logprobs, names } = question;
    let head = Head::new(&generate.model);
    let scores = logprobs.then(|| Scores::new(&app, &generate.model));
    let requests = (0..choices).map(|choice| GenerateRequest {
        sampling: generate.sampling.of_choice(choice),
        ..generate.clone()
    });
    let running = admit(&app, record, requests.collect(), names).await?;
    let answer = match stream {
        Some(options) => {
            let chunks = Chunks::new(head, &toolbox, (choices, options), scores);
            sse::respond(running, chunks, app.config.keep_alive)
        }
        None => {
            let answers = running.collect().await?;
            Json(Completion::new(head, answers, &toolbox, scores.as_ref())?).into_response()
        }
    };
    Ok(wire::naming(&ignored, answer))
}
