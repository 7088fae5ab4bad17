//! A client that goes away costs one step more at most, wherever its request is.

use std::{sync::Arc, time::Duration};

use axum::{Router, response::Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tutti::{engine::EngineConfig, server::router, vocab::TokenId};

use super::client::{chat, config, post_request};
use crate::engine::{Calls, watched};

/// A server with one place, whose prompts are read 5 tokens a step.
fn served() -> (Router, Calls) {
    let limits = EngineConfig { max_sequences: 1, prefill_chunk: 5, ..EngineConfig::default() };
    let (engine, calls) = watched(limits);
    (router(Arc::new(engine), config()), calls)
}

/// A chat that does not end before its context does.
fn asked(content: &str, stream: bool) -> Value {
    let messages = json!([{ "role": "user", "content": content }]);
    chat(json!({ "model": "duo", "messages": messages, "ignore_eos": true, "stream": stream }))
}

/// A prompt of 300 tokens.
fn long() -> String {
    "abc".repeat(100)
}

fn send(app: &Router, body: &Value) -> JoinHandle<Response> {
    let (app, request) = (app.clone(), post_request(body.to_string()));
    tokio::spawn(async move { app.oneshot(request).await.unwrap() })
}

fn count(calls: &Calls) -> usize {
    calls.lock().unwrap().len()
}

async fn wait_for(calls: &Calls, least: usize) {
    let waiting = async {
        while count(calls) < least {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("no step came");
}

/// At most one more comes after `gone`, though there was much left to do.
async fn assert_ends(calls: &Calls, gone: impl FnOnce()) {
    gone();
    let before = count(calls);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let after = count(calls);
    assert!(after <= before + 1, "{} forwards after the client left", after - before);
    assert!(after < 50, "{after} forwards: it may have come to its end before");
}

#[tokio::test]
async fn in_a_stream() {
    let (app, calls) = served();
    let response = send(&app, &asked("ab", true)).await.unwrap();
    let mut body = response.into_body();
    while count(&calls) < 4 {
        body.frame().await.unwrap().unwrap();
    }
    assert_ends(&calls, || drop(body)).await;
}

#[tokio::test]
async fn in_an_answer_that_is_not_streamed() {
    let (app, calls) = served();
    let answer = send(&app, &asked("ab", false));
    wait_for(&calls, 4).await;
    assert_ends(&calls, || answer.abort()).await;
}

#[tokio::test]
async fn while_the_prompt_is_read() {
    for stream in [false, true] {
        let (app, calls) = served();
        let answer = send(&app, &asked(&long(), stream));
        if stream {
            let body = answer.await.unwrap().into_body();
            wait_for(&calls, 3).await;
            assert_ends(&calls, || drop(body)).await;
        } else {
            wait_for(&calls, 3).await;
            assert_ends(&calls, || answer.abort()).await;
        }
        let calls = calls.lock().unwrap();
        assert!(calls.iter().flatten().all(|row| row.held + row.tokens < 300), "it was all read");
    }
}

#[tokio::test]
async fn in_the_queue() {
    for stream in [false, true] {
        let (app, calls) = served();
        // 'c' is token 2.
        let running = send(&app, &asked("ab", false));
        wait_for(&calls, 2).await;
        let waiting = send(&app, &asked("cab", stream));
        tokio::time::sleep(Duration::from_millis(20)).await;
        if stream {
            drop(waiting.await.unwrap());
        } else {
            waiting.abort();
        }
        running.abort();
        let last = send(&app, &asked("bab", false));
        let reads = |first: u32| {
            let calls = calls.lock().unwrap();
            calls.iter().flatten().any(|row| row.first == TokenId(first))
        };
        while !reads(1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!reads(2), "who left the queue never runs");
        last.abort();
    }
}
