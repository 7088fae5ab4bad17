//! Answers held to a schema end within their budget, whatever else was asked for, on toys that
//! never end a text by themselves.

use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};
use tutti::{
    engine::{Engine, EngineConfig},
    server::router,
};

use super::client::{chat, config, post};
use crate::{closing::noisy, engine};

fn app() -> Router {
    router(Arc::new(engine::engine(EngineConfig::default())), config())
}

/// The choices at every budget, from 1 to a few above the least: first refusals, then answers.
async fn at_every_budget(fields: Value) -> Vec<Vec<Value>> {
    answers_of(&app(), fields).await
}

async fn answers_of(app: &Router, fields: Value) -> Vec<Vec<Value>> {
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
async fn a_stop_string_inside_what_is_held_to_a_schema_is_text() {
    let fields = json!({ "stop": [",", "]", "1"], "response_format": format() });
    for choices in at_every_budget(fields).await {
        choices.iter().for_each(assert_whole);
    }
}

#[tokio::test]
async fn a_stop_string_ends_what_may_end_before_it() {
    // Nothing and "ab" are none of these.
    let fields = json!({ "stop": ["ab"], "guided_regex": "(ab){2,20}" });
    for choices in at_every_budget(fields).await {
        assert_eq!(choices[0]["finish_reason"], "stop");
        assert_eq!(choices[0]["message"]["content"], "abab");
    }
}

#[tokio::test]
async fn one_of_several_calls_must_come_and_is_whole() {
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": schema() } });
    let tools = json!([tool("f"), tool("g")]);
    let fields = json!({ "tools": tools, "tool_choice": "required", "stop": ["]", "\""] });
    let models = vec![("duo".to_owned(), Arc::new(noisy()))];
    let engine = Engine::start(models, EngineConfig::default()).unwrap();
    let app = router(Arc::new(engine), config());
    for choices in answers_of(&app, fields).await {
        assert_eq!(choices[0]["finish_reason"], "tool_calls");
        let calls = choices[0]["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1);
        assert!(["f", "g"].contains(&calls[0]["function"]["name"].as_str().unwrap()));
        assert_keeps_schema(&calls[0]["function"]["arguments"]);
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
