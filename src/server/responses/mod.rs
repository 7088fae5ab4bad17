//! `POST /v1/responses`, without state: nothing is kept between requests.

mod events;
mod input;
mod request;
mod writer;

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};

use super::{
    ApiError, App, body::JsonBody, generation::admit, openapi::Refusals, ops::Record, sse, wire,
};
use events::Events;
use request::{Question, ResponsesRequest};
use writer::Writer;

#[utoipa::path(
    post,
    path = "/v1/responses",
    request_body = ResponsesRequest,
    responses((status = 200, description = "the answer, whole or as a stream", content((Value = "application/json"), (String = "text/event-stream"))), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let (request, ignored) = ResponsesRequest::parse(&body)?;
    let ignored = app.ignore(ignored)?;
    let Question { generate, toolbox, stream, echo, names } = request.check(&app)?;
    let mut writer = Writer::new(&generate.model, echo, &toolbox);
    let running = admit(&app, record, vec![generate], names).await?;
    let answer = if stream {
        sse::respond(running, Events::new(writer), app.config.keep_alive)
    } else {
        let answer = running.collect().await?.pop().ok_or(ApiError::Unfinished)?;
        let mut unsent = Vec::new();
        writer.text(&answer.text, &mut unsent);
        writer.finish(answer.reason(), answer.usage(), &mut unsent);
        Json(writer.response()).into_response()
    };
    Ok(wire::naming(&ignored, answer))
}
