//! Answers held to a schema end within their budget, whatever else was asked for, on toys that
//! never end a text by themselves.

use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};
use tutti::{engine::EngineConfig, server::router};

use super::client::{chat, config, post};
use crate::engine;

fn app() -> Router {
    router(Arc::new(engine::engine(EngineConfig::default())), config())
}

/// The choices at every budget, from 1 to a few above the least: first refusals, then answers.
async fn at_every_budget(fields: Value) -> Vec<Vec<Value>> {
    let app = app();
    let mut answers = Vec::new();
    for max_tokens in 1..60 {
        let mut body = json!({
            "model": "duo", "max_tokens": max_tokens, "seed": max_tokens,
            "messages": [{ "role": "user", "content": "ab" }],
        });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let reply = post(app.clone(), &chat(body)).await;
        if answers.is_empty() && reply.status == 400 {
            let refused = (400, "max_tokens_too_small".to_owned(), json!("max_tokens"));
            assert_eq!(reply.refusal(), refused, "{}", reply.message());
            continue;
        }
        let choices = reply.json()["choices"].as_array().unwrap().clone();
        answers.push(choices);
        if answers.len() == 8 {
            break;
        }
    }
    assert_eq!(answers.len(), 8, "the schema fits somewhere");
    answers
}

/// Of what the toys can write, which is no object.
fn schema() -> Value {
    json!({ "type": "array", "items": { "enum": [1, 2] }, "minItems": 3 })
}

fn format() -> Value {
    json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema() } })
}

fn assert_keeps_schema(text: &Value) {
    let items: Vec<u32> = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert!(items.len() >= 3 && items.iter().all(|item| [1, 2].contains(item)), "{text}");
}

fn assert_whole(choice: &Value) {
    assert_eq!(choice["finish_reason"], "stop");
    assert_keeps_schema(&choice["message"]["content"]);
}

#[tokio::test]
async fn each_of_several_choices_is_whole() {
    for choices in at_every_budget(json!({ "n": 3, "response_format": format() })).await {
        assert_eq!(choices.len(), 3);
        choices.iter().for_each(assert_whole);
    }
}

#[tokio::test]
async fn a_stop_string_that_does_not_come_keeps_nothing_back() {
    let fields = json!({ "stop": ["]]", "]\n", "3"], "response_format": format() });
    for choices in at_every_budget(fields).await {
        choices.iter().for_each(assert_whole);
    }
}

#[tokio::test]
async fn a_call_that_must_come_is_whole_in_every_choice() {
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": schema() } });
    let named = json!({ "type": "function", "function": { "name": "f" } });
    for choice in [named, json!("required")] {
        let fields = json!({ "tools": [tool], "tool_choice": choice, "n": 2, "stop": ["]]"] });
        for choices in at_every_budget(fields).await {
            assert_eq!(choices.len(), 2);
            for choice in choices {
                assert_eq!(choice["finish_reason"], "tool_calls");
                let calls = choice["message"]["tool_calls"].as_array().unwrap();
                assert_eq!(calls.len(), 1);
                assert_keeps_schema(&calls[0]["function"]["arguments"]);
            }
        }
    }
}
