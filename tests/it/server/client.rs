//! Requests to a router without a socket.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tutti::{
    sampling::SamplingParams,
    server::{ServerConfig, router},
};

use crate::scripted::Scripted;

pub(super) const CHAT: &str = "/v1/chat/completions";

/// The config of these tests: sampling defaults that differ from every type's own.
pub(super) fn config() -> ServerConfig {
    let sampling =
        SamplingParams { temperature: 0.6, top_k: Some(50), top_p: 0.9, min_p: 0.02, seed: 1 };
    ServerConfig { sampling, max_body_bytes: 4096, ..ServerConfig::default() }
}

pub(super) fn app(engine: &Arc<Scripted>) -> Router {
    router(Arc::clone(engine) as _, config())
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// `(status, code, param)` of an error object; its message is checked for data by callers.
    pub(super) fn refusal(&self) -> (u16, String, Value) {
        let body = self.json();
        let error = body["error"].as_object().expect("an error object");
        let keys: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        let kind = match self.status.as_u16() {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        assert_eq!(error["type"], kind);
        assert!(!self.message().is_empty());
        let code = error["code"].as_str().expect("a code").to_owned();
        (self.status.as_u16(), code, error["param"].clone())
    }

    pub(super) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().expect("a message").to_owned()
    }
}

pub(super) async fn send(app: Router, request: Request<Body>) -> Reply {
    let response = app.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Reply { status: parts.status, headers: parts.headers, text }
}

pub(super) async fn get(app: Router, path: &str) -> Reply {
    send(app, Request::get(path).body(Body::empty()).unwrap()).await
}

pub(super) fn post_request(body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(CHAT).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

pub(super) async fn post(app: Router, body: &Value) -> Reply {
    send(app, post_request(body.to_string())).await
}

/// The smallest request, and `fields` over it.
pub(super) fn chat(fields: Value) -> Value {
    let mut body = json!({ "model": "duet", "messages": [{ "role": "user", "content": "Hi" }] });
    let Value::Object(fields) = fields else { panic!("fields must be an object") };
    body.as_object_mut().unwrap().extend(fields);
    body
}
