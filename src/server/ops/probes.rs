//! What a supervisor asks.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;

use crate::server::{App, openapi::Refusals};

#[derive(Debug, Serialize, ToSchema)]
struct Status {
    status: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct Version {
    name: &'static str,
    version: &'static str,
}

/// The process runs.
#[utoipa::path(get, path = "/health", responses((status = 200, description = "the answer", body = Status), Refusals))]
pub(in crate::server) async fn health() -> impl IntoResponse {
    Json(Status { status: "ok" })
}

/// New requests are welcome. Models are checked before the server answers anything, and loaded unless
/// the configuration leaves that to the first request, so only a shutdown takes this back.
#[utoipa::path(
    get,
    path = "/ready",
    responses(
        (status = 200, description = "new requests are welcome", body = Status),
        (status = 503, description = "the server is stopping", body = Status),
    )
)]
pub(in crate::server) async fn ready(State(app): State<App>) -> impl IntoResponse {
    if app.life.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Status { status: "stopping" }))
    } else {
        (StatusCode::OK, Json(Status { status: "ready" }))
    }
}

#[utoipa::path(get, path = "/version", responses((status = 200, description = "the answer", body = Version), Refusals))]
pub(in crate::server) async fn version() -> impl IntoResponse {
    Json(Version { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") })
}
