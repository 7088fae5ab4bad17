//! Whole streams as they go over the wire, one file each in `tests/fixtures/sse`: the request, an
//! empty line, the events. Ids are numbered in the order they come and times are 0; nothing else
//! is changed. `TUTTI_GOLDEN=write cargo test golden` writes them anew, for `git diff` to show.

use std::{env, fs, path::Path, sync::Arc};

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tutti::engine::{Event, FinishReason, GenerateError, Usage};

use super::{
    client::{CHAT, app, send},
    raw::scoring,
    tools,
};
use crate::scripted::{Scripted, Step, finished, started, text};

const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
/// Of the ids that are new each time.
const IDS: [&str; 6] = ["chatcmpl-", "cmpl-", "call_", "resp_", "msg_", "fc_"];

async fn assert_golden(name: &str, engine: &Arc<Scripted>, path: &str, own: Value) {
    let mut body = match path {
        CHAT => json!({ "model": "duet", "messages": [{ "role": "user", "content": "Hi" }] }),
        COMPLETIONS => json!({ "model": "duet", "prompt": "Hi" }),
        _ => json!({ "model": "duet", "input": "Hi" }),
    };
    body["stream"] = json!(true);
    body.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    let request = Request::post(path).header("content-type", "application/json");
    let reply = send(app(engine), request.body(Body::from(body.to_string())).unwrap()).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream", "{}", reply.text);
    let told = format!("POST {path}\n{body}\n\n{}", without_times(&numbered(&reply.text)));

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/sse/{name}.txt"));
    if env::var_os("TUTTI_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(&file, &told).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    for (line, (told, kept)) in told.lines().zip(kept.lines()).enumerate() {
        assert_eq!(told, kept, "line {} of {}", line + 1, file.display());
    }
    assert_eq!(told.len(), kept.len(), "the length of {}", file.display());
}

/// Ids as their kind and a number.
fn numbered(text: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let words = text.split('"').map(|word| {
        let is_new = |kind: &&&str| {
            let rest = word.strip_prefix(**kind);
            rest.is_some_and(|it| it.len() >= 24 && it.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        let Some(kind) = IDS.iter().find(is_new) else { return word.to_owned() };
        let of_kind = |seen: &&&str| seen.starts_with(kind);
        if !seen.contains(&word) {
            seen.push(word);
        }
        let at = seen.iter().filter(of_kind).position(|it| *it == word).unwrap();
        format!("{kind}{}", at + 1)
    });
    words.collect::<Vec<_>>().join("\"")
}

fn without_times(text: &str) -> String {
    let mut parts = text.split("\"created");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |whole, part| {
        let (name, rest) = part.split_once(':').unwrap();
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{whole}\"created{name}:0{rest}")
    })
}

fn failing() -> Arc<Scripted> {
    Scripted::new(|_| {
        let error = GenerateError::Member { member: "beta".to_owned(), reason: "boom".to_owned() };
        Ok(vec![started(), text("par"), Step::Send(Event::Failed(error))])
    })
}

fn cut() -> Arc<Scripted> {
    Scripted::new(|_| Ok(vec![started(), text("a"), finished(FinishReason::Length, 1)]))
}

/// Two members with a gate, of which one is lost; 3 tokens of the prompt were cached.
fn gated() -> Arc<Scripted> {
    Scripted::new(|_| {
        let lost = Event::Warning { member: "beta".to_owned(), reason: "boom".to_owned() };
        let usage = Usage {
            prompt_tokens: 7,
            cached_tokens: Some(3),
            completion_tokens: 2,
            gated: Some(1),
            ..Usage::default()
        };
        let end = Event::Finished { reason: FinishReason::Stop, usage };
        Ok(vec![started(), Step::Send(lost), text("well"), Step::Send(end)])
    })
}

const HELLO: &[&str] = &["Hel", "", "lo\n", "👋"];

#[tokio::test]
async fn chats() {
    let usage = json!({ "include_usage": true });
    let hello = Scripted::saying(HELLO);
    assert_golden("chat_text", &hello, CHAT, json!({})).await;
    assert_golden("chat_usage", &hello, CHAT, json!({ "stream_options": usage })).await;
    assert_golden("chat_length", &cut(), CHAT, json!({})).await;
    assert_golden("chat_error", &failing(), CHAT, json!({ "stream_options": usage })).await;
    assert_golden("chat_ensemble", &gated(), CHAT, json!({ "stream_options": usage })).await;
}

#[tokio::test]
async fn calls_in_chats() {
    let own = json!({ "tools": tools::tools() });
    assert_golden("chat_calls", &Scripted::saying(tools::CALLS), CHAT, own).await;
    let function = json!({ "type": "function", "function": { "name": "now" } });
    let own = json!({ "tools": tools::tools(), "tool_choice": function });
    assert_golden("chat_forced_call", &Scripted::saying(&["{", "}"]), CHAT, own).await;
}

#[tokio::test]
async fn log_probabilities() {
    let own = json!({
        "logprobs": true, "top_logprobs": 2, "ensemble": { "attribution": true },
    });
    assert_golden("chat_logprobs", &scoring(), CHAT, own).await;
    let own = json!({ "prompt": "On", "echo": true, "logprobs": 2 });
    assert_golden("completions_logprobs", &scoring(), COMPLETIONS, own).await;
}

#[tokio::test]
async fn completions() {
    let own = json!({ "stream_options": { "include_usage": true }, "echo": true });
    assert_golden("completions_text", &Scripted::saying(HELLO), COMPLETIONS, own).await;
    assert_golden("completions_error", &failing(), COMPLETIONS, json!({})).await;
}

#[tokio::test]
async fn responses() {
    let own = json!({ "instructions": "Be brief.", "temperature": 0 });
    assert_golden("responses_text", &Scripted::saying(HELLO), RESPONSES, own).await;
    assert_golden("responses_length", &cut(), RESPONSES, json!({ "max_output_tokens": 1 })).await;
    assert_golden("responses_error", &failing(), RESPONSES, json!({})).await;
    let function = json!({ "type": "function", "name": "now" });
    let own = json!({ "tools": [function], "tool_choice": function });
    assert_golden("responses_call", &Scripted::saying(&["{", "}"]), RESPONSES, own).await;
}
