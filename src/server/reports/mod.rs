//! `/v1/reports`: reports are written, watched, picked up again, read and cancelled.
//!
//! A report with `stream: true` is written by a task of its own and goes on when its client
//! leaves: the stream is read from the run store, so it can be picked up after any event. One
//! without lives as long as its request.

mod active;
mod request;
mod response;
mod stream;

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{
    ApiError, App,
    body::JsonBody,
    openapi::{Refusals, StreamEvent},
    ops::Record,
    wire::{naming, read},
};
use crate::{
    engine::ModelCard,
    report::runs::{Run, Runs, RunsError, State as RunState},
};
use response::{WireList, WireReport, WireSummary};

pub(super) use active::{Active, EndsWithRequest, Started, start};
pub(super) use request::MAX_TOKENS;
use request::ReportsRequest;
pub(super) use stream::{Reading, Told};

/// What the chat model that writes reports is called more than its ensemble.
const SUFFIX: &str = "-report";
/// The number of the last event that a client has seen.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[utoipa::path(
    post,
    path = "/v1/reports",
    request_body = ReportsRequest,
    responses((status = 200, description = "the report, whole or its events as a stream", content((Object = "application/json"), (StreamEvent = "text/event-stream"))), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(record): Extension<Arc<Record>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let (request, ignored) = read::<ReportsRequest>(&body)?;
    let ignored = app.ignore(ignored)?;
    let stream = request.stream();
    let request = request.validate(&app)?;
    let started = start(&app, request).await?;
    if stream {
        return Ok(naming(&ignored, stream::respond(&app, started.id, 0)));
    }
    let run = load(app.runs(), started.ended(&app.life).await?).await?;
    if let Ok(report) = run.report() {
        record.add(report.facts.usage.into());
    }
    Ok(naming(&ignored, Json(WireReport::new(run)).into_response()))
}

#[utoipa::path(get, path = "/v1/reports", responses((status = 200, description = "the reports that are kept, the newest first", body = Object), Refusals))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<WireList>, ApiError> {
    let runs = app.runs().clone();
    let data = off_thread(move || runs.list()).await?;
    Ok(Json(WireList::new(data)))
}

#[utoipa::path(get, path = "/v1/reports/{id}", params(("id" = String, Path)), responses((status = 200, description = "the report, as far as it is", body = Object), Refusals))]
pub(super) async fn retrieve(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<WireReport>, ApiError> {
    Ok(Json(WireReport::new(load(app.runs(), checked(id)?).await?)))
}

/// The events of a run from the first, or after the one that the client has seen last.
#[utoipa::path(get, path = "/v1/reports/{id}/events", params(("id" = String, Path), ("last-event-id" = Option<u64>, Header, description = "the last event that was seen")), responses((status = 200, description = "its events, as they come", body = StreamEvent, content_type = "text/event-stream"), (status = 204, description = "it has ended, and the last of its events was seen"), Refusals))]
pub(super) async fn events(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let run = load(app.runs(), checked(id)?).await?;
    let after = match headers.get(LAST_EVENT_ID) {
        None => 0,
        Some(value) => {
            // The description has it as a signed number of 64 bits, as the store does.
            let number = value.to_str().ok().and_then(|value| value.parse::<i64>().ok());
            number.and_then(|number| number.try_into().ok()).ok_or_else(|| {
                ApiError::invalid("last-event-id", "must be the number of an event")
            })?
        }
    };
    let (id, runs) = (run.summary.id, app.runs().clone());
    if run.summary.state != RunState::Running {
        let of = id.clone();
        if off_thread(move || runs.entries(&of, after)).await?.is_empty() {
            // A browser that picks up what has ended asks again and again, but for this answer.
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    Ok(stream::respond(&app, id, after))
}

/// Cancels a report that is being written here, and deletes one that is not being written.
#[utoipa::path(delete, path = "/v1/reports/{id}", params(("id" = String, Path)), responses((status = 200, description = "what was cancelled or deleted", body = Object), Refusals))]
pub(super) async fn delete(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<WireSummary>, ApiError> {
    let summary = load(app.runs(), checked(id)?).await?.summary;
    let (runs, id) = (app.runs().clone(), summary.id.clone());
    if app.active.cancel(&id).await {
        off_thread(move || runs.cancel(&id)).await?;
        let summary = load(app.runs(), summary.id).await?.summary;
        return Ok(Json(WireSummary::new(summary)));
    }
    off_thread(move || runs.delete(&id)).await?;
    Ok(Json(WireSummary::deleted(summary)))
}

/// The ensemble that writes for a chat model of this name, `<ensemble>-report`; none where reports
/// are not kept, and for a model of its own that is called so.
pub(super) fn writer(app: &App, model: &str) -> Option<String> {
    let cards = chat_models(app);
    cards
        .iter()
        .any(|card| card.name == model)
        .then(|| model[..model.len() - SUFFIX.len()].to_owned())
}

/// The chat models that answer with a report.
pub(super) fn chat_models(app: &App) -> Vec<ModelCard> {
    if app.config.reports.is_none() {
        return Vec::new();
    }
    let models = app.engine.models();
    let ensembles = models.iter().filter(|card| card.members.len() > 1);
    ensembles
        .map(|card| ModelCard { name: format!("{}{SUFFIX}", card.name), ..card.clone() })
        .filter(|card| models.iter().all(|model| model.name != card.name))
        .collect()
}

pub(super) async fn load(runs: &Runs, id: String) -> Result<Run, ApiError> {
    let runs = runs.clone();
    off_thread(move || runs.load(&id)).await
}

/// The store reads and writes files.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunsError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(refusal),
        Err(_) => Err(ApiError::Panicked),
    }
}

fn refusal(error: RunsError) -> ApiError {
    match error {
        RunsError::Unknown { id } | RunsError::Ambiguous { id, .. } => {
            ApiError::UnknownReport { id }
        }
        error @ RunsError::Taken { .. } => ApiError::ReportTaken { reason: error.to_string() },
        error => ApiError::ReportStore { reason: error.to_string() },
    }
}

fn checked(id: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    id.map(|Path(id)| id).map_err(|error| ApiError::invalid("id", error.body_text()))
}

fn random_seed() -> u64 {
    // Small enough for every JSON reader to keep it exactly.
    Uuid::new_v4().as_u64_pair().1 & 0xFFFF_FFFF
}
