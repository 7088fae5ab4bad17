use std::sync::Arc;

use axum::http::Request;
use serde_json::{Value, json};
use tutti::engine::{
    Event, Generate, GenerateError, GenerateRequest, Generation, ModelCard, Prompt, UnionId,
    UnionVocab,
};

use super::client::{CHAT, Reply, app, chat, config, get, post, post_request, send};
use crate::scripted::{Scripted, Step, started, text};

/// What a request gets that must not reach the engine.
async fn refused(body: &Value) -> Reply {
    let engine = Scripted::saying(&["must not be asked"]);
    let reply = post(app(&engine), body).await;
    assert!(engine.seen().is_empty(), "{body} reached the engine");
    reply
}

/// What a request gets whose generation is refused, or fails after one piece.
async fn failing(error: GenerateError, while_running: bool) -> Reply {
    let engine = Scripted::new(move |_| {
        if while_running {
            Ok(vec![started(), text("lost"), Step::Send(Event::Failed(error.clone()))])
        } else {
            Err(error.clone())
        }
    });
    post(app(&engine), &chat(json!({}))).await
}

#[tokio::test]
async fn a_field_out_of_range_is_named() {
    let cases = [
        ("temperature", json!(-0.1)),
        ("temperature", json!(2.1)),
        ("top_p", json!(0)),
        ("top_p", json!(1.5)),
        ("min_p", json!(-1)),
        ("min_p", json!(1.01)),
        ("top_k", json!(-2)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-5)),
        ("max_completion_tokens", json!(0)),
        ("stop", json!("")),
        ("stop", json!(["a", ""])),
        ("stop", json!(vec!["a"; 17])),
        ("stream_options", json!({ "include_usage": true })),
        ("messages", json!([])),
        ("n", json!(0)),
        ("n", json!(129)),
        ("min_tokens", json!(-1)),
        ("frequency_penalty", json!(2.5)),
        ("presence_penalty", json!(-2.5)),
        ("repetition_penalty", json!(0)),
        ("logit_bias", json!({ "x": 1 })),
        ("logit_bias", json!({ "1": 101 })),
        ("top_logprobs", json!(21)),
        ("top_logprobs", json!(1)),
        ("tool_choice", json!("required")),
        ("tool_choice", json!("sometimes")),
        ("tool_choice", json!({ "type": "function", "function": { "name": "f" } })),
        ("guided_json", json!("{}")),
        ("guided_choice", json!([])),
    ];
    for (name, value) in cases {
        let reply = refused(&chat(json!({ name: value }))).await;
        assert_eq!(reply.refusal(), (400, "invalid_value".to_owned(), json!(name)), "{value}");
        assert!(reply.message().contains(&format!("`{name}`")), "{}", reply.message());
    }
}

#[tokio::test]
async fn a_range_refusal_says_the_value_and_the_range() {
    let reply = refused(&chat(json!({ "temperature": 2.5 }))).await;
    assert_eq!(reply.message(), "`temperature` is 2.5; it must be between 0 and 2");
}

#[tokio::test]
async fn two_different_budgets_are_refused() {
    let reply = refused(&chat(json!({ "max_tokens": 1, "max_completion_tokens": 2 }))).await;
    let expected = (400, "invalid_value".to_owned(), json!("max_completion_tokens"));
    assert_eq!(reply.refusal(), expected);
}

#[tokio::test]
async fn known_fields_that_are_not_served_are_refused_by_name() {
    let cases = [
        ("functions", json!([{ "name": "f" }])),
        ("function_call", json!({ "name": "f" })),
        ("audio", json!({ "voice": "x" })),
        ("modalities", json!(["text", "audio"])),
        ("web_search_options", json!({})),
        ("suffix", json!("x")),
    ];
    for (name, value) in cases {
        let reply = refused(&chat(json!({ name: value }))).await;
        let expected = (400, "unsupported_parameter".to_owned(), json!(name));
        assert_eq!(reply.refusal(), expected, "{value}");
    }
}

#[tokio::test]
async fn messages_that_cannot_be_served_are_refused_with_their_place() {
    let image = json!({ "type": "image_url", "image_url": { "url": "x" } });
    let text = json!({ "type": "text", "text": "a" });
    let cases = [
        (json!({ "role": "tool", "content": "x" }), "invalid_value", ".tool_call_id"),
        (json!({ "role": "tool", "tool_call_id": "1" }), "invalid_value", ".content"),
        (json!({ "role": "function", "content": "x" }), "unsupported_parameter", ".role"),
        (json!({ "role": "robot", "content": "x" }), "invalid_value", ".role"),
        (json!({ "role": "user" }), "invalid_value", ".content"),
        (json!({ "role": "system", "content": null }), "invalid_value", ".content"),
        (
            json!({ "role": "user", "content": [text, image] }),
            "unsupported_parameter",
            ".content[1].type",
        ),
        (
            json!({ "role": "user", "content": [{ "text": "a" }] }),
            "missing_required_parameter",
            ".content[0].type",
        ),
        (
            json!({ "role": "user", "content": [{ "type": "text" }] }),
            "missing_required_parameter",
            ".content[0].text",
        ),
        (json!({ "role": "user", "content": 5 }), "invalid_type", ".content"),
        (json!({ "content": "x" }), "missing_required_parameter", ".role"),
        (
            json!({ "role": "assistant", "tool_calls": [{ "id": "1" }] }),
            "missing_required_parameter",
            ".tool_calls[0].function",
        ),
        (
            json!({ "role": "assistant", "tool_calls": [{ "id": "1", "type": "custom" }] }),
            "unsupported_parameter",
            ".tool_calls[0].type",
        ),
        (
            json!({ "role": "user", "content": "x", "tool_calls": [
                { "id": "1", "function": { "name": "f", "arguments": "{}" } }
            ] }),
            "invalid_value",
            ".tool_calls",
        ),
        (
            json!({ "role": "assistant", "function_call": {} }),
            "unsupported_parameter",
            ".function_call",
        ),
        (json!({ "role": "assistant", "audio": { "id": "1" } }), "unsupported_parameter", ".audio"),
    ];
    for (message, code, place) in cases {
        let fine = json!({ "role": "user", "content": "x" });
        let reply = refused(&chat(json!({ "messages": [fine, message] }))).await;
        let param = json!(format!("messages[1]{place}"));
        assert_eq!(reply.refusal(), (400, code.to_owned(), param), "{message}");
    }
}

#[tokio::test]
async fn a_part_of_another_type_is_named() {
    let part = json!({ "type": "image_url", "image_url": { "url": "x" } });
    let messages = json!([{ "role": "user", "content": [part] }]);
    let reply = refused(&chat(json!({ "messages": messages }))).await;
    assert!(reply.message().contains("`image_url`"), "{}", reply.message());
}

#[tokio::test]
async fn response_formats_we_cannot_enforce_are_refused() {
    let cases = [
        (json!({ "type": "prose" }), "invalid_value", "response_format.type"),
        (json!({ "type": "regex" }), "missing_required_parameter", "response_format.regex"),
        (json!({ "type": "json_schema" }), "invalid_value", "response_format.json_schema.schema"),
        (
            json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": 5 } }),
            "invalid_value",
            "response_format.json_schema.schema",
        ),
        (json!({}), "missing_required_parameter", "response_format.type"),
        (json!("json"), "invalid_type", "response_format"),
    ];
    for (format, code, param) in cases {
        let reply = refused(&chat(json!({ "response_format": format }))).await;
        assert_eq!(reply.refusal(), (400, code.to_owned(), json!(param)), "{format}");
    }
}

#[tokio::test]
async fn a_missing_model_or_conversation_is_named() {
    for name in ["model", "messages"] {
        let mut body = chat(json!({}));
        body.as_object_mut().unwrap().remove(name);
        let reply = refused(&body).await;
        let expected = (400, "missing_required_parameter".to_owned(), json!(name));
        assert_eq!(reply.refusal(), expected);
    }
}

#[tokio::test]
async fn broken_json_is_refused_with_its_place() {
    let broken: [(&[u8], &str); 6] = [
        (b"", "line 1 column 0"),
        (b"{\"model\": \"duet\",\n \"messages\": [}", "line 2 column 15"),
        (b"{\"model\": \"duet\"", "line 1 column 16"),
        (b"{\"model\": \"\xff\"}", "line 1 column"),
        (b"{\"model\": \"\\ud800\"}", "line 1 column"),
        (b"{\"model\": \"duet\"} {}", "line 1 column 19"),
    ];
    for (body, place) in broken {
        let engine = Scripted::saying(&["must not be asked"]);
        let reply = send(app(&engine), post_request(body)).await;
        let expected = (400, "invalid_json".to_owned(), Value::Null);
        assert_eq!(reply.refusal(), expected, "{}", body.escape_ascii());
        assert!(reply.message().contains(place), "{}", reply.message());
        assert!(engine.seen().is_empty());
    }
}

#[tokio::test]
async fn json_nested_without_end_is_refused() {
    let engine = Scripted::saying(&["must not be asked"]);
    let body = format!("{{\"x\": {}{}}}", "[".repeat(2000), "]".repeat(2000));
    let reply = send(app(&engine), post_request(body)).await;
    assert_eq!(reply.refusal().0, 400);
    assert!(reply.message().contains("recursion limit"), "{}", reply.message());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_the_limit() {
    let reply = refused(&chat(json!({ "user": "x".repeat(4096) }))).await;
    assert_eq!(reply.refusal(), (413, "request_too_large".to_owned(), Value::Null));
    assert!(reply.message().contains("4096"), "{}", reply.message());
}

#[tokio::test]
async fn a_body_that_is_not_called_json_is_refused() {
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let engine = Scripted::saying(&["must not be asked"]);
        let mut request = post_request(chat(json!({})).to_string());
        request.headers_mut().remove("content-type");
        if let Some(value) = content_type {
            request.headers_mut().insert("content-type", value.parse().unwrap());
        }
        let reply = send(app(&engine), request).await;
        assert_eq!(reply.refusal(), (415, "unsupported_media_type".to_owned(), Value::Null));
    }
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    let reply = refused(&chat(json!({ "model": "gpt-5" }))).await;
    assert_eq!(reply.refusal(), (404, "model_not_found".to_owned(), json!("model")));
    for name in ["gpt-5", "duet", "alpha", "beta"] {
        assert!(reply.message().contains(name), "{}", reply.message());
    }
}

#[tokio::test]
async fn what_the_engine_refuses_has_its_status_and_data() {
    let member = || "alpha".to_owned();
    let reason = || "the reason".to_owned();
    let too_long = GenerateError::PromptTooLong {
        member: member(),
        prompt_tokens: 5000,
        context_length: 2048,
    };
    let template = GenerateError::Template { member: member(), reason: reason() };
    let constraint = GenerateError::Constraint { reason: reason() };
    let failed = GenerateError::Member { member: member(), reason: reason() };
    let cases = [
        (too_long, (400, "context_length_exceeded", json!("messages")), vec!["5000", "2048"]),
        (template, (400, "invalid_messages", json!("messages")), vec!["alpha", "the reason"]),
        (
            constraint,
            (400, "invalid_response_format", json!("response_format")),
            vec!["the reason"],
        ),
        (
            GenerateError::QueueFull { waiting: 64 },
            (429, "rate_limit_exceeded", Value::Null),
            vec!["64"],
        ),
        (GenerateError::Stopped, (503, "engine_stopped", Value::Null), vec!["stopped"]),
        (failed, (500, "member_failed", Value::Null), vec!["alpha", "the reason"]),
    ];
    for (error, (status, code, param), parts) in cases {
        for while_running in [false, true] {
            let reply = failing(error.clone(), while_running).await;
            assert_eq!(reply.refusal(), (status, code.to_owned(), param.clone()));
            for part in &parts {
                assert!(reply.message().contains(part), "{}", reply.message());
            }
            assert_eq!(reply.headers.contains_key("retry-after"), status == 429);
        }
    }
}

#[tokio::test]
async fn what_the_engine_refuses_is_called_as_the_request_calls_it() {
    let budget = || GenerateError::Budget { least: 9, budget: 4 };
    let constraint = || GenerateError::Constraint { reason: "the reason".to_owned() };
    let too_long = || GenerateError::PromptTooLong {
        member: "alpha".to_owned(),
        prompt_tokens: 5000,
        context_length: 2048,
    };
    let bias = || GenerateError::UnknownBias { id: UnionId(900), size: 257 };
    let (completions, responses) = ("/v1/completions", "/v1/responses");
    let object = json!({ "type": "json_object" });
    let function = json!([{ "type": "function", "function": { "name": "f" } }]);
    let cases = [
        (CHAT, json!({ "max_completion_tokens": 4 }), budget(), "max_completion_tokens"),
        (CHAT, json!({ "max_tokens": 4 }), budget(), "max_tokens"),
        (CHAT, json!({ "logit_bias": { "900": 1 } }), bias(), "logit_bias"),
        (CHAT, json!({ "guided_regex": "a" }), constraint(), "guided_regex"),
        (CHAT, json!({ "tools": function, "tool_choice": "required" }), constraint(), "tools"),
        (CHAT, json!({ "response_format": object }), constraint(), "response_format"),
        (completions, json!({ "max_tokens": 4 }), budget(), "max_tokens"),
        (completions, json!({ "guided_grammar": "a" }), constraint(), "guided_grammar"),
        (completions, json!({}), too_long(), "prompt"),
        (responses, json!({ "max_output_tokens": 4 }), budget(), "max_output_tokens"),
        (responses, json!({ "max_tokens": 4 }), budget(), "max_tokens"),
        (responses, json!({ "text": { "format": object } }), constraint(), "text.format"),
        (responses, json!({}), too_long(), "input"),
    ];
    for (path, fields, error, param) in cases {
        let engine = Scripted::new(move |_| Err(error.clone()));
        let mut body = match path {
            CHAT => chat(json!({})),
            _ => json!({ "model": "duet", "prompt": "Hi", "input": "Hi" }),
        };
        body.as_object_mut().unwrap().remove(if path == completions { "input" } else { "prompt" });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let request = Request::post(path).header("content-type", "application/json");
        let reply = send(app(&engine), request.body(body.to_string().into()).unwrap()).await;
        assert_eq!(reply.refusal().2, param, "{path} {fields}");
        assert_eq!(reply.status, 400);
    }
}

#[tokio::test]
async fn two_constraints_are_refused_by_the_name_of_the_second() {
    let format = json!({ "type": "json_object" });
    for (fields, param) in [
        (json!({ "guided_regex": "a", "guided_choice": ["a"] }), "guided_choice"),
        (json!({ "guided_regex": "a", "response_format": format }), "response_format"),
    ] {
        let reply = refused(&chat(fields)).await;
        assert_eq!(reply.refusal(), (400, "invalid_value".to_owned(), json!(param)));
        assert!(reply.message().contains("`guided_regex`"), "{}", reply.message());
    }
}

#[tokio::test]
async fn an_engine_that_dies_in_a_request_is_an_internal_error() {
    let engine = Scripted::new(|_| Ok(vec![started(), text("lost")]));
    let reply = post(app(&engine), &chat(json!({}))).await;
    assert_eq!(reply.refusal(), (500, "internal_error".to_owned(), Value::Null));
}

#[tokio::test]
async fn a_panic_is_one_requests_error() {
    let engine = Scripted::new(|request| {
        assert_ne!(request.model, "alpha", "a defect for this test");
        Ok(crate::scripted::say(&["fine"]))
    });
    let router = app(&engine);
    let reply = post(router.clone(), &chat(json!({ "model": "alpha" }))).await;
    assert_eq!(reply.refusal(), (500, "internal_error".to_owned(), Value::Null));
    assert_eq!(post(router, &chat(json!({ "model": "beta" }))).await.status, 200);
}

/// Breaks where no blocking task stands between it and the handler.
struct Broken;

impl Generate for Broken {
    fn models(&self) -> Vec<ModelCard> {
        panic!("a defect for this test")
    }

    fn generate(&self, _: GenerateRequest) -> Result<Generation, GenerateError> {
        Err(GenerateError::Stopped)
    }

    fn union(&self, _model: &str) -> Result<&UnionVocab, GenerateError> {
        Err(GenerateError::Stopped)
    }

    fn tokenize(&self, _model: &str, _text: &str) -> Result<Vec<UnionId>, GenerateError> {
        Err(GenerateError::Stopped)
    }

    fn count_tokens(&self, _model: &str, _prompt: &Prompt) -> Result<usize, GenerateError> {
        Err(GenerateError::Stopped)
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_is_one_requests_error() {
    let router = tutti::server::router(Arc::new(Broken), config());
    let reply = get(router.clone(), "/v1/models").await;
    assert_eq!(reply.refusal(), (500, "internal_error".to_owned(), Value::Null));
    assert_eq!(get(router, "/health").await.status, 200);
}
