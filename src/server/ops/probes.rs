//! What a supervisor asks.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde::Serialize;

use crate::server::App;

#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
}

#[derive(Debug, Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

/// The process runs.
pub(in crate::server) async fn health() -> impl IntoResponse {
    Json(Status { status: "ok" })
}

/// New requests are welcome. Models are loaded before the server answers anything, so only a
/// shutdown takes this back.
pub(in crate::server) async fn ready(State(app): State<App>) -> impl IntoResponse {
    if app.life.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Status { status: "stopping" }))
    } else {
        (StatusCode::OK, Json(Status { status: "ready" }))
    }
}

pub(in crate::server) async fn version() -> impl IntoResponse {
    Json(Version { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") })
}
