use std::{sync::Arc, time::Duration};

use axum::Router;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tutti::{
    engine::{Event, FinishReason, GenerateError},
    server::{ServerConfig, router},
};

use super::client::{app, chat, config, post, post_request};
use crate::scripted::{Scripted, Step, finished, started, text};

/// A stream's text with what differs from run to run made constant.
async fn transcript(app: Router, fields: Value) -> String {
    let mut body = chat(fields);
    body["stream"] = json!(true);
    let reply = post(app, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    assert_eq!(reply.headers["cache-control"], "no-cache");
    let mut stream = String::new();
    let mut ids = Vec::new();
    for line in reply.text.lines() {
        let parsed = line.strip_prefix("data: ").map(serde_json::from_str::<Value>);
        match parsed {
            Some(Ok(mut chunk)) if chunk.get("id").is_some() => {
                ids.push((chunk["id"].take(), chunk["created"].take()));
                chunk["id"] = json!("ID");
                chunk["created"] = json!(0);
                stream.push_str(&format!("data: {chunk}\n"));
            }
            _ => stream.push_str(&format!("{line}\n")),
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "all chunks have one id and one time: {ids:?}");
    assert!(ids[0].0.as_str().unwrap().starts_with("chatcmpl-"));
    assert!(ids[0].1.as_u64().unwrap() > 1_700_000_000);
    stream
}

fn contents(transcript: &str) -> String {
    let chunks = transcript.lines().filter_map(|line| line.strip_prefix("data: {"));
    let chunks = chunks.map(|rest| serde_json::from_str::<Value>(&format!("{{{rest}")).unwrap());
    chunks.filter_map(|c| c["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn usage_comes_only_when_it_is_asked_for() {
    let engine = Scripted::saying(&["Hi"]);
    for fields in [json!({}), json!({ "stream_options": { "include_usage": false } })] {
        assert!(!transcript(app(&engine), fields).await.contains("usage"));
    }
}

#[tokio::test]
async fn streamed_text_equals_unstreamed_text() {
    let pieces =
        &["# T\r\n", "\u{feff}", "\"q\" \\ ", "data: x\n\n", "é", "e\u{301}", "日本", "\0"];
    let engine = Scripted::saying(pieces);
    let whole = post(app(&engine), &chat(json!({}))).await.json();
    let streamed = contents(&transcript(app(&engine), json!({})).await);
    assert_eq!(whole["choices"][0]["message"]["content"], streamed);
    assert_eq!(streamed, pieces.concat());
}

#[tokio::test]
async fn a_refusal_before_the_stream_is_no_stream() {
    let engine = Scripted::new(|_| Err(GenerateError::QueueFull { waiting: 3 }));
    let reply = post(app(&engine), &chat(json!({ "stream": true }))).await;
    assert_eq!(reply.refusal(), (429, "rate_limit_exceeded".to_owned(), Value::Null));
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_the_last_event() {
    let failed = GenerateError::Member { member: "beta".to_owned(), reason: "boom".to_owned() };
    let engine = Scripted::new(move |_| {
        Ok(vec![started(), text("par"), Step::Send(Event::Failed(failed.clone()))])
    });
    let stream = transcript(app(&engine), json!({})).await;
    let expected = json!({ "error": {
        "message": "`beta` failed: boom", "type": "server_error", "param": null,
        "code": "member_failed",
    } });
    assert!(stream.ends_with(&format!("data: {expected}\n\n")), "{stream}");
    assert_eq!(contents(&stream), "par");
    assert!(!stream.contains("[DONE]"));
    assert!(!stream.contains(r#""finish_reason":"stop""#));
}

#[tokio::test]
async fn an_engine_that_dies_in_mid_stream_is_an_error_event() {
    let engine = Scripted::new(|_| Ok(vec![started(), text("par")]));
    let stream = transcript(app(&engine), json!({})).await;
    assert!(stream.contains(r#""code":"internal_error""#), "{stream}");
    assert!(!stream.contains("[DONE]"));
}

fn slow_app(engine: &Arc<Scripted>) -> Router {
    let config = ServerConfig { keep_alive: Duration::from_millis(20), ..config() };
    router(Arc::clone(engine) as _, config)
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let pause = || Step::Pause(Duration::from_millis(200));
    let engine = Scripted::new(move |_| {
        Ok(vec![pause(), started(), text("a"), pause(), finished(FinishReason::Stop, 2)])
    });
    let stream = transcript(slow_app(&engine), json!({})).await;
    let (before, after) = stream.split_once(r#""content":"a""#).unwrap();
    for part in [before, after] {
        assert!(part.matches(": keep-alive\n\n").count() >= 2, "{stream}");
    }
    assert_eq!(contents(&stream), "a");
}

#[test]
fn a_silence_lasts_five_seconds_at_most() {
    assert!(ServerConfig::default().keep_alive <= Duration::from_secs(5));
}

#[tokio::test]
async fn the_role_comes_before_the_prompt_is_read() {
    let engine = Scripted::new(|_| Ok(vec![Step::Hang]));
    let request = post_request(chat(json!({ "stream": true })).to_string());
    let mut body = app(&engine).oneshot(request).await.unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let frame = String::from_utf8(frame.to_vec()).unwrap();
    assert!(frame.contains(r#""delta":{"role":"assistant","content":""}"#), "{frame}");
    drop(body);
    engine.wait_for_cancelled(1).await;
}

#[tokio::test]
async fn each_piece_is_sent_when_it_is_there() {
    let engine = Scripted::new(|_| Ok(vec![started(), text("first"), Step::Hang]));
    let request = post_request(chat(json!({ "stream": true })).to_string());
    let mut body = app(&engine).oneshot(request).await.unwrap().into_body();
    let mut received = String::new();
    while !received.contains("first") {
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        received.push_str(std::str::from_utf8(&data).unwrap());
    }
}
