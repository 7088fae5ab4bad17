//! Around every request: its id, its place, one line of the log, its numbers.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::metrics::Metrics;
use crate::{
    engine::Usage,
    server::{ApiError, App},
};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ids of clients are replaced, so that a log line has an end.
const LONGEST_ID: usize = 128;
/// What must answer also while the server is full.
const UNLIMITED: &[&str] = &["/health", "/ready", "/version", "/metrics", "/openapi.json"];
/// What a client that left before its answer gets in the log, as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// What a request's handler adds to its line of the log.
#[derive(Debug, Default)]
pub(in crate::server) struct Record {
    prompt_tokens: AtomicUsize,
    completion_tokens: AtomicUsize,
}

impl Record {
    pub(in crate::server) fn add(&self, usage: Usage) {
        self.prompt_tokens.fetch_add(usage.prompt_tokens, Ordering::Relaxed);
        self.completion_tokens.fetch_add(usage.completion_tokens, Ordering::Relaxed);
    }
}

/// The outermost layer. A request ends when its body has been sent or dropped, not when its
/// handler returned.
pub(in crate::server) async fn watch(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let path = request.uri().path().to_owned();
    let place = app.places.clone().try_acquire_owned().ok();
    let refused = place.is_none() && !UNLIMITED.contains(&path.as_str());
    let record = Arc::new(Record::default());
    let mut passage = Passage {
        route: request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()),
        path,
        method: request.method().clone(),
        status: CLIENT_LEFT,
        since: Instant::now(),
        record: record.clone(),
        metrics: app.metrics.clone(),
        span: span.clone(),
        _place: place,
    };
    request.extensions_mut().insert(record);
    let mut response = if refused {
        ApiError::TooManyRequests { limit: app.config.max_requests }.into_response()
    } else {
        next.run(request).instrument(span).await
    };
    passage.status = response.status().as_u16();
    response.headers_mut().insert(REQUEST_ID, id);
    response.map(|body| Body::new(Watched { body, passage }))
}

/// The client's own, if it can stand in a header and a log line; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sent = headers.get(REQUEST_ID).filter(|id| {
        (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    sent.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&format!("req_{}", Uuid::new_v4().simple()))
            .expect("letters and digits can stand in a header")
    })
}

/// One request on its way through. Dropped at its end, however it comes.
struct Passage {
    method: Method,
    path: String,
    /// The path's pattern, if there is such a route.
    route: Option<String>,
    status: u16,
    since: Instant,
    record: Arc<Record>,
    metrics: Arc<Metrics>,
    span: Span,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Passage {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let elapsed = self.since.elapsed();
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        tracing::info!(
            method = %self.method,
            path = self.path,
            status = self.status,
            ms = elapsed.as_millis(),
            prompt_tokens = load(&self.record.prompt_tokens),
            completion_tokens = load(&self.record.completion_tokens),
            "answered"
        );
        let route = self.route.as_deref().unwrap_or("unmatched");
        self.metrics.answered(&self.method, route, self.status, elapsed);
    }
}

/// A response's body with its passage.
struct Watched {
    body: Body,
    passage: Passage,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let span = self.passage.span.clone();
        let _entered = span.enter();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
