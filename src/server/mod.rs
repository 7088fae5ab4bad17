//! The OpenAI-compatible HTTP API over any [`Generate`].
//!
//! Knows wire types and status codes. May not know candle, ensembles or tokens, and does no
//! arithmetic: what a request means is [`GenerateRequest`](crate::engine::GenerateRequest), and
//! everything below that type is somebody else's.

mod body;
mod chat;
mod completions;
mod error;
mod generation;
mod life;
mod models;
mod openapi;
mod ops;
mod reports;
mod responses;
mod sse;
mod tokens;
mod tools;
mod wire;

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::FutureExt;
use tokio::{net::TcpListener, sync::Semaphore};
use uuid::Uuid;

use crate::{
    engine::Generate,
    report::{USUAL_RETRIES, runs::Runs},
    sampling::SamplingParams,
};
use life::Life;
use ops::{Counted, Metrics};
use reports::Active;

pub use error::ApiError;
pub use ops::ApiKeys;

/// What the server decides for requests that do not say it, and its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// For requests that leave a field out. Its seed is not used: each request without one gets
    /// a seed of its own.
    pub sampling: SamplingParams,
    /// Larger bodies are refused with 413.
    pub max_body_bytes: usize,
    /// More requests at once are refused with 429. Those that generate wait in the engine's queue,
    /// which has its own limit.
    pub max_requests: usize,
    /// The most tokens of a chat's answer that names no limit; `None` is the end of the context.
    pub max_tokens: Option<usize>,
    /// Who may ask; everybody if there are none.
    pub api_keys: ApiKeys,
    /// The origins whose web pages may ask, `*` for all; none turns CORS off.
    pub cors_origins: Vec<HeaderValue>,
    /// Refuses requests with fields that are not used, instead of naming them in a header.
    pub strict_params: bool,
    /// Puts prompts into the log.
    pub log_prompts: bool,
    /// Where reports are kept; without it there are no routes for reports.
    pub reports: Option<Runs>,
    /// How often their sections are written again where the request does not say.
    pub report_retries: usize,
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
            max_requests: 256,
            max_tokens: None,
            api_keys: ApiKeys::default(),
            cors_origins: Vec::new(),
            strict_params: false,
            log_prompts: false,
            reports: None,
            report_retries: USUAL_RETRIES,
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

/// After the grace, for the events that say that it is over.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Serves until `shutdown` resolves, then lets running requests end within `config.grace`.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<dyn Generate>,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let grace = config.grace;
    let app = App::new(engine, config);
    let life = app.life.clone();
    let stopping = life.clone();
    let server = axum::serve(listener, routes(app)).with_graceful_shutdown(async move {
        shutdown.await;
        stopping.stop();
    });
    let grace_over = async move {
        life.stopping().await;
        tokio::time::sleep(grace).await;
        life.end();
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        ended = server.into_future() => Ok(ended?),
        () = grace_over => Ok(()),
    }
}

/// The routes without a socket.
pub fn router(engine: Arc<dyn Generate>, config: ServerConfig) -> Router {
    routes(App::new(engine, config))
}

fn routes(app: App) -> Router {
    let mut routes = Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/responses", post(responses::create))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::retrieve))
        .route("/openapi.json", get(openapi::describe))
        .route("/health", get(ops::health))
        .route("/ready", get(ops::ready))
        .route("/version", get(ops::version))
        .route("/metrics", get(ops::expose))
        .merge(report_routes(&app))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(unknown_route)
        .layer(DefaultBodyLimit::max(app.config.max_body_bytes))
        .layer(middleware::from_fn(answer_panics))
        .layer(middleware::from_fn_with_state(app.clone(), ops::check_key));
    // Before the keys: a browser asks without one whether it may ask.
    if let Some(cors) = ops::cors(&app.config.cors_origins) {
        routes = routes.layer(cors);
    }
    routes.layer(middleware::from_fn_with_state(app.clone(), ops::watch)).with_state(app)
}

fn report_routes(app: &App) -> Router<App> {
    if app.config.reports.is_none() {
        return Router::new();
    }
    Router::new()
        .route("/v1/reports", get(reports::list).post(reports::create))
        .route("/v1/reports/{id}", get(reports::retrieve).delete(reports::delete))
        .route("/v1/reports/{id}/events", get(reports::events))
}

/// What every handler shares.
#[derive(Clone)]
struct App {
    /// Its generations are counted.
    engine: Arc<dyn Generate>,
    config: Arc<ServerConfig>,
    metrics: Arc<Metrics>,
    /// For requests at once.
    places: Arc<Semaphore>,
    life: Life,
    active: Active,
    /// Unix seconds; what the models of this process were "created" at.
    started: u64,
}

impl App {
    /// What a request leaves out, with a seed of its own. A version 4 UUID has six fixed bits, not
    /// at the same places of its halves, so every bit of their exclusive or is random.
    fn sampling(&self) -> SamplingParams {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        SamplingParams { seed: high ^ low, ..self.config.sampling.clone() }
    }

    /// Refuses fields that nothing reads if the configuration says so.
    fn ignore(&self, names: Vec<String>) -> Result<Vec<String>, ApiError> {
        match names.first() {
            Some(name) if self.config.strict_params => Err(ApiError::unsupported(
                name,
                "is not a field that this server uses; leave it out",
            )),
            _ => Ok(names),
        }
    }

    fn new(engine: Arc<dyn Generate>, config: ServerConfig) -> Self {
        let metrics = Arc::new(Metrics::new(engine.clone()));
        Self {
            engine: Arc::new(Counted::new(engine, metrics.clone())),
            metrics,
            places: Arc::new(Semaphore::new(config.max_requests)),
            config: Arc::new(config),
            life: Life::new(),
            active: Active::default(),
            started: unix_seconds(),
        }
    }
}

impl App {
    fn runs(&self) -> &Runs {
        self.config.reports.as_ref().expect("the routes for reports are there only with it")
    }
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
