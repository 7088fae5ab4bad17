//! `POST /v1/responses`, without state: nothing is kept between requests.

mod events;
mod input;
mod request;
mod writer;

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
use events::Events;
use request::{Question, ResponsesRequest};
use writer::Writer;

#[utoipa::path(
    post,
    path = "/v1/responses",
    request_body = ResponsesRequest,
    responses((status = 200, description = "the answer, whole or as a stream", content((Value = "application/json"), (StreamEvent = "text/event-stream"))), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let (request, mut ignored) = ResponsesRequest::parse(&body)?;
    let Question { generate, toolbox, stream, logprobs, echo, names } = request.check(&app)?;
    ignored.extend_from_slice(&toolbox.lax);
    let ignored = app.ignore(ignored)?;
    let scores = logprobs.then(|| Scores::new(&app, &generate.model));
    let events = Events::new(Writer::new(&generate.model, echo, &toolbox, scores));
    let asked = Asked { requests: vec![generate], names, stream, ignored };
    sse::answer(&app, record, asked, events).await
}
