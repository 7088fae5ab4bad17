//! `/v1/reports` over a scripted engine and a real run store.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request};
use serde_json::{Value, json};
use tutti::{
    engine::{
        Counters, Generate, GenerateError, GenerateRequest, Generation, ModelCard, Prompt, UnionId,
        UnionVocab,
    },
    report::runs::Runs,
    server::{ServerConfig, router},
};

use super::client::{self, Reply, chat, config, get, send};
use crate::{
    report::{
        acts::{Act, acting},
        good_plan, is_plan, is_synthesis, own_section, text_on,
    },
    scripted::Scripted,
};

struct Desk {
    router: Router,
    _folder: tempfile::TempDir,
}

impl Desk {
    /// Sections of these names never end by themselves.
    fn new(hanging: &'static [&'static str]) -> Self {
        let engine = acting(move |_, request| {
            if is_plan(request) {
                good_plan()
            } else if !is_synthesis(request) && hanging.contains(&own_section(request)) {
                Act::SayThenHang("It begins and".to_owned())
            } else {
                text_on(request)
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let reports = Some(Runs::open(folder.path()).unwrap());
        let router = router(Arc::clone(&engine) as _, ServerConfig { reports, ..config() });
        Self { router, _folder: folder }
    }

    async fn post(&self, body: Value) -> Reply {
        let request = Request::post("/v1/reports").header("content-type", "application/json");
        send(self.router.clone(), request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn chat(&self, body: Value) -> Reply {
        client::post(self.router.clone(), &body).await
    }

    async fn get(&self, path: &str) -> Reply {
        get(self.router.clone(), path).await
    }

    async fn delete(&self, id: &str) -> Reply {
        let request = Request::delete(format!("/v1/reports/{id}")).body(Body::empty()).unwrap();
        send(self.router.clone(), request).await
    }

    /// The list's entries, once there are any.
    async fn listed(&self) -> Vec<Value> {
        loop {
            let list = self.get("/v1/reports").await.json();
            let data = list["data"].as_array().unwrap();
            if !data.is_empty() {
                return data.clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The ids, names and bodies of a stream's events.
fn events(reply: &Reply) -> Vec<(Option<u64>, String, Value)> {
    let field = |event: &str, name: &str| {
        let start = format!("{name}: ");
        event.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned))
    };
    reply
        .text
        .split("\n\n")
        .filter(|event| event.contains("data: "))
        .map(|event| {
            let data = field(event, "data").unwrap();
            let id = field(event, "id").map(|id| id.parse().unwrap());
            (id, field(event, "event").unwrap(), serde_json::from_str(&data).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_report_is_answered_whole_and_kept() {
    let desk = Desk::new(&[]);
    let reply = desk.post(json!({ "topic": "Scaling", "model": "duet", "seed": 7 })).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let report = reply.json();
    assert_eq!((&report["object"], &report["status"]), (&json!("report"), &json!("finished")));
    assert_eq!(report["report"]["sections"].as_array().unwrap().len(), 3);
    assert!(report["markdown"].as_str().unwrap().contains("## Origins\n\nWhat is known of"));
    let id = report["id"].as_str().unwrap();
    assert_eq!(desk.get(&format!("/v1/reports/{id}")).await.json(), report);
    let listed = desk.listed().await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(id)));
    assert_eq!(listed[0]["title"], "Scaling Laws");
    assert_eq!(desk.delete(id).await.json()["status"], "deleted");
    assert_eq!(desk.get(&format!("/v1/reports/{id}")).await.status, 404);
}

#[tokio::test]
async fn generations_of_reports_are_in_the_metrics() {
    let desk = Desk::new(&[]);
    let report = desk.post(json!({ "topic": "Scaling", "model": "duet" })).await.json();
    let chat = json!({ "model": "duet-report" });
    let told = desk.chat(client::chat(chat)).await.json();
    let kept = &report["report"]["facts"]["usage"];
    let count = |part: &str| kept[part].as_u64().unwrap() + told["usage"][part].as_u64().unwrap();
    let metrics = desk.get("/metrics").await.text;
    for (name, count) in [
        ("prompt_tokens", count("prompt_tokens")),
        ("generation_tokens", count("completion_tokens")),
        // A plan, three sections, the introduction and the conclusion, twice.
        ("time_to_first_token_seconds", 12),
    ] {
        let ending = if name.ends_with("tokens") { "total" } else { "count" };
        let line = format!("tutti_{name}_{ending}{{model_name=\"duet\"}} {count}");
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn a_stream_tells_every_event_and_can_be_picked_up_after_any() {
    let desk = Desk::new(&[]);
    let reply = desk.post(json!({ "topic": "Scaling", "stream": true })).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let told = events(&reply);
    let ids: Vec<_> = told.iter().map(|(id, ..)| id.unwrap()).collect();
    assert_eq!(ids, (1..=told.len() as u64).collect::<Vec<_>>());
    let names: Vec<_> = told.iter().map(|(_, name, _)| name.as_str()).collect();
    for name in ["planned", "section_started", "section_delta", "section_finished"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names.last(), Some(&"finished"));
    let id = desk.listed().await[0]["id"].as_str().unwrap().to_owned();
    for after in [0, 1, 7, told.len() - 1] {
        let request = Request::get(format!("/v1/reports/{id}/events"))
            .header("last-event-id", after.to_string());
        let reply = send(desk.router.clone(), request.body(Body::empty()).unwrap()).await;
        assert_eq!(events(&reply), told[after..], "after {after}");
    }
    let request = Request::get(format!("/v1/reports/{id}/events"))
        .header("last-event-id", told.len().to_string());
    let reply = send(desk.router.clone(), request.body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (204, ""));
}

#[tokio::test]
async fn a_running_report_is_cancelled_and_its_stream_ends() {
    let desk = Desk::new(&["Data"]);
    let stream = desk.post(json!({ "topic": "Scaling", "stream": true }));
    let cancel = async {
        let id = desk.listed().await[0]["id"].as_str().unwrap().to_owned();
        loop {
            let report = desk.get(&format!("/v1/reports/{id}")).await.json();
            assert_eq!(report["status"], "running");
            if !report["plan"].is_null() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (desk.delete(&id).await.json(), id)
    };
    let (reply, (cancelled, id)) = tokio::join!(stream, cancel);
    assert_eq!(cancelled["status"], "cancelled");
    let told = events(&reply);
    let (last_id, last, _) = told.last().unwrap();
    assert_eq!((last_id, last.as_str()), (&None, "failed"));
    assert_eq!(desk.get(&format!("/v1/reports/{id}")).await.json()["status"], "cancelled");
}

#[tokio::test]
async fn a_report_without_a_stream_ends_with_its_request() {
    let desk = Desk::new(&["Data"]);
    let waiting = desk.post(json!({ "topic": "Scaling" }));
    assert!(tokio::time::timeout(Duration::from_millis(100), waiting).await.is_err());
    let ended = async {
        while desk.listed().await[0]["status"] != "interrupted" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it is written on");
}

#[tokio::test]
async fn what_cannot_be_a_report_is_refused_with_its_field() {
    let desk = Desk::new(&[]);
    let plan = json!({ "title": "a", "sections": [] });
    for (body, param, code) in [
        (json!({}), "topic", "missing_required_parameter"),
        (json!({ "topic": " " }), "topic", "invalid_value"),
        (json!({ "topic": "a", "sections": 13 }), "sections", "invalid_value"),
        (json!({ "topic": "a", "sections": 3, "plan": plan }), "sections", "invalid_value"),
        (json!({ "topic": "a", "plan": plan }), "plan", "invalid_value"),
        (json!({ "topic": "a", "max_tokens": 1 }), "max_tokens", "invalid_value"),
        (json!({ "topic": "a", "temperature": 3 }), "temperature", "invalid_value"),
        (json!({ "topic": "a", "model": "gamma" }), "model", "model_not_found"),
    ] {
        let refusal = desk.post(body.clone()).await.refusal();
        assert_eq!((refusal.1.as_str(), refusal.2), (code, json!(param)), "{body}");
    }
    assert_eq!(desk.get("/v1/reports/zz").await.refusal().1, "report_not_found");
    assert!(desk.get("/v1/reports").await.json()["data"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_keeps_no_reports_has_no_routes_for_them() {
    let engine = acting(|_, request| text_on(request));
    let router = router(engine, config());
    assert_eq!(get(router, "/v1/reports").await.refusal().1, "unknown_url");
}

/// A chat with the model that writes reports, and `fields` over it.
fn report_chat(fields: &Value) -> Value {
    let mut body = chat(json!({ "model": "duet-report", "seed": 7 }));
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// The chunks of a chat's stream.
fn chunks(reply: &Reply) -> Vec<Value> {
    let data = reply.text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// What the chunks say under a name, joined.
fn joined(chunks: &[Value], name: &str) -> String {
    let texts = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][name].as_str());
    texts.collect()
}

#[tokio::test]
async fn a_chat_model_answers_with_the_report() {
    let desk = Desk::new(&[]);
    let models = desk.get("/v1/models").await.json();
    let names: Vec<_> = models["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(names, ["duet", "alpha", "beta", "duet-report"]);
    assert_eq!(desk.get("/v1/models/duet-report").await.json()["members"][1], "beta");
    let answer = desk.chat(report_chat(&json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.headers.contains_key("x-ignored-params"));
    let answer = answer.json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with("# Scaling Laws\n") && text.contains("## Data\n\nWhat is known"));
    // It is kept like any report, of the ensemble, with the last message as its topic.
    let id = desk.listed().await[0]["id"].as_str().unwrap().to_owned();
    let kept = desk.get(&format!("/v1/reports/{id}")).await.json();
    assert_eq!((&kept["model"], &kept["topic"]), (&json!("duet"), &json!("Hi")));
    assert!(kept["markdown"].as_str().unwrap().ends_with(text));
    let usage = &kept["report"]["facts"]["usage"];
    assert_eq!(answer["usage"]["completion_tokens"], usage["completion_tokens"]);
    assert_eq!(answer["usage"]["prompt_tokens"], usage["prompt_tokens"]);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_streamed_report_thinks_in_plan_order_and_says_the_same_document() {
    let desk = Desk::new(&[]);
    let whole = desk.chat(report_chat(&json!({}))).await.json();
    let fields = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let reply = desk.chat(report_chat(&fields)).await;
    assert!(reply.text.trim_end().ends_with("data: [DONE]"));
    let chunks = chunks(&reply);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(joined(&chunks, "content"), whole["choices"][0]["message"]["content"]);
    let drafts = joined(&chunks, "reasoning_content");
    let mut rest = drafts.as_str();
    for part in
        ["Scaling Laws", "1. Origins\nWhat is known of Origins.", "2. Data\n", "3. Limits\n"]
    {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("no {part} in {drafts}"));
        rest = after;
    }
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
    let finish = &chunks[chunks.len() - 2]["choices"][0]["finish_reason"];
    assert_eq!(finish, "stop");
}

#[tokio::test]
async fn a_chat_for_a_report_names_what_it_leaves_out_and_refuses_what_it_cannot_do() {
    let desk = Desk::new(&[]);
    let message = |role: &str, content: &str| json!({ "role": role, "content": content });
    let messages = json!([
        message("system", "Be brief."),
        message("user", "Old"),
        message("assistant", "Yes"),
        message("user", "New")
    ]);
    let reply =
        desk.chat(report_chat(&json!({ "messages": messages, "max_tokens": 9, "x": 1 }))).await;
    let named = reply.headers["x-ignored-params"].to_str().unwrap();
    assert_eq!(named, "x, max_tokens, messages[0], messages[1], messages[2]");
    assert_eq!(desk.listed().await[0]["topic"], "New");
    let tool = json!({ "type": "function", "function": { "name": "f" } });
    for (fields, param) in [
        (json!({ "n": 2 }), "n"),
        (json!({ "tools": [tool] }), "tools"),
        (json!({ "stop": "x" }), "stop"),
        (json!({ "logprobs": true }), "logprobs"),
        (json!({ "presence_penalty": 1 }), "presence_penalty"),
        (json!({ "response_format": { "type": "json_object" } }), "response_format"),
        (json!({ "ensemble": { "gate": 0.5 } }), "ensemble"),
        (json!({ "messages": [message("user", " ")] }), "messages[0]"),
        (json!({ "messages": [message("system", "x")] }), "messages"),
    ] {
        let refusal = desk.chat(report_chat(&fields)).await.refusal();
        assert_eq!((refusal.0, refusal.2), (400, json!(param)), "{fields}");
    }
    // Only chats have it, and only of ensembles.
    for (path, field) in [("/v1/completions", "prompt"), ("/v1/responses", "input")] {
        let request = Request::post(path).header("content-type", "application/json");
        let body = json!({ "model": "duet-report", field: "x" }).to_string();
        let request = request.body(Body::from(body)).unwrap();
        let reply = send(desk.router.clone(), request).await;
        assert_eq!(reply.refusal().2, "model", "{path}");
        assert!(reply.message().contains("/v1/chat/completions"), "{}", reply.message());
    }
    let alone = desk.chat(report_chat(&json!({ "model": "alpha-report" }))).await;
    assert_eq!(alone.refusal().1, "model_not_found");
    assert!(alone.message().contains("duet-report"), "{}", alone.message());
}

#[tokio::test]
async fn a_chat_for_a_report_that_fails_says_why() {
    let engine = acting(|_, request| if is_plan(request) { good_plan() } else { Act::say("") });
    let folder = tempfile::tempdir().unwrap();
    let reports = Some(Runs::open(folder.path()).unwrap());
    let router = router(engine, ServerConfig { reports, ..config() });
    let reply = client::post(router.clone(), &report_chat(&json!({}))).await;
    assert_eq!(reply.refusal().1, "report_failed");
    assert!(reply.message().contains("no section could be written"), "{}", reply.message());
    let reply = client::post(router, &report_chat(&json!({ "stream": true }))).await;
    assert!(!reply.text.contains("[DONE]"));
    let last = chunks(&reply).pop().unwrap();
    assert_eq!(last["error"]["code"], "report_failed", "{last}");
}

#[tokio::test]
async fn fields_that_no_report_reads_are_named_or_refused() {
    let desk = Desk::new(&[]);
    let body = json!({ "topic": "a", "colour": "red", "user": "me" });
    let reply = desk.post(body.clone()).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["x-ignored-params"]),
        (200, &"colour".parse().unwrap())
    );
    let engine = acting(|_, request| text_on(request));
    let folder = tempfile::tempdir().unwrap();
    let reports = Some(Runs::open(folder.path()).unwrap());
    let router = router(engine, ServerConfig { reports, strict_params: true, ..config() });
    let request = Request::post("/v1/reports").header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    assert_eq!(send(router, request).await.refusal().2, "colour");
}

#[tokio::test]
async fn a_report_that_finds_no_place_is_refused_like_any_request() {
    let engine = Full(acting(|_, request| text_on(request)));
    let folder = tempfile::tempdir().unwrap();
    let runs = Runs::open(folder.path()).unwrap();
    let router = router(Arc::new(engine), ServerConfig { reports: Some(runs.clone()), ..config() });
    let request = Request::post("/v1/reports").header("content-type", "application/json");
    let request = request.body(Body::from(json!({ "topic": "a" }).to_string())).unwrap();
    let reply = send(router.clone(), request).await;
    assert_eq!(reply.refusal().0, 429);
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(client::post(router, &report_chat(&json!({}))).await.refusal().0, 429);
    assert!(runs.list().unwrap().is_empty());
}

/// An engine all of whose places are taken.
struct Full(Arc<Scripted>);

impl Generate for Full {
    fn models(&self) -> Vec<ModelCard> {
        self.0.models()
    }

    fn counters(&self) -> Counters {
        Counters { running: 8, waiting: 64, places: 72, models: Vec::new() }
    }

    fn generate(&self, _: GenerateRequest) -> Result<Generation, GenerateError> {
        Err(GenerateError::QueueFull { waiting: 64 })
    }

    fn union(&self, model: &str) -> Result<&UnionVocab, GenerateError> {
        self.0.union(model)
    }

    fn tokenize(&self, model: &str, text: &str) -> Result<Vec<UnionId>, GenerateError> {
        self.0.tokenize(model, text)
    }

    fn count_tokens(&self, model: &str, prompt: &Prompt) -> Result<usize, GenerateError> {
        self.0.count_tokens(model, prompt)
    }
}
