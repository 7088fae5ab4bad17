//! The OpenAI-compatible HTTP API over any [`Generate`].
//!
//! Knows wire types and status codes. May not know candle, ensembles or tokens, and does no
//! arithmetic: what a request means is [`GenerateRequest`](crate::engine::GenerateRequest), and
//! everything below that type is somebody else's.

mod body;
mod chat;
mod error;
mod models;

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request},
    http::{Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::FutureExt;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{engine::Generate, sampling::SamplingParams};

pub use chat::{ChatCompletionRequest, CheckedRequest, StreamOptions};
pub use error::ApiError;

/// What the server decides for requests that do not say it, and its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// For requests that leave a field out. Its seed is not used: each request without one gets
    /// a seed of its own.
    pub sampling: SamplingParams,
    /// Larger bodies are refused with 413.
    pub max_body_bytes: usize,
    /// The longest silence on a stream before a comment is sent.
    pub keep_alive: Duration,
    /// How long running requests may go on after the shutdown signal.
    pub grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            sampling: SamplingParams::default(),
            max_body_bytes: 8 << 20,
            keep_alive: Duration::from_secs(5),
            grace: Duration::from_secs(10),
        }
    }
}

/// Why the server ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the server cannot take connections: {0}")]
    Listener(#[from] std::io::Error),
}

/// Serves until `shutdown` resolves, then lets running requests end within `config.grace`.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<dyn Generate>,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let grace = config.grace;
    let (closing, closed) = oneshot::channel::<()>();
    let server = axum::serve(listener, router(engine, config)).with_graceful_shutdown(async move {
        shutdown.await;
        drop(closing);
    });
    let grace_over = async move {
        // The sender is only ever dropped, so an error is the signal.
        let _dropped = closed.await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        ended = server.into_future() => Ok(ended?),
        () = grace_over => Ok(()),
    }
}

/// The routes without a socket.
pub fn router(engine: Arc<dyn Generate>, config: ServerConfig) -> Router {
    let max_body_bytes = config.max_body_bytes;
    let app = App { engine, config: Arc::new(config), started: unix_seconds() };
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::retrieve))
        .route("/health", get(health))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(unknown_route)
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(middleware::from_fn(answer_panics))
        .with_state(app)
}

/// What every handler shares.
#[derive(Clone)]
struct App {
    engine: Arc<dyn Generate>,
    config: Arc<ServerConfig>,
    /// Unix seconds; what the models of this process were "created" at.
    started: u64,
}

async fn health() -> impl IntoResponse {
    Json(serde_json::json!({ "status": "ok" }))
}

async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    ApiError::UnknownRoute { method, path: uri.path().to_owned() }
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed { method, path: uri.path().to_owned() }
}

/// A defect in one request is that request's 500, never the end of the connection's others.
async fn answer_panics(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => ApiError::Panicked.into_response(),
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
