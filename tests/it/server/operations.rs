//! Keys, limits, ids, metrics, shutdown's last words.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tracing_subscriber::fmt::MakeWriter;
use tutti::{
    engine::{Event, FinishReason, GenerateError, Usage},
    server::{ApiKeys, ServerConfig, router},
};

use super::client::{CHAT, Reply, app, chat, config, get, post, post_request, send};
use crate::scripted::{Scripted, Step, started, text};

fn configured(engine: &Arc<Scripted>, config: ServerConfig) -> Router {
    router(Arc::clone(engine) as _, config)
}

fn with_keys() -> Router {
    let api_keys = ApiKeys::parse("first\nsecond");
    configured(&Scripted::saying(&["ok"]), ServerConfig { api_keys, ..config() })
}

async fn asking(router: Router, path: &str, headers: &[(&str, &str)]) -> Reply {
    let request =
        headers.iter().fold(Request::get(path), |r, (name, value)| r.header(*name, *value));
    send(router, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn each_of_several_keys_is_let_in_and_no_other() {
    for key in ["Bearer first", "bearer second", "BEARER  first "] {
        let reply = asking(with_keys(), "/v1/models", &[("authorization", key)]).await;
        assert_eq!(reply.status, 200, "{key}");
    }
    for key in ["Bearer third", "Bearer ", "Bearer firstsecond", "Bearer first,second"] {
        let reply = asking(with_keys(), "/v1/models", &[("authorization", key)]).await;
        assert_eq!(reply.refusal(), (401, "invalid_api_key".to_owned(), Value::Null), "{key}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
    }
    for headers in [&[][..], &[("authorization", "Basic first")], &[("x-api-key", "first")]] {
        let reply = asking(with_keys(), "/v1/models", headers).await;
        assert_eq!(reply.refusal(), (401, "invalid_api_key".to_owned(), Value::Null));
        assert!(reply.message().contains("Authorization: Bearer"), "{}", reply.message());
    }
}

#[tokio::test]
async fn probes_need_no_key_and_everything_else_does() {
    for path in ["/health", "/ready", "/version"] {
        assert_eq!(get(with_keys(), path).await.status, 200, "{path}");
    }
    for path in ["/v1/models", "/v1/models/duet", "/v1/chat/completions", "/metrics", "/nowhere"] {
        assert_eq!(get(with_keys(), path).await.status, 401, "{path}");
    }
    assert_eq!(post(with_keys(), &chat(json!({}))).await.status, 401);
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let router = app(&Scripted::saying(&["ok"]));
    let reply = asking(router.clone(), "/health", &[("x-request-id", "abc-1")]).await;
    assert_eq!(reply.headers["x-request-id"], "abc-1");
    let long = "x".repeat(129);
    let mut made = Vec::new();
    for sent in [None, Some("two words"), Some(""), Some(long.as_str())] {
        let headers: Vec<_> = sent.map(|id| ("x-request-id", id)).into_iter().collect();
        let reply = asking(router.clone(), "/nowhere", &headers).await;
        let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.starts_with("req_"), "{id}");
        made.push(id);
    }
    made.dedup();
    assert_eq!(made.len(), 4);
}

#[tokio::test]
async fn without_configured_origins_no_page_of_another_may_ask() {
    let headers = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
    let reply = asking(app(&Scripted::saying(&["ok"])), "/v1/models", &headers).await;
    assert!(reply.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn configured_origins_may_ask_also_before_they_show_a_key() {
    let cors_origins = vec!["https://a.example".parse().unwrap()];
    let api_keys = ApiKeys::parse("key");
    let engine = Scripted::saying(&["ok"]);
    let router = configured(&engine, ServerConfig { cors_origins, api_keys, ..config() });
    for (origin, method, allowed) in [
        ("https://a.example", "POST", true),
        ("https://a.example", "DELETE", true),
        ("https://b.example", "POST", false),
    ] {
        let preflight = Request::options("/v1/chat/completions")
            .header("origin", origin)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "authorization,content-type")
            .body(Body::empty());
        let reply = send(router.clone(), preflight.unwrap()).await;
        assert_eq!(reply.status, 200);
        let header = reply.headers.get("access-control-allow-origin");
        assert_eq!(header.is_some_and(|value| value == origin), allowed, "{origin}");
        let methods = reply.headers["access-control-allow-methods"].to_str().unwrap();
        assert!(methods.split(',').any(|allowed| allowed == method), "{methods}");
    }
}

#[tokio::test]
async fn more_requests_than_there_are_places_are_told_to_come_back() {
    let engine = Scripted::new(|_| Ok(vec![started(), text("first"), Step::Hang]));
    let router = configured(&engine, ServerConfig { max_requests: 1, ..config() });
    let request = post_request(chat(json!({ "stream": true })).to_string());
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);

    let reply = post(router.clone(), &chat(json!({}))).await;
    assert_eq!(reply.refusal(), (429, "rate_limit_exceeded".to_owned(), Value::Null));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(get(router.clone(), "/health").await.status, 200, "probes are answered");

    drop(response);
    assert_eq!(get(router, "/v1/models").await.status, 200, "the place is free again");
}

#[tokio::test]
async fn metrics_tell_of_tokens_waits_and_answers() {
    let router = app(&Scripted::saying(&["a", "b", "c"]));
    for stream in [false, true] {
        assert_eq!(post(router.clone(), &chat(json!({ "stream": stream }))).await.status, 200);
    }
    assert_eq!(post(router.clone(), &chat(json!({ "model": "x" }))).await.status, 404);
    let reply = get(router, "/metrics").await;
    let kind = reply.headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    for line in [
        r#"tutti_prompt_tokens_total{model_name="duet"} 14"#,
        r#"tutti_generation_tokens_total{model_name="duet"} 8"#,
        r#"tutti_request_success_total{model_name="duet",finished_reason="stop"} 2"#,
        r#"tutti_time_to_first_token_seconds_count{model_name="duet"} 2"#,
        r#"tutti_inter_token_latency_seconds_count{model_name="duet"} 4"#,
        r#"tutti_e2e_request_latency_seconds_count{model_name="duet"} 2"#,
        r#"tutti_http_requests_total{method="POST",path="/v1/chat/completions",status="200"} 2"#,
        r#"tutti_http_requests_total{method="POST",path="/v1/chat/completions",status="404"} 1"#,
        "tutti_num_requests_running 1",
        "tutti_num_requests_waiting 2",
        r#"tutti_member_forward_seconds_total{model_name="duet",member="beta"} 1.5"#,
        r#"tutti_rollback_tokens_total{model_name="duet",member="beta"} 9"#,
        r#"tutti_member_failures_total{model_name="duet",member="beta"} 2"#,
        r#"tutti_gate_rate{model_name="duet"} 0.125"#,
        r#"tutti_agreement{model_name="duet"} 0.75"#,
        "# EOF",
    ] {
        assert!(reply.text.lines().any(|l| l == line), "{line} in\n{}", reply.text);
    }
}

#[tokio::test]
async fn what_was_cached_of_a_prompt_is_in_every_form_of_usage_and_in_the_metrics() {
    // The second choice finds what the first has read.
    let engine = Scripted::new(|request| {
        let cached_tokens = Some(if request.sampling.seed == 5 { 3 } else { 6 });
        let usage =
            Usage { prompt_tokens: 7, cached_tokens, completion_tokens: 2, ..Usage::default() };
        let end = Event::Finished { reason: FinishReason::Stop, usage };
        Ok(vec![started(), text("x"), Step::Send(end)])
    });
    let router = app(&engine);
    let asked = |path: &str, body: Value| {
        let request = Request::post(path).header("content-type", "application/json");
        send(router.clone(), request.body(Body::from(body.to_string())).unwrap())
    };
    let details = json!({ "cached_tokens": 3 });
    let two = chat(json!({ "n": 2, "seed": 5 }));
    let told = asked(CHAT, two.clone()).await.json();
    assert_eq!(told["usage"]["prompt_tokens_details"], details);
    let mut streamed = two;
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({ "include_usage": true });
    let told = asked(CHAT, streamed).await.text;
    assert!(told.contains(r#""prompt_tokens_details":{"cached_tokens":3}"#), "{told}");
    let prompts = json!({ "model": "duet", "prompt": ["a", "b"], "seed": 5 });
    let told = asked("/v1/completions", prompts).await.json();
    assert_eq!(told["usage"]["prompt_tokens_details"], json!({ "cached_tokens": 6 }));
    let input = json!({ "model": "duet", "input": "a", "seed": 5 });
    let told = asked("/v1/responses", input).await.json();
    assert_eq!(told["usage"]["input_tokens_details"]["cached_tokens"], 3);
    let metrics = get(router, "/metrics").await.text;
    for line in [
        r#"tutti_prefix_cache_queries_total{model_name="duet"} 49"#,
        r#"tutti_prefix_cache_hits_total{model_name="duet"} 27"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn generations_that_do_not_end_well_are_counted_too() {
    let engine = Scripted::new(|request| {
        let failed = GenerateError::Member { member: "beta".to_owned(), reason: String::new() };
        let last = match request.model.as_str() {
            "alpha" => Step::Hang,
            _ => Step::Send(Event::Failed(failed)),
        };
        Ok(vec![started(), text("a"), last])
    });
    let router = app(&engine);
    post(router.clone(), &chat(json!({}))).await;
    let request = post_request(chat(json!({ "stream": true, "model": "alpha" })).to_string());
    let mut body = router.clone().oneshot(request).await.unwrap().into_body();
    // The role, and the text.
    for _ in 0..2 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    let metrics = get(router, "/metrics").await.text;
    for line in [
        r#"tutti_request_success_total{model_name="duet",finished_reason="error"} 1"#,
        r#"tutti_request_success_total{model_name="alpha",finished_reason="abort"} 1"#,
        r#"tutti_prompt_tokens_total{model_name="alpha"} 7"#,
        r#"tutti_generation_tokens_total{model_name="alpha"} 1"#,
        r#"tutti_generation_tokens_total{model_name="duet"} 1"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// While there is only one subscriber, a thread without it that comes first to a place of the code
/// turns that place off for all; with two it asks both.
static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| {
    tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish())
});

/// The log of one chat whose prompt is "a secret".
async fn logged(log_prompts: bool) -> String {
    LazyLock::force(&SECOND);
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let engine = Scripted::saying(&["ok"]);
    let router = configured(&engine, ServerConfig { log_prompts, ..config() });
    let messages = json!([{ "role": "user", "content": "a secret" }]);
    let mut request = post_request(chat(json!({ "messages": messages })).to_string());
    request.headers_mut().insert("x-request-id", "the-id".parse().unwrap());
    assert_eq!(send(router, request).await.status, 200);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_request_is_one_line_of_the_log_without_its_prompt() {
    let log = logged(false).await;
    assert_eq!(log.lines().count(), 1, "{log}");
    for part in [
        "the-id",
        "method=POST",
        "path=\"/v1/chat/completions\"",
        "status=200",
        "ms=",
        "prompt_tokens=7",
        "completion_tokens=2",
    ] {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn prompts_are_logged_if_that_is_asked_for() {
    let log = logged(true).await;
    assert!(log.contains("a secret"), "{log}");
}

#[tokio::test]
async fn a_client_that_leaves_is_in_the_metrics_with_its_status() {
    let engine = Scripted::new(|_| Ok(vec![started(), text("first"), Step::Hang]));
    let router = app(&engine);
    let request = post_request(chat(json!({ "stream": true })).to_string());
    let mut body = router.clone().oneshot(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let metrics = get(router, "/metrics").await.text;
    assert!(metrics.contains(r#"path="/v1/chat/completions",status="200"} 1"#), "{metrics}");
}
