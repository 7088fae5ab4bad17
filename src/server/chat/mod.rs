//! `POST /v1/chat/completions`.

mod message;
mod report;
mod request;
mod response;
mod stream;

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};

use super::{
    ApiError, App,
    body::JsonBody,
    generation::Scores,
    openapi::{Refusals, StreamEvent},
    ops::Record,
    reports,
    sse::{self, Asked},
};
use request::{ChatRequest, Question};
use response::{Completion, Head};
use stream::Chunks;

pub(super) use message::{Content, role, tool_call};

#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    request_body = ChatRequest,
    responses((status = 200, description = "the answer, whole or as a stream", content((Completion = "application/json"), (StreamEvent = "text/event-stream"))), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let (request, mut ignored) = ChatRequest::parse(&body)?;
    let budget = request.budget();
    let question = request.check(&app)?;
    ignored.extend_from_slice(&question.toolbox.lax);
    let ignored = app.ignore(ignored)?;
    if let Some(writer) = reports::writer(&app, &question.generate.model) {
        let ignored = ignored.into_iter().chain(budget.map(str::to_owned)).collect();
        return report::answer(&app, record, (writer, question), ignored).await;
    }
    let Question { generate, choices, stream, toolbox, logprobs, names } = question;
    let scores = logprobs.then(|| Scores::new(&app, &generate.model));
    let options = (choices, stream.unwrap_or_default());
    let transcript = Chunks::new(Head::new(&generate.model), &toolbox, options, scores);
    let requests = generate.choices(choices).collect();
    let asked = Asked { requests, names, stream: stream.is_some(), ignored };
    let answer = sse::answer(&app, record, asked, transcript).await;
    answer.map_err(|error| error.and_models(reports::chat_models(&app)))
}
